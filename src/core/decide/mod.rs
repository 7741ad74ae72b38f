//! Decisions: what to ask, and what to do, from what was seen and answered. Pure functions, one pair a kind.

pub(crate) mod ask;
mod claim;
mod idle;
mod pool;
mod sandbox;
mod sandbox_pod;
mod sandbox_status;
mod template;

use serde_json::{Value, json};

use crate::kind::Key;
use crate::object::Object;
use crate::plan::{Action, Op, Plan, Reason};
use crate::question::{Answered, Ask};
use crate::seen::Seen;

/// What has to be asked before a decision; to be called again with the answers until nothing is left to ask.
#[must_use]
pub fn questions(seen: &Seen, answers: &[Answered]) -> Vec<Ask> {
    match seen {
        Seen::Absent(_) | Seen::Leaving(_) | Seen::Template(_) | Seen::Claim(_) => vec![],
        Seen::Sandbox(seen) => sandbox::questions(seen, answers),
        Seen::Pool(seen) => pool::questions(seen, answers),
    }
}

/// What to do. `now` is in `seen`: the time of looking.
#[must_use]
pub fn decide(seen: &Seen, answers: &[Answered]) -> Plan {
    match seen {
        Seen::Absent(_) | Seen::Leaving(_) => Plan::default(),
        Seen::Sandbox(seen) => sandbox::decide(seen, answers),
        Seen::Template(seen) => template::decide(seen),
        Seen::Pool(seen) => pool::decide(seen, answers),
        Seen::Claim(seen) => claim::decide(seen),
    }
}

fn create(key: Key, reason: Reason, body: Value) -> Op {
    Op { key, reason, action: Action::Create { body } }
}

fn delete(object: &Object, reason: Reason) -> Op {
    let action = Action::Delete { uid: object.meta.uid.to_string(), resource_version: None, foreground: false };
    Op { key: object.key.clone(), reason, action }
}

/// Deletes only the version that was seen.
fn delete_version(object: &Object, reason: Reason) -> Op {
    let action = Action::Delete {
        uid: object.meta.uid.to_string(),
        resource_version: Some(object.meta.resource_version.to_string()),
        foreground: false,
    };
    Op { key: object.key.clone(), reason, action }
}

/// A patch that whoever wrote last does not matter for.
fn patch(object: &Object, reason: Reason, body: Value) -> Op {
    let uid = object.meta.uid.to_string();
    Op { key: object.key.clone(), reason, action: Action::Patch { uid, resource_version: None, status: false, body } }
}

/// A patch that holds only for the version that was seen: compare-and-swap.
fn swap(object: &Object, reason: Reason, body: Value) -> Op {
    let action = Action::Patch {
        uid: object.meta.uid.to_string(),
        resource_version: Some(object.meta.resource_version.to_string()),
        status: false,
        body,
    };
    Op { key: object.key.clone(), reason, action }
}

fn status(object: &Object, body: Value) -> Op {
    let uid = object.meta.uid.to_string();
    let action = Action::Patch { uid, resource_version: None, status: true, body };
    Op { key: object.key.clone(), reason: Reason::StatusChanged, action }
}

/// Takes over an object that nobody controls and that its user made adoptable.
fn adopt(owner: &Object, object: &Object, labels: Value) -> Op {
    let body = json!({
        "metadata": { "ownerReferences": crate::build::taken_over_by(owner, object), "labels": labels },
    });
    swap(object, Reason::Adopted, body)
}

/// Whether an object may be taken over.
fn adoptable(object: &Object) -> bool {
    use crate::names::label;
    object.meta.controller.is_none()
        && object.meta.deleting.is_none()
        && object.meta.labels.get(label::ADOPTABLE).is_some_and(|v| v == label::TRUE)
}
