//! Claims are served although the webhook is unavailable or a plugin of the webhook hangs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use paddock_cluster::{Cluster, Options, eventually};
use serde_json::{Value, json};

use super::{leads, replica};
use crate::e2e::burst::{ApiShape, Burst, Retry, Surplus};
use crate::e2e::json::{ready, text};
use crate::e2e::kinds::{Kind, POD, POOL, SANDBOX, SEED_POOL, SEED_TEMPLATE};
use crate::e2e::manifests::{marked, object, pod, sandbox};
use crate::e2e::namespace::TestNamespace;
use crate::e2e::operator::{NAMESPACE, Operator, Plan, admitting};
use crate::e2e::pool::filled;
use crate::e2e::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        claims_are_served_without_the_webhook,
        only_marked_pods_wait_while_all_replicas_are_down,
        hanging_plugin_delays_no_claim,
    ]
}

const MARKER: &str = "policy.paddock.dev/generated-code";
const ISOLATION: &str = "policy.paddock.dev/isolation";

/// A control plane for one test, because a missing webhook would disturb all other tests.
async fn scene() -> (Cluster, PathBuf) {
    control_plane(Options { nodes: 4, ..Options::default().with_isolation() }).await
}

/// The replica at the webhook's address dies in the middle of a burst, and the leader stays alive.
async fn claims_are_served_without_the_webhook() {
    let (cluster, account) = scene().await;
    let ns = TestNamespace::new(&cluster, "gone").await;
    let start = async |name, flags| Operator::start(&cluster, Plan { name, kubeconfig: &account, flags }).await;
    let of_both = || replica(&ns.namespace).into_iter();
    let acts = start("acts", of_both().chain(["--webhook-bind-address=0".to_owned()]).collect()).await;
    eventually("it leads", async || leads(&acts).await).await;
    let admits = start("admits", of_both().chain(admitting(&cluster)).collect()).await;
    assert!(!leads(&admits).await);
    let bare = |name: &str| marked(object(POD, name, pod()["spec"].clone()));
    // The replica is ready when it has registered the webhook. API servers receive the registration a little later.
    eventually("the webhook is asked", async || {
        let made = ns.create(bare("asked")).await;
        let asked = text(&made, "/spec/runtimeClassName") == "gvisor";
        ns.delete(POD, "asked").await;
        ns.until_gone(POD, "asked").await;
        asked
    })
    .await;

    let burst = Burst::prepare(&ns, ApiShape::Upstream, 20).await;
    let dies = async {
        burst.under_way().await;
        admits.process.kill().await.expect("it was alive");
    };
    burst.create_during(80, Retry::Never, dies).await;
    // The replica does not lead, so it must not make reservations.
    assert_eq!(burst.reserved(), 0, "a replica that does not lead made reservations");

    // A request whose webhook has the failure policy Fail is refused.
    let pool = ns.get(POOL, "p").await;
    let mut forged = sandbox("forged", json!({}));
    forged["metadata"]["ownerReferences"] = json!([{
        "apiVersion": POOL.0, "kind": POOL.1, "name": "p", "uid": pool["metadata"]["uid"], "controller": true,
    }]);
    for closed in [bare("unasked"), forged] {
        match ns.try_create(&closed).await {
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 500, "{status:?}"),
            other => panic!("admitted, though nobody was asked: {other:?}"),
        }
    }
    burst.settle(80, Surplus::Never).await;
    // A request whose webhook has the failure policy Ignore is admitted, and the reconcile asks the plugins itself. The
    // pod of generated code waits, because nobody validates it.
    ns.create(sandbox("plain", json!({}))).await;
    ns.create(marked(sandbox("generated", json!({})))).await;
    ns.until(SANDBOX, "plain", "Ready", ready).await;
    ns.until(SANDBOX, "generated", "waits", |s| s["status"]["isolation"]["generatedCode"] == true && !ready(s)).await;
    assert_eq!(ns.find(POD, "generated").await, None);
    let began = Instant::now();
    admits.process.restart().await.expect("it starts again");
    ns.until(SANDBOX, "generated", "Ready", ready).await;
    println!("the pod of generated code followed {:?} after the restart of the webhook", began.elapsed());
    let isolated = ns.get(POD, "generated").await;
    assert_eq!(text(&isolated, "/spec/runtimeClassName"), "gvisor");
}

/// A Deployment with one pod, which the namespace of the operator admits: it enforces the PodSecurity profile
/// `restricted`.
fn deployment(name: &str, labels: &Value) -> Value {
    let mut labels = labels.clone();
    labels["app"] = name.into();
    let mut template = pod();
    template["metadata"] = json!({ "labels": labels });
    template["spec"]["securityContext"] =
        json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    template["spec"]["containers"][0]["securityContext"] =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": name } }, "template": template },
    })
}

/// The whole operator is away, as during an outage or its first installation.
async fn only_marked_pods_wait_while_all_replicas_are_down() {
    const DEPLOYMENT: Kind = Kind("apps/v1", "Deployment", "deployments");
    let (cluster, account) = scene().await;
    let ns = TestNamespace::new(&cluster, "down").await;
    let isolated = TestNamespace::labelled(&cluster, "walled", json!({ ISOLATION: "required" })).await;
    let operator =
        Operator::start(&cluster, Plan { name: "all", kubeconfig: &account, flags: admitting(&cluster) }).await;
    let bare = |name: &str| object(POD, name, pod()["spec"].clone());
    eventually("the webhook is asked", async || {
        let would_be = ns.dry_run(&marked(bare("asked"))).await;
        would_be.is_ok_and(|made| text(&made, "/spec/runtimeClassName") == "gvisor")
    })
    .await;
    ns.create(marked(bare("running"))).await;
    ns.until(POD, "running", "runs", |p| text(p, "/status/phase") == "Running").await;
    operator.process.kill().await.expect("it was alive");

    let apply = async |ns: &TestNamespace, object: Value| {
        ns.kubectl(&["apply", "-f", "-"], Some(&object.to_string())).await.expect("admitted");
    };
    apply(&ns, deployment("plain", &json!({}))).await;
    apply(&ns, deployment("marked", &json!({ MARKER: "true" }))).await;
    apply(&isolated, deployment("walled", &json!({}))).await;
    // The Deployment of the operator itself starts, which ends the outage.
    let own = TestNamespace::existing(&cluster, NAMESPACE);
    apply(&own, deployment("operator", &json!({}))).await;
    let has_pod = |d: &Value| d["status"]["readyReplicas"] == 1;
    ns.until(DEPLOYMENT, "plain", "Ready", has_pod).await;
    own.until(DEPLOYMENT, "operator", "Ready", has_pod).await;
    // Objects of the four kinds are admitted, and a marked Pod that runs goes on: its node reports its status, and
    // it can be deleted.
    ns.create(sandbox("later", json!({}))).await;
    ns.merge_status(POD, "running", json!({ "status": { "message": "written by its node" } })).await;
    ns.delete(POD, "running").await;
    ns.until_gone(POD, "running").await;
    let waits = |d: &Value| {
        let conditions = d["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")
    };
    for (ns, name) in [(&ns, "marked"), (&isolated, "walled")] {
        ns.until(DEPLOYMENT, name, "its pod is refused", waits).await;
    }
    // The namespace of the operator cannot be closed while nobody can say why it must not be.
    let label = format!("{ISOLATION}=required");
    let output = own.kubectl_output(&["label", "namespace", NAMESPACE, &label], None).await;
    assert!(output.contains("failed calling webhook"), "{output}");

    operator.process.restart().await.expect("it starts again");
    for (ns, name) in [(&ns, "marked"), (&isolated, "walled")] {
        ns.until(DEPLOYMENT, name, "its pod is there", has_pod).await;
        let pods = ns.list(POD).await;
        let made = pods.values().find(|p| p["metadata"]["labels"]["app"] == name).expect("a pod");
        assert_eq!(text(made, "/spec/runtimeClassName"), "gvisor", "{name}");
    }
    ns.until(SANDBOX, "later", "Ready", ready).await;
}

/// The plugin is asked for every claim and for the size of the pool, and never answers.
async fn hanging_plugin_delays_no_claim() {
    const DEADLINE: &str = "100ms";
    let (cluster, account) = scene().await;
    let ns = TestNamespace::new(&cluster, "hangs").await;
    // A pool with a range asks for its size. A pool of a fixed size does not.
    let beside = TestNamespace::new(&cluster, "hangs-too").await;
    let plugins = cluster.dir().join("plugins");
    std::fs::create_dir(&plugins).expect("a directory");
    let bound = json!({
        "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "In", "values": [ns.namespace, beside.namespace] },
        ] },
        "hooks": ["pool-size", "admission"],
        "settings": { "mode": "spin" },
        "failurePolicy": "Ignore",
        // More fuel than the call can use before its deadline, so that the deadline stops it.
        "limits": { "fuel": 5_000_000_000_u64, "deadline": DEADLINE },
    });
    std::fs::write(plugins.join("hangs.yaml"), bound.to_string()).expect("a file");
    std::fs::write(plugins.join("hangs.wasm"), paddock_guests::MISBEHAVE).expect("a file");
    let mut flags = admitting(&cluster);
    flags.extend([format!("--plugin-dir={}", plugins.display()), "--leader-elect=false".to_owned()]);
    let operator = Operator::start(&cluster, Plan { name: "hangs", kubeconfig: &account, flags }).await;
    let began = Instant::now();
    beside.create(object(SEED_TEMPLATE, "t", json!({ "template": pod() }))).await;
    // The webhook asks twice: in the mutating and in the validating review.
    let review = began.elapsed();
    assert!(review > Duration::from_millis(100), "nobody was asked: {review:?}");
    let roomy = json!({ "templateRef": { "name": "t" }, "minReady": 1, "maxReady": 6 });
    let roomy = beside.create(object(SEED_POOL, "roomy", roomy)).await;
    let burst = Burst::prepare(&ns, ApiShape::Upstream, 20).await;
    burst.create(80).await;
    burst.settle(80, Surplus::Never).await;
    filled(&beside, &roomy, 1).await;
    let took = began.elapsed();

    let metrics = operator.metrics().await;
    let sum = |family: &str, with: &str| -> u64 {
        let of_it = |line: &&str| line.starts_with(family) && line.contains("plugin=\"hangs\"") && line.contains(with);
        let count = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        metrics.lines().filter(of_it).filter_map(count).sum()
    };
    let calls = sum("paddock_plugin_duration_seconds_count", "");
    let failed =
        |why: &str, hook: &str| sum("paddock_plugin_failures_total", &format!("failure=\"{why}\",hook=\"{hook}\""));
    // Reviews may have put the hook `admission` into quarantine before a reconcile asked it.
    let stopped = failed("deadline", "pool-size");
    let left_alone = failed("quarantined", "admission");
    println!(
        "80 claims in {took:?} beside a plugin that hangs: {calls} questions, stopped {stopped} times, left alone \
         {left_alone} times; the first review took {review:?}"
    );
    assert!(stopped > 0 && left_alone > 0, "{metrics}");
    // The plugin never answers: its deadline stops each call that the quarantine lets through. How long a call takes is
    // not compared, because a busy machine stops it late. The fuel lasts longer than the deadline.
    let by_deadline_or_quarantine = ["deadline", "quarantined"]
        .map(|why| sum("paddock_plugin_failures_total", &format!("failure=\"{why}\"")))
        .iter()
        .sum::<u64>();
    assert_eq!(by_deadline_or_quarantine, calls, "{metrics}");
    assert_eq!(sum("paddock_plugin_failures_total", "failure=\"fuel\""), 0, "{metrics}");
    assert!(sum("paddock_plugin_duration_seconds_bucket", "le=\"1\"") > 0, "{metrics}");
    // The calls that began used fuel and memory, and their component was compiled.
    for family in [
        "paddock_plugin_fuel_units_count",
        "paddock_plugin_instantiate_duration_seconds_count",
        "paddock_plugin_queue_duration_seconds_count",
        "paddock_plugin_memory_high_water_bytes",
        "paddock_plugin_compile_duration_seconds_count",
    ] {
        assert!(sum(family, "") > 0, "{family} is absent or 0 in:\n{metrics}");
    }
}
