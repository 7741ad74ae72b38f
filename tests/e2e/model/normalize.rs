//! The parts of an object that have to be the same on both sides.

use serde_json::{Map, Value, json};

use super::placeholders::Placeholders;
use crate::e2e::kinds::Kind;

/// Fields whose values do not depend on the request.
const CHOSEN: [&str; 4] = ["resourceVersion", "creationTimestamp", "managedFields", "selfLink"];

/// An object without the values that its server chose: UIDs become placeholders, and a deletion timestamp only has to
/// exist.
pub(super) fn normalize(object: &Value, placeholders: &Placeholders, kind: Kind) -> Value {
    let mut object = object.clone();
    let Some(fields) = object.as_object_mut() else { return object };
    // Lists of built-in kinds omit these fields.
    fields.remove("apiVersion");
    fields.remove("kind");
    let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    for field in CHOSEN {
        metadata.remove(field);
    }
    if !custom(kind) {
        // No part of Paddock reads the generation of built-in kinds.
        metadata.remove("generation");
    }
    for field in ["finalizers", "ownerReferences", "labels", "annotations"] {
        if metadata.get(field).is_some_and(is_nothing) {
            metadata.remove(field);
        }
    }
    if let Some(at) = metadata.get_mut("deletionTimestamp") {
        *at = json!("set");
    }
    if let Some(uid) = metadata.get_mut("uid") {
        *uid = placeholders.uid(uid.as_str().unwrap_or_default()).into();
    }
    for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
        owner["uid"] = placeholders.uid(owner["uid"].as_str().unwrap_or_default()).into();
    }
    object
}

/// The difference between the model's object and the real one. For the project's kinds, everything has to be the same.
/// Built-in kinds have defaults and states that the model does not know, so only the model's fields are compared.
pub(super) fn differ(model: &Value, real: &Value, kind: Kind) -> Option<String> {
    if model.is_null() || real.is_null() || custom(kind) {
        return (model != real).then(|| format!("the model's: {model:#}\nthe real one's: {real:#}"));
    }
    if model["metadata"] != real["metadata"] {
        return Some(format!("the model's: {:#}\nthe real one's: {:#}", model["metadata"], real["metadata"]));
    }
    let real = like(real, model);
    (*model != real).then(|| format!("the model's: {model:#}\nthe real one's: {real:#}"))
}

pub(super) fn custom(kind: Kind) -> bool {
    kind.0.contains("agents.x-k8s.io")
}

fn is_nothing(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// The part of `whole` with the fields that `model` has too.
fn like(whole: &Value, model: &Value) -> Value {
    match (whole, model) {
        (Value::Object(whole), Value::Object(model)) => {
            whole.iter().filter_map(|(k, v)| Some((k.clone(), like(v, model.get(k)?)))).collect()
        }
        (Value::Array(whole), Value::Array(model)) if whole.len() == model.len() => {
            whole.iter().zip(model).map(|(w, m)| like(w, m)).collect()
        }
        (whole, _) => whole.clone(),
    }
}
