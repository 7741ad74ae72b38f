//! Idle Sandboxes on a real API server: they are suspended with their files, and activity keeps them running.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::json::{message, ready, reason, text, uid};
use super::kinds::{POD, SANDBOX, SERVICE, VOLUME_CLAIM};
use super::manifests::{pod_with_workspace, sandbox};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        an_idle_sandbox_is_suspended_with_its_volume_and_resumed,
        volume_that_would_be_lost_keeps_the_sandbox_awake,
        ephemeral_volumes_do_not_keep_the_sandbox_awake,
        heartbeat_keeps_the_sandbox_awake,
        endpoints_are_removed_before_the_pod,
    ]
}

fn asleep(sandbox: &Value) -> bool {
    text(sandbox, "/spec/operatingMode") == "Suspended" && reason(sandbox, "Suspended") == "PodTerminated"
}

async fn an_idle_sandbox_is_suspended_with_its_volume_and_resumed() {
    let ns = namespace("idle").await;
    // Long enough that a busy machine observes Ready before the Sandbox is idle again.
    let made = sandbox("dozes", json!({ "idleTimeout": "5s", "service": true, "podTemplate": pod_with_workspace() }));
    ns.create(made).await;
    ns.until(SANDBOX, "dozes", "Ready", ready).await;
    let volume = ns.get(VOLUME_CLAIM, "workspace-dozes").await;
    assert_eq!(text(&volume, "/spec/resources/requests/storage"), "2Gi");
    let service = ns.get(SERVICE, "dozes").await;
    let rests = ns.until(SANDBOX, "dozes", "asleep", asleep).await;
    assert_eq!(message(&rests, "Ready"), "Sandbox is suspended");
    assert_eq!(rests["spec"]["replicas"], 0);
    ns.until_gone(POD, "dozes").await;
    ns.merge(SANDBOX, "dozes", json!({ "spec": { "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, "dozes", "Ready again", ready).await;
    assert_eq!(uid(&ns.get(VOLUME_CLAIM, "workspace-dozes").await), uid(&volume));
    assert_eq!(uid(&ns.get(SERVICE, "dozes").await), uid(&service));
    // The cycle repeats.
    ns.until(SANDBOX, "dozes", "asleep again", asleep).await;
}

async fn volume_that_would_be_lost_keeps_the_sandbox_awake() {
    let ns = namespace("idle-refused").await;
    // The idle policy is added after the pod has got its emptyDir.
    ns.create(sandbox("late", json!({ "podTemplate": pod_with_workspace() }))).await;
    ns.until(SANDBOX, "late", "Ready", ready).await;
    ns.merge(SANDBOX, "late", json!({ "spec": { "idleTimeout": "1s" } })).await;
    // A volume in memory is never moved to a disk.
    let mut memory = pod_with_workspace();
    memory["spec"]["volumes"][0]["emptyDir"] = json!({ "medium": "Memory" });
    ns.create(sandbox("in-memory", json!({ "idleTimeout": "1s", "podTemplate": memory }))).await;
    for name in ["late", "in-memory"] {
        let refused = |s: &Value| text(s, "/status/idle/reason").contains("volume workspace is an emptyDir");
        let awake = ns.until(SANDBOX, name, "says why not", refused).await;
        assert_eq!((text(&awake, "/status/idle/tier"), ready(&awake)), ("Awake", true));
        assert!(ns.find(VOLUME_CLAIM, &format!("workspace-{name}")).await.is_none());
        // A suspend by the user works anyway.
        ns.merge(SANDBOX, name, json!({ "spec": { "operatingMode": "Suspended" } })).await;
        ns.until(SANDBOX, name, "asleep", asleep).await;
    }
}

async fn ephemeral_volumes_do_not_keep_the_sandbox_awake() {
    let ns = namespace("idle-ephemeral").await;
    let mut made = sandbox("scratch", json!({ "idleTimeout": "1s", "podTemplate": pod_with_workspace() }));
    made["metadata"]["annotations"] = json!({ "policy.paddock.dev/ephemeral-volumes": "true" });
    ns.create(made).await;
    ns.until(SANDBOX, "scratch", "asleep", asleep).await;
    assert!(ns.list(VOLUME_CLAIM).await.is_empty());
}

async fn heartbeat_keeps_the_sandbox_awake() {
    // A busy machine may miss some heartbeats. Up to nineteen in a row do no harm.
    const TIMEOUT: Duration = Duration::from_secs(10);
    let ns = namespace("idle-heartbeat").await;
    ns.create(sandbox("beats", json!({ "idleTimeout": "10s" }))).await;
    ns.until(SANDBOX, "beats", "Ready", ready).await;
    let pod = ns.get(POD, "beats").await;
    let began = Instant::now();
    while began.elapsed() < TIMEOUT + TIMEOUT / 4 {
        let now = jiff::Timestamp::now().to_string();
        let beat = json!({ "metadata": { "annotations": { "policy.paddock.dev/last-activity": now } } });
        let after = ns.merge(SANDBOX, "beats", beat).await;
        assert_eq!(text(&after, "/spec/operatingMode"), "Running", "after {:?}", began.elapsed());
        tokio::time::sleep(TIMEOUT / 20).await;
    }
    assert_eq!(uid(&ns.get(POD, "beats").await), uid(&pod));
    ns.until(SANDBOX, "beats", "asleep when it beats no more", asleep).await;
}

async fn endpoints_are_removed_before_the_pod() {
    let ns = namespace("idle-address").await;
    ns.create(sandbox("wakes", json!({ "idleTimeout": "5s", "resumePolicy": "OnDemand" }))).await;
    ns.until(SANDBOX, "wakes", "Ready", ready).await;
    let address = text(&ns.get(SERVICE, "wakes").await, "/spec/clusterIP").to_owned();
    // The test watches for the pod's deletion from now on, and reads the endpoints when the deletion begins.
    ns.until(POD, "wakes", "going", super::json::deleting).await;
    let slice = ns.get(super::kinds::ENDPOINT_SLICE, "wakes").await;
    assert!(slice["endpoints"].as_array().is_none_or(Vec::is_empty), "{slice}");
    ns.until(SANDBOX, "wakes", "asleep", asleep).await;
    ns.merge(SANDBOX, "wakes", json!({ "spec": { "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, "wakes", "Ready again", ready).await;
    assert_eq!(text(&ns.get(SERVICE, "wakes").await, "/spec/clusterIP"), address);
}
