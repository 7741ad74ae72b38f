//! Warm Sandboxes that somebody touched, and pools whose pods are refused, on a real API server.

use std::collections::BTreeSet;

use futures::future::join_all;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::json::{label, message, name, ready, text, uid};
use super::kinds::{CLAIM, EVENT, Kind, POD, POOL, RESOURCE_QUOTA, SANDBOX, TEMPLATE};
use super::latency::claim_latency;
use super::manifests::{claim, object, pool, template};
use super::namespace::TestNamespace;
use super::pool::{filled, members};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        a_touched_warm_sandbox_is_replaced_and_never_claimed,
        a_controller_that_annotates_every_pod_touches_none,
        gated_pods_are_kept_and_become_the_pool,
        a_pool_under_a_quota_stops_and_says_why,
    ]
}

/// An act on a warm Sandbox and its Pod, which have the same name. (The nodes of these tests do not support a resize.)
#[derive(Clone, Copy, Debug)]
enum Act {
    Exec,
    PortForward,
    LabelSandbox,
    RelabelSandbox,
    AnnotateSandbox,
    LabelPod,
    UnlabelPod,
    AnnotatePod,
    SetImage,
    AddEphemeralContainer,
    /// A label that a NetworkPolicy could select, for a moment.
    LabelPodAndUndo,
    /// Another image for a moment, after several tolerations that could explain the changes.
    SetImageAndUndo,
    OwnSandbox,
    OwnPod,
}

impl Act {
    const ALL: [Act; 14] = [
        Act::Exec,
        Act::PortForward,
        Act::LabelSandbox,
        Act::RelabelSandbox,
        Act::AnnotateSandbox,
        Act::LabelPod,
        Act::UnlabelPod,
        Act::AnnotatePod,
        Act::SetImage,
        Act::AddEphemeralContainer,
        Act::LabelPodAndUndo,
        Act::SetImageAndUndo,
        Act::OwnSandbox,
        Act::OwnPod,
    ];

    async fn on(self, ns: &TestNamespace, member: &str) {
        let labels = |change: Value| json!({ "metadata": { "labels": change } });
        let annotations = |change: Value| json!({ "metadata": { "annotations": change } });
        let image = json!({ "spec": { "containers": [{ "name": "agent", "image": "evil:1" }] } });
        let debugger = json!({ "spec": { "ephemeralContainers": [{ "name": "debugger", "image": "debug:1" }] } });
        match self {
            // The connection is admitted, and fails only because there is no kubelet.
            Act::Exec => drop(ns.kubectl_output(&["exec", member, "--request-timeout=10s", "--", "true"], None).await),
            Act::PortForward => {
                let path = format!("{}/{member}/portforward?ports=80", POD.path(&ns.namespace));
                drop(ns.post(&path, &json!({})).await);
            }
            Act::LabelSandbox => drop(ns.merge(SANDBOX, member, labels(json!({ "team": "blue" }))).await),
            Act::RelabelSandbox => {
                let change = labels(json!({ "agents.x-k8s.io/sandbox-template-ref-hash": "0" }));
                drop(ns.merge(SANDBOX, member, change).await);
            }
            Act::AnnotateSandbox => {
                let change = annotations(json!({ "policy.paddock.dev/ephemeral-volumes": "true" }));
                drop(ns.merge(SANDBOX, member, change).await);
            }
            Act::LabelPod => drop(ns.merge(POD, member, labels(json!({ "role": "db-client" }))).await),
            Act::UnlabelPod => {
                drop(ns.merge(POD, member, labels(json!({ "agents.x-k8s.io/sandbox-template-ref-hash": null }))).await);
            }
            Act::AnnotatePod => {
                drop(ns.merge(POD, member, annotations(json!({ "dev.gvisor.flag.debug": "true" }))).await)
            }
            Act::SetImage => patch(ns, member, None, &image).await,
            Act::AddEphemeralContainer => patch(ns, member, Some("ephemeralcontainers"), &debugger).await,
            Act::LabelPodAndUndo => {
                for role in [json!("db-client"), Value::Null] {
                    ns.merge(POD, member, labels(json!({ "role": role }))).await;
                }
            }
            Act::SetImageAndUndo => {
                let mut tolerations = ns.get(POD, member).await["spec"]["tolerations"].clone();
                let more = ["a", "b", "c", "d", "e"]
                    .map(|key| json!({ "key": format!("example.com/{key}"), "operator": "Exists" }));
                tolerations.as_array_mut().expect("the API server's tolerations").extend(more);
                ns.merge(POD, member, json!({ "spec": { "tolerations": tolerations } })).await;
                let original = json!({ "spec": { "containers": [{ "name": "agent", "image": "agent:1" }] } });
                patch(ns, member, None, &image).await;
                patch(ns, member, None, &original).await;
            }
            Act::OwnSandbox => own(ns, SANDBOX, member).await,
            Act::OwnPod => own(ns, POD, member).await,
        }
    }
}

/// Adds an owner to an object. The garbage collector keeps the object for as long as this owner exists.
async fn own(ns: &TestNamespace, kind: Kind, name: &str) {
    let keeper = ns.get(TEMPLATE, "t").await;
    let keeper = json!({ "apiVersion": TEMPLATE.0, "kind": TEMPLATE.1, "name": "t", "uid": uid(&keeper) });
    let mut owners = ns.get(kind, name).await["metadata"]["ownerReferences"].clone();
    owners.as_array_mut().expect("the controller").push(keeper);
    ns.merge(kind, name, json!({ "metadata": { "ownerReferences": owners } })).await;
}

/// Changes a Pod by a strategic merge patch, as kubectl does.
async fn patch(ns: &TestNamespace, pod: &str, subresource: Option<&str>, change: &Value) {
    let (api, params, patch) = (ns.api(POD), PatchParams::default(), Patch::Strategic(change));
    let done = match subresource {
        None => api.patch(pod, &params, &patch).await,
        Some(subresource) => api.patch_subresource(subresource, pod, &params, &patch).await,
    };
    done.unwrap_or_else(|error| panic!("changing Pod {pod} by {change}: {error}"));
}

async fn a_touched_warm_sandbox_is_replaced_and_never_claimed() {
    let ns = namespace("touched").await;
    let resources = json!({ "requests": { "cpu": "10m" }, "limits": { "cpu": "20m" } });
    let container = json!({ "name": "agent", "image": "agent:1", "resources": resources });
    ns.create(template("t", json!({ "podTemplate": { "spec": { "containers": [container] } } }))).await;
    join_all(Act::ALL.map(|act| touched(&ns, act))).await;
}

async fn touched(ns: &TestNamespace, act: Act) {
    let pool_name = format!("{act:?}").to_lowercase();
    let made = ns.create(pool(&pool_name, "t", json!({ "replicas": 1 }))).await;
    let full = filled(ns, &made, 1).await;
    let member = full.values().find(|s| members(&full, uid(&made)).contains(s)).map(|s| name(s).to_owned());
    let member = member.expect("one member");
    act.on(ns, &member).await;
    ns.create(claim(&pool_name, &pool_name, json!({}))).await;
    let done = ns.until(CLAIM, &pool_name, "Ready", ready).await;
    assert_ne!(text(&done, "/status/sandbox/name"), member, "{act:?}: a claim got the Sandbox");
    ns.until_all(SANDBOX, &format!("{act:?}: the pool has another Ready member"), |all| {
        let members = members(all, uid(&made));
        members.len() == 1 && members.iter().all(|m| ready(m) && name(m) != member)
    })
    .await;
    let says = |event: &Value| {
        text(event, "/reason") == "WarmSandboxTouched"
            && text(event, "/regarding/name") == pool_name
            && text(event, "/note").contains(&format!("warm Sandbox {member}: "))
    };
    let events =
        ns.until_all(EVENT, &format!("{act:?}: an Event of the pool says why"), |all| all.values().any(says)).await;
    println!("{act:?}: {}", events.values().find(|e| says(e)).map_or("", |e| text(e, "/note")));
}

async fn a_controller_that_annotates_every_pod_touches_none() {
    let ns = namespace("annotated").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 3 }))).await;
    let full = filled(&ns, &made, 3).await;
    // As a network plugin, an autoscaler and the API server do.
    for round in 0..3 {
        for member in full.keys() {
            let change = json!({ "metadata": {
                "annotations": {
                    "cni.projectcalico.org/podIP": format!("10.0.0.{round}/32"),
                    "example.com/seen": round.to_string(),
                },
                "labels": { "topology.kubernetes.io/zone": format!("zone-{round}") },
            } });
            ns.merge(POD, member, change).await;
        }
    }
    // The operator has seen the changes when it has reconciled the pool because of them.
    let (taken, _) = claim_latency(&ns, claim("task", "p", json!({}))).await;
    let taken = ns.get(SANDBOX, text(&taken, "/status/sandbox/name")).await;
    assert_eq!(label(&taken, "agents.x-k8s.io/launch-type"), "warm");
    let refilled = filled(&ns, &made, 3).await;
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (full.keys().collect(), refilled.keys().collect());
    assert_eq!(before.difference(&after).count(), 0, "a member was replaced: {before:?} and {after:?}");
}

async fn gated_pods_are_kept_and_become_the_pool() {
    let ns = namespace("gated").await;
    let gates = json!([{ "name": "example.com/admission" }, { "name": "example.com/quota" }]);
    let pod = json!({ "podTemplate": {
        "metadata": { "labels": { "kueue.x-k8s.io/queue-name": "sandboxes" } },
        "spec": { "schedulingGates": gates },
    } });
    ns.create(template("t", pod)).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
    let gated = ns.until_all(POD, "two wait behind their gates", |all| all.len() == 2).await;
    let tolerations = json!([{ "key": "example.com/a", "operator": "Exists" }]);
    for (name, pod) in &gated {
        let mut all = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        all.extend(tolerations.as_array().cloned().unwrap_or_default());
        let label = json!({ "labels": { "kueue.x-k8s.io/podset": "main" } });
        ns.merge(
            POD,
            name,
            json!({ "metadata": label, "spec": { "schedulingGates": [gates[1]], "tolerations": all } }),
        )
        .await;
        ns.merge(POD, name, json!({ "spec": { "schedulingGates": null } })).await;
    }
    let full = filled(&ns, &made, 2).await;
    assert_eq!(full.keys().collect::<Vec<_>>(), gated.keys().collect::<Vec<_>>());
    for (name, pod) in &gated {
        assert_eq!(uid(&ns.get(POD, name).await), uid(pod), "the Pod was replaced");
    }
    let (taken, _) = claim_latency(&ns, claim("task", "p", json!({}))).await;
    assert!(gated.contains_key(text(&taken, "/status/sandbox/name")), "the claim got none of them");
}

async fn a_pool_under_a_quota_stops_and_says_why() {
    /// The most Sandboxes that a pool makes under a quota of ten pods.
    const MOST: usize = 30;
    let other = namespace("quota-other").await;
    other.create(template("t", json!({}))).await;
    let others = other.create(pool("p", "t", json!({ "replicas": 3 }))).await;
    filled(&other, &others, 3).await;
    let (_, before) = claim_latency(&other, claim("before", "p", json!({}))).await;
    filled(&other, &others, 3).await;

    let ns = namespace("quota").await;
    ns.create(object(RESOURCE_QUOTA, "ten", json!({ "hard": { "pods": "10" } }))).await;
    ns.until(RESOURCE_QUOTA, "ten", "in force", |q| text(q, "/status/hard/pods") == "10").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let resource = "sandboxwarmpools.v1beta1.extensions.agents.x-k8s.io/p";
    ns.kubectl(&["scale", resource, "--replicas=500000"], None).await.expect("the scale is admitted");
    let full = ns.until(POOL, "p", "says why", |p| message(p, "Ready").contains("exceeded quota")).await;
    println!("the pool says {:?}", message(&full, "Ready"));
    ns.until(POOL, "p", "ten are Ready", |p| p["status"]["readyReplicas"] == 10).await;
    assert_eq!(ns.list(POD).await.len(), 10);
    let count = ns.list(SANDBOX).await.len();
    assert!((11..=MOST).contains(&count), "{count} Sandboxes");
    let (_, beside) = claim_latency(&other, claim("beside", "p", json!({}))).await;
    println!("{count} Sandboxes; a claim beside them took {beside:.1} ms, and {before:.1} ms before");

    // A removed quota lets the pool go on.
    ns.merge(POOL, "p", json!({ "spec": { "replicas": 12 } })).await;
    ns.merge(RESOURCE_QUOTA, "ten", json!({ "spec": { "hard": { "pods": "100" } } })).await;
    filled(&ns, &made, 12).await;
}
