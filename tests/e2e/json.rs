//! Access to the fields of objects as JSON.

use serde_json::Value;

/// The text at a pointer, or an empty text.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a pointer.
pub(crate) fn number(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub(crate) fn deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// A condition of the status.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|c| c["type"] == kind)
}

/// Whether a condition is True.
pub(crate) fn holds(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|c| c["status"] == "True")
}

pub(crate) fn ready(object: &Value) -> bool {
    holds(object, "Ready")
}

/// Whether a Sandbox is suspended, and its pod has ended.
pub(crate) fn suspended(sandbox: &Value) -> bool {
    text(sandbox, "/spec/operatingMode") == "Suspended" && reason(sandbox, "Suspended") == "PodTerminated"
}

/// The reason of a condition, or an empty text.
pub(crate) fn reason<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition(object, kind).map(|c| text(c, "/reason")).unwrap_or_default()
}

/// The message of a condition, or an empty text.
pub(crate) fn message<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition(object, kind).map(|c| text(c, "/message")).unwrap_or_default()
}

/// The UID of the object's controller, or an empty text.
pub(crate) fn controller(object: &Value) -> &str {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    owners.filter(|o| o["controller"] == true).map(|o| text(o, "/uid")).next().unwrap_or_default()
}

/// The value of an annotation, or an empty text.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key].as_str().unwrap_or_default()
}

/// The value of a label, or an empty text.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][key].as_str().unwrap_or_default()
}
