//! Warm pools on a real API server: they are filled, scaled and updated, and claims empty them.

use paddock_cluster::eventually_some;
use serde_json::{Value, json};

use super::http;
use super::json::{annotation, controller, deleting, label, name, number, ready, reason, text, uid};
use super::kinds::{
    CLAIM, CLAIM_V1ALPHA1, POD, POOL, POOL_V1ALPHA1, SANDBOX, SEED_CLAIM, SEED_POOL, SEED_TEMPLATE, TEMPLATE,
    TEMPLATE_V1ALPHA1,
};
use super::latency::claim_latency;
use super::manifests::{claim, object, pod, pool, template};
use super::namespace::{Objects, TestNamespace};
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        the_seeds_pool_fills_and_its_claim_is_ready,
        samples_in_upstreams_shape_become_ready,
        upstreams_v1beta1_pool_serves_claims,
        upstreams_v1alpha1_pool_serves_claims,
        a_pool_scales_up_and_down,
        pool_without_template_waits_and_reports_it,
        recreate_replaces_stale_sandboxes,
        claim_gets_no_stale_sandbox_with_on_replenish,
        deleted_pool_deletes_warm_sandboxes_and_keeps_claimed_ones,
        a_claim_does_not_wait_for_pods_that_are_not_ready,
    ]
}

const SEED: &str = root!("deploy/samples/warm-pool.yaml");

/// The Sandboxes that an object controls and that are not terminating.
pub(crate) fn members<'a>(sandboxes: &'a Objects, owner: &str) -> Vec<&'a Value> {
    sandboxes.values().filter(|s| controller(s) == owner && !deleting(s)).collect()
}

/// Waits until a pool has this number of Ready Sandboxes and no others.
pub(crate) async fn filled(ns: &TestNamespace, pool: &Value, count: usize) -> Objects {
    let what = format!("{count} of pool {} are Ready, and no others are there", name(pool));
    ns.until_all(SANDBOX, &what, |all| {
        let members = members(all, uid(pool));
        members.len() == count && members.into_iter().all(ready)
    })
    .await
}

async fn the_seeds_pool_fills_and_its_claim_is_ready() {
    let ns = namespace("seed-pool").await;
    let manifests = std::fs::read_to_string(SEED).unwrap();
    let documents: Vec<&str> = manifests.split("---\n").collect();
    // The claim is created when the pool is full, as the example intends.
    ns.kubectl(&["apply", "-f", "-"], Some(&documents[..2].join("---\n"))).await.unwrap();
    let pool = ns.get(SEED_POOL, "python-pool").await;
    let full = filled(&ns, &pool, 5).await;
    for warm in full.values() {
        let pod = ns.get(POD, name(warm)).await;
        assert_eq!((text(&pod, "/spec/runtimeClassName"), text(&pod, "/spec/hostname")), ("gvisor", name(warm)));
        assert_eq!(annotation(&pod, "cluster-autoscaler.kubernetes.io/safe-to-evict"), "true");
    }
    ns.until(SEED_POOL, "python-pool", "counts 5", |p| number(p, "/status/readyReplicas") == Some(5)).await;

    let given: Value = serde_yaml_ng::from_str(documents[2]).unwrap();
    let (claim, latency) = claim_latency(&ns, given).await;
    println!("the seed's claim was Ready {:.1} ms after its creation began, as a watching client sees it", latency);
    let taken = ns.get(SANDBOX, text(&claim, "/status/sandbox/name")).await;
    assert!(full.contains_key(name(&taken)), "it was warm");
    assert_eq!(controller(&taken), uid(&claim));
    assert_eq!(annotation(&claim, "agents.x-k8s.io/sandbox-name"), name(&taken));
    filled(&ns, &pool, 5).await;
    assert_eq!(reason(&ns.get(SEED_CLAIM, "claim-task-7842").await, "Ready"), "DependenciesReady");
}

async fn samples_in_upstreams_shape_become_ready() {
    let ns = namespace("upstream-samples").await;
    let apply = ["apply", "--validate=strict", "-f", root!("deploy/samples/upstream.yaml")];
    let answer = ns.kubectl_output(&apply, None).await;
    assert!(!answer.contains("Warning") && !answer.contains("Error"), "{answer}");
    ns.until(SANDBOX, "notebook", "is Ready", ready).await;
    let pool = ns.get(POOL, "python").await;
    filled(&ns, &pool, 2).await;
    ns.until(CLAIM, "task-1", "is Ready", ready).await;
}

async fn upstreams_v1beta1_pool_serves_claims() {
    let ns = namespace("pool-v1beta1").await;
    ns.create(template("python", json!({ "service": true }))).await;
    let pool = ns.create(pool("python-pool", "python", json!({ "replicas": 2 }))).await;
    let full = filled(&ns, &pool, 2).await;
    let (taker, latency) = claim_latency(&ns, claim("task", "python-pool", json!({}))).await;
    println!("a v1beta1 claim was Ready {latency:.1} ms after its creation began");

    let taken = ns.get(SANDBOX, text(&taker, "/status/sandbox/name")).await;
    assert!(full.contains_key(name(&taken)));
    assert_eq!(controller(&taken), uid(&taker));
    assert_eq!(taken["metadata"]["ownerReferences"][0]["kind"], "SandboxClaim");
    assert_eq!(label(&taken, "agents.x-k8s.io/claim-uid"), uid(&taker));
    assert_eq!(label(&taken, "agents.x-k8s.io/launch-type"), "warm");
    assert_eq!(label(&taken, "agents.x-k8s.io/warm-pool-sandbox"), "");
    assert_eq!(annotation(&taken, "agents.x-k8s.io/pod-name"), name(&taken));
    // The annotation exists when the claim is first Ready.
    assert_eq!(annotation(&taker, "agents.x-k8s.io/sandbox-name"), name(&taken));
    let observed = annotation(&taker, "agents.x-k8s.io/controller-first-observed-at");
    assert!(observed.parse::<jiff::Timestamp>().is_ok() && observed.contains('.'), "{observed:?}");
    let evictable = |p: &Value| !annotation(p, "cluster-autoscaler.kubernetes.io/safe-to-evict").is_empty();
    let pod = ns.until(POD, name(&taken), "is not evictable any more", |p| !evictable(p)).await;
    assert_eq!(label(&pod, "agents.x-k8s.io/claim-uid"), uid(&taker));
    assert_eq!(taker["status"]["sandbox"]["podIPs"][0], pod["status"]["podIP"]);
    // The pool is refilled, and the claim's objects are deleted with the claim.
    filled(&ns, &pool, 2).await;
    ns.delete(CLAIM, "task").await;
    ns.until_gone(SANDBOX, name(&taken)).await;
    ns.until_gone(POD, name(&taken)).await;
}

async fn upstreams_v1alpha1_pool_serves_claims() {
    let ns = namespace("pool-v1alpha1").await;
    ns.create(object(TEMPLATE_V1ALPHA1, "older", json!({ "podTemplate": pod() }))).await;
    let spec = json!({ "sandboxTemplateRef": { "name": "older" }, "replicas": 3 });
    let pool = ns.create(object(POOL_V1ALPHA1, "older-pool", spec)).await;
    let full = filled(&ns, &pool, 3).await;
    let of_template = |warmpool: Option<&str>| {
        let mut spec = json!({ "sandboxTemplateRef": { "name": "older" } });
        if let Some(warmpool) = warmpool {
            spec["warmpool"] = json!(warmpool);
        }
        spec
    };
    for (task, warmpool, warm) in [
        ("any", None, true),
        ("default", Some("default"), true),
        ("named", Some("older-pool"), true),
        ("cold", Some("none"), false),
    ] {
        ns.create(object(CLAIM_V1ALPHA1, task, of_template(warmpool))).await;
        let done = ns.until(CLAIM_V1ALPHA1, task, "Ready", ready).await;
        let taken = ns.get(SANDBOX, text(&done, "/status/sandbox/name")).await;
        let launch = label(&taken, "agents.x-k8s.io/launch-type");
        assert_eq!((controller(&taken), launch), (uid(&done), if warm { "warm" } else { "cold" }), "{task}");
        if !warm {
            assert_eq!(name(&taken), task, "a cold claim's Sandbox has its name");
        } else if task == "any" {
            assert!(full.contains_key(name(&taken)));
        }
        filled(&ns, &pool, 3).await;
    }
}

async fn a_pool_scales_up_and_down() {
    let ns = namespace("pool-scale").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 0 }))).await;
    for count in [3, 1, 0, 2] {
        let flag = format!("--replicas={count}");
        let resource = "sandboxwarmpools.v1beta1.extensions.agents.x-k8s.io/p";
        ns.kubectl(&["scale", resource, &flag], None).await.unwrap();
        filled(&ns, &made, count).await;
        let count = i64::try_from(count).unwrap();
        ns.until(POOL, "p", "reports it", |p| {
            number(p, "/status/replicas").unwrap_or(0) == count
                && number(p, "/status/readyReplicas").unwrap_or(0) == count
        })
        .await;
    }
    assert!(!text(&ns.get(POOL, "p").await, "/status/selector").is_empty());
}

async fn pool_without_template_waits_and_reports_it() {
    let ns = namespace("pool-early").await;
    let made = ns.create(pool("p", "later", json!({ "replicas": 1 }))).await;
    let seed = object(SEED_POOL, "p", json!({ "templateRef": { "name": "later" }, "minReady": 1, "maxReady": 2 }));
    let seed = ns.create(seed).await;
    ns.until(POOL, "p", "reports the reason", |p| reason(p, "Ready") == "TemplateNotFound").await;
    ns.until(SEED_POOL, "p", "reports the reason", |p| reason(p, "Ready") == "TemplateNotFound").await;
    ns.create(template("later", json!({}))).await;
    filled(&ns, &made, 1).await;
    // A template of the same name in the other group is another template.
    assert_eq!(reason(&ns.get(SEED_POOL, "p").await, "Ready"), "TemplateNotFound");
    ns.create(object(SEED_TEMPLATE, "later", json!({ "template": pod() }))).await;
    filled(&ns, &seed, 1).await;
}

fn image(sandbox: &Value) -> &str {
    text(sandbox, "/spec/podTemplate/spec/containers/0/image")
}

fn newer() -> Value {
    json!({ "spec": { "podTemplate": { "spec": { "containers": [{ "name": "agent", "image": "agent:2" }] } } } })
}

async fn recreate_replaces_stale_sandboxes() {
    let ns = namespace("recreate").await;
    ns.create(template("t", json!({}))).await;
    let made = pool("p", "t", json!({ "replicas": 2, "updateStrategy": { "type": "Recreate" } }));
    let made = ns.create(made).await;
    filled(&ns, &made, 2).await;
    ns.merge(TEMPLATE, "t", newer()).await;
    ns.until_all(SANDBOX, "two of the new template are Ready, and no others are there", |all| {
        let members = members(all, uid(&made));
        members.len() == 2 && members.iter().all(|s| ready(s) && image(s) == "agent:2")
    })
    .await;
}

async fn claim_gets_no_stale_sandbox_with_on_replenish() {
    let ns = namespace("replenish").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
    let stale = filled(&ns, &made, 2).await;
    ns.merge(TEMPLATE, "t", newer()).await;
    // Watches of different kinds have no common order, so the operator has to receive the template before the claim
    // exists.
    let path = format!("/debug/seen/sandboxtemplates.extensions.agents.x-k8s.io/{}/t", ns.namespace);
    eventually_some("the operator sees the new template", async || {
        let (_, body) = http::get(setup().await.operator.debug, &path).await.expect("an answer");
        if body.contains("agent:2") { Ok(()) } else { Err(body) }
    })
    .await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    let taken = ns.get(SANDBOX, text(&done, "/status/sandbox/name")).await;
    assert!(!stale.contains_key(name(&taken)), "a stale Sandbox was given to a claim");
    assert_eq!((image(&taken), controller(&taken)), ("agent:2", uid(&done)));
}

async fn deleted_pool_deletes_warm_sandboxes_and_keeps_claimed_ones() {
    let ns = namespace("pool-gone").await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
    filled(&ns, &made, 2).await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    filled(&ns, &made, 2).await;
    ns.delete(POOL, "p").await;
    let kept = text(&done, "/status/sandbox/name");
    ns.until_all(SANDBOX, "only the Sandbox of the claim remains", |all| all.len() == 1 && all.contains_key(kept))
        .await;
    assert!(ready(&ns.get(CLAIM, "task").await));
}

/// A claim does not get a Sandbox that is not Ready while Ready ones exist. Without a Ready one, it starts cold.
async fn a_claim_does_not_wait_for_pods_that_are_not_ready() {
    let ns = namespace("pool-slow").await;
    let slow = json!({ "podTemplate": { "spec": { "schedulingGates": [{ "name": "example.com/wait" }] } } });
    ns.create(template("t", slow)).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 2 }))).await;
    let there = ns.until_all(POD, "two wait", |pods| pods.len() == 2).await;
    let first = there.keys().next().unwrap();
    // The end of a scheduling gate is no reason to replace a member. Another change of a pod is.
    ns.merge(POD, first, json!({ "spec": { "schedulingGates": null } })).await;
    ns.until(SANDBOX, first, "Ready", ready).await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    assert_eq!(text(&done, "/status/sandbox/name"), first);
    drop(made);
}
