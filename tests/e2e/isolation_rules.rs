//! SandboxPolicies with rules about isolation: what generated code may have in some namespaces alone.

use paddock_cluster::eventually;
use serde_json::{Value, json};

use super::json::{ready, reason, text};
use super::kinds::{CLAIM, POD, POOL, SANDBOX};
use super::manifests::{claim, marked, merge, object, pod, pool, sandbox, template};
use super::namespace::TestNamespace;
use super::plugin_objects::Scene;
use super::pool::filled;
use super::setup::{namespace, setup};
use super::{audit, http};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        policy_allows_a_field_and_limits_the_classes_of_one_namespace_until_it_is_removed,
        audit_of_a_cluster_knows_the_rules_of_its_policies,
    ]
}

/// A marked Pod on the process namespace of its node.
fn exposed_pod(name: &str, with: Value) -> Value {
    let mut spec = pod()["spec"].clone();
    merge(&mut spec, &json!({ "hostPID": true, "automountServiceAccountToken": false }));
    merge(&mut spec, &with);
    marked(object(POD, name, spec))
}

/// A marked Sandbox with such a pod.
fn exposed_sandbox(name: &str) -> Value {
    marked(sandbox(name, json!({ "podTemplate": { "spec": { "hostPID": true } } })))
}

/// A policy that allows the field to the namespace of a scene, and limits its RuntimeClasses to Kata.
fn policy(scene: &Scene) -> Value {
    scene.object(
        "SandboxPolicy",
        json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": scene.ns.namespace } },
            "isolation": { "allow": ["hostPID"], "runtimeClasses": ["kata"] },
        }),
    )
}

/// The message with which the API server refuses an object.
async fn refusal(ns: &TestNamespace, object: &Value) -> String {
    super::webhook::refusal(ns, object).await.message
}

/// Every kind of object that a pod is made from, each with the field.
fn exposed_objects() -> [Value; 3] {
    let spec = json!({ "podTemplate": { "spec": { "hostPID": true } }, "networkPolicyManagement": "Unmanaged" });
    [exposed_pod("bare", json!({})), exposed_sandbox("alone"), marked(template("tools", spec))]
}

async fn policy_allows_a_field_and_limits_the_classes_of_one_namespace_until_it_is_removed() {
    let scene = Scene::new("rules").await;
    let (open, closed) = (&scene.ns, namespace("without-rules").await);
    for made in exposed_objects() {
        let message = refusal(open, &made).await;
        assert!(message.contains("hostPID"), "{message}");
    }
    scene.apply(&policy(&scene)).await;
    scene.wait("sandboxpolicy").await;
    let is_open = async || open.dry_run(&exposed_pod("probe", json!({}))).await.is_ok();
    eventually("the policy is in force", is_open).await;
    let (_, shown) = http::get(setup().await.operator.debug, "/debug/isolation").await.expect("an answer");
    let rules: Vec<Value> = serde_json::from_str(&shown).expect("a list");
    let own = rules.iter().find(|rule| rule["policy"] == scene.name.as_str()).expect("its rules");
    assert_eq!((&own["allow"], &own["runtimeClasses"]), (&json!(["hostPID"]), &json!(["kata"])));

    // The field is allowed in every kind, and the plugin chooses among the RuntimeClasses that the namespace may use.
    for made in exposed_objects() {
        let message = refusal(&closed, &made).await;
        assert!(message.contains("hostPID"), "{message}");
        open.create(made).await;
    }
    let of_template = open.create(pool("tools", "tools", json!({ "replicas": 1 }))).await;
    filled(open, &of_template, 1).await;
    open.create(claim("taker", "tools", json!({}))).await;
    let bound = open.until(CLAIM, "taker", "Ready", ready).await;
    open.until(SANDBOX, "alone", "Ready", ready).await;
    for name in ["bare", "alone", text(&bound, "/status/sandbox/name")] {
        let made = open.get(POD, name).await;
        assert_eq!((text(&made, "/spec/runtimeClassName"), &made["spec"]["hostPID"]), ("kata", &json!(true)), "{made}");
    }
    let other = refusal(open, &exposed_pod("other", json!({ "runtimeClassName": "gvisor" }))).await;
    for part in ["is \"gvisor\", which does not exist or which this namespace may not use", "one of: kata"] {
        assert!(other.contains(part), "{part}: {other}");
    }
    let more = refusal(open, &exposed_pod("more", json!({ "hostIPC": true }))).await;
    assert!(more.contains("hostIPC") && !more.contains("hostPID"), "{more}");

    // Without the policy, the running pods are reported, and nothing new is admitted.
    open.delete(POOL, "tools").await;
    scene.delete("sandboxpolicy").await;
    let reported = |s: &Value| text(s, "/status/isolation/problem").contains("hostPID, which does not isolate");
    let alone = open.until(SANDBOX, "alone", "reported", reported).await;
    assert_eq!(reason(&alone, "Ready"), "PolicyDenied", "{alone}");
    open.until(SANDBOX, text(&bound, "/status/sandbox/name"), "reported", reported).await;
    let message = refusal(open, &exposed_pod("late", json!({}))).await;
    assert!(message.contains("hostPID"), "{message}");
}

async fn audit_of_a_cluster_knows_the_rules_of_its_policies() {
    let scene = Scene::new("rules-audited").await;
    scene.apply(&policy(&scene)).await;
    scene.wait("sandboxpolicy").await;
    let is_open = async || scene.ns.dry_run(&exposed_pod("probe", json!({}))).await.is_ok();
    eventually("the policy is in force", is_open).await;
    scene.ns.create(exposed_pod("worker", json!({}))).await;
    let kubeconfig = setup().await.cluster.kubeconfig().display().to_string();
    let args = ["--kubeconfig", &kubeconfig, "--fail-on=never", "--namespace", &scene.ns.namespace];
    let findings = async || {
        let output = audit::audit(&args, "").await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let report = findings().await;
    assert!(!report.contains("host-access") && !report.contains("runtime-class "), "{report}");
    scene.delete("sandboxpolicy").await;
    let report = findings().await;
    assert!(report.contains("host-access") && report.contains("spec.hostPID"), "{report}");
}
