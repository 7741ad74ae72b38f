//! What generated code reaches under the NetworkPolicy of its template, and who reaches it. Everything that it must not
//! reach listens, and another pod reaches it in the same way.

use paddock_cluster::BUSYBOX_IMAGE;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::super::json::{label, ready, text};
use super::super::kinds::{CLAIM, ENDPOINT_SLICE, POD, SERVICE};
use super::super::manifests::{claim, marked, merge, object, pool, template};
use super::super::namespace::TestNamespace;
use super::super::operator::{ACCOUNT, NAMESPACE};
use super::reach::{AGENT, PORTS, Peer, container, listener};
use super::{namespace, scene};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![generated_code_reaches_public_addresses_and_names_alone, a_token_is_mounted_where_a_template_asks_for_it]
}

/// One address of each range that is not public and that a node can have, with the metadata address of clouds first.
const NOT_PUBLIC: [&str; 15] = [
    "169.254.169.254",
    "168.63.129.16",
    "10.1.2.3",
    "100.64.1.1",
    "172.16.1.1",
    "192.168.1.1",
    "192.0.0.9",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.175.48.1",
    "198.19.1.1",
    "198.51.100.1",
    "203.0.113.1",
];
const PUBLIC: [&str; 2] = ["93.184.216.34", "1.1.1.1"];
/// The port of these addresses.
const NODE_PORT: u16 = 8099;
/// The ports of the gateway and of the operator that are for pods of the namespace `monitoring` alone, and the
/// operator's webhook, which is for the API server alone.
const GATEWAY_METRICS: u16 = 9090;
const OPERATOR_METRICS: u16 = 8080;
const WEBHOOK: u16 = 9443;

/// Gives the node the addresses, with a server at each of them.
async fn listen_on_the_node(ns: &TestNamespace) {
    let addresses = [&NOT_PUBLIC[..], &PUBLIC].concat().join(" ");
    let command = format!(
        "for a in {addresses}; do ip address add $a/32 dev lo || exit 1; done; exec httpd -f -p {NODE_PORT} -h /www"
    );
    let spec = json!({
        "hostNetwork": true,
        "runtimeClassName": "runc",
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "addresses",
            "image": BUSYBOX_IMAGE,
            "command": ["/bin/sh", "-c", command],
            "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } },
            "readinessProbe": { "tcpSocket": { "port": NODE_PORT }, "periodSeconds": 1 },
        }],
    });
    ns.create(object(POD, "addresses", spec)).await;
    ns.until(POD, "addresses", "Ready", ready).await;
}

/// Applies the NetworkPolicies of `deploy/`.
async fn apply_policies_of_deploy(ns: &TestNamespace) {
    let mut policies: Vec<Value> = Vec::new();
    for file in [root!("deploy/base/networkpolicy.yaml"), root!("deploy/base/gateway.yaml")] {
        let text = std::fs::read_to_string(file).expect("the manifests");
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        policies.extend(documents.map(|document| Value::deserialize(document).expect("YAML")));
    }
    policies.retain(|object| object["kind"] == "NetworkPolicy");
    assert_eq!(policies.len(), 4, "two of the operator and two of the gateway");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": policies });
    ns.kubectl(&["apply", "-f", "-"], Some(&list.to_string())).await.expect("the policies");
}

/// Makes a template for generated code, and a claim of it, and returns the claim's pod.
async fn claimed(ns: &TestNamespace, name: &str, with: Value, pod_with: Value) -> Value {
    let mut spec = json!({ "terminationGracePeriodSeconds": 1, "containers": [container()] });
    merge(&mut spec, &pod_with);
    let mut made = json!({ "podTemplate": { "spec": spec } });
    merge(&mut made, &with);
    ns.create(marked(template(name, made))).await;
    ns.create(pool(name, name, json!({ "replicas": 0 }))).await;
    ns.create(claim(name, name, json!({}))).await;
    let done = ns.until(CLAIM, name, "Ready", ready).await;
    let pod = ns.get(POD, text(&done, "/status/sandbox/name")).await;
    assert_eq!(text(&pod, "/spec/runtimeClassName"), "gvisor");
    assert!(!label(&pod, "agents.x-k8s.io/sandbox-name-hash").is_empty());
    pod
}

async fn generated_code_reaches_public_addresses_and_names_alone() {
    let cluster = &scene().await.cluster;
    let ns = namespace("walled").await;
    let system = TestNamespace::existing(cluster, NAMESPACE);
    listen_on_the_node(&ns).await;
    apply_policies_of_deploy(&system).await;
    let monitoring = TestNamespace::named(cluster, "monitoring", json!({})).await;

    // Stand-ins for the pods of deploy/: their policies select them by these labels.
    let gateway = listener(&system, "gateway", json!({ "app": "sandbox-router" })).await;
    let operator = listener(&system, "operator", json!({ "app": ACCOUNT })).await;
    let prometheus = listener(&monitoring, "prometheus", json!({})).await;
    let plain = listener(&ns, "plain", json!({})).await;
    let pretender = listener(&ns, "pretender", json!({ "app": "sandbox-router" })).await;
    let code = Peer::of(&claimed(&ns, "code", json!({}), json!({})).await).await;
    let other = Peer::of(&claimed(&ns, "other", json!({}), json!({})).await).await;
    let unmanaged = json!({ "networkPolicyManagement": "Unmanaged" });
    let open = Peer::of(&claimed(&ns, "open", unmanaged, json!({})).await).await;

    let default = TestNamespace::existing(cluster, "default");
    let api = default.get(SERVICE, "kubernetes").await;
    let slice = default.get(ENDPOINT_SLICE, "kubernetes").await;
    let node = ns.get(POD, "addresses").await;
    let dns = TestNamespace::existing(cluster, "kube-system").get(SERVICE, "kube-dns").await;
    let at = |address: &str, port: u16| format!("{address}:{port}");
    let names = ["kubernetes.default.svc.cluster.local:name".to_owned(), at(text(&dns, "/spec/clusterIP"), 53)];
    let public = PUBLIC.map(|address| at(address, NODE_PORT));
    let not_public = NOT_PUBLIC.map(|address| at(address, NODE_PORT));
    let of_cluster = [
        at(text(&api, "/spec/clusterIP"), 443),
        at(text(&slice, "/endpoints/0/addresses/0"), 6443),
        at(text(&node, "/status/hostIP"), 10250),
        plain.at(AGENT),
        open.at(AGENT),
    ];
    let proxies = gateway.at(8080);
    let (gateway_metrics, webhook) = (gateway.at(GATEWAY_METRICS), operator.at(WEBHOOK));
    let operator_metrics = operator.at(OPERATOR_METRICS);
    let sandboxes = [code.at(AGENT), other.at(AGENT)];
    let all = |parts: &[&[String]]| -> Vec<String> { parts.concat() };
    let check = async |peer: &Peer, open: Vec<String>, closed: Vec<String>| {
        let [open, closed] = [&open, &closed].map(|targets| targets.iter().map(String::as_str).collect::<Vec<_>>());
        peer.reaches(&open, &closed).await;
    };

    let private = [gateway_metrics.clone(), webhook.clone(), gateway.at(8081)];
    // A pod without a policy reaches everything, except what the policies of the other side close.
    let everything = all(&[&names, &public, &not_public, &of_cluster, std::slice::from_ref(&proxies)]);
    check(&plain, everything.clone(), all(&[&private, std::slice::from_ref(&operator_metrics), &sandboxes])).await;
    // Generated code under the default rules reaches names and public addresses.
    let forbidden = all(&[
        &not_public,
        &of_cluster,
        &private,
        &[operator_metrics.clone(), proxies.clone(), other.at(AGENT), pretender.at(AGENT)],
    ]);
    check(&code, all(&[&names, &public]), forbidden).await;
    // A Sandbox of a template without a policy reaches the node, and not the gateway's own ports.
    let with_gateway = all(&[&private, std::slice::from_ref(&proxies), &sandboxes]);
    check(&open, all(&[&names, &public, &not_public, &of_cluster[..4]]), with_gateway).await;
    // The gateway's pods reach every Sandbox. The label alone does not admit a pod of another namespace.
    check(&gateway, all(&[&sandboxes, &[open.at(AGENT)]]), vec![plain.at(AGENT), not_public[0].clone()]).await;
    check(&pretender, vec![open.at(AGENT)], sandboxes.to_vec()).await;
    // Metrics are for the monitoring alone, and the webhook is for no pod. This machine is the API server's.
    check(&prometheus, vec![gateway_metrics, operator_metrics], vec![webhook.clone(), sandboxes[1].clone()]).await;
    for port in PORTS.into_iter().chain([AGENT]) {
        let connect = tokio::net::TcpStream::connect((operator.address.as_str(), port));
        connect.await.unwrap_or_else(|e| panic!("the port {port} of the stand-in does not listen: {e}"));
    }
}

async fn a_token_is_mounted_where_a_template_asks_for_it() {
    let ns = namespace("tokens").await;
    for (name, asked) in [("without", false), ("with", true)] {
        let pod_with = if asked { json!({ "automountServiceAccountToken": true }) } else { json!({}) };
        let code = Peer::of(&claimed(&ns, name, json!({}), pod_with).await).await;
        let found = code.output("sh -c 'ls /var/run/secrets/kubernetes.io/serviceaccount 2>/dev/null || true'").await;
        assert_eq!(found.contains("token"), asked, "{name}: {found}");
        assert!(code.output("cat /proc/version").await.contains("gvisor"), "{name}");
    }
}
