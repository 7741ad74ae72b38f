//! Warm Sandboxes that no claim may take, on a real API server: the pool replaces them, and no claim waits for that.

use std::time::Duration;

use paddock_cluster::{eventually, eventually_some};
use serde_json::{Value, json};

use super::json::{controller, label, name, ready, text, uid};
use super::kinds::{CLAIM, EVENT, POD, POOL, SANDBOX};
use super::manifests::{claim, pool, template};
use super::namespace::{Objects, TestNamespace};
use super::pool::{filled, members};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        edited_warm_sandbox_is_replaced_and_never_claimed,
        warm_sandboxes_leave_a_cordoned_node,
        warm_sandbox_with_a_stuck_pod_is_replaced,
        claim_starts_cold_when_an_admission_policy_denies_the_take,
        edit_role_may_scale,
    ]
}

/// Waits until a pool has this number of Ready Sandboxes and no others, and none of them fulfils `without`.
async fn filled_without(ns: &TestNamespace, pool: &Value, count: usize, without: impl Fn(&Value) -> bool) -> Objects {
    ns.until_all(SANDBOX, "the pool is filled, without what nobody may have", |all| {
        let members = members(all, uid(pool));
        members.len() == count && members.into_iter().all(|m| ready(m) && !without(m))
    })
    .await
}

async fn edited_warm_sandbox_is_replaced_and_never_claimed() {
    let ns = namespace("edited").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let full = filled(&ns, &made, 1).await;
    let member = full.keys().next().expect("one");
    // A changed shutdown time is a small edit. A changed image would run at the next start of the pod.
    let change = json!({ "spec": { "shutdownTime": "2099-01-01T00:00:00Z", "shutdownPolicy": "Delete" } });
    ns.merge(SANDBOX, member, change).await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    assert_ne!(text(&done, "/status/sandbox/name"), member, "what somebody changed was given to a claim");
    filled_without(&ns, &made, 1, |m| name(m) == member).await;
    ns.until_gone(SANDBOX, member).await;
}

/// Two nodes on which no other test's pods are scheduled.
pub(super) async fn nodes_of_its_own(ns: &TestNamespace) -> (Value, [String; 2]) {
    let names = ["a", "b"].map(|node| format!("{}-{node}", ns.namespace));
    for node in &names {
        let room = json!({ "cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "1Ti" });
        let node = json!({
            "metadata": {
                "name": node,
                "annotations": { "kwok.x-k8s.io/node": "fake" },
                "labels": { "type": "kwok", "kubernetes.io/hostname": node, "of": ns.namespace },
            },
            "spec": { "taints": [{ "key": "of", "value": ns.namespace, "effect": "NoSchedule" }] },
            "status": { "allocatable": room, "capacity": room },
        });
        ns.post("/api/v1/nodes", &node).await.expect("a node");
    }
    let pod = json!({ "podTemplate": { "spec": {
        "nodeSelector": { "of": ns.namespace },
        "tolerations": [{ "key": "of", "operator": "Exists", "effect": "NoSchedule" }],
    } } });
    (pod, names)
}

async fn warm_sandboxes_leave_a_cordoned_node() {
    let ns = namespace("cordoned").await;
    let (pod, nodes) = nodes_of_its_own(&ns).await;
    ns.create(template("t", pod)).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 4 }))).await;
    let full = filled(&ns, &made, 4).await;
    ns.until(POOL, "p", "reports it", |p| p["status"]["readyReplicas"] == 4).await;
    // After this time, the pool has no work of its own cordoned.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let on = |sandbox: &Value| text(sandbox, "/status/nodeName").to_owned();
    let cordoned = on(full.values().next().expect("one"));
    assert!(nodes.contains(&cordoned), "{cordoned}");
    ns.kubectl(&["cordon", &cordoned], None).await.expect("cordoned");
    // The cordon is the only event that can cause a reconcile of the pool.
    filled_without(&ns, &made, 4, |m| on(m) == cordoned).await;
    ns.until(POOL, "p", "reports it", |p| p["status"]["readyReplicas"] == 4).await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    let taken = ns.get(SANDBOX, text(&done, "/status/sandbox/name")).await;
    assert_eq!(label(&taken, "agents.x-k8s.io/launch-type"), "warm");
    ns.delete(POOL, "p").await;
    ns.delete(CLAIM, "task").await;
    ns.until_all(POD, "its pods are gone", Objects::is_empty).await;
    ns.kubectl(&["delete", "node", &nodes[0], &nodes[1]], None).await.expect("deleted");
}

async fn warm_sandbox_with_a_stuck_pod_is_replaced() {
    let ns = namespace("hanging").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
    let full = filled(&ns, &made, 2).await;
    let member = full.keys().next().expect("one");
    // The state that a hung kubelet leaves: the pod is terminating and still exists.
    let held = |by: Value| json!({ "metadata": { "finalizers": by } });
    ns.merge(POD, member, held(json!(["example.com/kubelet-hangs"]))).await;
    ns.kubectl(&["delete", "pod", member, "--wait=false", "--grace-period=1"], None).await.expect("asked");
    filled_without(&ns, &made, 2, |m| name(m) == member).await;
    assert!(ns.find(POD, member).await.is_some(), "its pod is still there, and in nobody's way");
    ns.merge(POD, member, held(Value::Null)).await;
    ns.until_gone(POD, member).await;
}

async fn claim_starts_cold_when_an_admission_policy_denies_the_take() {
    let ns = namespace("policy").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
    let full = filled(&ns, &made, 2).await;
    let policy = json!({
        "metadata": { "name": ns.namespace },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["agents.x-k8s.io"], "apiVersions": ["*"], "resources": ["sandboxes"], "operations": ["UPDATE"],
            }] },
            "validations": [{ "expression": "false", "message": "no Sandbox changes here" }],
        },
    });
    let binding = json!({
        "metadata": { "name": ns.namespace },
        "spec": {
            "policyName": ns.namespace,
            "validationActions": ["Deny"],
            "matchResources": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns.namespace } },
            },
        },
    });
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    ns.post(policies, &policy).await.expect("a policy");
    let bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
    ns.post(bindings, &binding).await.expect("its binding");
    // API servers receive a new policy through a watch of their own.
    let member = full.keys().next().expect("one");
    let try_it = ["annotate", "sandboxes.v1beta1.agents.x-k8s.io", member, "example.com/a=b", "--dry-run=server"];
    eventually("the policy has an effect", async || {
        ns.kubectl_output(&try_it, None).await.contains("no Sandbox changes here")
    })
    .await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    let own = ns.get(SANDBOX, text(&done, "/status/sandbox/name")).await;
    assert_eq!((name(&own), controller(&own)), ("task", uid(&done)));
    assert_eq!(label(&own, "agents.x-k8s.io/launch-type"), "cold");
    let says_why = |e: &Value| e["regarding"]["name"] == "task" && text(e, "/note").contains("no Sandbox changes here");
    ns.until_all(EVENT, "an event has the reason of the cold start", |events| events.values().any(says_why)).await;
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        ns.kubectl(&["delete", kind, &ns.namespace], None).await.expect("deleted");
    }
}

/// Uses the cluster's role `edit`, to which the manifests in `deploy/` add rights.
async fn edit_role_may_scale() {
    let ns = namespace("editor").await;
    let bind = ["create", "rolebinding", "editor", "--clusterrole=edit", "--user=editor"];
    ns.kubectl(&bind, None).await.expect("bound");
    ns.create(super::manifests::sandbox("scaled", json!({}))).await;
    ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    for what in ["sandboxes.v1beta1.agents.x-k8s.io/scaled", "sandboxwarmpools.v1beta1.extensions.agents.x-k8s.io/p"] {
        // A controller aggregates the rules of the role.
        eventually_some(&format!("{what} is scaled"), async || {
            ns.kubectl(&["--as=editor", "scale", what, "--replicas=0"], None).await
        })
        .await;
    }
}
