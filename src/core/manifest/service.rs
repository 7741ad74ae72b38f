//! The address of a Sandbox: its Service, and the EndpointSlice of a stable Service.

use std::borrow::Cow;

use paddock_api::kind::Kind;
use paddock_api::names::{label, name_hash, object as names};
use serde_json::{Value, json};

use super::owned;
use crate::model::{self, Port};
use crate::object::Object;

/// Returns the Service that upstream makes: it is headless and selects the pod by its labels. Connections do not need
/// its ports, but meshes, routes and monitors read them.
#[must_use]
pub fn headless_service(sandbox: &Object, model: &model::Sandbox) -> Value {
    let mut spec = json!({
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": {
            // Clients know the hash of the name, but only the UID is unique.
            label::SANDBOX_NAME_HASH: name_hash(&sandbox.key.name),
            label::SANDBOX_UID: &*sandbox.meta.uid,
        },
    });
    let ports = model.pod.spec.ports();
    if !ports.is_empty() {
        spec["ports"] = service_ports(ports);
    }
    service(sandbox, spec)
}

/// Returns a Service whose address stays when the pod is replaced. It has no selector, and the operator writes its
/// endpoints.
#[must_use]
pub fn stable_service(sandbox: &Object, model: &model::Sandbox) -> Value {
    service(sandbox, json!({ "type": "ClusterIP", "ports": service_ports(&ports(model)) }))
}

fn service_ports(ports: &[Port]) -> Value {
    ports
        .iter()
        .map(|p| json!({ "name": p.name, "port": p.number, "targetPort": p.number, "protocol": p.protocol }))
        .collect()
}

fn service(sandbox: &Object, spec: Value) -> Value {
    let metadata = json!({ "labels": { label::SANDBOX_NAME_HASH: name_hash(&sandbox.key.name) } });
    let mut service = owned(sandbox, Kind::Service, &sandbox.key.name, metadata);
    service["spec"] = spec;
    service
}

/// Returns the EndpointSlice of a [`stable_service`], with the result of [`endpoints_of`].
#[must_use]
pub fn endpoint_slice(sandbox: &Object, model: &model::Sandbox, endpoints: &Value, address: &str) -> Value {
    let ports: Vec<Value> =
        ports(model).iter().map(|p| json!({ "name": p.name, "port": p.number, "protocol": p.protocol })).collect();
    let labels = json!({
        "kubernetes.io/service-name": &*sandbox.key.name,
        "endpointslice.kubernetes.io/managed-by": "paddock",
        label::SANDBOX_NAME_HASH: name_hash(&sandbox.key.name),
    });
    let mut slice = owned(sandbox, Kind::EndpointSlice, &sandbox.key.name, json!({ "labels": labels }));
    slice["addressType"] = if address.contains(':') { "IPv6" } else { "IPv4" }.into();
    slice["endpoints"] = endpoints.clone();
    slice["ports"] = ports.into();
    slice
}

/// Returns the list of endpoints with one pod and its address, or an empty list. A reader of the EndpointSlice learns
/// from the UID of the pod whether the pod still exists. Another pod may get its address.
#[must_use]
pub fn endpoints_of(endpoint: Option<(&Object, &str)>) -> Value {
    match endpoint {
        Some((pod, address)) => json!([{
            "addresses": [address],
            "conditions": { "ready": true },
            "targetRef": {
                "kind": Kind::Pod.name(),
                "namespace": &*pod.key.namespace,
                "name": &*pod.key.name,
                "uid": &*pod.meta.uid,
            },
        }]),
        None => json!([]),
    }
}

/// The ports of a stable address: the declared ports, or else the default port of the runtime.
fn ports(model: &model::Sandbox) -> Cow<'_, [Port]> {
    match model.pod.spec.ports() {
        [] => {
            let number = i32::from(names::DEFAULT_PORT);
            Cow::Owned(vec![Port { name: "runtime".into(), number, protocol: "TCP".into() }])
        }
        declared => Cow::Borrowed(declared),
    }
}
