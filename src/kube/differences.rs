//! Compares what the API server stores with the desired object, field by field.

use std::collections::BTreeSet;

use serde_json::Value;

/// The fields in which two JSON objects differ, in order. What is empty counts as absent, because the API server writes
/// an empty selector where the desired object has none.
#[must_use]
pub fn differing_fields(desired: &Value, stored: &Value) -> Vec<String> {
    let keys: BTreeSet<&String> =
        [desired, stored].into_iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys).collect();
    let differs = |key: &&String| pruned(&desired[key.as_str()]) != pruned(&stored[key.as_str()]);
    keys.into_iter().filter(differs).cloned().collect()
}

/// The value without empty parts. `None` if nothing is left.
#[must_use]
pub fn pruned(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) => {
            let fields: serde_json::Map<_, _> =
                fields.iter().filter_map(|(key, value)| Some((key.clone(), pruned(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => Some(Value::Array(items.iter().map(|item| pruned(item).unwrap_or_default()).collect())),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value.clone()),
    }
}
