//! Small helpers that read and write JSON objects.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Returns the map of strings at a JSON pointer. It is empty if there is no object at that place, and values that are
/// not strings are left out.
#[must_use]
pub fn string_map(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

/// Serializes a type that always serializes, such as our own types and those of the Kubernetes API.
pub(crate) fn to_value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// Whether an object contains what is wanted. Fields and entries of maps that only the object has were added by others.
/// A list must have the same entries.
#[must_use]
pub(crate) fn covers(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => {
            wanted.iter().all(|(k, w)| covers(actual.get(k).unwrap_or(&Value::Null), w))
        }
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(a, w)| covers(a, w))
        }
        // The API server removes empty lists and objects.
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (Value::Null, Value::Object(wanted)) => wanted.is_empty(),
        (actual, wanted) => actual == wanted,
    }
}

/// Returns the merge patch that gives `actual` the wanted entries and keeps all others.
#[must_use]
pub(crate) fn missing_entries(actual: &BTreeMap<String, String>, wanted: &Value) -> serde_json::Map<String, Value> {
    let wanted = wanted.as_object().into_iter().flatten();
    let missing = wanted.filter(|(k, v)| actual.get(*k).map(String::as_str) != v.as_str());
    missing.map(|(k, v)| (k.clone(), v.clone())).collect()
}
