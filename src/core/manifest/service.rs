//! The address of a Sandbox: its Service, and the EndpointSlice of a stable Service.

use std::borrow::Cow;

use paddock_api::TcpWakePort;
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

/// Returns the EndpointSlice of a [`stable_service`]: with the results of [`endpoints_of`] and [`pod_ports`], or of
/// [`gateway_endpoints`] and [`gateway_ports`].
#[must_use]
pub fn endpoint_slice(sandbox: &Object, endpoints: &Value, ports: &Value, ipv6: bool) -> Value {
    let labels = json!({
        label::SERVICE_NAME: &*sandbox.key.name,
        "endpointslice.kubernetes.io/managed-by": "paddock",
        label::SANDBOX_NAME_HASH: name_hash(&sandbox.key.name),
    });
    let mut slice = owned(sandbox, Kind::EndpointSlice, &sandbox.key.name, json!({ "labels": labels }));
    slice["addressType"] = if ipv6 { "IPv6" } else { "IPv4" }.into();
    slice["endpoints"] = endpoints.clone();
    slice["ports"] = ports.clone();
    slice
}

/// Returns the ports of the EndpointSlice while the pod is the endpoint.
#[must_use]
pub fn pod_ports(model: &model::Sandbox) -> Value {
    ports(model).iter().map(|p| json!({ "name": p.name, "port": p.number, "protocol": p.protocol })).collect()
}

/// Returns the ports of the EndpointSlice while gateways are the endpoints. A gateway forwards only TCP.
#[must_use]
pub fn gateway_ports(model: &model::Sandbox, of_gateway: &[TcpWakePort]) -> Value {
    let ports = ports(model);
    let mapped = ports.iter().filter(|p| is_tcp(p)).filter_map(|p| {
        let of_gateway = of_gateway.iter().find(|mapped| i32::from(mapped.port) == p.number)?;
        Some(json!({ "name": p.name, "port": of_gateway.gateway_port, "protocol": p.protocol }))
    });
    mapped.collect()
}

/// The numbers of the TCP ports of a stable address.
#[must_use]
pub fn tcp_ports(model: &model::Sandbox) -> Vec<u16> {
    ports(model).iter().filter(|p| is_tcp(p)).filter_map(|p| u16::try_from(p.number).ok()).collect()
}

fn is_tcp(port: &Port) -> bool {
    &*port.protocol == "TCP"
}

/// Returns the list of endpoints with gateways. They name no pod, because the pods are in another namespace and are not
/// the Sandbox's.
#[must_use]
pub fn gateway_endpoints(addresses: &[&str]) -> Value {
    addresses.iter().map(|address| json!({ "addresses": [address], "conditions": { "ready": true } })).collect()
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
