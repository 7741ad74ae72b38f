//! The labels and annotations that a claim adds to the pod template of its Sandbox. An annotation of the Sandbox records
//! their keys, so that they can be removed again.

use std::collections::BTreeSet;

use paddock_api::names::annotation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::model;
use crate::object::json::to_value;
use crate::object::{Object, TextMap, side_by_side};

/// The keys that a claim added to the pod template of its Sandbox.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct AddedKeys {
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
}

impl AddedKeys {
    fn of(sandbox: &Object) -> Self {
        let text = sandbox.meta.annotations.get(annotation::CLAIM_METADATA);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// The value of the annotation, or `None` if the claim adds nothing.
pub(super) fn added_keys(claim: &model::Claim) -> Option<String> {
    let keys = |of: &TextMap| of.keys().map(str::to_owned).collect();
    let added = AddedKeys { labels: keys(&claim.labels), annotations: keys(&claim.annotations) };
    (added != AddedKeys::default()).then(|| to_value(&added).to_string())
}

/// A change of the metadata that a claim adds.
pub(crate) struct MetadataChange {
    /// The claim with only those labels and annotations that the Sandbox does not have yet.
    pub(crate) additions: model::Claim,
    /// The pod of the Sandbox without the metadata of the claim, which the claim must not contradict.
    pub(crate) base: model::Pod,
    /// The merge patch of the Sandbox.
    pub(crate) patch: Value,
}

/// Compares the pod template of a Sandbox with the claim that it belongs to. Returns `None` if it has all labels and
/// annotations of the claim, and none that the claim does not add any more.
pub(crate) fn metadata_change(sandbox: &Object, claim: &model::Claim) -> Option<MetadataChange> {
    let pod = &sandbox.sandbox()?.spec.as_ref().ok()?.pod;
    let recorded = AddedKeys::of(sandbox);
    let labels = patch(&pod.labels, &recorded.labels, &claim.labels);
    let annotations = patch(&pod.annotations, &recorded.annotations, &claim.annotations);
    if labels.is_empty() && annotations.is_empty() {
        return None;
    }
    let new = |wanted: &TextMap, patch: &Map<String, Value>| -> TextMap {
        wanted.iter().filter(|(key, _)| patch.contains_key(*key)).collect()
    };
    let base = |has: &TextMap, recorded: &BTreeSet<String>| -> TextMap {
        has.iter().filter(|(key, _)| !recorded.contains(*key)).collect()
    };
    Some(MetadataChange {
        additions: model::Claim {
            labels: new(&claim.labels, &labels),
            annotations: new(&claim.annotations, &annotations),
            ..claim.clone()
        },
        base: model::Pod {
            labels: base(&pod.labels, &recorded.labels),
            annotations: base(&pod.annotations, &recorded.annotations),
            spec: pod.spec.clone(),
        },
        patch: json!({
            "metadata": { "annotations": { annotation::CLAIM_METADATA: added_keys(claim) } },
            "spec": { "podTemplate": { "metadata": { "labels": labels, "annotations": annotations } } },
        }),
    })
}

/// The merge patch of one map: the entries of the claim that are new or different, and no others of those that it added.
fn patch(has: &TextMap, recorded: &BTreeSet<String>, wanted: &TextMap) -> Map<String, Value> {
    let change = |(key, has, wanted): (&str, Option<&str>, Option<&str>)| match wanted {
        Some(value) => (has != wanted).then(|| (key.to_owned(), value.into())),
        None => recorded.contains(key).then(|| (key.to_owned(), Value::Null)),
    };
    side_by_side(has, wanted).filter_map(change).collect()
}
