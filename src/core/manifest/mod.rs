//! The objects that Paddock writes, whole, from the model: no choices, no reading of the world.

mod network;
mod pod;
mod sandbox;
mod service;

use serde_json::{Value, json};

pub use network::network_policy_spec;
pub use pod::{PodPlan, mount_unmounted, pod, pod_annotations, pod_labels, volume_claim_names, volume_claims};
pub use sandbox::{Origin, adopted_by_claim, cold_sandbox, inject_env, member_name, member_prefix, warm_sandbox};
pub use service::{endpoint_slice, endpoints_of, headless_service, stable_service};

use crate::kind::Key;
use crate::names::annotation;
use crate::object::Object;

/// The controller reference to an object.
#[must_use]
pub fn controller_reference(owner: &Object) -> Value {
    json!({
        "apiVersion": owner.key.kind.api_version(),
        "kind": owner.key.kind.name(),
        "name": &*owner.key.name,
        "uid": &*owner.meta.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Owner references of an object that `owner` takes over: itself first, then those that were there.
#[must_use]
pub fn taken_over_by(owner: &Object, taken: &Object) -> Value {
    let others = taken
        .meta
        .other_owners
        .iter()
        .map(|o| json!({ "apiVersion": o.api_version, "kind": o.kind, "name": &*o.name, "uid": &*o.uid }));
    Value::Array(std::iter::once(controller_reference(owner)).chain(others).collect())
}

/// Name of a Sandbox's pod: the one it has, or its own.
#[must_use]
pub fn pod_name(sandbox: &Object) -> &str {
    sandbox.meta.annotations.get(annotation::POD_NAME).map_or(&*sandbox.key.name, String::as_str)
}

/// DNS name of a Sandbox's Service.
#[must_use]
pub fn fqdn(sandbox: &Key, domain: &str) -> String {
    format!("{}.{}.svc.{domain}", sandbox.name, sandbox.namespace)
}
