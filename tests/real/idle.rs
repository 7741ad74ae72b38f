//! Idle sandboxes on a real API server: put to rest with their files, kept awake by signs of life.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::json::{message, ready, reason, text, uid};
use super::kinds::{POD, SANDBOX, SERVICE, VOLUME_CLAIM};
use super::manifests::{pod_with_workspace, sandbox};
use super::stage::place;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        an_idle_sandbox_is_suspended_with_its_volume_and_resumed,
        a_volume_that_would_be_lost_keeps_it_awake,
        files_that_may_be_lost_do_not,
        a_heartbeat_keeps_it_awake,
        an_address_that_stays_leads_nowhere_before_the_pod_goes,
    ]
}

fn asleep(sandbox: &Value) -> bool {
    text(sandbox, "/spec/operatingMode") == "Suspended" && reason(sandbox, "Suspended") == "PodTerminated"
}

async fn an_idle_sandbox_is_suspended_with_its_volume_and_resumed() {
    let place = place("idle").await;
    // Long enough that a busy machine sees it Ready before it is idle again.
    let made = sandbox("dozes", json!({ "idleTimeout": "5s", "service": true, "podTemplate": pod_with_workspace() }));
    place.create(made).await;
    place.until(SANDBOX, "dozes", "Ready", ready).await;
    let volume = place.get(VOLUME_CLAIM, "workspace-dozes").await;
    assert_eq!(text(&volume, "/spec/resources/requests/storage"), "2Gi");
    let service = place.get(SERVICE, "dozes").await;
    let rests = place.until(SANDBOX, "dozes", "asleep", asleep).await;
    assert_eq!(message(&rests, "Ready"), "Sandbox is suspended");
    assert_eq!(rests["spec"]["replicas"], 0);
    place.until_gone(POD, "dozes").await;
    place.merge(SANDBOX, "dozes", json!({ "spec": { "operatingMode": "Running" } })).await;
    place.until(SANDBOX, "dozes", "Ready again", ready).await;
    assert_eq!(uid(&place.get(VOLUME_CLAIM, "workspace-dozes").await), uid(&volume));
    assert_eq!(uid(&place.get(SERVICE, "dozes").await), uid(&service));
    // And so on.
    place.until(SANDBOX, "dozes", "asleep again", asleep).await;
}

async fn a_volume_that_would_be_lost_keeps_it_awake() {
    let place = place("idle-refused").await;
    // The idle policy comes when the pod has its emptyDir already.
    place.create(sandbox("late", json!({ "podTemplate": pod_with_workspace() }))).await;
    place.until(SANDBOX, "late", "Ready", ready).await;
    place.merge(SANDBOX, "late", json!({ "spec": { "idleTimeout": "1s" } })).await;
    // One in memory is never put on a disk.
    let mut memory = pod_with_workspace();
    memory["spec"]["volumes"][0]["emptyDir"] = json!({ "medium": "Memory" });
    place.create(sandbox("in-memory", json!({ "idleTimeout": "1s", "podTemplate": memory }))).await;
    for name in ["late", "in-memory"] {
        let refused = |s: &Value| text(s, "/status/idle/reason").contains("volume workspace is an emptyDir");
        let awake = place.until(SANDBOX, name, "says why not", refused).await;
        assert_eq!((text(&awake, "/status/idle/tier"), ready(&awake)), ("Awake", true));
        assert!(place.find(VOLUME_CLAIM, &format!("workspace-{name}")).await.is_none());
        // What the user asks for is done all the same.
        place.merge(SANDBOX, name, json!({ "spec": { "operatingMode": "Suspended" } })).await;
        place.until(SANDBOX, name, "asleep", asleep).await;
    }
}

async fn files_that_may_be_lost_do_not() {
    let place = place("idle-ephemeral").await;
    let mut made = sandbox("scratch", json!({ "idleTimeout": "1s", "podTemplate": pod_with_workspace() }));
    made["metadata"]["annotations"] = json!({ "policy.paddock.dev/ephemeral-volumes": "true" });
    place.create(made).await;
    place.until(SANDBOX, "scratch", "asleep", asleep).await;
    assert!(place.list(VOLUME_CLAIM).await.is_empty());
}

async fn a_heartbeat_keeps_it_awake() {
    // A busy machine may miss some beats: nineteen of them do no harm.
    const TIMEOUT: Duration = Duration::from_secs(10);
    let place = place("idle-heartbeat").await;
    place.create(sandbox("beats", json!({ "idleTimeout": "10s" }))).await;
    place.until(SANDBOX, "beats", "Ready", ready).await;
    let pod = place.get(POD, "beats").await;
    let began = Instant::now();
    while began.elapsed() < TIMEOUT + TIMEOUT / 4 {
        let now = jiff::Timestamp::now().to_string();
        let beat = json!({ "metadata": { "annotations": { "policy.paddock.dev/last-activity": now } } });
        let after = place.merge(SANDBOX, "beats", beat).await;
        assert_eq!(text(&after, "/spec/operatingMode"), "Running", "after {:?}", began.elapsed());
        tokio::time::sleep(TIMEOUT / 20).await;
    }
    assert_eq!(uid(&place.get(POD, "beats").await), uid(&pod));
    place.until(SANDBOX, "beats", "asleep when it beats no more", asleep).await;
}

async fn an_address_that_stays_leads_nowhere_before_the_pod_goes() {
    let place = place("idle-address").await;
    place.create(sandbox("wakes", json!({ "idleTimeout": "5s", "resumePolicy": "OnDemand" }))).await;
    place.until(SANDBOX, "wakes", "Ready", ready).await;
    let address = text(&place.get(SERVICE, "wakes").await, "/spec/clusterIP").to_owned();
    // The pod's end is watched for from here on, and the endpoints are looked at when it begins.
    place.until(POD, "wakes", "going", super::json::deleting).await;
    let slice = place.get(super::kinds::ENDPOINT_SLICE, "wakes").await;
    assert!(slice["endpoints"].as_array().is_none_or(Vec::is_empty), "{slice}");
    place.until(SANDBOX, "wakes", "asleep", asleep).await;
    place.merge(SANDBOX, "wakes", json!({ "spec": { "operatingMode": "Running" } })).await;
    place.until(SANDBOX, "wakes", "Ready again", ready).await;
    assert_eq!(text(&place.get(SERVICE, "wakes").await, "/spec/clusterIP"), address);
}
