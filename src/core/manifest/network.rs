//! The NetworkPolicy that the sandboxes of a template share.

use paddock_api::names::object::ROUTER_APP;
use paddock_api::names::{label, name_hash};
use serde_json::{Value, json};

use crate::model::NetworkPolicy;
use crate::object::json::to_value;

/// The spec of a template's NetworkPolicy, or `None` if the operator does not manage it.
#[must_use]
pub fn network_policy_spec(template: &str, policy: &NetworkPolicy) -> Option<Value> {
    let (ingress, egress) = match policy {
        NetworkPolicy::Unmanaged => return None,
        NetworkPolicy::Rules(rules) => (to_value(&rules.ingress), to_value(&rules.egress)),
        NetworkPolicy::SecureDefault => (default_ingress(), default_egress()),
    };
    Some(json!({
        "podSelector": { "matchLabels": { label::TEMPLATE_REF_HASH: name_hash(template) } },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    }))
}

/// Allows connections from the pods of the router only. The router may run in any namespace.
fn default_ingress() -> Value {
    json!([{
        "from": [{
            "namespaceSelector": {},
            "podSelector": { "matchLabels": { "app": ROUTER_APP } },
        }],
    }])
}

/// Allows connections to the public internet and to the cluster's DNS. The rule excludes private addresses (RFC 1918)
/// and unique-local addresses (RFC 4193). It also excludes link-local addresses (RFC 3927 and RFC 4291 section 2.5.6),
/// where clouds have their metadata servers.
fn default_egress() -> Value {
    json!([
        {
            "to": [
                {
                    "ipBlock": {
                        "cidr": "0.0.0.0/0",
                        "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"],
                    },
                },
                { "ipBlock": { "cidr": "::/0", "except": ["fc00::/7", "fe80::/10"] } },
            ],
        },
        {
            "to": [{
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
                "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
            }],
            "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }],
        },
    ])
}
