//! Attacks of a tenant who may write Sandboxes and Pods of one namespace, on the real API server with the webhook on.
//! The tenant forges members of a pool and pods of a Sandbox with the real UIDs of their owners, and marks workloads
//! that run on the host's kernel.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::json::{controller, label, message, name, ready, reason, text, uid};
use super::kinds::{CLAIM, Kind, POD, POOL, SANDBOX};
use super::manifests::{claim, object, pod, pool, sandbox, template};
use super::namespace::{Objects, TestNamespace};
use super::operator::{ACCOUNT, NAMESPACE};
use super::pool::filled;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        sandbox_with_a_forged_pool_owner_is_denied,
        sandbox_with_the_pools_uid_under_another_owner_is_not_claimed,
        a_pod_of_another_name_is_not_the_sandboxs,
        foreign_pod_does_not_replace_the_sandboxs_pod,
        pod_with_the_sandboxs_uid_under_another_kind_blocks_it,
        a_running_sandbox_cannot_be_marked,
        late_marker_makes_the_sandbox_not_ready,
        an_isolated_namespace_isolates_its_first_sandbox,
    ]
}

const MARKER: &str = "policy.paddock.dev/generated-code";
const EXTENSIONS: &str = "extensions.agents.x-k8s.io/v1beta1";

/// The namespace with the tenant's rights: every right on Sandboxes, claims and Pods, none on pools, and none in other
/// namespaces.
async fn tenant(ns: &TestNamespace) -> TestNamespace {
    let resources = ["sandboxes", "sandboxes/status", "sandboxes/scale", "sandboxclaims", "pods"];
    let tenant = ns.seen_by_new_user(&setup().await.cluster, &resources).await;
    let other = tenant.try_create(&pool("p", "t", json!({}))).await;
    assert!(matches!(other, Err(kube::Error::Api(status)) if status.code == 403), "a tenant makes no pools");
    tenant
}

/// A controller reference of any kind and name.
fn owner(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{ "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true }])
}

fn owned(mut object: Value, owners: Value) -> Value {
    object["metadata"]["ownerReferences"] = owners;
    object
}

/// Checks that the webhook refused the request with this message.
fn refused(result: kube::Result<Value>, expected: &str, what: &str) {
    match result {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 403, "{what}: {status:?}");
            assert!(status.message.contains("sandboxes.paddock.dev"), "{what}: not by the webhook: {}", status.message);
            assert!(status.message.contains(expected), "{what}: {}", status.message);
        }
        other => panic!("{what}: not refused: {other:?}"),
    }
}

/// Changes an object in each way that the API has. None of the changes is stored.
async fn every_change(ns: &TestNamespace, object: &Value, change: &Value, expected: &str, what: &str) {
    let kind = Kind::of(object);
    let (api, params) = (ns.api(kind), PatchParams::default());
    let merged = api.patch(name(object), &params, &Patch::Merge(change)).await;
    refused(merged.map(|o| json!(o)), expected, &format!("{what}, by a merge patch"));
    // The applied configuration contains only the name and the change. It has no UID and no resourceVersion, so it has
    // no precondition.
    let mut applied = json!({ "apiVersion": kind.0, "kind": kind.1, "metadata": { "name": name(object) } });
    super::manifests::merge(&mut applied, change);
    let params = PatchParams::apply("mallory").force();
    let applied = api.patch(name(object), &params, &Patch::Apply(&applied)).await;
    refused(applied.map(|o| json!(o)), expected, &format!("{what}, by server-side apply"));
    for _ in 0..20 {
        let mut updated = ns.get(kind, name(object)).await;
        super::manifests::merge(&mut updated, change);
        match ns.replace(&updated).await {
            // The operator wrote the status in between.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => return refused(other, expected, &format!("{what}, by an update")),
        }
    }
    panic!("{what}: every update met a conflict");
}

/// A forged member of the pool, with the same labels, annotations and spec as a real one.
fn dressed_up(member: &Value, name: &str) -> Value {
    let metadata = json!({
        "name": name, "labels": member["metadata"]["labels"], "annotations": member["metadata"]["annotations"],
    });
    let mut copy = object(SANDBOX, name, member["spec"].clone());
    copy["metadata"] = metadata;
    copy["metadata"]["annotations"]["agents.x-k8s.io/pod-name"] = name.into();
    copy["spec"]["podTemplate"]["spec"]["containers"][0]["image"] = "evil:1".into();
    copy
}

async fn sandbox_with_a_forged_pool_owner_is_denied() {
    let ns = namespace("poison").await;
    let mallory = tenant(&ns).await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let full = filled(&ns, &made, 1).await;
    let member = full.values().next().expect("one");
    let mallorys = mallory.create(dressed_up(member, "a-mallorys")).await;
    ns.until(SANDBOX, "a-mallorys", "Ready", ready).await;
    for (what, api_version, kind, name) in [
        ("the pool itself", EXTENSIONS, "SandboxWarmPool", "p"),
        ("its other version", "extensions.agents.x-k8s.io/v1alpha1", "SandboxWarmPool", "p"),
        ("a pool of another name", EXTENSIONS, "SandboxWarmPool", "q"),
        ("a pool of the seed's group", "agents.x-k8s.io/v1alpha1", "SandboxWarmPool", "p"),
        ("a pool of somebody's group", "example.com/v1", "SandboxWarmPool", "p"),
        ("a claim", EXTENSIONS, "SandboxClaim", "p"),
    ] {
        let owners = owner(api_version, kind, name, uid(&made));
        let forged = owned(dressed_up(member, "a-forged"), owners.clone());
        refused(mallory.try_create(&forged).await, "metadata.ownerReferences[0]", what);
        let change = json!({ "metadata": { "ownerReferences": owners } });
        every_change(&mallory, &mallorys, &change, "metadata.ownerReferences[0]", what).await;
        // The subresources have no webhook, so they must not accept changes of metadata.
        for subresource in ["status", "scale"] {
            let path = format!("{}/{}/{subresource}", SANDBOX.path(&ns.namespace), "a-mallorys");
            let request = http::Request::patch(path).header("content-type", "application/merge-patch+json");
            let request = request.body(change.to_string().into_bytes()).expect("a request");
            let _ = mallory.client.request::<Value>(request).await;
        }
    }
    let stored = ns.get(SANDBOX, "a-mallorys").await;
    assert_eq!(stored["metadata"].get("ownerReferences"), None, "it got an owner");

    // The claims do not get the tenant's Sandbox, although it is older than the second Sandbox that they take.
    for task in ["one", "two"] {
        ns.create(claim(task, "p", json!({}))).await;
        let done = ns.until(CLAIM, task, "Ready", ready).await;
        assert_ne!(text(&done, "/status/sandbox/name"), "a-mallorys");
    }
    assert_eq!(controller(&ns.get(SANDBOX, "a-mallorys").await), "");
}

/// The webhook accepts owners of other kinds, because an owner may have any kind. Such an owner does not make a Sandbox
/// a member of the pool.
async fn sandbox_with_the_pools_uid_under_another_owner_is_not_claimed() {
    let ns = namespace("poison-kind").await;
    let mallory = tenant(&ns).await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let full = filled(&ns, &made, 1).await;
    let member = full.values().next().expect("one");
    // The garbage collector cannot look up this kind, so it does not delete the forged Sandbox.
    let owners = owner("example.com/v1", "Widget", "p", uid(&made));
    mallory.create(owned(dressed_up(member, "a-forged"), owners.clone())).await;
    ns.until(SANDBOX, "a-forged", "Ready", ready).await;
    // The pool still counts one Sandbox of its own, and zero when it has none.
    let of_pool = |all: &Objects| {
        let kinds = |s: &&Value| text(s, "/metadata/ownerReferences/0/kind") == "SandboxWarmPool";
        all.values().filter(kinds).count()
    };
    ns.until(POOL, "p", "counts one", |p| p["status"]["readyReplicas"] == 1).await;
    assert_eq!(of_pool(&ns.list(SANDBOX).await), 1);
    ns.merge(POOL, "p", json!({ "spec": { "replicas": 0 } })).await;
    ns.until_all(SANDBOX, "the pool's is gone", |all| of_pool(all) == 0).await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    assert_eq!(text(&done, "/status/sandbox/name"), "task", "it had to start cold");
    let forged = ns.get(SANDBOX, "a-forged").await;
    assert_eq!(forged["metadata"]["ownerReferences"][0]["kind"], owners[0]["kind"], "it was taken");
}

async fn a_pod_of_another_name_is_not_the_sandboxs() {
    let ns = namespace("stranger").await;
    let mallory = tenant(&ns).await;
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let full = filled(&ns, &made, 1).await;
    let member = full.values().next().expect("one");
    let owners = owner("agents.x-k8s.io/v1beta1", "Sandbox", name(member), uid(member));
    mallory.create(owned(object(POD, "a-stranger", pod()["spec"].clone()), owners)).await;
    ns.until(POD, "a-stranger", "runs", |p| text(p, "/status/phase") == "Running").await;
    let sandbox = ns.until(SANDBOX, name(member), "reports it", |s| reason(s, "Ready") == "MultiplePods").await;
    assert!(!ready(&sandbox));
    let stranger = text(&ns.get(POD, "a-stranger").await, "/status/podIP").to_owned();
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    assert_ne!(text(&done, "/status/sandbox/name"), name(member), "a Sandbox with a stranger in it was handed out");
    assert_ne!(text(&done, "/status/sandbox/podIPs/0"), stranger);
    assert!(!text(&ns.get(POD, "a-stranger").await, "/status/phase").is_empty(), "it is not ours to delete");
}

async fn foreign_pod_does_not_replace_the_sandboxs_pod() {
    let ns = namespace("stranger-alone").await;
    let mallory = tenant(&ns).await;
    let made = mallory.create(sandbox("x", json!({}))).await;
    ns.until(SANDBOX, "x", "Ready", ready).await;
    let owners = owner("agents.x-k8s.io/v1beta1", "Sandbox", "x", uid(&made));
    mallory.create(owned(object(POD, "a-stranger", pod()["spec"].clone()), owners)).await;
    ns.until(SANDBOX, "x", "reports it", |s| reason(s, "Ready") == "MultiplePods").await;
    mallory.delete(POD, "x").await;
    ns.until_gone(POD, "x").await;
    let sandbox =
        ns.until(SANDBOX, "x", "reports it", |s| message(s, "Ready").contains("Pod a-stranger names this")).await;
    assert!(!ready(&sandbox) && sandbox["status"].get("podIPs").is_none(), "{:#}", sandbox["status"]);
    mallory.delete(POD, "a-stranger").await;
    ns.until(SANDBOX, "x", "Ready", ready).await;
    assert_eq!(controller(&ns.get(POD, "x").await), uid(&made));
}

async fn pod_with_the_sandboxs_uid_under_another_kind_blocks_it() {
    let ns = namespace("stranger-kind").await;
    let mallory = tenant(&ns).await;
    let made = mallory.create(sandbox("x", json!({ "operatingMode": "Suspended" }))).await;
    let owners = owner("example.com/v1", "Sandbox", "x", uid(&made));
    let forged = mallory.create(owned(object(POD, "x", pod()["spec"].clone()), owners)).await;
    ns.merge(SANDBOX, "x", json!({ "spec": { "operatingMode": "Running" } })).await;
    let sandbox = ns.until(SANDBOX, "x", "reports it", |s| reason(s, "Ready") == "ReconcilerError").await;
    assert!(message(&sandbox, "Ready").contains("Pod x exists"), "{}", message(&sandbox, "Ready"));
    let there = ns.get(POD, "x").await;
    assert_eq!(
        (uid(&there), &there["metadata"]["ownerReferences"]),
        (uid(&forged), &forged["metadata"]["ownerReferences"])
    );
    assert_eq!(label(&there, "policy.paddock.dev/sandbox-uid"), "");
    mallory.delete(POD, "x").await;
    let own = |p: &Value| text(p, "/metadata/ownerReferences/0/apiVersion") == "agents.x-k8s.io/v1beta1";
    ns.until(POD, "x", "is its own", own).await;
    ns.until(SANDBOX, "x", "Ready", ready).await;
}

/// Suspends a Sandbox, makes a change, and resumes it.
async fn change_while_suspended(ns: &TestNamespace, name: &str, change: Value) {
    ns.merge(SANDBOX, name, json!({ "spec": { "operatingMode": "Suspended" } })).await;
    ns.until_gone(POD, name).await;
    ns.until(SANDBOX, name, "suspended", |s| reason(s, "Suspended") == "PodTerminated").await;
    ns.merge(SANDBOX, name, change).await;
    ns.merge(SANDBOX, name, json!({ "spec": { "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, name, "Ready", ready).await;
}

async fn a_running_sandbox_cannot_be_marked() {
    let ns = namespace("late-marker").await;
    let mallory = tenant(&ns).await;
    let made = mallory.create(sandbox("x", json!({}))).await;
    ns.until(SANDBOX, "x", "Ready", ready).await;
    assert_eq!(ns.get(POD, "x").await["spec"].get("runtimeClassName"), None, "it shares the host's kernel");
    let on_sandbox = json!({ "metadata": { "labels": { MARKER: "true" } } });
    let on_pods = json!({ "spec": { "podTemplate": { "metadata": { "labels": { MARKER: "true" } } } } });
    let with_class = json!({ "metadata": on_sandbox["metadata"], "spec": { "runtimeClassName": "gvisor" } });
    for (what, change) in [("itself", &on_sandbox), ("its pods", &on_pods), ("itself with a class", &with_class)] {
        every_change(&mallory, &made, change, "suspend the Sandbox", what).await;
    }
    change_while_suspended(&ns, "x", on_sandbox.clone()).await;
    let pod = ns.get(POD, "x").await;
    assert_eq!((text(&pod, "/spec/runtimeClassName"), label(&pod, MARKER)), ("gvisor", "true"));
    // An isolated Sandbox can be marked while it runs, because its isolation is already given.
    mallory.create(sandbox("isolated", json!({ "runtimeClassName": "gvisor" }))).await;
    ns.until(SANDBOX, "isolated", "Ready", ready).await;
    mallory.merge(SANDBOX, "isolated", on_sandbox).await;
    ns.until(POD, "isolated", "is marked", |p| label(p, MARKER) == "true").await;
    assert!(ready(&ns.get(SANDBOX, "isolated").await));
}

/// The state after an outage of the webhook, whose failure policy is Ignore: the test writes as the one user for whom
/// the webhook is not called.
async fn late_marker_makes_the_sandbox_not_ready() {
    let ns = namespace("late-marker-unseen").await;
    let kubeconfig = setup().await.cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.expect("a token");
    let unseen = ns.seen_by(&kubeconfig).await;
    ns.create(sandbox("x", json!({}))).await;
    ns.until(SANDBOX, "x", "Ready", ready).await;
    unseen.merge(SANDBOX, "x", json!({ "metadata": { "labels": { MARKER: "true" } } })).await;
    let sandbox = ns.until(SANDBOX, "x", "reports it", |s| reason(s, "Ready") == "PolicyDenied").await;
    assert!(message(&sandbox, "Ready").contains("does not isolate"), "{}", message(&sandbox, "Ready"));
    assert_eq!(label(&ns.get(POD, "x").await, MARKER), "", "the marker would say that it is isolated");
    change_while_suspended(&ns, "x", json!({})).await;
    let pod = ns.get(POD, "x").await;
    assert_eq!((text(&pod, "/spec/runtimeClassName"), label(&pod, MARKER)), ("gvisor", "true"));
}

/// The Sandbox is created right after the namespace, whether or not the operator has received the namespace.
async fn an_isolated_namespace_isolates_its_first_sandbox() {
    let cluster = &setup().await.cluster;
    for n in 0..5 {
        let ns = TestNamespace::existing(cluster, &format!("first-{n}"));
        let labels = json!({ "policy.paddock.dev/isolation": "required" });
        let namespace = json!({ "metadata": { "name": ns.namespace, "labels": labels } });
        ns.post("/api/v1/namespaces", &namespace).await.expect("a namespace");
        ns.create(sandbox("x", json!({}))).await;
        let pod = ns.until(POD, "x", "there", |_| true).await;
        assert_eq!(text(&pod, "/spec/runtimeClassName"), "gvisor", "in namespace {}", ns.namespace);
        ns.until(SANDBOX, "x", "Ready", ready).await;
    }
}
