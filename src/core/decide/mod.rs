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
use crate::question::{PluginReply, PluginRequest};
use crate::snapshot::Snapshot;

/// What has to be asked before a decision; to be called again with the answers until nothing is left to ask.
#[must_use]
pub fn questions(snapshot: &Snapshot, answers: &[PluginReply]) -> Vec<PluginRequest> {
    match snapshot {
        Snapshot::Absent(_) | Snapshot::Terminating(_) | Snapshot::Template(_) | Snapshot::Claim(_) => vec![],
        Snapshot::Sandbox(snapshot) => sandbox::questions(snapshot, answers),
        Snapshot::Pool(snapshot) => pool::questions(snapshot, answers),
    }
}

/// What to do. `now` is in `seen`: the time of looking.
#[must_use]
pub fn decide(snapshot: &Snapshot, answers: &[PluginReply]) -> Plan {
    match snapshot {
        Snapshot::Absent(_) | Snapshot::Terminating(_) => Plan::default(),
        Snapshot::Sandbox(snapshot) => sandbox::decide(snapshot, answers),
        Snapshot::Template(snapshot) => template::decide(snapshot),
        Snapshot::Pool(snapshot) => pool::decide(snapshot, answers),
        Snapshot::Claim(snapshot) => claim::decide(snapshot),
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
fn patch_if_unchanged(object: &Object, reason: Reason, body: Value) -> Op {
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
        "metadata": { "ownerReferences": crate::manifest::taken_over_by(owner, object), "labels": labels },
    });
    patch_if_unchanged(object, Reason::Adopted, body)
}

/// Whether an object may be taken over.
fn adoptable(object: &Object) -> bool {
    use crate::names::label;
    object.meta.controller.is_none()
        && object.meta.deletion_timestamp.is_none()
        && object.meta.labels.get(label::ADOPTABLE).is_some_and(|v| v == label::TRUE)
}
