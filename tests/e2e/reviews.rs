//! Reviews that a user or a stranger makes expensive: on the real API server, no such review opens the webhook, and
//! none harms the reconcile.

use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::http;
use super::json::ready;
use super::kinds::SANDBOX;
use super::manifests::{pool, sandbox, template};
use super::namespace::TestNamespace;
use super::plugins::Files;
use super::pool::filled;
use super::setup::{namespace, setup};
use super::webhook::refusal;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![padded_sandbox_and_padded_change_are_refused, made_up_reviews_stop_no_reconcile]
}

/// Containers with empty entries: 94 kB of JSON that need more memory than one review may use.
fn padded() -> Value {
    let empty = vec![json!({}); 1000];
    let container = |n| json!({ "name": format!("c{n}"), "image": "agent:1", "envFrom": empty });
    (0..31).map(container).collect()
}

/// The entry of these kinds fails open, so the API server would admit the object if the call failed.
async fn padded_sandbox_and_padded_change_are_refused() {
    let ns = namespace("padded").await;
    let spec = json!({ "podTemplate": { "spec": { "containers": padded() } } });
    let status = refusal(&ns, &sandbox("new", spec.clone())).await;
    assert_eq!(status.code, 413, "{status:?}");
    ns.create(sandbox("a", json!({}))).await;
    ns.until(SANDBOX, "a", "Ready", ready).await;
    for (change, what) in [
        (json!({ "spec": spec }), "its containers"),
        // The API server writes each of these characters in six bytes.
        (
            json!({ "spec": { "podTemplate": { "metadata": { "annotations": { "a": "<".repeat(200_000) } }, "spec": {
            "containers": [{ "name": "agent", "image": "agent:1", "args": ["<".repeat(1_200_000)] }],
        } } } }),
            "its characters",
        ),
    ] {
        match ns.api(SANDBOX).patch("a", &PatchParams::default(), &Patch::Merge(&change)).await {
            Err(kube::Error::Api(status)) => {
                let expected = "sandboxes.paddock.dev";
                assert!(status.message.contains(expected), "{what}: not by the webhook: {}", status.message);
                assert!([413, 422].contains(&status.code), "{what}: {status:?}");
            }
            other => panic!("{what}: not refused: {other:?}"),
        }
    }
    let stored = ns.get(SANDBOX, "a").await;
    assert_eq!(stored["spec"]["podTemplate"]["spec"]["containers"].as_array().map(Vec::len), Some(1));
    ns.delete(SANDBOX, "a").await;
    ns.until_gone(SANDBOX, "a").await;
}

/// A program without a credential that reaches the port of the webhook.
async fn stranger(ns: &TestNamespace) -> Client {
    let all = ns.kubectl(&["get", "validatingwebhookconfiguration", "paddock-webhook", "-o", "json"], None).await;
    let configuration: Value = serde_json::from_str(&all.expect("the configuration")).expect("JSON");
    let client = &configuration["webhooks"][0]["clientConfig"];
    let url = client["url"].as_str().expect("a URL");
    let server = url.split('/').take(3).collect::<Vec<_>>().join("/");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "webhook",
        "clusters": [{
            "name": "webhook", "cluster": { "server": server, "certificate-authority-data": client["caBundle"] },
        }],
        "users": [{ "name": "stranger", "user": {} }],
        "contexts": [{ "name": "webhook", "context": { "cluster": "webhook", "user": "stranger" } }],
    });
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

/// The message with which the webhook denies a made-up Sandbox in a namespace.
async fn made_up(stranger: &Client, ns: &TestNamespace, object: &Value) -> String {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": "CREATE", "name": "a", "namespace": ns.namespace,
            "kind": { "group": "agents.x-k8s.io", "version": "v1beta1", "kind": "Sandbox" },
            "resource": { "group": "agents.x-k8s.io", "version": "v1beta1", "resource": "sandboxes" },
            "userInfo": { "username": "nobody" }, "object": object,
        },
    });
    let request = ::http::Request::post("/validate/sandboxes").header("content-type", "application/json");
    let request = request.body(review.to_string().into_bytes()).expect("a request");
    let answer: Value = stranger.request(request).await.expect("an answer");
    answer["response"]["status"]["message"].as_str().unwrap_or_default().to_owned()
}

/// A plugin runs out of fuel on large objects. Five such reviews put it into quarantine for the namespace, for reviews
/// alone: the reconcile still asks it about the Sandboxes of a pool.
async fn made_up_reviews_stop_no_reconcile() {
    let ns = namespace("made-up").await;
    let files = Files::of("made-up").await;
    let bound = json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns.namespace } },
        "hooks": ["admission"], "kinds": ["Sandbox"], "settings": { "registries": ["ghcr.io"] },
        "limits": { "fuel": 1_500_000 },
    });
    files.put("yaml", bound.to_string().as_bytes());
    files.put("wasm", paddock_guests::ALLOWED_IMAGES);
    files.until("in force", |p| p["digest"].is_string()).await;
    let container = json!([{ "name": "agent", "image": "ghcr.io/a/b:1" }]);
    let spec = json!({ "podTemplate": { "spec": { "containers": container } } });
    let small = sandbox("a", spec.clone());
    let mut large = small.clone();
    large["spec"]["podTemplate"]["metadata"] = json!({ "annotations": { "large": "\\\"".repeat(100_000) } });
    let stranger = stranger(&ns).await;
    for _ in 0..5 {
        let message = made_up(&stranger, &ns, &large).await;
        assert!(message.contains("plugin fuel"), "{message}");
    }
    let message = made_up(&stranger, &ns, &small).await;
    assert!(message.contains("plugin quarantined"), "{message}");

    ns.create(template("t", spec)).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    filled(&ns, &made, 1).await;
    let (_, shown) = http::get(setup().await.operator.debug, "/debug/bindings").await.expect("an answer");
    let bound: Vec<Value> = serde_json::from_str(&shown).expect("a list");
    let own = bound.iter().find(|b| b["plugin"] == "made-up").expect("its binding");
    assert_eq!(own["quarantinedUntil"], json!({}), "{own}");
    assert!(own["quarantinedForUnverifiedUntil"].get(&ns.namespace).is_some(), "{own}");
}
