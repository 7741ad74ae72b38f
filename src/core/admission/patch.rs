//! The one rule for a plugin's patch: applies the patch, and refuses it if it changes more than the hook may change.

use json_patch::{Patch, PatchOperation};
use paddock_api::names::label;
use serde_json::Value;

use crate::marker::Marker;
use crate::question::limits::MAX_PATCH_BYTES;

/// The maximum number of operations in one patch.
const MAX_OPERATIONS: usize = 1000;

/// Returns the object with the patch applied, or an error message.
///
/// A plugin may change labels, annotations and the spec, with these exceptions:
///
/// - It may not move or copy, because a few copies of copies make an object of any size.
/// - It may not change the identity of the object, such as its name or its owners.
/// - It may not remove the marker of generated code.
pub(super) fn apply(object: &Value, text: &str) -> Result<Value, String> {
    if text.len() > MAX_PATCH_BYTES {
        return Err(format!("the patch has {} bytes, more than {MAX_PATCH_BYTES}", text.len()));
    }
    let patch: Patch = serde_json::from_str(text).map_err(|e| format!("not a JSON Patch: {e}"))?;
    if patch.len() > MAX_OPERATIONS {
        return Err(format!("the patch has {} operations, more than {MAX_OPERATIONS}", patch.len()));
    }
    for operation in patch.iter() {
        match operation {
            PatchOperation::Add(_)
            | PatchOperation::Remove(_)
            | PatchOperation::Replace(_)
            | PatchOperation::Test(_) => {}
            PatchOperation::Move(_) | PatchOperation::Copy(_) => {
                return Err(format!("the patch may not move or copy (at {})", operation.path()));
            }
        }
    }
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch).map_err(|e| format!("the patch does not apply: {e}"))?;
    confined(object, &patched)?;
    Ok(patched)
}

fn confined(before: &Value, after: &Value) -> Result<(), String> {
    if let Some(field) = differs(before, after, &["metadata", "spec"]) {
        return Err(format!("the patch may not change {field}"));
    }
    let (old, new) = (&before["metadata"], &after["metadata"]);
    if let Some(field) = differs(old, new, &["labels", "annotations"]) {
        return Err(format!("the patch may not change metadata.{field}"));
    }
    for field in ["labels", "annotations"] {
        let strings = new[field].as_object().is_none_or(|map| map.values().all(Value::is_string));
        if !strings || !(new[field].is_object() || new[field].is_null()) {
            return Err(format!("metadata.{field} would not be a map of strings"));
        }
    }
    let marked = |o: &Value| Marker::at(o, "/metadata/labels");
    if marked(before) != Marker::Unmarked && marked(after) != marked(before) {
        return Err(format!("the patch may not take away the label {}", label::GENERATED_CODE));
    }
    Ok(())
}

/// The first field in which two objects differ. The fields in `free` may differ.
fn differs(before: &Value, after: &Value, free: &[&str]) -> Option<String> {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else {
        return (before != after).then(|| "the object itself".to_owned());
    };
    old.keys().chain(new.keys()).find(|key| !free.contains(&key.as_str()) && old.get(*key) != new.get(*key)).cloned()
}

#[cfg(test)]
mod tests {
    use super::apply;
    use serde_json::json;

    #[test]
    fn a_patch_may_touch_labels_annotations_and_spec_and_nothing_else() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "a", "labels": { "policy.paddock.dev/generated-code": "true" } },
            "spec": { "containers": [] },
        });
        let marker = "/metadata/labels/policy.paddock.dev~1generated-code";
        for (operation, error) in [
            (json!({ "op": "add", "path": "/metadata/labels/x", "value": "y" }), None),
            (json!({ "op": "add", "path": "/metadata/annotations", "value": { "x": "y" } }), None),
            (json!({ "op": "add", "path": "/spec/priority", "value": 1 }), None),
            (json!({ "op": "test", "path": "/metadata/name", "value": "a" }), None),
            (json!({ "op": "replace", "path": "/metadata/name", "value": "b" }), Some("metadata.name")),
            (
                json!({ "op": "add", "path": "/metadata/ownerReferences", "value": [] }),
                Some("metadata.ownerReferences"),
            ),
            (json!({ "op": "add", "path": "/status", "value": {} }), Some("status")),
            (json!({ "op": "replace", "path": "/kind", "value": "Node" }), Some("kind")),
            (json!({ "op": "replace", "path": "", "value": 1 }), Some("the object itself")),
            (json!({ "op": "add", "path": "/metadata/labels/x", "value": 1 }), Some("map of strings")),
            (json!({ "op": "remove", "path": marker }), Some("generated-code")),
            (json!({ "op": "replace", "path": marker, "value": "false" }), Some("generated-code")),
            (json!({ "op": "copy", "from": "/spec", "path": "/spec/more" }), Some("move or copy")),
            (
                json!({ "op": "move", "from": "/metadata/finalizers", "path": "/metadata/labels/x" }),
                Some("move or copy"),
            ),
            (json!({ "op": "remove", "path": "/spec/absent" }), Some("does not apply")),
            (json!({ "op": "frobnicate", "path": "/spec" }), Some("not a JSON Patch")),
        ] {
            let result = apply(&object, &json!([operation]).to_string());
            match error {
                None => assert!(result.is_ok(), "{operation}: {result:?}"),
                Some(error) => {
                    let message = result.expect_err("refused");
                    assert!(message.contains(error), "{operation}: {message}");
                }
            }
        }
    }
}
