//! The garbage collector: what all owners have left goes; a foreground deletion ends when its dependents are gone.

use serde_json::{Value, json};

use super::{Api, Deletion, FOREGROUND, Id, Part};

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
        let metadata = &object["metadata"];
        let waits = metadata["finalizers"].as_array().is_some_and(|f| f.iter().any(|f| f == FOREGROUND));
        if waits {
            self.foreground(&id, metadata);
            return;
        }
        let Some(owners) = metadata["ownerReferences"].as_array().filter(|o| !o.is_empty()) else { return };
        let states: Vec<OwnerState> = owners.iter().map(|o| self.owner_state(&id, o)).collect();
        let uid = metadata["uid"].as_str();
        let version = metadata["resourceVersion"].as_str();
        if states.iter().all(|s| *s == OwnerState::Absent) {
            let _ = self.delete(&id, Deletion { uid, resource_version: version, foreground: false });
        } else if states.contains(&OwnerState::WaitsForUs) && !states.contains(&OwnerState::Present) {
            let _ = self.delete(&id, Deletion { uid, resource_version: version, foreground: true });
        }
    }

    fn foreground(&mut self, id: &Id, metadata: &Value) {
        let uid = metadata["uid"].as_str().unwrap_or_default().to_owned();
        let blocking: Vec<Id> = self.dependents(&uid).cloned().collect();
        if blocking.is_empty() {
            let rest: Vec<&Value> =
                metadata["finalizers"].as_array().into_iter().flatten().filter(|f| *f != FOREGROUND).collect();
            let rest = json!({ "metadata": { "finalizers": rest } });
            let _ = self.patch(id, Part::Main, &rest);
        } else {
            self.suspects.extend(blocking);
        }
    }

    fn owner_state(&self, of: &Id, reference: &Value) -> OwnerState {
        let uid = reference["uid"].as_str().unwrap_or_default();
        let Some(owner) = self.by_uid(uid) else { return OwnerState::Absent };
        // An owner of the same UID in another namespace, or of another name, is none.
        let metadata = &owner["metadata"];
        let same_place = metadata["namespace"].as_str().unwrap_or_default() == &*of.namespace;
        if !same_place || metadata["name"] != reference["name"] || owner["kind"] != reference["kind"] {
            return OwnerState::Absent;
        }
        let waits = metadata["finalizers"].as_array().is_some_and(|f| f.iter().any(|f| f == FOREGROUND));
        if waits && reference["blockOwnerDeletion"] == true { OwnerState::WaitsForUs } else { OwnerState::Present }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OwnerState {
    Absent,
    Present,
    WaitsForUs,
}
