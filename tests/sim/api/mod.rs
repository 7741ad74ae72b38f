//! A model of the API server, in memory and over raw JSON: what a client can observe of create, patch and delete.
//!
//! It knows resource versions, UIDs, generations, preconditions, merge patches (RFC 7386), the status subresource,
//! graceful deletion and finalizers. It shares no code with the core, whose judge it is.

mod gc;
mod resource;
mod store;

use std::sync::Arc;

use serde_json::{Value, json};

pub(crate) use resource::Resource;
pub(crate) use store::{Api, Change, Id};

/// Why the API server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// 404.
    NotFound,
    /// 409 `AlreadyExists`.
    Exists,
    /// 409 `Conflict`: a precondition did not hold.
    Conflict,
    /// 422 and other refusals for good.
    Invalid(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a write came to.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    /// The object as it is stored now.
    Stored(Arc<Value>),
    /// It was removed at once.
    Removed,
}

/// Which part of an object a patch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status alone.
    Status,
    /// Anything: what only the control plane's own components do.
    Whole,
}

/// Preconditions of a deletion, and how dependents go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deletion<'a> {
    pub(crate) uid: Option<&'a str>,
    pub(crate) resource_version: Option<&'a str>,
    pub(crate) foreground: bool,
}

/// The finalizer of a foreground deletion.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The grace period of a pod that does not say its own.
const GRACE_SECONDS: i64 = 30;

impl Api {
    /// From now on creations of a kind are refused, as by a quota.
    pub(crate) fn refuse(&mut self, kind: &'static str, message: &str) {
        self.refusing = Some((kind, message.to_owned()));
    }

    /// POST.
    pub(crate) fn create(&mut self, mut body: Value) -> Result<Arc<Value>, Refused> {
        let resource = Resource::of(&body).ok_or(Refused::NotFound)?;
        if let Some((_, message)) = self.refusing.as_ref().filter(|(kind, _)| *kind == resource.kind()) {
            return Err(Refused::Invalid(message.clone()));
        }
        if resource.namespaced() && body["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
            return Err(Refused::Invalid("metadata.namespace: required".to_owned()));
        }
        let uid = self.next_uid();
        if body["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            let prefix = body["metadata"]["generateName"].as_str();
            let Some(prefix) = prefix else { return Err(Refused::Invalid("metadata.name: required".to_owned())) };
            body["metadata"]["name"] = format!("{prefix}{}", &uid[uid.len() - 5..]).into();
        }
        let id = Id::of(resource, &body);
        if self.get(&id).is_some() {
            return Err(Refused::Exists);
        }
        let created = self.now_in_seconds();
        let metadata = body["metadata"].as_object_mut().ok_or(Refused::NotFound)?;
        metadata.insert("uid".to_owned(), uid.into());
        metadata.insert("creationTimestamp".to_owned(), created.into());
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            metadata.remove(field);
        }
        if resource.custom() {
            metadata.insert("generation".to_owned(), 1.into());
            remove(&mut body, "status");
        }
        if resource == Resource::POD {
            body["status"] = json!({ "phase": "Pending" });
        }
        Ok(self.put(id, body))
    }

    /// PATCH with a merge patch; `uid` and `resourceVersion` in it are preconditions.
    pub(crate) fn patch(&mut self, id: &Id, part: Part, patch: &Value) -> Result<Arc<Value>, Refused> {
        let old = self.get(id).cloned().ok_or(Refused::NotFound)?;
        for precondition in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][precondition];
            if !wanted.is_null() && *wanted != old["metadata"][precondition] {
                return Err(Refused::Conflict);
            }
        }
        let mut new = Value::clone(&old);
        merge(&mut new, patch);
        if part == Part::Status {
            let status = new["status"].take();
            new = Value::clone(&old);
            new["status"] = status;
        }
        if part == Part::Main {
            match old.get("status") {
                Some(status) => new["status"] = status.clone(),
                None => remove(&mut new, "status"),
            }
        }
        if new.get("status").is_some_and(Value::is_null) {
            remove(&mut new, "status");
        }
        for kept in [
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "resourceVersion",
        ] {
            match old["metadata"].get(kept) {
                Some(value) => new["metadata"][kept] = value.clone(),
                None => remove(&mut new["metadata"], kept),
            }
        }
        if id.resource == Resource::POD && part == Part::Main && new["spec"] != old["spec"] {
            return Err(Refused::Invalid("spec: Forbidden: pod updates may not change it".to_owned()));
        }
        let fixed = "/spec/volumeClaimTemplates";
        if id.resource == Resource::SANDBOX && new.pointer(fixed) != old.pointer(fixed) {
            return Err(Refused::Invalid("spec.volumeClaimTemplates: is immutable".to_owned()));
        }
        if new == *old {
            return Ok(old);
        }
        if new["spec"] != old["spec"] && id.resource.custom() {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        Ok(self.settle(id, new).unwrap_or(old))
    }

    /// DELETE.
    pub(crate) fn delete(&mut self, id: &Id, options: Deletion<'_>) -> Result<Done, Refused> {
        let old = self.get(id).cloned().ok_or(Refused::NotFound)?;
        let metadata = &old["metadata"];
        let differs = |wanted: Option<&str>, field: &str| wanted.is_some_and(|w| metadata[field].as_str() != Some(w));
        if differs(options.uid, "uid") || differs(options.resource_version, "resourceVersion") {
            return Err(Refused::Conflict);
        }
        if metadata["deletionTimestamp"].is_string() {
            return Ok(Done::Stored(old));
        }
        let ended = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let graceful = id.resource == Resource::POD && old["spec"]["nodeName"].is_string() && !ended;
        let mut new = Value::clone(&old);
        if options.foreground {
            let finalizers = &mut new["metadata"]["finalizers"];
            if finalizers.is_null() {
                *finalizers = json!([]);
            }
            finalizers.as_array_mut().ok_or(Refused::NotFound)?.push(FOREGROUND.into());
        }
        let waits = graceful || new["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if !waits {
            self.remove(id);
            return Ok(Done::Removed);
        }
        let grace =
            if graceful { old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(GRACE_SECONDS) } else { 0 };
        new["metadata"]["deletionTimestamp"] = self.seconds_from_now(grace).into();
        new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if id.resource.custom() {
            new["metadata"]["generation"] = (metadata["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        Ok(Done::Stored(self.put(id.clone(), new)))
    }

    /// What a kubelet does when the last process of a pod has ended.
    pub(crate) fn finish_deletion(&mut self, id: &Id) {
        self.remove(id);
    }

    /// Stores an object, or removes it if it only waited for its last finalizer.
    fn settle(&mut self, id: &Id, new: Value) -> Option<Arc<Value>> {
        let metadata = &new["metadata"];
        let waited = metadata["deletionTimestamp"].is_string();
        let held = metadata["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        let graceful = id.resource == Resource::POD && metadata["deletionGracePeriodSeconds"].as_i64() > Some(0);
        if waited && !held && !graceful {
            self.remove(id);
            return None;
        }
        Some(self.put(id.clone(), new))
    }
}

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (field, value) in patch {
        if value.is_null() {
            fields.remove(field);
        } else {
            merge(fields.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(field);
    }
}
