//! The NetworkPolicies of templates on a real API server: nothing runs without its policy, the policy outlives its
//! template, and the stored rules admit what they should.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::json::{annotation, label, message, name, ready, reason, text};
use super::kinds::{CLAIM, EVENT, NETWORK_POLICY, POD, POOL, RESOURCE_QUOTA, SANDBOX, TEMPLATE};
use super::manifests::{claim, object, pod, pool, sandbox, template};
use super::namespace::TestNamespace;
use super::pool::filled;
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        nothing_runs_before_the_policy_can_be_made,
        foreign_policy_of_the_name_blocks_until_it_is_deleted,
        warm_sandbox_is_not_handed_out_without_its_policy,
        pool_that_moves_to_an_equal_template_hands_out_sandboxes_behind_its_policy,
        label_that_the_policy_selects_by_is_restored,
        policies_of_two_names_with_one_hash_select_different_pods,
        policy_outlives_its_template,
        every_changed_field_of_the_policy_is_restored,
        default_rules_admit_public_addresses_and_the_clusters_dns,
        host_network_of_a_managed_template_is_warned_of,
    ]
}

const HASH: &str = "agents.x-k8s.io/sandbox-template-ref-hash";
const DIGEST: &str = "policy.paddock.dev/template-digest";
const NOT_READY: &str = "NetworkPolicyNotReady";

/// A quota that admits no NetworkPolicy.
async fn no_policies(ns: &TestNamespace) {
    let hard = json!({ "count/networkpolicies.networking.k8s.io": "0" });
    ns.create(object(RESOURCE_QUOTA, "no-policies", json!({ "hard": hard }))).await;
    ns.until(RESOURCE_QUOTA, "no-policies", "in force", |q| q["status"]["hard"].is_object()).await;
}

async fn nothing_runs_before_the_policy_can_be_made() {
    let ns = namespace("fail-closed").await;
    no_policies(&ns).await;
    ns.create(template("walled", json!({}))).await;
    ns.create(template("open", json!({ "networkPolicyManagement": "Unmanaged" }))).await;
    ns.create(pool("walled", "walled", json!({ "replicas": 1 }))).await;
    ns.create(pool("open", "open", json!({ "replicas": 0 }))).await;
    for task in ["walled", "open"] {
        ns.create(claim(task, task, json!({}))).await;
    }
    ns.create(sandbox("alone", json!({}))).await;

    // Neither a Sandbox without a template nor one of an Unmanaged template waits.
    ns.until(CLAIM, "open", "Ready", ready).await;
    ns.until(SANDBOX, "alone", "Ready", ready).await;
    let refused = |o: &Value| reason(o, "Ready") == NOT_READY && message(o, "Ready").contains("no-policies");
    ns.until(CLAIM, "walled", "says that the quota refuses the policy", refused).await;
    ns.until(SANDBOX, "walled", "says it too", refused).await;
    ns.until(POOL, "walled", "says it too", refused).await;
    let of_template = |o: &Value| message(o, "Ready").contains("no-policies");
    ns.until(TEMPLATE, "walled", "says it too", of_template).await;
    let of_reason = |events: &super::namespace::Objects| {
        events.values().any(|e| e["reason"] == NOT_READY && text(e, "/regarding/name") == "walled")
    };
    ns.until_all(EVENT, "an Event says it", of_reason).await;
    let warm = ns.until_all(SANDBOX, "the member waits", |all| {
        all.values().any(|s| label(s, "agents.x-k8s.io/launch-type") == "warm" && refused(s))
    });
    warm.await;
    let pods: Vec<String> = ns.list(POD).await.into_keys().collect();
    assert_eq!(pods, ["alone", "open"], "no pod of the template exists");

    ns.delete(RESOURCE_QUOTA, "no-policies").await;
    ns.until(CLAIM, "walled", "Ready once the policy exists", ready).await;
    let policy = ns.get(NETWORK_POLICY, "walled-network-policy").await;
    let pod = ns.get(POD, "walled").await;
    assert!(text(&policy, "/metadata/creationTimestamp") <= text(&pod, "/metadata/creationTimestamp"));
    ns.until(TEMPLATE, "walled", "no problem is left", |t| reason(t, "Ready").is_empty()).await;
    ns.until(POOL, "walled", "Ready", ready).await;
}

async fn foreign_policy_of_the_name_blocks_until_it_is_deleted() {
    let ns = namespace("foreign-policy").await;
    let spec = json!({ "podSelector": { "matchLabels": { "a": "b" } }, "policyTypes": ["Ingress"] });
    ns.create(object(NETWORK_POLICY, "t-network-policy", spec.clone())).await;
    ns.create(template("t", json!({}))).await;
    ns.create(pool("p", "t", json!({ "replicas": 0 }))).await;
    ns.create(claim("task", "p", json!({}))).await;
    let blocked =
        |o: &Value| reason(o, "Ready") == NOT_READY && message(o, "Ready").contains("belongs to another owner");
    ns.until(CLAIM, "task", "says whose policy it is", blocked).await;
    let theirs = ns.get(NETWORK_POLICY, "t-network-policy").await;
    assert_eq!(theirs["spec"], spec, "somebody else's policy stays as it is");
    assert!(ns.list(POD).await.is_empty());
    ns.delete(NETWORK_POLICY, "t-network-policy").await;
    ns.until(CLAIM, "task", "Ready", ready).await;
    assert!(selects(&ns.get(NETWORK_POLICY, "t-network-policy").await, &ns.get(POD, "task").await));
}

/// A warm Sandbox is Ready, and then its policy cannot be written any more.
async fn warm_sandbox_is_not_handed_out_without_its_policy() {
    let ns = namespace("warm-policy").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let warm = filled(&ns, &made, 1).await.into_keys().next().expect("one");
    no_policies(&ns).await;
    ns.delete(NETWORK_POLICY, "t-network-policy").await;
    ns.until(SANDBOX, &warm, "is not Ready", |s| reason(s, "Ready") == NOT_READY).await;
    ns.create(claim("task", "p", json!({}))).await;
    ns.until(CLAIM, "task", "waits", |c| reason(c, "Ready") == NOT_READY).await;
    ns.delete(RESOURCE_QUOTA, "no-policies").await;
    ns.until(CLAIM, "task", "Ready", ready).await;
    ns.until(NETWORK_POLICY, "t-network-policy", "there", |_| true).await;
}

/// Whether a policy selects a pod.
fn selects(policy: &Value, pod: &Value) -> bool {
    let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().expect("labels");
    !wanted.is_empty() && wanted.iter().all(|(key, value)| label(pod, key) == value.as_str().unwrap_or_default())
}

async fn pool_that_moves_to_an_equal_template_hands_out_sandboxes_behind_its_policy() {
    let ns = namespace("renamed").await;
    ns.create(template("py-v1", json!({}))).await;
    let made = ns.create(pool("py", "py-v1", json!({ "replicas": 2 }))).await;
    let earlier = filled(&ns, &made, 2).await;
    ns.create(claim("kept", "py", json!({}))).await;
    ns.until(CLAIM, "kept", "Ready", ready).await;
    let rules = json!({ "networkPolicy": { "egress": [{ "ports": [{ "protocol": "TCP", "port": 443 }] }] } });
    ns.create(template("py-v2", rules)).await;
    ns.merge(POOL, "py", json!({ "spec": { "sandboxTemplateRef": { "name": "py-v2" } } })).await;
    let policy = ns.until(NETWORK_POLICY, "py-v2-network-policy", "there", |_| true).await;
    ns.delete(TEMPLATE, "py-v1").await;
    ns.create(claim("task", "py", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    let given = text(&done, "/status/sandbox/name");
    assert!(!earlier.contains_key(given), "{given} was made from the earlier template");
    assert!(selects(&policy, &ns.get(POD, given).await));
    // The policy of the deleted template lasts as long as a Sandbox of it, and not longer.
    assert!(ns.find(NETWORK_POLICY, "py-v1-network-policy").await.is_some());
    ns.delete(POOL, "py").await;
    ns.delete(CLAIM, "kept").await;
    ns.until_gone(NETWORK_POLICY, "py-v1-network-policy").await;
}

/// Both names have the 32-bit hash `f10c3da3`, and the rules of one policy would add to those of the other.
async fn policies_of_two_names_with_one_hash_select_different_pods() {
    let ns = namespace("one-hash").await;
    let names = ["t", "xlgqwaaol"];
    for name in names {
        ns.create(template(name, json!({}))).await;
        ns.create(pool(name, name, json!({ "replicas": 0 }))).await;
        ns.create(claim(name, name, json!({}))).await;
        ns.until(CLAIM, name, "Ready", ready).await;
    }
    let pods = [ns.get(POD, names[0]).await, ns.get(POD, names[1]).await];
    assert_eq!(label(&pods[0], HASH), label(&pods[1], HASH), "clients compute this label");
    for name in names {
        let policy = ns.get(NETWORK_POLICY, &format!("{name}-network-policy")).await;
        for pod in &pods {
            let own = pod["metadata"]["name"] == name;
            assert_eq!(selects(&policy, pod), own, "{name}: {}", pod["metadata"]["name"]);
        }
    }
}

async fn label_that_the_policy_selects_by_is_restored() {
    let ns = namespace("selected").await;
    ns.create(template("pen", json!({}))).await;
    let made = ns.create(pool("pen", "pen", json!({ "replicas": 1 }))).await;
    filled(&ns, &made, 1).await;
    ns.create(claim("warm", "pen", json!({}))).await;
    ns.create(claim("cold", "pen", json!({ "env": [] }))).await;
    let policy = ns.get(NETWORK_POLICY, "pen-network-policy").await;
    let hash = text(&policy["spec"]["podSelector"]["matchLabels"], &format!("/{}", HASH.replace('/', "~1"))).to_owned();
    for task in ["warm", "cold"] {
        let done = ns.until(CLAIM, task, "Ready", ready).await;
        let given = text(&done, "/status/sandbox/name");
        for value in [Value::Null, json!("0")] {
            let labels = json!({ "labels": { HASH: value } });
            let everywhere = json!({ "metadata": labels, "spec": { "podTemplate": { "metadata": labels } } });
            ns.merge(SANDBOX, given, everywhere).await;
            ns.until(SANDBOX, given, "labelled again", |s| label(s, HASH) == hash).await;
            ns.merge(POD, given, json!({ "metadata": labels })).await;
            ns.until(POD, given, "selected again", |p| selects(&policy, p)).await;
            ns.merge(POD, given, json!({ "metadata": { "labels": { DIGEST: value } } })).await;
            ns.until(POD, given, "selected by its digest again", |p| selects(&policy, p)).await;
        }
        // A Sandbox that a user points to another template stays behind the policy of its own one.
        let other = json!({ "metadata": { "annotations": { "agents.x-k8s.io/sandbox-template-ref": "other" } } });
        ns.merge(SANDBOX, given, other).await;
        let named = |s: &Value| annotation(s, "agents.x-k8s.io/sandbox-template-ref") == "pen";
        let back = ns.until(SANDBOX, given, "its template again", named).await;
        assert_eq!(text(&back, "/status/template/name"), "pen");
        assert!(selects(&policy, &ns.get(POD, given).await));
    }
}

async fn policy_outlives_its_template() {
    let ns = namespace("outlives").await;
    let rules = json!({ "networkPolicy": { "egress": [{ "to": [{ "ipBlock": { "cidr": "198.51.100.0/24" } }] }] } });
    ns.create(template("t", rules)).await;
    ns.create(pool("p", "t", json!({ "replicas": 0 }))).await;
    ns.create(claim("task", "p", json!({}))).await;
    ns.until(CLAIM, "task", "Ready", ready).await;
    let made = ns.get(NETWORK_POLICY, "t-network-policy").await;
    assert!(made["metadata"]["ownerReferences"].is_null(), "nobody's deletion takes the policy with it");
    ns.delete(POOL, "p").await;
    ns.delete(TEMPLATE, "t").await;

    // Whatever is done to the policy, the operator restores what it wrote last.
    let as_made = |p: &Value| p["spec"] == made["spec"];
    ns.merge(NETWORK_POLICY, "t-network-policy", json!({ "spec": { "egress": [{}] } })).await;
    ns.until(NETWORK_POLICY, "t-network-policy", "as made", as_made).await;
    ns.delete(NETWORK_POLICY, "t-network-policy").await;
    ns.until(NETWORK_POLICY, "t-network-policy", "made again", as_made).await;

    // A suspended Sandbox keeps the policy too, and it is there before the next pod.
    ns.merge(SANDBOX, "task", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    ns.until_gone(POD, "task").await;
    ns.merge(SANDBOX, "task", json!({ "spec": { "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, "task", "Ready again", ready).await;
    let policy = ns.get(NETWORK_POLICY, "t-network-policy").await;
    assert!(as_made(&policy) && selects(&policy, &ns.get(POD, "task").await));

    ns.delete(CLAIM, "task").await;
    ns.until_gone(NETWORK_POLICY, "t-network-policy").await;
    assert!(ns.find(POD, "task").await.is_none(), "the policy is the last to be deleted");
}

async fn every_changed_field_of_the_policy_is_restored() {
    let ns = namespace("restored").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.until(NETWORK_POLICY, "t-network-policy", "there", |_| true).await;
    let annotations = |p: &Value| p["metadata"]["annotations"].clone();
    for change in [
        json!({ "spec": { "podSelector": { "matchLabels": { HASH: null } } } }),
        json!({ "spec": { "podSelector": { "matchLabels": { DIGEST: null } } } }),
        json!({ "spec": { "podSelector": { "matchLabels": { "a": "b" } } } }),
        json!({ "spec": { "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists" }] } } }),
        json!({ "spec": { "policyTypes": ["Ingress"] } }),
        json!({ "spec": { "ingress": [{}] } }),
        json!({ "spec": { "egress": null } }),
        json!({ "metadata": { "annotations": { "policy.paddock.dev/template": null } } }),
        json!({ "metadata": { "annotations": { "policy.paddock.dev/template": "other" } } }),
        json!({ "metadata": { "annotations": { "policy.paddock.dev/network-policy-spec": null } } }),
    ] {
        let changed = ns.merge(NETWORK_POLICY, "t-network-policy", change.clone()).await;
        assert!(changed["spec"] != made["spec"] || annotations(&changed) != annotations(&made), "{change}");
        let as_made = |p: &Value| p["spec"] == made["spec"] && annotations(p) == annotations(&made);
        ns.until(NETWORK_POLICY, "t-network-policy", &format!("as made, after {change}"), as_made).await;
    }
    // Labels of somebody else contradict nothing.
    ns.merge(NETWORK_POLICY, "t-network-policy", json!({ "metadata": { "labels": { "team": "red" } } })).await;
    ns.merge(NETWORK_POLICY, "t-network-policy", json!({ "spec": { "egress": null } })).await;
    let back = ns.until(NETWORK_POLICY, "t-network-policy", "as made", |p| p["spec"] == made["spec"]).await;
    assert_eq!(label(&back, "team"), "red");
}

/// Whether a policy lets a pod connect to an address and port, according to its `ipBlock`s.
fn admits(policy: &Value, address: &str, port: u64) -> bool {
    let address = address.parse::<Ipv4Addr>().expect("an address").to_bits();
    let inside = |cidr: &str| {
        let Some((network, length)) = cidr.split_once('/') else { return false };
        let Ok(network) = network.parse::<Ipv4Addr>() else { return false };
        let mask = u32::MAX.checked_shl(32 - length.parse::<u32>().expect("a length")).unwrap_or(0);
        network.to_bits() & mask == address & mask
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(&policy["spec"]["egress"]).iter().any(|rule| {
        let (ports, peers) = (list(&rule["ports"]), list(&rule["to"]));
        let block = |peer: &Value| {
            inside(text(peer, "/ipBlock/cidr"))
                && !list(&peer["ipBlock"]["except"]).iter().any(|except| inside(except.as_str().unwrap_or_default()))
        };
        (ports.is_empty() || ports.iter().any(|p| p["port"] == port)) && (peers.is_empty() || peers.iter().any(block))
    })
}

async fn default_rules_admit_public_addresses_and_the_clusters_dns() {
    let ns = namespace("rules").await;
    ns.create(template("t", json!({}))).await;
    let policy = ns.until(NETWORK_POLICY, "t-network-policy", "there", |_| true).await;
    for (address, port) in [("1.1.1.1", 443), ("203.0.112.10", 443), ("169.254.20.10", 53)] {
        assert!(admits(&policy, address, port), "{address}:{port}");
    }
    for (address, port) in [
        ("10.0.0.1", 443),
        ("100.64.0.10", 80),
        ("100.100.100.200", 80),
        ("168.63.129.16", 80),
        ("169.254.169.254", 80),
        ("169.254.20.10", 80),
        ("192.0.0.8", 80),
        ("198.18.0.1", 80),
        ("240.0.0.1", 80),
    ] {
        assert!(!admits(&policy, address, port), "{address}:{port}");
    }
    let peers = policy["spec"]["ingress"][0]["from"].as_array().expect("peers").clone();
    assert!(!peers.is_empty() && policy["spec"]["ingress"].as_array().is_some_and(|rules| rules.len() == 1));
    for peer in peers {
        // Nobody can change this label of a namespace.
        assert!(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].is_string(), "{peer}");
        assert_eq!(peer["podSelector"]["matchLabels"], json!({ "app": "sandbox-router" }));
    }
}

async fn host_network_of_a_managed_template_is_warned_of() {
    let ns = namespace("host-network").await;
    let on_host = |name: &str, management: &str| {
        let mut on_host = template(name, json!({ "networkPolicyManagement": management }));
        on_host["spec"]["podTemplate"] = pod();
        on_host["spec"]["podTemplate"]["spec"]["hostNetwork"] = true.into();
        on_host.to_string()
    };
    let said = ns.kubectl_output(&["apply", "-f", "-"], Some(&on_host("exposed", "Managed"))).await;
    assert!(said.contains("Warning: ") && said.contains("hostNetwork"), "{said}");
    let said = ns.kubectl_output(&["apply", "-f", "-"], Some(&on_host("known", "Unmanaged"))).await;
    assert!(!said.contains("hostNetwork"), "{said}");
    let bypassed = |o: &Value| text(o, "/status/networkPolicyBypass").contains("hostNetwork");
    ns.until(TEMPLATE, "exposed", "its status says it", bypassed).await;
    ns.create(pool("p", "exposed", json!({ "replicas": 0 }))).await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    assert_eq!(name(&done), "task");
    ns.until(SANDBOX, "task", "its status says it", bypassed).await;
}
