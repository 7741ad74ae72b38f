//! The garbage collector, and the guard of volume claims: what all owners have left goes; a foreground deletion ends when
//! its blocking dependents are gone; a volume claim goes when no pod on a node names it.

use serde_json::{Value, json};

use super::{Api, Deletion, FOREGROUND, IN_USE, Id, Part, Resource, finalizers};

impl Api {
    /// Whether there is something to look at.
    pub(crate) fn gc_pending(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Looks at one object; `pick` chooses which, by its place among those that wait.
    pub(crate) fn gc_step(&mut self, pick: impl FnOnce(usize) -> usize) {
        let count = self.suspects.len();
        if count == 0 {
            return;
        }
        let Some(id) = self.suspects.iter().nth(pick(count) % count).cloned() else { return };
        self.suspects.remove(&id);
        let Some(object) = self.get(&id).cloned() else { return };
        if is_going(&object) {
            if ends_in_foreground(&object) {
                self.foreground(&id, &object);
            } else if finalizers(&object).any(|f| f == IN_USE) && !self.in_use(&id) {
                self.release(&id, &object, IN_USE);
            }
            return;
        }
        if id.resource == Resource::VOLUME_CLAIM && !finalizers(&object).any(|f| f == IN_USE) {
            let guarded: Vec<&str> = finalizers(&object).chain([IN_USE]).collect();
            let _ = self.patch(&id, Part::Whole, &json!({ "metadata": { "finalizers": guarded } }));
        }
        self.judge(&id, &object);
    }

    /// Whether an object that is to stay has anybody left to stay for.
    fn judge(&mut self, id: &Id, object: &Value) {
        let metadata = &object["metadata"];
        let Some(owners) = metadata["ownerReferences"].as_array().filter(|o| !o.is_empty()) else { return };
        let states: Vec<OwnerState> = owners.iter().map(|o| self.owner_state(id, o)).collect();
        let uid = metadata["uid"].as_str();
        let version = metadata["resourceVersion"].as_str();
        if states.contains(&OwnerState::Present) {
            let left: Vec<&Value> =
                owners.iter().zip(&states).filter(|(_, s)| **s == OwnerState::Present).map(|(o, _)| o).collect();
            if left.len() < owners.len() {
                let left = json!({ "metadata": { "ownerReferences": left } });
                let _ = self.patch(id, Part::Whole, &left);
            }
            return;
        }
        let dependents: Vec<Id> = uid.into_iter().flat_map(|uid| self.dependents(uid)).cloned().collect();
        let waited_for = states.contains(&OwnerState::Waits) && !dependents.is_empty();
        if waited_for && dependents.iter().filter_map(|d| self.get(d)).any(|d| is_going(d) && ends_in_foreground(d)) {
            // A circle: its owner must not wait for it.
            let mut unblocked = owners.clone();
            for owner in &mut unblocked {
                owner["blockOwnerDeletion"] = false.into();
            }
            let _ = self.patch(id, Part::Whole, &json!({ "metadata": { "ownerReferences": unblocked } }));
            let _ = self.delete(id, Deletion { uid, resource_version: None, foreground: true });
            return;
        }
        let foreground = waited_for || ends_in_foreground(object);
        let _ = self.delete(id, Deletion { uid, resource_version: version, foreground });
    }

    fn foreground(&mut self, id: &Id, object: &Value) {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let dependents: Vec<Id> = self.dependents(uid).cloned().collect();
        let blocks = |dependent: &Id| {
            let owners = self.get(dependent).map(|d| &d["metadata"]["ownerReferences"]).and_then(Value::as_array);
            owners.into_iter().flatten().any(|o| o["uid"] == uid && o["blockOwnerDeletion"] == true)
        };
        if !dependents.iter().any(blocks) {
            self.release(id, object, FOREGROUND);
        }
        // One that waits itself tells us when it has gone: asked again, two that own each other would ask for ever.
        let waits = |dependent: &Id| self.get(dependent).is_some_and(|d| is_going(d) && ends_in_foreground(d));
        let asked: Vec<Id> = dependents.into_iter().filter(|d| !waits(d)).collect();
        self.suspects.extend(asked);
    }

    fn release(&mut self, id: &Id, object: &Value, finalizer: &str) {
        let rest: Vec<&str> = finalizers(object).filter(|f| *f != finalizer).collect();
        let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
        let _ = self.patch(id, Part::Whole, &json!({ "metadata": { "finalizers": rest } }));
    }

    /// Whether a pod on a node names this volume claim.
    fn in_use(&self, claim: &Id) -> bool {
        self.list(Resource::POD).any(|(id, pod)| {
            id.namespace == claim.namespace
                && pod["spec"]["nodeName"].is_string()
                && volume_claims(pod).any(|name| *name == *claim.name)
        })
    }

    fn owner_state(&self, of: &Id, reference: &Value) -> OwnerState {
        let uid = reference["uid"].as_str().unwrap_or_default();
        let Some(owner) = self.by_uid(uid) else { return OwnerState::Absent };
        // An owner of the same UID in another namespace, or of another name or kind, is none.
        let metadata = &owner["metadata"];
        let same_place = metadata["namespace"].as_str().unwrap_or_default() == &*of.namespace;
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let same_kind = Resource::named(text("apiVersion"), text("kind")) == Resource::of(owner);
        if !same_place || metadata["name"] != reference["name"] || !same_kind {
            return OwnerState::Absent;
        }
        if is_going(owner) && ends_in_foreground(owner) { OwnerState::Waits } else { OwnerState::Present }
    }
}

/// Names of the volume claims that a pod mounts.
pub(super) fn volume_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str())
}

fn is_going(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn ends_in_foreground(object: &Value) -> bool {
    finalizers(object).any(|f| f == FOREGROUND)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OwnerState {
    Absent,
    Present,
    /// It goes when its dependents are gone.
    Waits,
}
