//! The change that copies the labels and annotations of a Sandbox to its pod.

use std::collections::{BTreeMap, BTreeSet};

use paddock_api::kind::ApiShape;
use paddock_api::names::{annotation, label};
use serde_json::{Map, Value, json};

use super::pod;
use crate::manifest;
use crate::marker::Marker;
use crate::model;
use crate::object::{Object, TextMap, side_by_side};
use crate::snapshot::SandboxSnapshot;

/// The change that copies the labels and annotations of a Sandbox to its pod. Labels and annotations of other clients are
/// not changed.
pub(super) struct MetadataSync {
    /// The merge patches of the labels and of the annotations.
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    /// Those of their keys that the pod template decides about. Other policies may select the pod by them, so plugins are
    /// asked.
    of_users: [BTreeSet<String>; 2],
}

impl MetadataSync {
    pub(super) fn of(snapshot: &SandboxSnapshot, model: &model::Sandbox, pod: &Object) -> Self {
        let sandbox = &snapshot.sandbox;
        let wanted = pod::running_labels(snapshot, model, pod);
        let labels = metadata_patch(&wanted, &pod.meta.labels, pod, annotation::PROPAGATED_LABELS);
        let wanted = manifest::pod_annotations(sandbox, model);
        let annotations = metadata_patch(&wanted, &pod.meta.annotations, pod, annotation::PROPAGATED_ANNOTATIONS);
        let of_operator = if labels.is_empty() { BTreeMap::new() } else { manifest::operator_labels(sandbox) };
        let label_of_users = |(key, value): &(&String, &Value)| match value.as_str() {
            // The marker only makes the isolation stronger.
            _ if *key == label::GENERATED_CODE => false,
            Some(value) => of_operator.get(*key).is_none_or(|own| own != value),
            None => *key != label::WARM_POOL_SANDBOX,
        };
        let annotation_of_users = |(key, value): &(&String, &Value)| match value.as_str() {
            _ if is_list(key) => false,
            Some(value) => model.pod.annotations.get(key) == Some(value),
            None => *key != annotation::SAFE_TO_EVICT,
        };
        let of_users = [
            labels.iter().filter(label_of_users).map(|(key, _)| key.clone()).collect(),
            annotations.iter().filter(annotation_of_users).map(|(key, _)| key.clone()).collect(),
        ];
        Self { labels, annotations, of_users }
    }

    /// Whether the change carries something that the pod template decides about.
    pub(super) fn carries_users(&self) -> bool {
        self.of_users.iter().any(|keys| !keys.is_empty())
    }

    /// The merge patch of the pod, or `None` if the pod has everything.
    pub(super) fn patch(&self) -> Option<Value> {
        patch_of([("labels", self.labels.clone()), ("annotations", self.annotations.clone())])
    }

    /// The merge patch without what the pod template decides about. The lists of what was copied stay as they are too.
    pub(super) fn of_operator(self) -> Option<Value> {
        let Self { mut labels, mut annotations, of_users: [of_labels, of_annotations] } = self;
        labels.retain(|key, _| !of_labels.contains(key));
        annotations.retain(|key, _| !of_annotations.contains(key) && !is_list(key));
        patch_of([("labels", labels), ("annotations", annotations)])
    }

    /// The fields of the Sandbox that are not copied to the pod if a plugin denies the change.
    pub(super) fn fields(&self, model: &model::Sandbox) -> Vec<String> {
        let template = match model.shape {
            ApiShape::Upstream => "podTemplate",
            ApiShape::Seed => "template",
        };
        let field = |(field, keys): (&str, &BTreeSet<String>)| -> Vec<String> {
            keys.iter().map(|key| format!("spec.{template}.metadata.{field}[{key}]")).collect()
        };
        ["labels", "annotations"].into_iter().zip(&self.of_users).flat_map(field).collect()
    }
}

/// Whether the annotation of a pod lists what was copied to it.
fn is_list(key: &str) -> bool {
    [annotation::PROPAGATED_LABELS, annotation::PROPAGATED_ANNOTATIONS].contains(&key)
}

fn patch_of(parts: [(&str, Map<String, Value>); 2]) -> Option<Value> {
    let metadata: Map<String, Value> = parts
        .into_iter()
        .filter(|(_, patch)| !patch.is_empty())
        .map(|(field, patch)| (field.to_owned(), patch.into()))
        .collect();
    (!metadata.is_empty()).then(|| json!({ "metadata": metadata }))
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
