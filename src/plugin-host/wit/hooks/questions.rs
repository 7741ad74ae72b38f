//! Converts questions of the core to those of a version of `paddock:policy`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use paddock_core::question::{
    AdmissionQuestion, IdleQuestion, IdleTier, Operation, PoolSizeQuestion, RuntimeClassFact, RuntimeClassQuestion,
};

use super::{exports, types};

pub(super) fn admission(question: &AdmissionQuestion) -> exports::admission::Question {
    exports::admission::Question {
        operation: match question.operation {
            Operation::Create => exports::admission::Operation::Create,
            Operation::Update => exports::admission::Operation::Update,
        },
        group: question.group.clone(),
        version: question.version.clone(),
        kind: question.kind.clone(),
        namespace: question.namespace.clone(),
        name: question.name.clone(),
        object: question.object.clone(),
        old_object: question.old_object.clone(),
        namespace_labels: labels(&question.namespace_labels),
        username: question.username.clone(),
        groups: question.groups.clone(),
        generated_code: question.generated_code,
        classes: facts(&question.classes),
        dry_run: question.dry_run,
        now: time(question.now),
    }
}

pub(super) fn runtime_class(question: &RuntimeClassQuestion) -> exports::runtime_class::Question {
    exports::runtime_class::Question {
        namespace: question.namespace.clone(),
        name: question.name.clone(),
        labels: labels(&question.labels),
        images: question.images.clone(),
        requested: question.requested.clone(),
        generated_code: question.generated_code,
        namespace_labels: labels(&question.namespace_labels),
        classes: facts(&question.classes),
        now: time(question.now),
    }
}

pub(super) fn idle(question: &IdleQuestion) -> exports::idle::Question {
    exports::idle::Question {
        namespace: question.namespace.clone(),
        name: question.name.clone(),
        labels: labels(&question.labels),
        idle_timeout_ms: question.idle_timeout_ms,
        created: time(question.created),
        ready_since: question.ready_since.map(time),
        last_activity: question.last_activity.map(time),
        held_until: question.held_until.map(time),
        connections: question.connections,
        cpu_millicores: question.cpu_millicores,
        tiers: question.tiers.iter().copied().map(tier).collect(),
        state: question.state.clone(),
        now: time(question.now),
    }
}

pub(super) fn pool_size(question: &PoolSizeQuestion) -> exports::pool_size::Question {
    exports::pool_size::Question {
        namespace: question.namespace.clone(),
        name: question.name.clone(),
        labels: labels(&question.labels),
        min: question.min,
        max: question.max,
        ready: question.ready,
        creating: question.creating,
        claimed: question.claimed,
        bucket_seconds: question.bucket_seconds,
        arrivals: question.arrivals.clone(),
        hits: question.hits,
        misses: question.misses,
        refill_ms: question.refill_ms,
        state: question.state.clone(),
        now: time(question.now),
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
