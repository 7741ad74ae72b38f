//! Small helpers that read and write JSON objects, and values that are kept as JSON text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::text_map::{TextMap, side_by_side};

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
pub(crate) fn missing_entries(actual: &TextMap, wanted: &Value) -> serde_json::Map<String, Value> {
    let texts =
        wanted.as_object().into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let wanted: BTreeMap<&str, &str> = texts.collect();
    let missing = side_by_side(&wanted, actual).filter(|(_, wanted, actual)| wanted.is_some() && actual != wanted);
    missing.map(|(key, wanted, _)| (key.to_owned(), wanted.into())).collect()
}

/// The description of a JSON error, without the line and column of a text that nobody sees.
pub(crate) fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map(str::to_owned).unwrap_or(text)
}

/// A value of the Kubernetes API as its JSON text, which takes a fraction of the memory of the parsed value. Clones share
/// the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// Serializes a value.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        // The types of the Kubernetes API always serialize.
        Self(serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()).into())
    }

    /// Parses the text as the type from which it was made, or as a generic value. The default is for a text of another
    /// type.
    #[must_use]
    pub fn parse<T: DeserializeOwned + Default>(&self) -> T {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// With a lookup of each key in a map of all others, this takes minutes.
    #[test]
    fn the_missing_entries_of_large_maps_are_found_at_once() {
        let entries = |count: usize| (0..count).map(|n| (format!("k{n:05}"), "v".to_owned()));
        let mut actual: BTreeMap<String, String> = entries(60_000).collect();
        let wanted = json!(actual);
        actual.remove("k00007");
        actual.insert("k59998".to_owned(), "other".to_owned());
        actual.insert("of others".to_owned(), String::new());
        let begin = crate::stopwatch::Stopwatch::start();
        let missing = missing_entries(&actual.into(), &wanted);
        assert_eq!(Value::from(missing), json!({ "k00007": "v", "k59998": "v" }));
        begin.assert_linear();
    }
}
