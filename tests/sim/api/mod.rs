//! A model of the API server, in memory and over raw JSON. It models the visible effects of create, patch and delete.
//!
//! It implements resource versions, UIDs, generations, preconditions, merge patches (RFC 7386), the status subresource,
//! graceful deletion, finalizers, and the defaults and rules of this project's CRDs. It shares no code with the core,
//! which it is used to check. The tests in `e2e::model` compare it with a real API server.

mod deletion;
mod gc;
mod guard;
mod resource;
mod rules;
mod store;

use std::sync::Arc;

use serde_json::{Value, json};

pub(crate) use deletion::Deletion;
pub(crate) use resource::Resource;
pub(crate) use store::{Api, Change, Id};

/// The reason for which the API server refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Status 404.
    NotFound,
    /// Status 409 with the reason `AlreadyExists`.
    Exists,
    /// Status 409 with the reason `Conflict`: a precondition failed.
    Conflict,
    /// Status 422, and every other permanent refusal.
    Invalid(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The result of a delete.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    /// The object as it is stored now.
    Stored(Arc<Value>),
    /// The object was removed at once.
    Removed,
}

/// The part of an object that a patch may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything except the status.
    Main,
    /// The status alone.
    Status,
    /// Everything. Only components of the control plane use it.
    Whole,
}

/// The finalizer of a foreground deletion.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a volume claim that a pod may be using.
const IN_USE: &str = "kubernetes.io/pvc-protection";

impl Api {
    /// Refuses all further creations of a kind, as a quota would.
    pub(crate) fn refuse(&mut self, kind: &'static str, message: &str) {
        self.refusing = Some((kind, message.to_owned()));
    }

    /// The model of a POST request.
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
        if resource == Resource::VOLUME_CLAIM {
            add_finalizer(&mut body, IN_USE);
        }
        rules::fill_in(resource, &mut body);
        rules::check(resource, None, &body)?;
        if self.get(&id).is_some() {
            return Err(Refused::Exists);
        }
        Ok(self.put(id, body))
    }

    /// The model of a PATCH request with a merge patch. The fields `uid` and `resourceVersion` in the patch act as
    /// preconditions.
    pub(crate) fn patch(&mut self, id: &Id, part: Part, patch: &Value) -> Result<Arc<Value>, Refused> {
        let old = self.get(id).cloned().ok_or(Refused::NotFound)?;
        let differs = |field: &str| {
            let wanted = &patch["metadata"][field];
            !wanted.is_null() && *wanted != old["metadata"][field]
        };
        if differs("resourceVersion") {
            return Err(Refused::Conflict);
        }
        // The status endpoint of a custom resource copies only the status into the object before it compares anything.
        if differs("uid") && !(part == Part::Status && id.resource.custom()) {
            return Err(Refused::Invalid("metadata.uid: field is immutable".to_owned()));
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
        if part == Part::Main {
            rules::fill_in(id.resource, &mut new);
            rules::check(id.resource, Some(&old), &new)?;
        }
        if new["metadata"]["managedFields"] == json!([{}]) {
            remove(&mut new["metadata"], "managedFields");
        }
        // Empty fields are not stored.
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            let empty =
                |v: &Value| v.as_object().is_some_and(|o| o.is_empty()) || v.as_array().is_some_and(Vec::is_empty);
            if new["metadata"].get(field).is_some_and(empty) {
                remove(&mut new["metadata"], field);
            }
        }
        if new == *old {
            return Ok(old);
        }
        if new["spec"] != old["spec"] && id.resource.custom() {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        Ok(self.settle(id, new))
    }
}

/// Applies a merge patch as in RFC 7386.
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

fn add_finalizer(object: &mut Value, name: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    if finalizers.is_null() {
        *finalizers = json!([]);
    }
    if let Some(all) = finalizers.as_array_mut().filter(|all| !all.iter().any(|f| f == name)) {
        all.push(name.into());
    }
}

fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn remove(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(field);
    }
}
