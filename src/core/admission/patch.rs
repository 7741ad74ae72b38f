//! The one rule for a plugin's patch: applies the patch, and refuses it if it changes more than the hook may change.

use json_patch::{Patch, PatchOperation};
use paddock_api::names::{annotation, label};
use serde_json::Value;

use crate::marker::{MARKER_PLACES, Marker};
use crate::object::is_ours;
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
/// - It may not change the labels and annotations by which the operator, NetworkPolicies and Services find an object, and of
///   a Pod no existing label or annotation in our domains.
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
    let keeps = |place: &&str| {
        let was = Marker::at(before, place);
        was == Marker::Unmarked || Marker::at(after, place) == was
    };
    if !MARKER_PLACES.iter().all(keeps) {
        return Err(format!("the patch may not take away the label {}", label::GENERATED_CODE));
    }
    for field in ["labels", "annotations"] {
        if let Some(key) = changed_of_operator(before["kind"] == "Pod", &old[field], &new[field]) {
            return Err(format!("the patch may not change metadata.{field}[{key}], which is Paddock's"));
        }
    }
    Ok(())
}

/// The labels and annotations by which NetworkPolicies, Services and the operator find an object. A patch may not even add
/// them.
const FOUND_BY: [&str; 8] = [
    label::CLAIM_UID,
    label::SANDBOX_NAME_HASH,
    label::SANDBOX_UID,
    label::TEMPLATE_DIGEST,
    label::TEMPLATE_HASH,
    label::TEMPLATE_REF_HASH,
    label::WARM_POOL_SANDBOX,
    annotation::TEMPLATE_REF,
];

/// The first key that a patch changes although it may not: on every object those of [`FOUND_BY`], and on a Pod each
/// existing one in our domains. The operator would restore a label of its own, but the pod could run outside its
/// NetworkPolicy until then. The marker has a rule of its own, because a plugin may set it.
fn changed_of_operator<'a>(is_pod: bool, old: &'a Value, new: &'a Value) -> Option<&'a str> {
    let keys = |map: &'a Value| map.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str));
    let (has, gets) = (|key: &str| old.get(key), |key: &str| new.get(key));
    let kept = |key: &str| FOUND_BY.contains(&key) || (is_pod && is_ours(key) && has(key).is_some());
    keys(old).chain(keys(new)).find(|key| *key != label::GENERATED_CODE && kept(key) && has(key) != gets(key))
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

    #[test]
    fn a_patch_leaves_what_the_operator_and_policies_find_an_object_by() {
        let labels = json!({
            "agents.x-k8s.io/sandbox-template-ref-hash": "731e4c73", "policy.paddock.dev/runtime-class": "kata",
            "team": "red",
        });
        let annotations = json!({ "policy.paddock.dev/pod-revision": "{}" });
        let template = json!({ "metadata": { "labels": { "policy.paddock.dev/generated-code": "true" } } });
        let object = |kind: &str| {
            json!({
                "kind": kind, "metadata": { "labels": labels, "annotations": annotations },
                "spec": { "podTemplate": template },
            })
        };
        let hash = "/metadata/labels/agents.x-k8s.io~1sandbox-template-ref-hash";
        let digest = "/metadata/labels/policy.paddock.dev~1template-digest";
        let class = "/metadata/labels/policy.paddock.dev~1runtime-class";
        let uid = "/metadata/labels/policy.paddock.dev~1sandbox-uid";
        let revision = "/metadata/annotations/policy.paddock.dev~1pod-revision";
        let marker = "/metadata/labels/policy.paddock.dev~1generated-code";
        let of_template = "/spec/podTemplate/metadata/labels/policy.paddock.dev~1generated-code";
        for (operation, on_pod, on_sandbox) in [
            (json!({ "op": "remove", "path": hash }), false, false),
            (json!({ "op": "replace", "path": hash, "value": "other" }), false, false),
            (json!({ "op": "replace", "path": "/metadata/labels", "value": {} }), false, false),
            (json!({ "op": "add", "path": uid, "value": "u" }), false, false),
            (json!({ "op": "add", "path": digest, "value": "d" }), false, false),
            (json!({ "op": "remove", "path": class }), false, true),
            (json!({ "op": "replace", "path": revision, "value": "x" }), false, true),
            (json!({ "op": "remove", "path": "/metadata/annotations" }), false, true),
            (json!({ "op": "add", "path": marker, "value": "true" }), true, true),
            (json!({ "op": "remove", "path": "/metadata/labels/team" }), true, true),
            (json!({ "op": "add", "path": "/metadata/annotations/policy.paddock.dev~1x", "value": "y" }), true, true),
            (json!({ "op": "remove", "path": of_template }), false, false),
        ] {
            for (kind, allowed) in [("Pod", on_pod), ("Sandbox", on_sandbox)] {
                let result = apply(&object(kind), &json!([operation]).to_string());
                assert_eq!(result.is_ok(), allowed, "{kind} {operation}: {result:?}");
            }
        }
    }
}
