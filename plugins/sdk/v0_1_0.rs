//! Converts questions of version 0.1.0 to those of the SDK, and the SDK's answers to those of version 0.1.0.
//!
//! A plugin is written once, against the latest version. [`export_v0_1_0!`](crate::export_v0_1_0) makes a component that
//! operators with version 0.1.0 load too.

use crate::bindings::v0_1_0::{
    admission::exports::paddock::policy::admission as former_admission,
    idle::exports::paddock::policy::idle as former_idle,
    pool_size::exports::paddock::policy::pool_size as former_pool_size,
    runtime_class::exports::paddock::policy::runtime_class as former_runtime_class,
};
use crate::{admission, idle, pool_size, runtime_class};

/// Converts a record: the first fields have the same types in both versions, and the others have a conversion.
macro_rules! record {
    ($from:ty => $to:ty { $($same:ident),* ; $($field:ident: $convert:path),* }) => {
        impl From<$from> for $to {
            fn from(record: $from) -> Self {
                Self { $($same: record.$same,)* $($field: $convert(record.$field),)* }
            }
        }
    };
}

/// Converts an enum whose cases have no values.
macro_rules! cases {
    ($from:path => $to:path { $($case:ident),+ }) => {
        impl From<$from> for $to {
            fn from(case: $from) -> Self {
                use $from as From;
                match case {
                    $(From::$case => Self::$case,)+
                }
            }
        }
    };
}

fn list<T: Into<U>, U>(items: Vec<T>) -> Vec<U> {
    items.into_iter().map(Into::into).collect()
}

fn option<T: Into<U>, U>(value: Option<T>) -> Option<U> {
    value.map(Into::into)
}

record!(former_admission::Question => admission::Question {
    group, version, kind, namespace, name, object, old_object, namespace_labels, username, groups, generated_code, classes,
    dry_run, now;
    operation: Into::into
});
cases!(former_admission::Operation => admission::Operation { Create, Update });
record!(admission::Answer => former_admission::Answer { warnings, patch; verdict: Into::into });

impl From<admission::Verdict> for former_admission::Verdict {
    fn from(verdict: admission::Verdict) -> Self {
        match verdict {
            admission::Verdict::Allow => Self::Allow,
            admission::Verdict::Deny(message) => Self::Deny(message),
        }
    }
}

record!(former_runtime_class::Question => runtime_class::Question {
    namespace, name, labels, images, requested, generated_code, namespace_labels, classes, now;
});
record!(runtime_class::Answer => former_runtime_class::Answer { reason; choice: Into::into });

impl From<runtime_class::Choice> for former_runtime_class::Choice {
    fn from(choice: runtime_class::Choice) -> Self {
        match choice {
            runtime_class::Choice::Class(name) => Self::Class(name),
            runtime_class::Choice::Default => Self::Default,
            runtime_class::Choice::Refuse => Self::Refuse,
        }
    }
}

record!(former_idle::Question => idle::Question {
    namespace, name, labels, idle_timeout_ms, created, ready_since, last_activity, held_until, connections, cpu_millicores,
    state, now;
    tiers: list
});
cases!(former_idle::Tier => idle::Tier { Throttle, Suspend, Hibernate, Delete });
cases!(idle::Tier => former_idle::Tier { Throttle, Suspend, Hibernate, Delete });
record!(idle::Answer => former_idle::Answer { next_check, reason, state; action: option });

record!(former_pool_size::Question => pool_size::Question {
    namespace, name, labels, min, max, ready, creating, claimed, bucket_seconds, arrivals, hits, misses, refill_ms, state,
    now;
});
record!(pool_size::Answer => former_pool_size::Answer { desired, next_check, reason, state; });
