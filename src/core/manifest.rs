//! The complete objects that plans create. They are made from the model alone, without choices and without the World.

mod claim_data;
mod claim_metadata;
mod hold;
mod network;
mod pod;
mod revision;
mod sandbox;
mod service;
mod stored;
mod volumes;

use serde_json::{Value, json};

pub use claim_data::{SecretValues, check_bytes, claim_secret, is_secret_of};
pub(crate) use claim_metadata::{MetadataChange, metadata_change};
pub(crate) use hold::set_init_image;
pub use network::{closed_network_policy_spec, network_policy, network_policy_annotations, network_policy_spec};
use paddock_api::kind::{Key, Kind};
use paddock_api::names::annotation;
pub use pod::{PodPlan, mount_unmounted, pod, pod_annotations, pod_labels};
pub(crate) use pod::{labelled_marker, operator_labels, recorded_marker, sandbox_marker};
pub(crate) use revision::PodRevision;
pub use sandbox::{
    Origin, adopted_by_claim, cold_sandbox, inject_env, is_held, member_name, member_prefix, takes_claim_data,
    warm_sandbox,
};
pub use service::{
    endpoint_slice, endpoints_of, gateway_endpoints, gateway_ports, headless_service, pod_ports, stable_service,
    tcp_ports,
};
pub use stored::{stored_claim, stored_sandbox};
pub(crate) use volumes::disk_dirs;
pub use volumes::{volume_claim_names, volume_claims};

use crate::object::Object;

/// Returns a new object that the owner controls, in its namespace. The metadata is the rest of the object's metadata.
#[must_use]
pub fn owned(owner: &Object, kind: Kind, name: &str, mut metadata: Value) -> Value {
    metadata["name"] = name.into();
    metadata["namespace"] = (&*owner.key.namespace).into();
    metadata["ownerReferences"] = json!([controller_reference(owner)]);
    json!({ "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata })
}

/// Returns an owner reference that makes `owner` the controller.
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

/// Returns the owner references of an object that `owner` adopts: the new controller first, then the other owners that
/// the object had.
#[must_use]
pub fn taken_over_by(owner: &Object, taken: &Object) -> Value {
    Value::Array(std::iter::once(controller_reference(owner)).chain(owner_references(taken)).collect())
}

/// Returns the owner references of an object that loses its controller: the other owners.
#[must_use]
pub fn other_owners(object: &Object) -> Value {
    Value::Array(owner_references(object).collect())
}

fn owner_references(object: &Object) -> impl Iterator<Item = Value> {
    let others = object.meta.other_owners.iter();
    others.map(|o| json!({ "apiVersion": &*o.api_version, "kind": &*o.kind, "name": &*o.name, "uid": &*o.uid }))
}

/// The name of a Sandbox's pod: the name in the annotation of the Sandbox, or else the name of the Sandbox.
#[must_use]
pub fn pod_name(sandbox: &Object) -> &str {
    sandbox.meta.annotations.get(annotation::POD_NAME).unwrap_or(&sandbox.key.name)
}

/// Whether a pod that a Sandbox controls has a name under which the operator makes its pod: the one in the annotation, or
/// the name of the Sandbox. A user may change the annotation while the pod runs.
#[must_use]
pub fn is_pod_name(sandbox: &Object, pod: &str) -> bool {
    pod == pod_name(sandbox) || pod == &*sandbox.key.name
}

/// The DNS name of a Sandbox's Service.
#[must_use]
pub fn fqdn(sandbox: &Key, domain: &str) -> String {
    format!("{}.{}.svc.{domain}", sandbox.name, sandbox.namespace)
}
