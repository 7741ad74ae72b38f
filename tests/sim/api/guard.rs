//! The protection of volume claims: a terminating claim stays until no pod on a node names it.

use serde_json::{Value, json};

use super::{Api, IN_USE, Id, Part, Resource, finalizers};

impl Api {
    /// Processes one volume claim.
    pub(super) fn guard(&mut self, id: &Id) {
        let Some(claim) = self.get(id).cloned() else { return };
        let guarded = finalizers(&claim).any(|f| f == IN_USE);
        if claim["metadata"]["deletionTimestamp"].is_string() {
            if guarded && !self.in_use(id) {
                self.release(id, &claim, IN_USE);
            }
        } else if !guarded {
            let all: Vec<&str> = finalizers(&claim).chain([IN_USE]).collect();
            let _ = self.patch(id, Part::Whole, &json!({ "metadata": { "finalizers": all } }));
        }
    }

    /// Whether a pod on a node names this volume claim.
    fn in_use(&self, claim: &Id) -> bool {
        self.list(Resource::POD).any(|(id, pod)| {
            id.namespace == claim.namespace
                && pod["spec"]["nodeName"].is_string()
                && volume_claims(pod).any(|name| *name == *claim.name)
        })
    }
}

/// The names of the volume claims that a pod mounts.
pub(super) fn volume_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str())
}
