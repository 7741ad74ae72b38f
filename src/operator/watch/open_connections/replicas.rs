//! The gateways in the EndpointSlices of their Service.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use paddock_api::open_connections::PORT;

use crate::limits;

/// One gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    /// The name of its pod.
    pub(super) pod: String,
    /// The address of the port for the list.
    pub(super) address: SocketAddr,
}

/// The reason why the gateways are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoReplicas {
    /// There is no endpoint. No gateway may be installed, or the name of the Service may be wrong.
    #[error("has no endpoint; correct --connections-service, or install a gateway")]
    Empty,
    /// There are more gateways than are asked.
    #[error(
        "has more than {} endpoints, alone or with the other Services; correct --connections-service",
        limits::CONNECTIONS_GATEWAYS_MAX
    )]
    TooMany,
    /// An endpoint is not that of a pod, so it is no gateway of the Deployment.
    #[error("has an endpoint that is no pod with an IP address: {0:?}; select the pods of the gateways")]
    Stranger(String),
    /// The Service has no port for the list.
    #[error("has no port of the name {PORT}; give it the port of the gateway's --metrics-bind-address")]
    NoPort,
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.pod, self.address)
    }
}

/// Every gateway in these EndpointSlices once, by the UID of its pod, whatever its conditions are. In a cluster with two address
/// families, a pod is in a slice of each.
pub(super) fn replicas(slices: Vec<EndpointSlice>) -> Result<BTreeMap<String, Replica>, NoReplicas> {
    let mut replicas: BTreeMap<String, Replica> = BTreeMap::new();
    for slice in slices {
        let mut ports = slice.ports.into_iter().flatten();
        let port = ports.find(|port| port.name.as_deref() == Some(PORT)).and_then(|port| port.port);
        let port = port.and_then(|port| u16::try_from(port).ok());
        for endpoint in slice.endpoints.into_iter().flatten() {
            // The other addresses of an endpoint, if there are any, are of the same pod.
            let address = endpoint.addresses.into_iter().next().unwrap_or_default();
            let target = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
            let pod = target.and_then(|target| target.name.zip(target.uid));
            let (Some((pod, uid)), Ok(ip)) = (pod, address.parse::<IpAddr>()) else {
                return Err(NoReplicas::Stranger(address));
            };
            let address = SocketAddr::new(ip, port.ok_or(NoReplicas::NoPort)?);
            replicas.entry(uid).or_insert(Replica { pod, address });
            if replicas.len() > limits::CONNECTIONS_GATEWAYS_MAX {
                return Err(NoReplicas::TooMany);
            }
        }
    }
    if replicas.is_empty() { Err(NoReplicas::Empty) } else { Ok(replicas) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoint(pod: &str, address: &str, conditions: Value) -> Value {
        let target = json!({ "kind": "Pod", "namespace": "ns", "name": pod, "uid": format!("uid-of-{pod}") });
        json!({ "addresses": [address], "conditions": conditions, "targetRef": target })
    }

    fn slice(family: &str, endpoints: &[Value]) -> Value {
        let ports = json!([{ "name": "proxy", "port": 8080 }, { "name": "metrics", "port": 9090, "protocol": "TCP" }]);
        json!({ "metadata": { "name": "s" }, "addressType": family, "endpoints": endpoints, "ports": ports })
    }

    fn found(slices: &[Value]) -> Result<Vec<String>, NoReplicas> {
        let slices = slices.iter().map(|slice| serde_json::from_value(slice.clone()).unwrap()).collect();
        Ok(replicas(slices)?.values().map(ToString::to_string).collect())
    }

    #[test]
    fn every_pod_is_a_gateway_once_whatever_its_conditions_are() {
        let ready = json!({ "ready": true, "serving": true, "terminating": false });
        let draining = json!({ "ready": false, "serving": true, "terminating": true });
        let stale = json!({ "ready": false, "serving": false, "terminating": false });
        let ipv4 = slice("IPv4", &[endpoint("a", "10.0.0.1", ready.clone()), endpoint("b", "10.0.0.2", draining)]);
        let ipv6 = slice("IPv6", &[endpoint("a", "fd00::1", ready), endpoint("c", "fd00::3", stale)]);
        let empty = json!({ "metadata": {}, "addressType": "IPv4", "endpoints": null, "ports": null });
        let all = ["a at 10.0.0.1:9090", "b at 10.0.0.2:9090", "c at [fd00::3]:9090"];
        assert_eq!(found(&[ipv4, ipv6, empty]).unwrap(), all);
    }

    #[test]
    fn list_of_anything_else_is_refused() {
        let one = || endpoint("a", "10.0.0.1", Value::Null);
        let mut without_target = one();
        without_target["targetRef"] = Value::Null;
        let mut node = one();
        node["targetRef"]["kind"] = "Node".into();
        let mut no_port = slice("IPv4", &[one()]);
        no_port["ports"] = json!([{ "name": "proxy", "port": 9090 }]);
        let most = limits::CONNECTIONS_GATEWAYS_MAX;
        let many: Vec<Value> = (0..=most).map(|n| endpoint(&n.to_string(), "10.0.0.1", Value::Null)).collect();
        assert_eq!(found(&[slice("IPv4", &many[1..])]).unwrap().len(), most);
        for (slices, wanted) in [
            (vec![], NoReplicas::Empty),
            (vec![slice("IPv4", &[])], NoReplicas::Empty),
            (vec![slice("IPv4", &many)], NoReplicas::TooMany),
            (vec![slice("IPv4", &[one(), without_target])], NoReplicas::Stranger("10.0.0.1".to_owned())),
            (vec![slice("IPv4", &[node])], NoReplicas::Stranger("10.0.0.1".to_owned())),
            (
                vec![slice("FQDN", &[endpoint("a", "elsewhere.example.com", Value::Null)])],
                NoReplicas::Stranger("elsewhere.example.com".to_owned()),
            ),
            (vec![no_port], NoReplicas::NoPort),
        ] {
            assert_eq!(found(&slices), Err(wanted), "{slices:?}");
        }
    }
}
