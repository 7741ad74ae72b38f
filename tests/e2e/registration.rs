//! The registration of the webhook: what strangers change is restored where it is the operator's, and shown elsewhere.

use std::path::PathBuf;

use paddock_cluster::{Cluster, Options, Signal, eventually, eventually_some};
use serde_json::{Value, json};

use super::kinds::{EVENT, Kind};
use super::namespace::TestNamespace;
use super::operator::{NAMESPACE, Operator, Plan, rights_with};
use super::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![a_strangers_change_of_any_field_of_an_entry_is_restored, entries_of_manifests_are_shown_and_left_alone,]
}

const CONFIGURATIONS: [Kind; 2] = [
    Kind("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    Kind("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
];
const NAME: &str = "paddock-webhook";

/// A control plane for one test, because an operator of its own registers the webhook.
struct Scene {
    cluster: Cluster,
    account: PathBuf,
    client: kube::Client,
}

impl Scene {
    async fn start() -> Self {
        let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }).await;
        Self { account, client: cluster.client(), cluster }
    }

    async fn operator(&self, name: &str, flags: &[&str]) -> Operator {
        let address = format!("127.0.0.1:{}", self.cluster.port().expect("a free port"));
        let mut flags: Vec<String> = flags.iter().map(|flag| flag.replace("ADDRESS", &address)).collect();
        flags.push(format!("--webhook-bind-address={address}"));
        flags.push(format!("--webhook-service-namespace={NAMESPACE}"));
        Operator::start(&self.cluster, Plan { name, kubeconfig: &self.account, flags }).await
    }

    async fn stored(&self, kind: Kind) -> Option<Value> {
        let api = kube::Api::<kube::core::DynamicObject>::all_with(self.client.clone(), &kind.resource());
        api.get_opt(NAME).await.expect("an answer").map(|found| json!(found))
    }

    /// The entries of both configurations.
    async fn entries(&self) -> Vec<Vec<Value>> {
        let mut all = Vec::new();
        for kind in CONFIGURATIONS {
            let found = self.stored(kind).await.unwrap_or_default();
            all.push(found["webhooks"].as_array().cloned().unwrap_or_default());
        }
        all
    }

    async fn patch(&self, kind: Kind, change: &Value) {
        let api = kube::Api::<kube::core::DynamicObject>::all_with(self.client.clone(), &kind.resource());
        api.patch(NAME, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(change)).await.expect("a change");
    }

    /// The notes of the Events with this reason.
    async fn notes(&self, reason: &str) -> Vec<String> {
        let events = TestNamespace::existing(&self.cluster, "default").list(EVENT).await;
        let of = events.values().filter(|e| e["reason"] == reason && e["type"] == "Warning");
        of.map(|e| e["note"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// The value of the metric for each entry that is not registered.
async fn unregistered(operator: &Operator) -> Vec<String> {
    let metrics = operator.metrics().await;
    let lines = metrics.lines().filter(|l| l.starts_with("paddock_webhook_registered{") && l.ends_with(" 0"));
    lines.map(str::to_owned).collect()
}

async fn verbose(operator: &Operator) -> String {
    super::http::get(operator.health, "/readyz?verbose").await.expect("an answer").1
}

/// One change for each field that an entry has.
fn changes() -> Vec<fn(&mut Value)> {
    vec![
        |entry| entry["failurePolicy"] = if entry["failurePolicy"] == "Fail" { "Ignore" } else { "Fail" }.into(),
        |entry| entry["timeoutSeconds"] = 1.into(),
        |entry| entry["matchPolicy"] = "Exact".into(),
        |entry| entry["sideEffects"] = if entry["sideEffects"] == "None" { "NoneOnDryRun" } else { "None" }.into(),
        |entry| entry["rules"][0]["operations"] = json!(["DELETE"]),
        |entry| entry["rules"][0]["scope"] = "*".into(),
        |entry| entry["namespaceSelector"] = json!({ "matchLabels": { "nobody": "has" } }),
        |entry| entry["namespaceSelector"]["matchLabels"] = json!({ "nobody": "has" }),
        |entry| entry["objectSelector"]["matchLabels"] = json!({ "nobody": "has" }),
        |entry| entry["matchConditions"] = json!([{ "name": "never", "expression": "false" }]),
        |entry| {
            let mut conditions = entry["matchConditions"].as_array().cloned().unwrap_or_default();
            conditions.push(json!({ "name": "never", "expression": "false" }));
            entry["matchConditions"] = conditions.into();
        },
        |entry| entry["clientConfig"]["caBundle"] = Value::Null,
        |entry| entry["clientConfig"]["url"] = "https://127.0.0.1:1/nobody".into(),
        |entry| entry["admissionReviewVersions"] = json!(["v1", "v1beta1"]),
        // Only mutating entries have this field. The API server ignores it elsewhere.
        |entry| entry["reinvocationPolicy"] = "Never".into(),
    ]
}

async fn a_strangers_change_of_any_field_of_an_entry_is_restored() {
    let scene = Scene::start().await;
    let operator = scene.operator("operator", &["--webhook-url=https://ADDRESS"]).await;
    let registered = scene.entries().await;
    assert_eq!((registered[0].len(), registered[1].len()), (3, 7), "a replica is ready after it has registered");
    assert!(unregistered(&operator).await.is_empty());
    // A stranger's own entry beside ours stays.
    let stranger = json!({
        "name": "stranger.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Ignore", "clientConfig": { "url": "https://127.0.0.1:1/stranger" },
        "rules": [{ "apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["a"] }],
    });
    // Every entry is changed in each round, so that each of them gets every change.
    for round in 0..changes().len() {
        for (kind, entries) in CONFIGURATIONS.iter().zip(&registered) {
            let mut changed = entries.clone();
            for (index, entry) in changed.iter_mut().enumerate() {
                changes()[(round + index * 2) % changes().len()](entry);
            }
            if round % 5 == 4 {
                changed.pop();
            }
            changed.push(stranger.clone());
            scene.patch(*kind, &json!({ "webhooks": changed })).await;
        }
        let ours = eventually_some("every entry is restored", async || {
            let now = scene.entries().await;
            let strangers = |entry: &&Value| entry["name"] == stranger["name"];
            let kept = now.iter().all(|entries| entries.iter().filter(strangers).count() == 1);
            let ours: Vec<Vec<Value>> = now
                .into_iter()
                .map(|entries| entries.into_iter().filter(|entry| !strangers(&entry)).collect())
                .collect();
            if ours == registered && kept { Ok(ours) } else { Err(format!("round {round}: {ours:#?}")) }
        });
        ours.await;
    }
    let notes = scene.notes("WebhookRestored").await;
    assert!(
        notes.iter().any(|note| note.contains("generated-code.pods.paddock.dev") && note.contains("failurePolicy")),
        "{notes:?}"
    );

    // Both configurations are deleted.
    for kind in CONFIGURATIONS {
        let api = kube::Api::<kube::core::DynamicObject>::all_with(scene.client.clone(), &kind.resource());
        api.delete(NAME, &kube::api::DeleteParams::default()).await.expect("deleted");
    }
    eventually("both are created again", async || scene.entries().await == registered).await;
    eventually("the metrics follow", async || unregistered(&operator).await.is_empty()).await;
    assert_eq!(verbose(&operator).await, "ok\n");

    // A configuration of the operator in another namespace is left alone, and shown.
    let namespace = TestNamespace::new(&scene.cluster, "another").await;
    let found = namespace.read(&format!("/api/v1/namespaces/{}", namespace.namespace)).await.expect("a namespace");
    let owner = json!([{
        "apiVersion": "v1", "kind": "Namespace", "name": namespace.namespace, "uid": found["metadata"]["uid"],
    }]);
    let change = json!({ "metadata": { "ownerReferences": owner }, "webhooks": [stranger] });
    scene.patch(CONFIGURATIONS[1], &change).await;
    eventually("its entries are shown", async || {
        verbose(&operator).await.contains(&format!("belongs to the operator in namespace {}", namespace.namespace))
    })
    .await;
    assert_eq!(unregistered(&operator).await.len(), 7);
    operator.process.signal(Signal::Terminate).await.expect("a signal");
    eventually("the operator ends", async || !operator.process.running()).await;
    assert!(scene.stored(CONFIGURATIONS[0]).await.is_none(), "its own configuration ends with it");
    let left = scene.stored(CONFIGURATIONS[1]).await.expect("the other one's stays");
    assert_eq!(left["webhooks"].as_array().map(Vec::len), Some(1));
}

/// The entries of `deploy/`, to which the operator adds the CA bundle.
async fn entries_of_manifests_are_shown_and_left_alone() {
    let scene = Scene::start().await;
    // The rights and the policies of `deploy/`, where manifests contain the entries.
    rights_with(&scene.cluster, &[]).await;
    let flags = ["--webhook-registration=injected", "--deployment-name=agent-sandbox-controller"];
    let operator = scene.operator("operator", &flags).await;
    // It is ready although nobody has registered it, and says so.
    eventually("the missing entries are counted", async || unregistered(&operator).await.len() == 10).await;
    let told = verbose(&operator).await;
    let missing = "[-]webhook entry generated-code.pods.paddock.dev of MutatingWebhookConfiguration paddock-webhook does \
                   not exist\n";
    assert!(told.contains(missing) && told.ends_with("ok\n"), "{told}");
    eventually("Warning Events say so", async || scene.notes("WebhookNotRegistered").await.len() == 2).await;

    let apply = ["apply", "--server-side", "-f", root!("deploy/base/webhook.yaml")];
    scene.cluster.kubectl().run(&apply, None).await.expect("the manifest is accepted");
    eventually("every entry is registered", async || unregistered(&operator).await.is_empty()).await;
    assert_eq!(verbose(&operator).await, "ok\n");

    // A change is shown and stays. The CA bundle is the operator's, and is restored.
    let mut entries = scene.entries().await[1].clone();
    entries[0]["failurePolicy"] = "Ignore".into();
    entries[1]["clientConfig"]["caBundle"] = Value::Null;
    scene.patch(CONFIGURATIONS[1], &json!({ "webhooks": entries })).await;
    eventually("the change is counted", async || {
        unregistered(&operator).await == [r#"paddock_webhook_registered{entry="generated-code",phase="validate"} 0"#]
    })
    .await;
    let told = verbose(&operator).await;
    assert!(told.contains("differs from this version's in failurePolicy\n"), "{told}");
    let now = scene.entries().await[1].clone();
    assert_eq!(now[0]["failurePolicy"], "Ignore", "the entry belongs to the manifests");
    assert!(now[1]["clientConfig"]["caBundle"].is_string());
    eventually("an Event says so", async || {
        scene.notes("WebhookNotRegistered").await.iter().any(|note| note.contains("failurePolicy"))
    })
    .await;
}
