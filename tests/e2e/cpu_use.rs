//! The CPU use of pods on a real API server. No metrics-server runs here: a CustomResourceDefinition serves the objects of
//! the resource metrics API that the test writes.

use kube::api::{Patch, PatchParams};
use paddock_cluster::{PATIENCE, eventually, eventually_some};
use serde_json::{Value, json};

use super::http;
use super::json::{ready, suspended, text};
use super::kinds::{Kind, SANDBOX};
use super::manifests::sandbox;
use super::namespace::TestNamespace;
use super::plugins::{Files, idle_timeout};
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![busy_sandbox_runs_until_its_cpu_use_falls]
}

const POD_METRICS: Kind = Kind("metrics.k8s.io/v1beta1", "PodMetrics", "pods");
const DEFINITION: &str = "pods.metrics.k8s.io";

/// The samples of a namespace.
struct Samples<'a>(&'a TestNamespace);

impl Samples<'_> {
    /// Writes a sample that ends now, for a pod with two containers.
    async fn write(&self, pod: &str, millicores: u32) {
        let container = |name: &str, cpu: String| json!({ "name": name, "usage": { "cpu": cpu, "memory": "1Mi" } });
        let object = json!({
            "apiVersion": POD_METRICS.0, "kind": POD_METRICS.1,
            // The labels are those of the pod.
            "metadata": { "name": pod, "labels": { "agents.x-k8s.io/sandbox-name-hash": "0" } },
            "timestamp": jiff::Timestamp::now(), "window": "1s",
            "containers": [container("agent", format!("{}n", (millicores - 1) * 1_000_000)), container("proxy", "1m".into())],
        });
        let params = PatchParams::apply("test").force();
        eventually_some("the sample is stored", async || {
            self.0.api(POD_METRICS).patch(pod, &params, &Patch::Apply(&object)).await
        })
        .await;
    }

    /// What the operator knows about a Sandbox: the debug page.
    async fn page(&self, name: &str) -> Value {
        let path = format!("/debug/seen/Sandbox/{}/{name}", self.0.namespace);
        let (_, page) = http::get(setup().await.operator.debug, &path).await.expect("an answer");
        serde_json::from_str(&page).expect("JSON")
    }

    /// Writes a sample, and waits until the operator has it.
    async fn known(&self, name: &str, millicores: u32) {
        self.write(name, millicores).await;
        eventually_some(&format!("{name} uses {millicores}m"), async || {
            let page = self.page(name).await;
            let known = page.pointer("/seen/Sandbox/cpu/sample/millicores") == Some(&json!(millicores));
            if known { Ok(()) } else { Err(page["seen"]["Sandbox"]["cpu"].to_string()) }
        })
        .await;
    }
}

async fn verbose() -> String {
    http::get(setup().await.operator.health, "/readyz?verbose").await.expect("an answer").1
}

async fn busy_sandbox_runs_until_its_cpu_use_falls() {
    let ns = namespace("cpu-use").await;
    let kubectl = setup().await.cluster.kubectl();
    let plugin = Files::of("by-cpu").await;
    plugin.put("wasm", idle_timeout());
    plugin.bind_hook(&ns, "idle", json!({ "cpuMillicores": 100 }));
    plugin.until("in force", |plugin| plugin["digest"].is_string()).await;

    // Without the API, the plugin decides as before, and the operator says what is missing.
    for name in ["busy", "quiet"] {
        ns.create(sandbox(name, json!({ "idleTimeout": "1h" }))).await;
        ns.until(SANDBOX, name, "Ready", ready).await;
    }
    ns.create(sandbox("without", json!({ "idleTimeout": "2s" }))).await;
    ns.until(SANDBOX, "without", "suspended", suspended).await;
    let missing = "CPU use: idle plugins do not get it: the API server does not serve pods.metrics.k8s.io";
    eventually("the operator reports that the API is absent", async || verbose().await.contains(missing)).await;
    let metrics = setup().await.operator.metrics().await;
    let absent = metrics.lines().find_map(|l| l.strip_prefix("paddock_cpu_use_lists_total{result=\"absent\"} "));
    assert!(absent.is_some_and(|count| count != "0"), "{metrics}");

    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": DEFINITION, "annotations": { "api-approved.kubernetes.io": "unapproved, test" } },
        "spec": {
            "group": "metrics.k8s.io", "scope": "Namespaced",
            "names": { "plural": "pods", "kind": "PodMetrics" },
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    });
    kubectl.run(&["create", "-f", "-"], Some(&definition.to_string())).await.expect("the definition is accepted");
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    let established = ["wait", "--for=condition=Established", &timeout, "crd", DEFINITION];
    kubectl.run(&established, None).await.expect("the definition is established");

    let samples = Samples(&ns);
    samples.known("busy", 250).await;
    eventually("the operator reports no fault", async || !verbose().await.contains("CPU use")).await;
    ns.merge(SANDBOX, "busy", json!({ "spec": { "idleTimeout": "3s" } })).await;
    let kept = |s: &Value| text(s, "/status/idle/reason").contains("uses 250 thousandths of a core, busy from 100 on");
    let running = ns.until(SANDBOX, "busy", "is kept running by its CPU use", kept).await;
    assert_eq!((text(&running, "/status/idle/tier"), ready(&running)), ("Awake", true));

    // Samples alone reconcile nothing. Other tests may change plugins meanwhile, which reconciles every Sandbox.
    let mut undisturbed = false;
    for round in 0..10 {
        let before = samples.page("quiet").await["last"]["at"].clone();
        for used in 1..5 {
            samples.known("quiet", 10 * round + used).await;
        }
        samples.write("busy", 250).await;
        undisturbed = before.is_string() && samples.page("quiet").await["last"]["at"] == before;
        if undisturbed {
            break;
        }
    }
    assert!(undisturbed, "each round of samples reconciled the Sandbox: {}", samples.page("quiet").await["last"]);
    let running = ns.get(SANDBOX, "busy").await;
    assert_eq!(text(&running, "/spec/operatingMode"), "Running", "several timeouts have passed");

    samples.write("busy", 20).await;
    ns.until(SANDBOX, "busy", "suspended when its CPU use fell", suspended).await;
    kubectl.run(&["delete", "crd", DEFINITION], None).await.expect("it is deleted");
}
