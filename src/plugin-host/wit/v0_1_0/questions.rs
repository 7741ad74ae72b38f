//! Converts questions of the core to questions of `paddock:policy@0.1.0`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use paddock_core::question::{
    AdmissionQuestion, IdleQuestion, IdleTier, Operation, PoolSizeQuestion, RuntimeClassFact, RuntimeClassQuestion,
};

use super::{exports, types};

pub(super) fn admission(question: &AdmissionQuestion) -> exports::admission::Question {
    let AdmissionQuestion {
        operation,
        group,
        version,
        kind,
        namespace,
        name,
        object,
        old_object,
        namespace_labels,
        username,
        groups,
        generated_code,
        classes,
        dry_run,
        now,
    } = question;
    exports::admission::Question {
        operation: match operation {
            Operation::Create => exports::admission::Operation::Create,
            Operation::Update => exports::admission::Operation::Update,
        },
        group: group.clone(),
        version: version.clone(),
        kind: kind.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
        object: object.clone(),
        old_object: old_object.clone(),
        namespace_labels: labels(namespace_labels),
        username: username.clone(),
        groups: groups.clone(),
        generated_code: *generated_code,
        classes: facts(classes),
        dry_run: *dry_run,
        now: time(*now),
    }
}

pub(super) fn runtime_class(question: &RuntimeClassQuestion) -> exports::runtime_class::Question {
    let RuntimeClassQuestion {
        namespace,
        name,
        labels: pod_labels,
        images,
        requested,
        generated_code,
        namespace_labels,
        classes,
        now,
    } = question;
    exports::runtime_class::Question {
        namespace: namespace.clone(),
        name: name.clone(),
        labels: labels(pod_labels),
        images: images.clone(),
        requested: requested.clone(),
        generated_code: *generated_code,
        namespace_labels: labels(namespace_labels),
        classes: facts(classes),
        now: time(*now),
    }
}

pub(super) fn idle(question: &IdleQuestion) -> exports::idle::Question {
    let IdleQuestion {
        namespace,
        name,
        labels: own_labels,
        idle_timeout_ms,
        created,
        ready_since,
        last_activity,
        held_until,
        connections,
        cpu_millicores,
        tiers,
        state,
        now,
    } = question;
    exports::idle::Question {
        namespace: namespace.clone(),
        name: name.clone(),
        labels: labels(own_labels),
        idle_timeout_ms: *idle_timeout_ms,
        created: time(*created),
        ready_since: ready_since.map(time),
        last_activity: last_activity.map(time),
        held_until: held_until.map(time),
        connections: *connections,
        cpu_millicores: *cpu_millicores,
        tiers: tiers.iter().copied().map(tier).collect(),
        state: state.clone(),
        now: time(*now),
    }
}

pub(super) fn pool_size(question: &PoolSizeQuestion) -> exports::pool_size::Question {
    let PoolSizeQuestion {
        namespace,
        name,
        labels: own_labels,
        min,
        max,
        ready,
        creating,
        claimed,
        bucket_seconds,
        arrivals,
        hits,
        misses,
        refill_ms,
        state,
        now,
    } = question;
    exports::pool_size::Question {
        namespace: namespace.clone(),
        name: name.clone(),
        labels: labels(own_labels),
        min: *min,
        max: *max,
        ready: *ready,
        creating: *creating,
        claimed: *claimed,
        bucket_seconds: *bucket_seconds,
        arrivals: arrivals.clone(),
        hits: *hits,
        misses: *misses,
        refill_ms: *refill_ms,
        state: state.clone(),
        now: time(*now),
    }
}

/// Milliseconds since 1970. A time before 1970 becomes 0, but no object in a cluster is that old.
fn time(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or_default()
}

fn labels(labels: &BTreeMap<String, String>) -> Vec<types::Label> {
    labels.iter().map(|(key, value)| types::Label { key: key.clone(), value: value.clone() }).collect()
}

fn facts(classes: &[RuntimeClassFact]) -> Vec<types::RuntimeClassFact> {
    let fact = |class: &RuntimeClassFact| {
        let RuntimeClassFact { name, handler, isolated, nodes } = class.clone();
        types::RuntimeClassFact { name, handler, isolated, nodes }
    };
    let mut facts: Vec<_> = classes.iter().map(fact).collect();
    facts.sort_by(|a, b| a.name.cmp(&b.name));
    facts
}

fn tier(tier: IdleTier) -> exports::idle::Tier {
    match tier {
        IdleTier::Throttle => exports::idle::Tier::Throttle,
        IdleTier::Suspend => exports::idle::Tier::Suspend,
        IdleTier::Hibernate => exports::idle::Tier::Hibernate,
        IdleTier::Delete => exports::idle::Tier::Delete,
    }
}
