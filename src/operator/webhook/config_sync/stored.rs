//! A webhook configuration as the API server stores it. It stays in JSON, because a Rust type would lose the fields that
//! this version does not know: they would be neither compared nor written back.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::core::DynamicObject;
use paddock_core::admission::Phase;
use serde_json::{Value, json};

use super::super::registered::{RegisteredEntry, compare};
use super::super::registration::ENTRY_SUFFIX;

/// The entries of a configuration, with every field.
pub(super) fn webhooks(stored: &DynamicObject) -> Vec<Value> {
    stored.data["webhooks"].as_array().cloned().unwrap_or_default()
}

/// Whether the name of an entry is one of the operator's.
pub(super) fn is_ours(entry: &Value) -> bool {
    entry["name"].as_str().is_some_and(|name| name.ends_with(ENTRY_SUFFIX))
}

/// The entries that differ.
pub(super) fn changes(phase: Phase, wanted: &[Value], there: &[Value]) -> Vec<RegisteredEntry> {
    compare(phase, wanted, there).into_iter().filter(|entry| !entry.is_registered()).collect()
}

/// The bundle as an entry holds it: in Base64.
pub(super) fn encoded(bundle: Option<&str>) -> Value {
    json!(bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec())))
}

pub(super) fn has_bundle(entry: &Value, bundle: Option<&str>) -> bool {
    entry["clientConfig"]["caBundle"] == encoded(bundle)
}

pub(super) fn without_bundle(entry: &mut Value) {
    if let Some(client_config) = entry["clientConfig"].as_object_mut() {
        client_config.remove("caBundle");
    }
}

/// Whether the configuration has the labels of the desired one.
pub(super) fn has_labels(found: &DynamicObject, desired: &DynamicObject) -> bool {
    desired.labels().iter().all(|(name, value)| found.labels().get(name) == Some(value))
}

/// Whether the configuration has the owner. True without an owner.
pub(super) fn has_owner(found: &DynamicObject, owner: Option<&OwnerReference>) -> bool {
    owner.is_none_or(|owner| found.owner_references().iter().any(|o| o.uid == owner.uid))
}

/// The owners of the configuration together with ours. A namespace of our name with another UID was deleted, so it is
/// not an owner any more.
pub(super) fn owners(found: &DynamicObject, owner: &OwnerReference) -> Vec<OwnerReference> {
    let others = found.owner_references().iter().filter(|o| !(is_namespace(o) && o.name == owner.name));
    others.chain([owner]).cloned().collect()
}

/// The namespace of another operator that owns a configuration. A namespace of our name is never another operator's,
/// because a namespace that is made again has another UID.
pub(super) fn other_operator<'a>(found: &'a DynamicObject, owner: Option<&OwnerReference>) -> Option<&'a str> {
    if owner.is_some() && has_owner(found, owner) {
        return None;
    }
    let ours = owner.map(|owner| owner.name.as_str());
    let mut namespaces = found.owner_references().iter().filter(|o| is_namespace(o)).map(|o| o.name.as_str());
    namespaces.find(|name| Some(*name) != ours)
}

fn is_namespace(owner: &OwnerReference) -> bool {
    owner.kind == "Namespace" && owner.api_version == "v1"
}
