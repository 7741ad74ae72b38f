//! The NetworkPolicy that the sandboxes of a template share.

use paddock_api::kind::{Key, Kind};
use paddock_api::names::object::ROUTER_APP;
use paddock_api::names::{annotation, label};
use serde_json::{Value, json};

use crate::model::NetworkPolicy;
use crate::network_policy::{Selector, policy_key, template_reference};
use crate::object::json::to_value;
use crate::settings::NetworkSettings;

/// The IPv4 addresses that are not public, so that the default rules exclude them:
///
/// - every block of the [IANA IPv4 Special-Purpose Address Registry], the globally reachable ones too
/// - multicast (RFC 5771)
/// - 168.63.129.16, the address of Azure's host services, which is in no registry
///
/// [IANA IPv4 Special-Purpose Address Registry]: https://www.iana.org/assignments/iana-ipv4-special-registry
const NOT_PUBLIC_V4: [&str; 19] = [
    "0.0.0.0/8",        // "this network" (RFC 791)
    "10.0.0.0/8",       // private use (RFC 1918)
    "100.64.0.0/10",    // shared address space (RFC 6598), used for pods and nodes
    "127.0.0.0/8",      // loopback (RFC 1122)
    "169.254.0.0/16",   // link-local (RFC 3927), where clouds have their metadata servers
    "172.16.0.0/12",    // private use (RFC 1918)
    "192.0.0.0/24",     // IETF protocol assignments (RFC 6890), with all blocks inside it
    "192.0.2.0/24",     // documentation (RFC 5737)
    "192.31.196.0/24",  // AS112 (RFC 7535)
    "192.52.193.0/24",  // AMT (RFC 7450)
    "192.88.99.0/24",   // 6to4 relay anycast (RFC 7526)
    "192.168.0.0/16",   // private use (RFC 1918)
    "192.175.48.0/24",  // AS112 (RFC 7534)
    "198.18.0.0/15",    // benchmarking (RFC 2544)
    "198.51.100.0/24",  // documentation (RFC 5737)
    "203.0.113.0/24",   // documentation (RFC 5737)
    "224.0.0.0/4",      // multicast (RFC 5771)
    "240.0.0.0/4",      // reserved (RFC 1112), with the limited broadcast address
    "168.63.129.16/32", // Azure's host services
];

/// The IPv6 addresses that are not public, so that the default rules exclude them: every block of the [IANA IPv6
/// Special-Purpose Address Registry], the globally reachable ones too, and multicast (RFC 4291).
///
/// `::/8` contains `::/128`, `::1/128`, `::ffff:0:0/96`, `64:ff9b::/96` and `64:ff9b:1::/48`. The API server does not
/// accept `::ffff:0:0/96` itself. `2001::/23` contains all blocks of the IETF protocol assignments.
///
/// [IANA IPv6 Special-Purpose Address Registry]: https://www.iana.org/assignments/iana-ipv6-special-registry
const NOT_PUBLIC_V6: [&str; 12] = [
    "::/8",              // loopback, IPv4-mapped and NAT64 (RFC 4291, RFC 6052, RFC 8215)
    "100::/64",          // discard-only (RFC 6666)
    "100:0:0:1::/64",    // dummy prefix (RFC 9780)
    "2001::/23",         // IETF protocol assignments (RFC 2928), with Teredo, ORCHID and benchmarking
    "2001:db8::/32",     // documentation (RFC 3849)
    "2002::/16",         // 6to4 (RFC 3056), which embeds IPv4 addresses
    "2620:4f:8000::/48", // AS112 (RFC 7534)
    "3fff::/20",         // documentation (RFC 9637)
    "5f00::/16",         // segment routing (RFC 9602)
    "fc00::/7",          // unique-local (RFC 4193)
    "fe80::/10",         // link-local (RFC 4291)
    "ff00::/8",          // multicast (RFC 4291)
];

/// The address of NodeLocal DNSCache, from the Kubernetes documentation. Its pods are on the network of their node, so
/// no label selects them.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// The spec of a template's NetworkPolicy, or `None` if the operator does not manage it.
#[must_use]
pub fn network_policy_spec(template: &str, policy: &NetworkPolicy, settings: &NetworkSettings) -> Option<Value> {
    let (ingress, egress) = match policy {
        NetworkPolicy::Unmanaged => return None,
        NetworkPolicy::Rules(rules) => (to_value(&rules.ingress), to_value(&rules.egress)),
        NetworkPolicy::SecureDefault => (default_ingress(settings), default_egress(settings)),
    };
    Some(spec(template, &ingress, &egress))
}

/// The spec of a NetworkPolicy that allows no connection. It is for the sandboxes of a template that does not exist any
/// more and whose rules nobody knows.
#[must_use]
pub fn closed_network_policy_spec(template: &str) -> Value {
    spec(template, &json!([]), &json!([]))
}

fn spec(template: &str, ingress: &Value, egress: &Value) -> Value {
    let rules = json!({ "policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress });
    Selector::Digest.applied(template, rules)
}

/// Returns the NetworkPolicy of a template, as JSON. It has no owner reference, because it outlives the template.
#[must_use]
pub fn network_policy(template: &Key, spec: &Value) -> Value {
    let key = policy_key(template);
    json!({
        "apiVersion": Kind::NetworkPolicy.api_version(),
        "kind": Kind::NetworkPolicy.name(),
        "metadata": {
            "name": &*key.name,
            "namespace": &*key.namespace,
            "annotations": network_policy_annotations(template, spec),
        },
        "spec": spec,
    })
}

/// The annotations of a template's NetworkPolicy: the template, and the spec.
#[must_use]
pub fn network_policy_annotations(template: &Key, spec: &Value) -> Value {
    json!({
        annotation::POLICY_TEMPLATE: template_reference(template),
        annotation::POLICY_SPEC: spec.to_string(),
    })
}

/// Allows connections from the pods of the router, in the namespaces that the administrator names. The label of the
/// pods alone would admit everybody, because any user may set it in a namespace of their own.
fn default_ingress(settings: &NetworkSettings) -> Value {
    let peers: Vec<Value> = settings
        .router_namespaces
        .iter()
        .map(|namespace| {
            json!({
                "namespaceSelector": { "matchLabels": { label::NAMESPACE_NAME: namespace } },
                "podSelector": { "matchLabels": { "app": ROUTER_APP } },
            })
        })
        .collect();
    // A rule without peers would admit everybody.
    if peers.is_empty() { json!([]) } else { json!([{ "from": peers }]) }
}

/// Allows connections to public addresses and to the cluster's DNS.
fn default_egress(settings: &NetworkSettings) -> Value {
    let is_v6 = |cidr: &&str| cidr.contains(':');
    let excluded = |v6: bool, always: &[&str]| -> Vec<String> {
        let more = settings.egress_except.iter().map(String::as_str).filter(|cidr| is_v6(cidr) == v6);
        let mut excluded: Vec<String> = Vec::new();
        for cidr in always.iter().copied().chain(more) {
            if !excluded.iter().any(|e| e == cidr) {
                excluded.push(cidr.to_owned());
            }
        }
        excluded
    };
    let mut peers = vec![
        json!({ "ipBlock": { "cidr": "0.0.0.0/0", "except": excluded(false, &NOT_PUBLIC_V4) } }),
        json!({ "ipBlock": { "cidr": "::/0", "except": excluded(true, &NOT_PUBLIC_V6) } }),
    ];
    peers.extend(settings.egress_allow.iter().map(|cidr| json!({ "ipBlock": { "cidr": cidr } })));
    json!([
        { "to": peers },
        {
            "to": [
                {
                    "namespaceSelector": { "matchLabels": { label::NAMESPACE_NAME: "kube-system" } },
                    "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
                },
                { "ipBlock": { "cidr": NODE_LOCAL_DNS } },
            ],
            "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }],
        },
    ])
}

#[cfg(test)]
mod tests;
