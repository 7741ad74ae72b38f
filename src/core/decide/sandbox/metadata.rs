//! The labels and annotations of a Sandbox's pod.

use std::collections::{BTreeMap, BTreeSet};

use paddock_api::names::{annotation, label, name_hash};
use serde_json::{Map, Value, json};

use crate::manifest;
use crate::marker::Marker;
use crate::model;
use crate::object::{Object, TextMap, side_by_side};
use crate::plan::{Op, Reason};
use crate::snapshot::SandboxSnapshot;

/// The patch that copies the labels and annotations of a Sandbox to its pod, or `None` if they are there. Labels and
/// annotations of other clients are not changed.
pub(super) fn sync_metadata(snapshot: &SandboxSnapshot, model: &model::Sandbox, pod: &Object) -> Option<Value> {
    let labels = manifest::pod_labels(&snapshot.sandbox, model);
    let annotations = manifest::pod_annotations(&snapshot.sandbox, model);
    let labels = metadata_patch(&labels, &pod.meta.labels, pod, annotation::PROPAGATED_LABELS);
    let annotations = metadata_patch(&annotations, &pod.meta.annotations, pod, annotation::PROPAGATED_ANNOTATIONS);
    let changed = !labels.is_empty() || !annotations.is_empty();
    changed.then(|| {
        let mut metadata = serde_json::Map::new();
        for (field, patch) in [("labels", labels), ("annotations", annotations)] {
            if !patch.is_empty() {
                metadata.insert(field.to_owned(), patch.into());
            }
        }
        json!({ "metadata": metadata })
    })
}

/// Restores the labels by which the NetworkPolicy of the template selects the pod, on the Sandbox and on each of its
/// pods, in every state of the Sandbox. An object that `ops` already writes is left to that write or to the next
/// reconcile.
pub(super) fn keep_template_labels(snapshot: &SandboxSnapshot, ops: &mut Vec<Op>) {
    let sandbox = &snapshot.sandbox;
    let Some(template) = &sandbox.template else { return };
    let hash = name_hash(&template.name);
    let labelled = |object: &Object| object.meta.labels.get(label::TEMPLATE_REF_HASH) == Some(hash.as_str());
    let labels = json!({ label::TEMPLATE_REF_HASH: hash });
    let mut restore = |object: &Object, metadata: Value| {
        if ops.iter().all(|op| op.key != object.key) {
            ops.push(Op::patch(object, Reason::MetadataChanged, json!({ "metadata": metadata })));
        }
    };
    for pod in snapshot.pods.iter().filter(|pod| !labelled(pod)) {
        restore(pod, json!({ "labels": labels }));
    }
    let named = sandbox.meta.annotations.get(annotation::TEMPLATE_REF) == Some(&*template.name);
    if sandbox.meta.deletion_timestamp.is_none() && !(labelled(sandbox) && named) {
        restore(sandbox, json!({ "labels": labels, "annotations": { annotation::TEMPLATE_REF: &*template.name } }));
    }
}

/// The labels by which clients find the pod of a Sandbox. An adopted pod gets them.
pub(super) fn owned_labels(sandbox: &Object) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        (label::SANDBOX_NAME_HASH, name_hash(&sandbox.key.name)),
        (label::SANDBOX_UID, sandbox.meta.uid.to_string()),
    ]);
    labels.extend(sandbox.template.as_ref().map(|template| (label::TEMPLATE_REF_HASH, name_hash(&template.name))));
    labels
}

/// The merge patch that sets our labels or annotations of a pod to the wanted ones.
///
/// It removes only entries that the operator has written: those that the annotation `propagated` lists, and those of
/// `OURS`. It never takes the marker of generated code away, because such code may have run in the pod.
fn metadata_patch(
    wanted: &BTreeMap<String, String>,
    has: &TextMap,
    pod: &Object,
    propagated: &str,
) -> Map<String, Value> {
    const OURS: [&str; 4] = [
        label::WARM_POOL_SANDBOX,
        annotation::SAFE_TO_EVICT,
        annotation::PROPAGATED_LABELS,
        annotation::PROPAGATED_ANNOTATIONS,
    ];
    let listed: BTreeSet<&str> = pod.meta.annotations.get(propagated).unwrap_or_default().split(',').collect();
    let keeps = |key: &str| key == label::GENERATED_CODE && Marker::of(has).is_generated_code();
    let loses_marker = |key: &str| keeps(key) && !Marker::of(wanted).is_generated_code();
    let removes = |key: &str| !keeps(key) && (OURS.contains(&key) || listed.contains(key));
    let change = |(key, wanted, has): (&str, Option<&str>, Option<&str>)| match wanted {
        Some(value) => (has != wanted && !loses_marker(key)).then(|| (key.to_owned(), value.into())),
        None => removes(key).then(|| (key.to_owned(), Value::Null)),
    };
    side_by_side(wanted, has).filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;

    use super::*;

    /// With a lookup of each key in a map or a list of all others, this takes minutes.
    #[test]
    fn the_patch_of_large_maps_is_made_at_once() {
        let labels = |count: usize| -> BTreeMap<String, String> {
            (0..count).map(|n| (format!("k{n:05}"), "v".to_owned())).collect()
        };
        let mut wanted = labels(60_000);
        let listed = wanted.keys().cloned().collect::<Vec<_>>().join(",");
        let metadata = json!({
            "name": "a", "namespace": "n", "labels": wanted, "annotations": { annotation::PROPAGATED_LABELS: listed },
            "ownerReferences": [{ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "a" }],
        });
        let pod = Object::from_json(Kind::Pod, json!({ "metadata": metadata })).unwrap();
        wanted.remove("k00007");
        wanted.insert("k59998".to_owned(), "other".to_owned());
        let begin = crate::stopwatch::Stopwatch::start();
        let patch = metadata_patch(&wanted, &pod.meta.labels, &pod, annotation::PROPAGATED_LABELS);
        assert_eq!(Value::from(patch), json!({ "k00007": null, "k59998": "other" }));
        begin.assert_linear();
    }
}
