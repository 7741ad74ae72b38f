//! Helpers for plugins that read objects, which are JSON texts.

use serde_json::Value;

/// Parses the object of a question.
///
/// # Errors
/// A message that the object is not JSON.
pub fn object(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the object is not JSON: {error}"))
}

/// The string at a JSON pointer; `None` if it is absent, empty or not a string.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_string_that_is_not_empty() {
        let object = object(r#"{"spec":{"a":"x","b":"","c":1,"d":null}}"#).unwrap();
        assert_eq!(text(&object, "/spec/a"), Some("x"));
        for absent in ["/spec/b", "/spec/c", "/spec/d", "/spec/e", "/nowhere/at/all"] {
            assert_eq!(text(&object, absent), None, "{absent}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_an_error() {
        assert!(object("{").unwrap_err().starts_with("the object is not JSON"));
    }
}
