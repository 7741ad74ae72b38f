//! The gateway with the rights of its ServiceAccount alone: it wakes Sandboxes, records activity, and can change nothing
//! else.

use std::time::{Duration, Instant};

use futures::future::join_all;
use http::Method;
use paddock_cluster::eventually;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::gateway::{Agent, Gateway, give_address, on_demand};
use super::idle::fall_asleep;
use super::json::{annotation, ready, reason, suspended, text};
use super::kinds::{EVENT, POD, SANDBOX, SECRET};
use super::manifests::{object, sandbox};
use super::namespace::TestNamespace;
use super::operator::NAMESPACE;
use super::rights::Table;
use super::setup::{namespace, setup};
use super::unusable::nodes_of_its_own;
use super::writes;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        fifty_requests_wake_an_idle_sandbox_by_one_write,
        busy_sandbox_is_recorded_as_rarely_as_allowed_and_stays_awake,
        credential_of_the_gateway_wakes_and_marks_sandboxes_alone,
        drained_sandbox_is_suspended_and_woken_on_another_node,
    ]
}

/// The name of the gateway's ServiceAccount.
const ACCOUNT: &str = "sandbox-router";
const RECORD: &str = "policy.paddock.dev/last-activity";
const SUSPENDED_BY: &str = "policy.paddock.dev/suspended-by";

/// The gateway that admits everybody.
pub(super) async fn open() -> &'static Gateway {
    static GATEWAY: OnceCell<Gateway> = OnceCell::const_new();
    let start = || async {
        let account = setup().await.cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.expect("a token");
        Gateway::start("gateway-by-its-rights", &account, &["--allow-unauthenticated"]).await
    };
    GATEWAY.get_or_init(start).await
}

/// The writes of the gateway to a Sandbox that were stored, by field manager.
async fn stored(ns: &TestNamespace, name: &str, manager: &str) -> usize {
    let manager = format!("fieldManager={manager}");
    let by_gateway = format!("{NAMESPACE}:{ACCOUNT}");
    let lines = writes::audit(&ns.namespace, |line| {
        line.user() == by_gateway
            && line.what() == "patch sandboxes"
            && text(&line.0, "/objectRef/name") == name
            && text(&line.0, "/requestURI").contains(&manager)
            && line.0["responseStatus"]["code"] == 200
    });
    lines.await.len()
}

async fn fifty_requests_wake_an_idle_sandbox_by_one_write() {
    let ns = namespace("wake").await;
    ns.create(on_demand("a")).await;
    ns.until(SANDBOX, "a", "Ready", ready).await;
    let asleep = fall_asleep(&ns, "a").await;
    assert_eq!((text(&asleep, "/status/suspendedBy"), annotation(&asleep, SUSPENDED_BY)), ("Idle", "Idle"));
    let (gateway, agent) = (open().await, Agent::start().await);
    let requests = join_all((0..50).map(|_| gateway.hello(&ns, "a", &agent)));
    tokio::join!(requests, give_address(&ns, "a"));
    eventually("the audit log has the write", async || stored(&ns, "a", "paddock-gateway").await == 1).await;
    let awake = ns.get(SANDBOX, "a").await;
    assert_eq!((text(&awake, "/spec/operatingMode"), &awake["spec"]["replicas"]), ("Running", &json!(1)));
    assert_eq!(annotation(&awake, SUSPENDED_BY), "");
    assert_ne!(annotation(&awake, RECORD), "");
    ns.until(SANDBOX, "a", "suspended by nobody", |s| s["status"]["suspendedBy"].is_null()).await;
    // It is suspended and woken again and again.
    fall_asleep(&ns, "a").await;
    tokio::join!(gateway.hello(&ns, "a", &agent), give_address(&ns, "a"));
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("paddock_gateway_wakes_total{result=\"woken\"}"), "{metrics}");
}

async fn busy_sandbox_is_recorded_as_rarely_as_allowed_and_stays_awake() {
    const TIMEOUT: Duration = Duration::from_secs(12);
    /// The step of a record: five seconds, which is more than a tenth of the timeout.
    const STEP: i64 = 5;
    let ns = namespace("wake-busy").await;
    ns.create(on_demand("a")).await;
    ns.until(SANDBOX, "a", "Ready", ready).await;
    give_address(&ns, "a").await;
    let (gateway, agent) = (open().await, Agent::start().await);
    gateway.hello(&ns, "a", &agent).await;
    ns.merge(SANDBOX, "a", json!({ "spec": { "idleTimeout": "12s" } })).await;
    let began = Instant::now();
    let mut records: Vec<jiff::Timestamp> = Vec::new();
    while began.elapsed() < TIMEOUT * 2 {
        gateway.hello(&ns, "a", &agent).await;
        let now = ns.get(SANDBOX, "a").await;
        assert_eq!(text(&now, "/spec/operatingMode"), "Running", "after {:?}", began.elapsed());
        let recorded = annotation(&now, RECORD).parse().ok();
        records.extend(recorded.filter(|at| records.last() != Some(at)));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let steps: Vec<i64> = records.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis() as i64).collect();
    assert!(steps.len() >= 2 && steps.iter().all(|step| *step >= STEP * 1000), "{steps:?}");
    // Nobody uses it any more.
    ns.until(SANDBOX, "a", "suspended", suspended).await;
}

async fn credential_of_the_gateway_wakes_and_marks_sandboxes_alone() {
    let ns = namespace("wake-credential").await;
    let setup = setup().await;
    let account = setup.cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.expect("a token");
    let gateway = ns.seen_by(&account).await;
    let suspend = json!({ "operatingMode": "Suspended", "replicas": 0 });
    for (name, policy, by) in [
        ("idle", "OnDemand", "Idle"),
        ("drained", "OnDemand", "Drain"),
        ("user", "OnDemand", "User"),
        ("manual", "Manual", "Idle"),
    ] {
        let mut made = sandbox(name, suspend.clone());
        made["spec"]["resumePolicy"] = policy.into();
        made["metadata"]["annotations"] = json!({ SUSPENDED_BY: by, "a": "b" });
        ns.create(made).await;
    }
    ns.create(sandbox("awake", json!({ "resumePolicy": "OnDemand" }))).await;
    let mut expired = sandbox("expired", suspend.clone());
    super::manifests::merge(
        &mut expired,
        &json!({
            "metadata": { "annotations": { SUSPENDED_BY: "Idle" } },
            "spec": {
                "resumePolicy": "OnDemand", "shutdownTime": "2026-01-01T00:00:00Z", "shutdownPolicy": "Retain",
            },
        }),
    );
    ns.create(expired).await;
    ns.until(SANDBOX, "expired", "expired", |s| reason(s, "Ready") == "SandboxExpired").await;
    let wake = |more: Value| {
        let mut patch = json!({
            "metadata": { "annotations": { SUSPENDED_BY: null, RECORD: "2026-01-01T00:00:00Z" } },
            "spec": { "operatingMode": "Running", "replicas": 1 },
        });
        super::manifests::merge(&mut patch, &more);
        patch
    };
    let annotated = |key: &str, value: Value| json!({ "metadata": { "annotations": { key: value } } });
    let (mode, resumes, notes) = ("may change only the mode", "may only resume", "may change only the annotations");
    let mut table = Table::default();
    let mut row = |what, name, patch, refused| table.patch(what, &ns, (SANDBOX, name, patch), refused);
    row("wakes what the idle policy suspended", "idle", wake(json!({})), None);
    row("wakes what a drain suspended", "drained", wake(json!({})), None);
    row("records activity", "awake", annotated(RECORD, json!("2026-01-01T00:00:00Z")), None);
    let (until, since) = ("policy.paddock.dev/keep-awake-until", "policy.paddock.dev/idle-since");
    let in_an_hour = json!((jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string());
    row("keeps it running as it asked", "awake", annotated(until, in_an_hour), None);
    row("says that it is idle as it asked", "awake", annotated(since, json!("2026-01-01T00:00:00Z")), None);
    row("wakes what a user suspended", "user", wake(json!({})), Some(resumes));
    row("wakes an expired Sandbox", "expired", wake(json!({})), Some(resumes));
    row("wakes a manual Sandbox", "manual", wake(json!({})), Some(resumes));
    row("suspends", "awake", json!({ "spec": suspend }), Some(resumes));
    row(
        "runs another image",
        "idle",
        wake(json!({ "spec": { "podTemplate": {
        "spec": { "containers": [{ "name": "agent", "image": "evil" }] },
    } } })),
        Some(mode),
    );
    row("keeps it awake for ever", "awake", json!({ "spec": { "idleTimeout": "9999h" } }), Some(mode));
    row("lets it end", "awake", json!({ "spec": { "shutdownTime": "2026-01-01T00:00:00Z" } }), Some(mode));
    row("adds a label", "awake", json!({ "metadata": { "labels": { "a": "b" } } }), Some(notes));
    row("adds a finalizer", "awake", json!({ "metadata": { "finalizers": ["a.b/c"] } }), Some(notes));
    row("adds an annotation", "awake", annotated("c", json!("d")), Some(notes));
    row("changes an annotation", "idle", annotated("a", json!("c")), Some(notes));
    row("removes an annotation", "idle", annotated("a", Value::Null), Some(notes));
    row("claims that a drain suspended it", "user", annotated(SUSPENDED_BY, json!("Drain")), Some("may only remove"));
    table.check(&gateway).await;
    let refused = |done: kube::Result<Value>| matches!(done, Err(kube::Error::Api(status)) if status.code == 403);
    assert!(refused(gateway.try_create(&sandbox("new", json!({}))).await));
    assert!(refused(gateway.read(&SECRET.path(&ns.namespace)).await));
    assert!(refused(
        gateway.try_create(&object(POD, "new", json!({ "containers": [{ "name": "c", "image": "i" }] }))).await
    ));
    let request = http::Request::builder()
        .method(Method::DELETE)
        .uri(format!("{}/idle", SANDBOX.path(&ns.namespace)))
        .body(Vec::new())
        .expect("a request");
    assert!(refused(gateway.client.request(request).await));
}

async fn drained_sandbox_is_suspended_and_woken_on_another_node() {
    let ns = namespace("wake-drain").await;
    let (pod, nodes) = nodes_of_its_own(&ns).await;
    let manual = sandbox("manual", json!({ "drainPolicy": "Suspend" }));
    let denied = ns.try_create(&manual).await.unwrap_err().to_string();
    assert!(denied.contains("spec.drainPolicy") && denied.contains("OnDemand"), "{denied}");
    let mut made = on_demand("a");
    super::manifests::merge(&mut made["spec"], &pod);
    made["spec"]["drainPolicy"] = "Suspend".into();
    ns.create(made).await;
    let node = text(&ns.until(SANDBOX, "a", "Ready", ready).await, "/status/nodeName").to_owned();
    assert!(nodes.contains(&node), "{node}");
    // The cordon alone suspends it. No pod is evicted.
    ns.kubectl(&["cordon", &node], None).await.expect("cordoned");
    let drained = |s: &Value| suspended(s) && text(s, "/status/suspendedBy") == "Drain";
    ns.until(SANDBOX, "a", "suspended by the drain", drained).await;
    let told = |e: &Value| text(e, "/reason") == "DrainSuspended";
    ns.until_all(EVENT, "an Event reports the drain", |all| all.values().any(told)).await;
    let (gateway, agent) = (open().await, Agent::start().await);
    tokio::join!(gateway.hello(&ns, "a", &agent), give_address(&ns, "a"));
    let woken = ns.until(SANDBOX, "a", "Ready again", ready).await;
    let other = text(&woken, "/status/nodeName").to_owned();
    assert!(nodes.contains(&other) && other != node, "{node} and then {other}");
    // A whole drain, whose evictions begin at once after its cordon. Either of the two may be first. The finalizer takes
    // the place of a container that needs time to stop.
    ns.kubectl(&["uncordon", &node], None).await.expect("uncordoned");
    let stopping = |by: Value| json!({ "metadata": { "finalizers": by } });
    ns.merge(POD, "a", stopping(json!(["example.com/stopping"]))).await;
    let arguments = ["drain", &other, "--timeout=300s"];
    let stops = async {
        let recorded = |s: &Value| text(s, "/status/suspendedBy") == "Drain";
        ns.until(SANDBOX, "a", "to be suspended by the drain", recorded).await;
        ns.merge(POD, "a", stopping(Value::Null)).await;
    };
    let (drain, ()) = tokio::join!(ns.kubectl(&arguments, None), stops);
    drain.expect("drained");
    ns.until(SANDBOX, "a", "suspended by the drain again", drained).await;
    tokio::join!(gateway.hello(&ns, "a", &agent), give_address(&ns, "a"));
    let back = ns.until(SANDBOX, "a", "Ready on the first node", ready).await;
    assert_eq!(text(&back, "/status/nodeName"), node);
    ns.delete(SANDBOX, "a").await;
    ns.until_gone(POD, "a").await;
    ns.kubectl(&["delete", "node", &nodes[0], &nodes[1]], None).await.expect("deleted");
}
