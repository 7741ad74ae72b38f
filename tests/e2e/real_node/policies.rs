//! What the node's program lets through for each form of a NetworkPolicy. Other tests rely on it.

use paddock_cluster::eventually_some;
use serde_json::{Value, json};

use super::super::kinds::NETWORK_POLICY;
use super::super::manifests::object;
use super::super::namespace::TestNamespace;
use super::reach::{PORTS, listener};
use super::{namespace, scene};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![node_enforces_each_form_of_a_network_policy]
}

/// Whether the near and the far client reach each of two ports.
type Reached = [[bool; 2]; 2];

async fn node_enforces_each_form_of_a_network_policy() {
    let near_ns = namespace("enforced").await;
    let far_ns = TestNamespace::labelled(&scene().await.cluster, "enforced-far", json!({ "team": "far" })).await;
    let server = listener(&near_ns, "server", json!({ "role": "server" })).await;
    let near = listener(&near_ns, "near", json!({ "role": "client" })).await;
    let far = listener(&far_ns, "far", json!({ "role": "client" })).await;

    let server_labels = json!({ "matchLabels": { "role": "server" } });
    let clients = json!({ "matchLabels": { "role": "client" } });
    let ingress = |rules: Value| json!({ "podSelector": server_labels, "policyTypes": ["Ingress"], "ingress": rules });
    let egress = |rules: Value| json!({ "podSelector": clients, "policyTypes": ["Egress"], "egress": rules });
    let everywhere = json!({ "namespaceSelector": {}, "podSelector": clients });
    let far_block = format!("{}/32", far.address);
    let all_but_far = json!({ "ipBlock": { "cidr": "10.244.0.0/16", "except": [far_block] } });
    let server_peer = json!({ "podSelector": server_labels });
    let port = |port: Value| json!({ "port": port });
    let range = json!({ "port": PORTS[1], "endPort": PORTS[2] });

    // The first two ports of the server, from the near client and then from the far one.
    let (yes, no) = ([true, true], [false, false]);
    let (first, second) = ([true, false], [false, true]);
    let table: [(&str, Option<Value>, Reached); 17] = [
        ("no policy", None, [yes, yes]),
        ("no rule", Some(ingress(json!([]))), [no, no]),
        ("an empty rule", Some(ingress(json!([{}]))), [yes, yes]),
        ("pods", Some(ingress(json!([{ "from": [{ "podSelector": clients }] }]))), [yes, no]),
        ("no rule of another name", Some(ingress(json!([{ "from": [{ "podSelector": server_labels }] }]))), [no, no]),
        (
            "namespaces",
            Some(ingress(json!([{ "from": [{ "namespaceSelector": { "matchLabels": { "team": "far" } } }] }]))),
            [no, yes],
        ),
        ("pods of every namespace", Some(ingress(json!([{ "from": [everywhere] }]))), [yes, yes]),
        (
            "an expression",
            Some(ingress(json!([{ "from": [{ "namespaceSelector": {
                "matchExpressions": [{ "key": "team", "operator": "DoesNotExist" }],
            } }] }]))),
            [yes, no],
        ),
        ("a port", Some(ingress(json!([{ "from": [everywhere], "ports": [port(json!(PORTS[0]))] }]))), [first, first]),
        ("a range of ports", Some(ingress(json!([{ "ports": [range] }]))), [second, second]),
        ("a named port", Some(ingress(json!([{ "ports": [port(json!("web"))] }]))), [first, first]),
        ("another protocol", Some(ingress(json!([{ "ports": [{ "protocol": "UDP" }] }]))), [no, no]),
        ("a block with an exception", Some(ingress(json!([{ "from": [all_but_far] }]))), [yes, no]),
        ("egress without a rule", Some(egress(json!([]))), [no, yes]),
        ("egress to pods", Some(egress(json!([{ "to": [server_peer] }]))), [yes, yes]),
        (
            "egress to a named port",
            Some(egress(json!([{ "to": [server_peer], "ports": [port(json!("web"))] }]))),
            [first, yes],
        ),
        (
            "egress to a block",
            Some(egress(json!([{ "to": [{ "ipBlock": { "cidr": "203.0.113.0/24" } }] }]))),
            [no, yes],
        ),
    ];
    let (one, two) = (server.at(PORTS[0]), server.at(PORTS[1]));
    for (what, spec, wanted) in table {
        if let Some(spec) = spec {
            near_ns.create(object(NETWORK_POLICY, "policy", spec)).await;
        }
        eventually_some("the policy is enforced", async || {
            let targets = [one.as_str(), &two];
            let (near, far) = tokio::join!(near.reached(&targets), far.reached(&targets));
            let reached = [near?, far?];
            if reached == wanted { Ok(()) } else { Err(format!("{what}: {reached:?} instead of {wanted:?}")) }
        })
        .await;
        if near_ns.find(NETWORK_POLICY, "policy").await.is_some() {
            near_ns.delete(NETWORK_POLICY, "policy").await;
        }
    }
}
