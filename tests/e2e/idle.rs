//! Idle Sandboxes on a real API server: they are suspended with their files, and activity keeps them running.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::json::{message, ready, suspended, text, uid};
use super::kinds::{EVENT, POD, SANDBOX, SERVICE, VOLUME_CLAIM};
use super::manifests::{pod_with_workspace, sandbox};
use super::namespace::TestNamespace;
use super::plugins::{Files, idle_timeout};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        an_idle_sandbox_is_suspended_with_its_volume_and_resumed,
        volume_that_would_be_lost_keeps_the_sandbox_running,
        volumes_of_scratch_and_of_others_do_not_keep_the_sandbox_running,
        ephemeral_volumes_do_not_keep_the_sandbox_running,
        heartbeat_keeps_the_sandbox_running,
        throttled_pod_is_resized_and_restored_by_one_write_each,
        endpoints_are_removed_before_the_pod,
        schedule_resumes_what_the_idle_policy_suspended,
        keep_awake_until_keeps_a_sandbox_running_until_then,
        idle_since_suspends_a_sandbox_within_seconds,
    ]
}

/// Lets the idle policy suspend a Sandbox, and returns the suspended Sandbox. Before and after, its timeout is so long that
/// it is not suspended while a slow test uses it.
pub(super) async fn fall_asleep(ns: &TestNamespace, name: &str) -> Value {
    ns.merge(SANDBOX, name, json!({ "spec": { "idleTimeout": "1s" } })).await;
    ns.until(SANDBOX, name, "suspended", suspended).await;
    ns.until_gone(POD, name).await;
    ns.merge(SANDBOX, name, json!({ "spec": { "idleTimeout": "1h" } })).await
}

async fn an_idle_sandbox_is_suspended_with_its_volume_and_resumed() {
    let ns = namespace("idle").await;
    // Long enough that a busy machine observes Ready before the Sandbox is idle again.
    let made = sandbox("idle", json!({ "idleTimeout": "5s", "service": true, "podTemplate": pod_with_workspace() }));
    ns.create(made).await;
    ns.until(SANDBOX, "idle", "Ready", ready).await;
    let volume = ns.get(VOLUME_CLAIM, "workspace-idle").await;
    assert_eq!(text(&volume, "/spec/resources/requests/storage"), "2Gi");
    let service = ns.get(SERVICE, "idle").await;
    let suspended_sandbox = ns.until(SANDBOX, "idle", "suspended", suspended).await;
    assert_eq!(message(&suspended_sandbox, "Ready"), "Sandbox is suspended");
    assert_eq!(suspended_sandbox["spec"]["replicas"], 0);
    ns.until_gone(POD, "idle").await;
    ns.merge(SANDBOX, "idle", json!({ "spec": { "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, "idle", "Ready again", ready).await;
    assert_eq!(uid(&ns.get(VOLUME_CLAIM, "workspace-idle").await), uid(&volume));
    assert_eq!(uid(&ns.get(SERVICE, "idle").await), uid(&service));
    // The cycle repeats.
    ns.until(SANDBOX, "idle", "suspended again", suspended).await;
}

async fn volume_that_would_be_lost_keeps_the_sandbox_running() {
    let ns = namespace("idle-refused").await;
    // The idle policy is added after the pod has got its emptyDir.
    ns.create(sandbox("late", json!({ "podTemplate": pod_with_workspace() }))).await;
    ns.until(SANDBOX, "late", "Ready", ready).await;
    ns.merge(SANDBOX, "late", json!({ "spec": { "idleTimeout": "1s" } })).await;
    // A generic ephemeral volume is deleted with its pod.
    let mut ephemeral = pod_with_workspace();
    ephemeral["spec"]["volumes"][0] = json!({ "name": "workspace", "ephemeral": { "volumeClaimTemplate": { "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
    } } } });
    ns.create(sandbox("ephemeral", json!({ "idleTimeout": "1s", "podTemplate": ephemeral }))).await;
    for (name, volume) in [("late", "an emptyDir"), ("ephemeral", "a generic ephemeral volume")] {
        let why = format!("volume workspace is {volume}");
        let refused = |s: &Value| text(s, "/status/idle/reason").contains(&why);
        let running = ns.until(SANDBOX, name, "reports why it is not suspended", refused).await;
        assert_eq!((text(&running, "/status/idle/tier"), ready(&running)), ("Awake", true));
        assert!(ns.find(VOLUME_CLAIM, &format!("workspace-{name}")).await.is_none());
        // A suspend by the user works anyway.
        ns.merge(SANDBOX, name, json!({ "spec": { "operatingMode": "Suspended" } })).await;
        ns.until(SANDBOX, name, "suspended", suspended).await;
    }
}

async fn volumes_of_scratch_and_of_others_do_not_keep_the_sandbox_running() {
    let ns = namespace("idle-scratch").await;
    let mut pod = pod_with_workspace();
    pod["spec"]["securityContext"] = json!({ "runAsUser": 10001, "runAsGroup": 10002 });
    let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
    volumes.push(json!({ "name": "dshm", "emptyDir": { "medium": "Memory" } }));
    ns.create(sandbox("scratch", json!({ "idleTimeout": "2s", "podTemplate": pod }))).await;
    let made = ns.until(POD, "scratch", "made", |_| true).await;
    assert_eq!(text(&made, "/spec/volumes/0/persistentVolumeClaim/claimName"), "workspace-scratch");
    assert_eq!(text(&made, "/spec/volumes/1/emptyDir/medium"), "Memory");
    assert_eq!(
        (&made["spec"]["securityContext"]["fsGroup"], &made["spec"]["enableServiceLinks"]),
        (&json!(10002), &json!(false))
    );
    ns.until(SANDBOX, "scratch", "suspended", suspended).await;
    // Without a policy, the workspace stays the volume claim that has the files.
    ns.merge(SANDBOX, "scratch", json!({ "spec": { "idleTimeout": null, "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, "scratch", "Ready again", ready).await;
    let again = ns.get(POD, "scratch").await;
    assert_eq!(text(&again, "/spec/volumes/0/persistentVolumeClaim/claimName"), "workspace-scratch");
}

async fn ephemeral_volumes_do_not_keep_the_sandbox_running() {
    let ns = namespace("idle-ephemeral").await;
    let mut made = sandbox("scratch", json!({ "idleTimeout": "1s", "podTemplate": pod_with_workspace() }));
    made["metadata"]["annotations"] = json!({ "policy.paddock.dev/ephemeral-volumes": "true" });
    ns.create(made).await;
    ns.until(SANDBOX, "scratch", "suspended", suspended).await;
    assert!(ns.list(VOLUME_CLAIM).await.is_empty());
}

/// The nodes of these tests do not resize, so this test writes the status of the pod.
async fn throttled_pod_is_resized_and_restored_by_one_write_each() {
    let ns = namespace("throttle").await;
    let plugin = Files::of("throttle-first").await;
    plugin.put("wasm", idle_timeout());
    plugin.bind_hook(&ns, "idle", json!({ "tiers": ["throttle"] }));
    plugin.until("in force", |plugin| plugin["digest"].is_string()).await;
    let cpu = |request: &str, limit: &str| json!({ "requests": { "cpu": request, "memory": "64Mi" }, "limits": { "cpu": limit, "memory": "64Mi" } });
    let container = |name: &str, cpu: Value| json!({ "name": name, "image": "agent:1", "resources": cpu });
    let mut sidecar = container("proxy", cpu("100m", "200m"));
    sidecar["restartPolicy"] = "Always".into();
    let spec = json!({ "initContainers": [sidecar], "containers": [container("agent", cpu("250m", "1500m"))] });
    ns.create(sandbox("s", json!({ "idleTimeout": "1h", "podTemplate": { "spec": spec } }))).await;
    let agent = |pod: &Value| pod["spec"]["containers"][0]["resources"].clone();
    let proxy = |pod: &Value| pod["spec"]["initContainers"][0]["resources"].clone();
    ns.until(SANDBOX, "s", "Ready", ready).await;
    ns.report_resources(&ns.get(POD, "s").await).await;
    ns.merge(SANDBOX, "s", json!({ "spec": { "idleTimeout": "2s" } })).await;
    let low = |pod: &Value| text(pod, "/spec/containers/0/resources/limits/cpu") == "10m";
    let pod = ns.until(POD, "s", "throttled", low).await;
    assert_eq!((agent(&pod), proxy(&pod)), (cpu("5m", "10m"), cpu("5m", "10m")));
    assert_eq!(pod["metadata"]["generation"], 2, "one write");
    ns.report_resources(&pod).await;
    let throttled = ns.until(SANDBOX, "s", "throttled", |s| text(s, "/status/throttle/state") == "Throttled").await;
    assert_eq!((text(&throttled, "/status/idle/tier"), ready(&throttled)), ("Throttle", true));
    // A clock that is ahead keeps the Sandbox in use for the rest of the test.
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(4);
    let used = json!({ "metadata": { "annotations": { "policy.paddock.dev/last-activity": at.to_string() } } });
    ns.merge(SANDBOX, "s", used).await;
    let pod = ns.until(POD, "s", "restored", |pod| !low(pod)).await;
    assert_eq!((agent(&pod), proxy(&pod)), (cpu("250m", "1500m"), cpu("100m", "200m")));
    assert_eq!(pod["metadata"]["generation"], 3, "one write");
    ns.report_resources(&pod).await;
    ns.until(SANDBOX, "s", "no record", |s| s.pointer("/status/throttle").is_none()).await;
}

async fn heartbeat_keeps_the_sandbox_running() {
    // A busy machine may miss some heartbeats. Up to nineteen in a row do no harm.
    const TIMEOUT: Duration = Duration::from_secs(10);
    let ns = namespace("idle-heartbeat").await;
    ns.create(sandbox("heartbeat", json!({ "idleTimeout": "10s" }))).await;
    ns.until(SANDBOX, "heartbeat", "Ready", ready).await;
    let pod = ns.get(POD, "heartbeat").await;
    let began = Instant::now();
    while began.elapsed() < TIMEOUT + TIMEOUT / 4 {
        let now = jiff::Timestamp::now().to_string();
        let beat = json!({ "metadata": { "annotations": { "policy.paddock.dev/last-activity": now } } });
        let after = ns.merge(SANDBOX, "heartbeat", beat).await;
        assert_eq!(text(&after, "/spec/operatingMode"), "Running", "after {:?}", began.elapsed());
        tokio::time::sleep(TIMEOUT / 20).await;
    }
    assert_eq!(uid(&ns.get(POD, "heartbeat").await), uid(&pod));
    ns.until(SANDBOX, "heartbeat", "suspended after the last heartbeat", suspended).await;
}

async fn endpoints_are_removed_before_the_pod() {
    let ns = namespace("idle-address").await;
    ns.create(sandbox("on-demand", json!({ "idleTimeout": "5s", "resumePolicy": "OnDemand" }))).await;
    ns.until(SANDBOX, "on-demand", "Ready", ready).await;
    let address = text(&ns.get(SERVICE, "on-demand").await, "/spec/clusterIP").to_owned();
    // The test watches for the pod's deletion from now on, and reads the endpoints when the deletion begins.
    ns.until(POD, "on-demand", "terminating", super::json::deleting).await;
    let slice = ns.get(super::kinds::ENDPOINT_SLICE, "on-demand").await;
    assert!(slice["endpoints"].as_array().is_none_or(Vec::is_empty), "{slice}");
    ns.until(SANDBOX, "on-demand", "suspended", suspended).await;
    ns.merge(SANDBOX, "on-demand", json!({ "spec": { "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, "on-demand", "Ready again", ready).await;
    assert_eq!(text(&ns.get(SERVICE, "on-demand").await, "/spec/clusterIP"), address);
}

async fn schedule_resumes_what_the_idle_policy_suspended() {
    let ns = namespace("idle-schedule").await;
    let schedule = |cron: &str| json!({ "cron": cron, "timeZone": "Asia/Kathmandu" });
    // The webhook knows more than the schema.
    for (cron, problem) in [("0 25 * * *", "must be 0 to 23"), ("0 0 30 2 *", "never comes")] {
        let denied = ns.try_create(&sandbox("wrong", json!({ "wakeSchedule": schedule(cron) }))).await.unwrap_err();
        let denied = denied.to_string();
        assert!(denied.contains("spec.wakeSchedule.cron") && denied.contains(problem), "{cron}: {denied}");
    }
    ns.create(sandbox("early", json!({ "idleTimeout": "1s", "wakeSchedule": schedule("* * * * *") }))).await;
    let waits = |s: &Value| suspended(s) && s["status"]["nextWake"].is_string();
    let asleep = ns.until(SANDBOX, "early", "suspended until the next minute", waits).await;
    assert_eq!(text(&asleep, "/status/suspendedBy"), "Idle");
    let next: jiff::Timestamp = text(&asleep, "/status/nextWake").parse().expect("a time");
    assert_eq!(next.as_second() % 60, 0, "{next}");
    // It stays awake from the next time on.
    ns.merge(SANDBOX, "early", json!({ "spec": { "idleTimeout": "1h" } })).await;
    let awake = |s: &Value| ready(s) && s["status"]["nextWake"].is_null();
    let running = ns.until(SANDBOX, "early", "Ready again", awake).await;
    assert_eq!((text(&running, "/spec/operatingMode"), &running["spec"]["replicas"]), ("Running", &json!(1)));
    let annotations = running["metadata"]["annotations"].to_string();
    assert!(!annotations.contains("suspended-by") && !annotations.contains("suspended-at"), "{annotations}");
    let told = |e: &Value| text(e, "/reason") == "ScheduledWake";
    ns.until_all(EVENT, "an Event reports the resume", |all| all.values().any(told)).await;
}

const KEEP_AWAKE_UNTIL: &str = "policy.paddock.dev/keep-awake-until";
const IDLE_SINCE: &str = "policy.paddock.dev/idle-since";

fn annotated(name: &str, value: &str) -> Value {
    json!({ "metadata": { "annotations": { name: value } } })
}

async fn keep_awake_until_keeps_a_sandbox_running_until_then() {
    let ns = namespace("idle-keep-awake").await;
    let in_seconds = |seconds: i64| jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    let far = annotated(KEEP_AWAKE_UNTIL, "2999-01-01T00:00:00Z");
    let mut made = sandbox("busy", json!({ "idleTimeout": "1h" }));
    super::manifests::merge(&mut made, &far);
    let denied = ns.try_create(&made).await.unwrap_err().to_string();
    assert!(denied.contains(KEEP_AWAKE_UNTIL) && denied.contains("at most 24h after the present time"), "{denied}");
    ns.create(sandbox("busy", json!({ "idleTimeout": "1h" }))).await;
    ns.until(SANDBOX, "busy", "Ready", ready).await;
    let until = in_seconds(12);
    let mut change = annotated(KEEP_AWAKE_UNTIL, &until.to_string());
    change["spec"]["idleTimeout"] = "1s".into();
    ns.merge(SANDBOX, "busy", change).await;
    let kept = |s: &Value| s["status"]["idle"]["keepAwakeUntil"].is_string();
    let running = ns.until(SANDBOX, "busy", "reports until when it is kept running", kept).await;
    assert_eq!(text(&running, "/status/idle/tier"), "Awake");
    assert!(text(&running, "/status/idle/reason").contains(KEEP_AWAKE_UNTIL), "{running}");
    ns.until(SANDBOX, "busy", "suspended afterwards", suspended).await;
    assert!(jiff::Timestamp::now() >= until, "it was suspended too early");
}

async fn idle_since_suspends_a_sandbox_within_seconds() {
    let ns = namespace("idle-since").await;
    ns.create(sandbox("done", json!({ "idleTimeout": "10h", "service": true }))).await;
    ns.until(SANDBOX, "done", "Ready", ready).await;
    // The times of the API server have no fractions of a second, and the wish must be later than the readiness.
    let first = ns.until(SANDBOX, "done", "its readiness", |s| s["status"]["firstReady"].is_string()).await;
    let at: jiff::Timestamp = text(&first, "/status/firstReady").parse().expect("a time");
    let began = Instant::now();
    ns.merge(SANDBOX, "done", annotated(IDLE_SINCE, &(at + jiff::SignedDuration::from_secs(1)).to_string())).await;
    let asleep = ns.until(SANDBOX, "done", "suspended", suspended).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(text(&asleep, "/status/suspendedBy"), "Idle");
    assert_eq!(super::json::annotation(&asleep, IDLE_SINCE), "", "the wish was about this run");
    // A resume is not undone.
    ns.until_gone(POD, "done").await;
    ns.merge(SANDBOX, "done", json!({ "spec": { "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, "done", "Ready again", ready).await;
}
