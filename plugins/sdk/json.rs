//! Small helps for plugins that read objects: JSON as `serde_json` has it.

use serde_json::Value;

/// Parses an object of a question.
///
/// # Errors
/// The text for people.
pub fn object(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the object is not JSON: {error}"))
}

/// A string at a JSON pointer; `None` where it is absent, empty or not a string.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_string_that_says_something() {
        let object = object(r#"{"spec":{"a":"x","b":"","c":1,"d":null}}"#).unwrap();
        assert_eq!(text(&object, "/spec/a"), Some("x"));
        for absent in ["/spec/b", "/spec/c", "/spec/d", "/spec/e", "/nowhere/at/all"] {
            assert_eq!(text(&object, absent), None, "{absent}");
        }
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        assert!(object("{").unwrap_err().starts_with("the object is not JSON"));
    }
}
