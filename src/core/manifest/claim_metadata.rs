//! The labels and annotations that a claim adds to the pod template of its Sandbox. An annotation of the Sandbox records
//! their keys, so that they can be removed again.

use std::collections::BTreeMap;

use paddock_api::names::annotation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::model;
use crate::object::Object;
use crate::object::json::to_value;

/// The keys that a claim added to the pod template of its Sandbox.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct AddedKeys {
    labels: Vec<String>,
    annotations: Vec<String>,
}

impl AddedKeys {
    fn of(sandbox: &Object) -> Self {
        let text = sandbox.meta.annotations.get(annotation::CLAIM_METADATA);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// The value of the annotation, or `None` if the claim adds nothing.
pub(super) fn added_keys(claim: &model::Claim) -> Option<String> {
    let keys = |of: &BTreeMap<String, String>| of.keys().cloned().collect();
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
    let (labels, new_labels, base_labels) = compare(&pod.labels, &recorded.labels, &claim.labels);
    let (annotations, new_annotations, base_annotations) =
        compare(&pod.annotations, &recorded.annotations, &claim.annotations);
    if labels.is_empty() && annotations.is_empty() {
        return None;
    }
    Some(MetadataChange {
        additions: model::Claim { labels: new_labels, annotations: new_annotations, ..claim.clone() },
        base: model::Pod { labels: base_labels, annotations: base_annotations, spec: pod.spec.clone() },
        patch: json!({
            "metadata": { "annotations": { annotation::CLAIM_METADATA: added_keys(claim) } },
            "spec": { "podTemplate": { "metadata": { "labels": labels, "annotations": annotations } } },
        }),
    })
}

/// The merge patch of one map, its entries that are new or different, and the map without the entries of the claim.
fn compare(
    has: &BTreeMap<String, String>,
    recorded: &[String],
    wanted: &BTreeMap<String, String>,
) -> (Map<String, Value>, BTreeMap<String, String>, BTreeMap<String, String>) {
    let new: BTreeMap<_, _> =
        wanted.iter().filter(|(k, v)| has.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let removed = recorded.iter().filter(|k| has.contains_key(*k) && !wanted.contains_key(*k));
    let set = new.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
    let patch = set.chain(removed.map(|k| (k.clone(), Value::Null))).collect();
    let base = has.iter().filter(|(k, _)| !recorded.contains(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
    (patch, new, base)
}
