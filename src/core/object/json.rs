//! Reading and writing JSON objects.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// A map of strings at a JSON pointer; empty if there is none.
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

/// Serializes a type that always serializes: our own types and those of the API server.
pub(crate) fn to_value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}
