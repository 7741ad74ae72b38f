//! The deletion of an object: it is removed at once, or when its grace period and its finalizers have ended.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, Done, FOREGROUND, Id, Refused, Resource, add_finalizer, finalizers};

/// Preconditions of a deletion, and its propagation policy: foreground or background, which the request always names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deletion<'a> {
    pub(crate) uid: Option<&'a str>,
    pub(crate) resource_version: Option<&'a str>,
    pub(crate) foreground: bool,
}

/// The grace period of a pod that does not set its own.
const GRACE_SECONDS: i64 = 30;

impl Api {
    /// The model of a DELETE request.
    pub(crate) fn delete(&mut self, id: &Id, options: Deletion<'_>) -> Result<Done, Refused> {
        let old = self.get(id).cloned().ok_or(Refused::NotFound)?;
        let metadata = &old["metadata"];
        let differs = |wanted: Option<&str>, field: &str| wanted.is_some_and(|w| metadata[field].as_str() != Some(w));
        if differs(options.uid, "uid") || differs(options.resource_version, "resourceVersion") {
            return Err(Refused::Conflict);
        }
        let terminating = metadata["deletionTimestamp"].is_string();
        if terminating && metadata["deletionGracePeriodSeconds"].as_i64() > Some(0) {
            // The grace period is running, so a second deletion changes nothing.
            return Ok(Done::Stored(old));
        }
        let grace = if terminating { 0 } else { grace(id, &old) };
        let mut new = Value::clone(&old);
        if options.foreground {
            add_finalizer(&mut new, FOREGROUND);
        } else {
            drop_finalizer(&mut new, FOREGROUND);
        }
        if grace == 0 && finalizers(&new).next().is_none() {
            // The API server removes the finalizer without storing that version. It then compares the precondition with
            // an object that no longer has the finalizer, so the precondition fails.
            if finalizers(&old).next().is_some() && options.resource_version.is_some() {
                return Err(Refused::Conflict);
            }
            if !terminating {
                self.announce(id, new);
            }
            self.remove(id);
            return Ok(Done::Removed);
        }
        if !terminating {
            self.mark(id, &mut new, grace);
        }
        if new == *old {
            return Ok(Done::Stored(old));
        }
        Ok(Done::Stored(self.put(id.clone(), new)))
    }

    /// The kubelet's final deletion without a grace period, after a pod's last process has ended. Finalizers still
    /// delay it.
    pub(crate) fn finish_deletion(&mut self, id: &Id) {
        let Some(old) = self.get(id).cloned() else { return };
        let held = finalizers(&old).next().is_some();
        if old["metadata"]["deletionGracePeriodSeconds"] != 0 {
            self.announce(id, Value::clone(&old));
        }
        if !held {
            self.remove(id);
        }
    }

    /// Stores a pod with a grace period of zero, even if the pod is removed right after that.
    fn announce(&mut self, id: &Id, mut pod: Value) {
        if id.resource == Resource::POD {
            self.mark(id, &mut pod, 0);
            self.put(id.clone(), pod);
        }
    }

    fn mark(&self, id: &Id, object: &mut Value, grace: i64) {
        let metadata = &mut object["metadata"];
        if metadata["deletionTimestamp"].is_null() && id.resource.custom() {
            metadata["generation"] = (metadata["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        metadata["deletionTimestamp"] = self.seconds_from_now(grace).into();
        metadata["deletionGracePeriodSeconds"] = grace.into();
    }

    /// Stores an object, or removes it if it waited only for its last finalizer.
    pub(super) fn settle(&mut self, id: &Id, new: Value) -> Arc<Value> {
        let metadata = &new["metadata"];
        let waited = metadata["deletionTimestamp"].is_string();
        let graceful = metadata["deletionGracePeriodSeconds"].as_i64() > Some(0);
        if waited && !graceful && finalizers(&new).next().is_none() {
            self.remove(id);
            return Arc::new(new);
        }
        self.put(id.clone(), new)
    }
}

/// The grace period of a pod on a node, unless the pod has finished. Every other object has none.
fn grace(id: &Id, object: &Value) -> i64 {
    let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if id.resource != Resource::POD || !object["spec"]["nodeName"].is_string() || ended {
        return 0;
    }
    object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(GRACE_SECONDS)
}

pub(super) fn drop_finalizer(object: &mut Value, name: &str) {
    let rest: Vec<Value> = finalizers(object).filter(|f| *f != name).map(Value::from).collect();
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if rest.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(rest));
    }
}
