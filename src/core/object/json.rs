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
