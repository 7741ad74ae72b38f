//! Detection of changes: whether a warm Sandbox is still as its pool created it. A pool replaces a Sandbox that anybody
//! touched, and no claim gets it.
//!
//! Users with ordinary rights can write to a Sandbox and to its Pod, and the next claim would get their changes:
//!
//! - The API server counts the changes of a spec in `metadata.generation`, which no client can reset. A change that
//!   leaves no other trace, such as an exec, is therefore recorded in the spec of the Sandbox.
//! - The labels and annotations of a Sandbox are compared with a digest. The digest is in the spec of the Sandbox, so
//!   it cannot be changed without a new generation.
//! - The labels and annotations of a Pod are compared with those that the operator gives it.
//! - The operator gives a Sandbox and its Pod one owner each. An object with another owner outlives its controller.

mod pod;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use paddock_api::names::annotation;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use rules::Rules;

use crate::annotation_readers::has_effect;
use crate::object::json::string_map;
use crate::object::{Object, TextMap, is_ours};
use crate::settings::Settings;

/// Returns the digest of the labels and annotations with which a pool makes a Sandbox: the first 128 bits of a SHA-256,
/// so that nobody finds other labels with the same digest.
#[must_use]
pub fn digest(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> u128 {
    let mut hasher = Sha256::new();
    for (kind, map) in [("label", labels), ("annotation", annotations)] {
        for text in map.iter().flat_map(|(key, value)| [kind, key, value]) {
            // With the lengths, two different maps never give the same bytes.
            hasher.update(text.len().to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.finalize().iter().take(16).fold(0, |digest, byte| digest << 8 | u128::from(*byte))
}

/// The touch of a warm Sandbox whose Pod lost its owner reference.
pub(crate) const DETACHED: &str = "its Pod was detached from it";

/// The touch of a warm Sandbox whose Pod was outside of the NetworkPolicy of its template.
pub(crate) const UNFENCED: &str = "the label policy.paddock.dev/template-digest was removed from its Pod";

/// Returns the change of a warm Sandbox or of its Pod since the pool made them, as a clause for people, or `None` if
/// they are as made.
#[must_use]
pub fn touched(sandbox: &Object, pod: Option<&Object>, rules: Rules<'_>) -> Option<String> {
    let Ok(model) = &sandbox.sandbox()?.spec else { return Some("its spec was changed".to_owned()) };
    if let Some(touch) = &model.warm.touched {
        return Some(touch.to_string());
    }
    if sandbox.meta.edited() {
        return Some("its spec was changed".to_owned());
    }
    if !sandbox.meta.other_owners.is_empty() {
        return Some("an owner was added to it".to_owned());
    }
    if let Some(made) = model.warm.digest
        && let Some(change) = metadata_change(sandbox, made, rules.settings)
    {
        return Some(change);
    }
    // The deletion of a Pod counts in its generation as well.
    let pod = pod.filter(|pod| pod.meta.deletion_timestamp.is_none());
    pod.and_then(|pod| pod::change(sandbox, model, pod, rules))
}

/// Whether [`touched`] reads the same from two versions of a Sandbox.
#[must_use]
pub(crate) fn same_sandbox(old: &Object, new: &Object) -> bool {
    old.meta.uid == new.meta.uid
        && old.meta.generation == new.meta.generation
        && old.meta.labels == new.meta.labels
        && old.meta.annotations == new.meta.annotations
        && old.meta.controller == new.meta.controller
        && old.meta.other_owners == new.meta.other_owners
        && old.template == new.template
        && old.sandbox().map(|old| &old.spec) == new.sandbox().map(|new| &new.spec)
}

/// Whether [`touched`] reads the same from two versions of the Pod of a Sandbox.
#[must_use]
pub(crate) fn same_pod(old: Option<&Object>, new: Option<&Object>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            old.meta.generation == new.meta.generation
                && old.meta.deletion_timestamp == new.meta.deletion_timestamp
                && old.meta.labels == new.meta.labels
                && old.meta.annotations == new.meta.annotations
                && old.meta.other_owners == new.meta.other_owners
                && old.pod().map(|pod| &pod.changed) == new.pod().map(|pod| &pod.changed)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The change of the labels or annotations of a Sandbox. Sandboxes of earlier versions have no digest and are not
/// compared.
fn metadata_change(sandbox: &Object, made: u128, settings: &Settings) -> Option<String> {
    let of = |map: &TextMap, counts: &dyn Fn(&str) -> bool| -> BTreeMap<String, String> {
        let counted = map.iter().filter(|(key, _)| counts(key));
        counted.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let labels = of(&sandbox.meta.labels, &|key| is_ours(key) || !settings.ignores_label(key));
    let annotations = of(&sandbox.meta.annotations, &has_effect);
    if digest(&labels, &annotations) == made {
        return None;
    }
    let added = labels.keys().find(|key| !is_ours(key));
    let added = added.map(|key| format!("the label {key} was added to it"));
    Some(added.unwrap_or_else(|| "one of its labels or annotations was added, changed or removed".to_owned()))
}

/// Records on a Pod which of its labels and annotations admission plugins changed before its creation. `made` is the Pod
/// without their changes.
pub(crate) fn list_plugin_changes(made: &Value, pod: &mut Value) {
    for (field, list) in [("labels", annotation::PLUGIN_LABELS), ("annotations", annotation::PLUGIN_ANNOTATIONS)] {
        let of = |pod: &Value| string_map(pod, &format!("/metadata/{field}"));
        let (before, after) = (of(made), of(pod));
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed: Vec<&str> =
            keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).map(String::as_str).collect();
        if !changed.is_empty() {
            pod["metadata"]["annotations"][list] = changed.join(",").into();
        }
    }
}

/// The patch that records in the spec of a Sandbox that it was touched. The generation that the patch causes stays,
/// even if somebody removes the record.
#[must_use]
pub fn record(touch: &str) -> Value {
    json!({ "spec": { "podTemplate": { "metadata": { "annotations": { annotation::TOUCHED: touch } } } } })
}

#[cfg(test)]
mod tests;
