//! Sandboxes on a real API server: both API shapes, suspend and resume, expiry, and objects with a conflicting name.

use std::time::Instant;

use serde_json::{Value, json};

use super::json::{annotation, condition, controller, deleting, label, message, name, ready, reason, text, uid};
use super::kinds::{ENDPOINT_SLICE, EVENT, Kind, POD, SANDBOX, SANDBOX_V1ALPHA1, SERVICE, VOLUME_CLAIM};
use super::manifests::{disk, object, pod, sandbox, seconds_from_now};
use super::namespace::TestNamespace;
use super::setup::{namespace, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        the_seeds_sandbox_becomes_ready_as_it_is,
        upstreams_v1beta1_becomes_ready,
        upstreams_v1alpha1_becomes_ready,
        suspending_keeps_service_and_volume,
        kubectl_scales_to_zero_and_one,
        an_update_that_drops_replicas_changes_nothing,
        service_is_created_and_deleted_on_request,
        expired_sandbox_with_retain_is_stopped_and_kept,
        expired_sandbox_with_delete_is_deleted,
        pod_of_another_owner_is_left_alone,
        an_adoptable_pod_is_taken_over,
        multiple_pods_are_reported_and_not_deleted,
        a_deleted_pod_is_not_ready_at_once_and_replaced,
        quick_resume_waits_for_the_terminating_pod,
        volume_claim_of_another_owner_is_not_mounted,
        an_evicted_pod_is_replaced,
        long_message_about_a_refused_pod_is_reported_in_short,
        a_pod_that_ends_finishes_its_sandbox,
        deleted_sandbox_leaves_no_objects,
    ]
}

const SEED: &str = root!("deploy/samples/sandbox.yaml");

async fn the_seeds_sandbox_becomes_ready_as_it_is() {
    let setup = setup().await;
    let ns = TestNamespace::existing(&setup.cluster, "agents");
    ns.kubectl(&["create", "namespace", "agents"], None).await.unwrap();
    let began = Instant::now();
    ns.kubectl(&["apply", "-f", SEED], None).await.unwrap();
    let name = "research-agent-ajeet";
    let sandbox = ns.until(SANDBOX, name, "Ready", ready).await;
    println!("the seed's Sandbox is Ready {:?} after kubectl began", began.elapsed());

    assert_eq!(message(&sandbox, "Ready"), "Pod is Ready; Service Exists");
    assert_eq!(text(&sandbox, "/status/serviceFQDN"), format!("{name}.agents.svc.cluster.local"));
    assert_eq!(text(&sandbox, "/status/service"), name);
    assert_eq!(text(&sandbox, "/status/mode"), "Running");
    assert_eq!(text(&sandbox, "/status/runtimeClass/name"), "gvisor");
    assert!(!text(&sandbox, "/status/runtimeClass/reason").is_empty());
    // The object keeps the API shape that the user wrote.
    assert!(sandbox["spec"]["podTemplate"].is_null() && sandbox["spec"]["template"].is_object());

    let pod = ns.get(POD, name).await;
    assert_eq!(text(&pod, "/spec/runtimeClassName"), "gvisor");
    assert_eq!(text(&pod, "/spec/hostname"), name);
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert_eq!(controller(&pod), uid(&sandbox));
    // No container mounts the workspace, so it is mounted by default. An idle Sandbox may lose its pod, so the
    // workspace is a volume that persists.
    assert_eq!(text(&pod, "/spec/volumes/0/persistentVolumeClaim/claimName"), format!("workspace-{name}"));
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"],
        json!([{ "name": "workspace", "mountPath": "/workspace" }])
    );
    let claim = ns.get(VOLUME_CLAIM, &format!("workspace-{name}")).await;
    assert_eq!(text(&claim, "/spec/resources/requests/storage"), "1Gi");
    assert_eq!(text(&claim, "/status/phase"), "Bound");

    // OnDemand needs a stable address, with endpoints that the operator writes.
    let service = ns.get(SERVICE, name).await;
    assert!(text(&service, "/spec/clusterIP").starts_with("10.96."), "{service}");
    assert!(service["spec"]["selector"].is_null());
    assert_eq!(service["spec"]["ports"][0]["port"], 8888);
    let slices = ns.list(ENDPOINT_SLICE).await;
    let of_service = |s: &&Value| label(s, "kubernetes.io/service-name") == name;
    let slice = slices.values().find(of_service).expect("an EndpointSlice");
    assert_eq!(slice["endpoints"][0]["addresses"][0], pod["status"]["podIP"]);
}

/// The types of a Sandbox's conditions. Clients compare the whole list.
fn types(sandbox: &Value) -> Vec<&str> {
    let list = sandbox["status"]["conditions"].as_array().unwrap();
    let mut types: Vec<&str> = list.iter().map(|c| text(c, "/type")).collect();
    types.sort_unstable();
    types
}

async fn upstreams_v1beta1_becomes_ready() {
    let ns = namespace("v1beta1").await;
    ns.create(sandbox("plain", json!({}))).await;
    let made = sandbox(
        "served",
        json!({
            "service": true,
            "podTemplate": { "metadata": { "labels": { "team": "blue" }, "annotations": { "note": "hello" } } },
            "volumeClaimTemplates": [disk("home", "1Gi")],
        }),
    );
    ns.create(made).await;

    let plain = ns.until(SANDBOX, "plain", "Ready", ready).await;
    assert_eq!(message(&plain, "Ready"), "Pod is Ready");
    assert_eq!(reason(&plain, "Ready"), "DependenciesReady");
    assert_eq!(types(&plain), ["PodScheduled", "Ready", "Suspended"]);
    assert_eq!(message(&plain, "Suspended"), "Sandbox is not suspended");
    // The webhook sets both fields for the mode Running.
    assert_eq!((text(&plain, "/spec/operatingMode"), &plain["spec"]["replicas"]), ("Running", &json!(1)));
    assert!(ns.find(SERVICE, "plain").await.is_none());

    let served = ns.until(SANDBOX, "served", "Ready", ready).await;
    assert_eq!(message(&served, "Ready"), "Pod is Ready; Service Exists");
    assert_eq!(condition(&served, "Ready").unwrap()["observedGeneration"], served["metadata"]["generation"]);
    let service = ns.get(SERVICE, "served").await;
    assert_eq!(text(&service, "/spec/clusterIP"), "None");
    let pod = ns.get(POD, "served").await;
    assert_eq!((label(&pod, "team"), annotation(&pod, "note")), ("blue", "hello"));
    assert_eq!(served["status"]["podIPs"][0], pod["status"]["podIP"]);
    assert_eq!(served["status"]["nodeName"], pod["spec"]["nodeName"]);
    // The EndpointSlice controller of Kubernetes finds the pod by the selector.
    ns.until_all(ENDPOINT_SLICE, "one leads to the pod", |slices| {
        slices.values().any(|s| s["endpoints"][0]["addresses"][0] == pod["status"]["podIP"])
    })
    .await;
    // The hash as clients compute it: 32-bit FNV-1a of "served".
    let hash = "served".bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    assert_eq!(label(&pod, "agents.x-k8s.io/sandbox-name-hash"), format!("{hash:08x}"));
    assert!(text(&served, "/status/selector").contains(&format!("agents.x-k8s.io/sandbox-name-hash={hash:08x}")));
    assert_eq!(ns.get(VOLUME_CLAIM, "home-served").await["status"]["phase"], "Bound");
}

async fn upstreams_v1alpha1_becomes_ready() {
    let ns = namespace("v1alpha1").await;
    ns.create(object(SANDBOX_V1ALPHA1, "older", json!({ "podTemplate": pod(), "replicas": 1 }))).await;
    let older = ns.until(SANDBOX_V1ALPHA1, "older", "Ready", ready).await;
    assert_eq!(older["status"]["replicas"], 1);
    assert_eq!(older["spec"]["replicas"], 1);
    ns.merge(SANDBOX_V1ALPHA1, "older", json!({ "spec": { "replicas": 0 } })).await;
    let suspended =
        ns.until(SANDBOX_V1ALPHA1, "older", "suspended", |s| reason(s, "Suspended") == "PodTerminated").await;
    assert_eq!(suspended["status"]["replicas"], 0);
    ns.until(SANDBOX, "older", "in step", |s| text(s, "/spec/operatingMode") == "Suspended").await;
}

fn suspended(sandbox: &Value) -> bool {
    reason(sandbox, "Ready") == "SandboxSuspended" && reason(sandbox, "Suspended") == "PodTerminated"
}

async fn suspending_keeps_service_and_volume() {
    let ns = namespace("suspend").await;
    ns.create(sandbox("rests", json!({ "service": true, "volumeClaimTemplates": [disk("home", "1Gi")] }))).await;
    ns.until(SANDBOX, "rests", "Ready", ready).await;
    let kept = [(SERVICE, "rests"), (VOLUME_CLAIM, "home-rests")];
    let mut before = Vec::new();
    for (kind, name) in kept {
        before.push(uid(&ns.get(kind, name).await).to_owned());
    }
    let first = uid(&ns.get(POD, "rests").await).to_owned();

    ns.merge(SANDBOX, "rests", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    let sleeping = ns.until(SANDBOX, "rests", "suspended", suspended).await;
    assert_eq!(message(&sleeping, "Ready"), "Sandbox is suspended");
    assert_eq!(message(&sleeping, "Suspended"), "Pod has been terminated. Sandbox is suspended");
    assert_eq!(types(&sleeping), ["Ready", "Suspended"]);
    assert_eq!((&sleeping["spec"]["replicas"], text(&sleeping, "/status/mode")), (&json!(0), "Suspended"));
    assert!(ns.find(POD, "rests").await.is_none());

    ns.merge(SANDBOX, "rests", json!({ "spec": { "operatingMode": "Running" } })).await;
    ns.until(SANDBOX, "rests", "Ready again", ready).await;
    assert_ne!(uid(&ns.get(POD, "rests").await), first);
    for ((kind, name), before) in kept.into_iter().zip(before) {
        assert_eq!(uid(&ns.get(kind, name).await), before, "{name} is the same");
    }
}

async fn kubectl_scales_to_zero_and_one() {
    let ns = namespace("scale").await;
    ns.create(sandbox("scaled", json!({}))).await;
    ns.until(SANDBOX, "scaled", "Ready", ready).await;
    for (replicas, mode) in [(0, "Suspended"), (1, "Running")] {
        let flag = format!("--replicas={replicas}");
        ns.kubectl(&["scale", "sandboxes.v1beta1.agents.x-k8s.io/scaled", &flag], None).await.unwrap();
        let what = format!("{mode} in both fields");
        let done = |s: &Value| {
            text(s, "/spec/operatingMode") == mode
                && text(s, "/status/mode") == mode
                && s["status"]["replicas"] == replicas
                && (if mode == "Running" { ready(s) } else { suspended(s) })
        };
        ns.until(SANDBOX, "scaled", &what, done).await;
    }
    let scale = ns.read(&format!("{}/scaled/scale", SANDBOX.path(&ns.namespace))).await.unwrap();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(1), &json!(1)));
    assert!(!text(&scale, "/status/selector").is_empty(), "{scale}");
}

/// A client that knows only v1beta1 reads the object, drops `replicas`, and writes it back.
async fn an_update_that_drops_replicas_changes_nothing() {
    let ns = namespace("forgetful").await;
    ns.create(sandbox("kept", json!({ "operatingMode": "Suspended" }))).await;
    let mut read = ns.until(SANDBOX, "kept", "suspended", |s| suspended(s) && s["spec"]["replicas"] == 0).await;
    read["spec"].as_object_mut().unwrap().remove("replicas");
    read["metadata"]["labels"] = json!({ "touched": "yes" });
    ns.replace(&read).await.unwrap();
    let after = ns.until(SANDBOX, "kept", "in step again", |s| s["spec"]["replicas"] == 0).await;
    assert_eq!((text(&after, "/spec/operatingMode"), label(&after, "touched")), ("Suspended", "yes"));
    assert!(ns.find(POD, "kept").await.is_none(), "it was not woken");

    let mut woken = ns.get(SANDBOX, "kept").await;
    woken["spec"].as_object_mut().unwrap().remove("replicas");
    woken["spec"]["operatingMode"] = json!("Running");
    ns.replace(&woken).await.unwrap();
    ns.until(SANDBOX, "kept", "Ready, and in step", |s| ready(s) && s["spec"]["replicas"] == 1).await;
}

async fn service_is_created_and_deleted_on_request() {
    let ns = namespace("service").await;
    ns.create(sandbox("asked", json!({}))).await;
    ns.until(SANDBOX, "asked", "Ready", ready).await;
    ns.merge(SANDBOX, "asked", json!({ "spec": { "service": true } })).await;
    ns.until(SANDBOX, "asked", "served", |s| message(s, "Ready") == "Pod is Ready; Service Exists").await;
    let service = uid(&ns.get(SERVICE, "asked").await).to_owned();
    // An unset field keeps the Service.
    ns.merge(SANDBOX, "asked", json!({ "spec": { "service": null }, "metadata": { "labels": { "x": "y" } } })).await;
    let served = ns
        .until(SANDBOX, "asked", "observed", |s| {
            condition(s, "Ready").is_some_and(|c| c["observedGeneration"] == s["metadata"]["generation"])
        })
        .await;
    assert_eq!(message(&served, "Ready"), "Pod is Ready; Service Exists");
    assert_eq!(uid(&ns.get(SERVICE, "asked").await), service);
    ns.merge(SANDBOX, "asked", json!({ "spec": { "service": false } })).await;
    ns.until_gone(SERVICE, "asked").await;
    ns.until(SANDBOX, "asked", "not served", |s| message(s, "Ready") == "Pod is Ready").await;
}

async fn expired_sandbox_with_retain_is_stopped_and_kept() {
    let ns = namespace("retain").await;
    let made = sandbox("stays", json!({ "service": true, "volumeClaimTemplates": [disk("home", "1Gi")] }));
    ns.create(made).await;
    ns.until(SANDBOX, "stays", "Ready", ready).await;
    ns.merge(SANDBOX, "stays", json!({ "spec": { "shutdownTime": seconds_from_now(2) } })).await;
    let over = ns.until(SANDBOX, "stays", "expired", |s| reason(s, "Ready") == "SandboxExpired").await;
    assert_eq!(message(&over, "Ready"), "Sandbox has expired");
    ns.until_gone(POD, "stays").await;
    ns.until_gone(SERVICE, "stays").await;
    assert!(ns.find(VOLUME_CLAIM, "home-stays").await.is_some(), "its volume stays with it");
}

async fn expired_sandbox_with_delete_is_deleted() {
    let ns = namespace("delete").await;
    ns.create(sandbox("goes", json!({ "shutdownPolicy": "Delete" }))).await;
    ns.until(SANDBOX, "goes", "Ready", ready).await;
    ns.merge(SANDBOX, "goes", json!({ "spec": { "shutdownTime": seconds_from_now(2) } })).await;
    ns.until_gone(SANDBOX, "goes").await;
    ns.until_gone(POD, "goes").await;
}

fn bare_pod(name: &str) -> Value {
    let mut made = object(POD, name, pod()["spec"].clone());
    made["metadata"]["labels"] = json!({});
    made
}

async fn pod_of_another_owner_is_left_alone() {
    let ns = namespace("foreign").await;
    let foreign = ns.create(bare_pod("taken")).await;
    ns.create(sandbox("taken", json!({}))).await;
    let reported = |s: &Value| message(s, "Ready").contains("does not belong to this Sandbox");
    ns.until(SANDBOX, "taken", "reports it", reported).await;
    assert_eq!(uid(&ns.get(POD, "taken").await), uid(&foreign));
    assert_eq!(controller(&ns.get(POD, "taken").await), "");
    // The Sandbox continues when the foreign pod is deleted.
    ns.delete(POD, "taken").await;
    ns.until(SANDBOX, "taken", "Ready", ready).await;
}

async fn an_adoptable_pod_is_taken_over() {
    let ns = namespace("adopt").await;
    let mut offered = bare_pod("offered");
    offered["metadata"]["labels"] = json!({ "agents.x-k8s.io/adoptable": "true" });
    let offered = ns.create(offered).await;
    let sandbox = ns.create(sandbox("offered", json!({}))).await;
    ns.until(SANDBOX, "offered", "Ready", ready).await;
    let pod = ns.get(POD, "offered").await;
    assert_eq!((uid(&pod), controller(&pod)), (uid(&offered), uid(&sandbox)));
}

async fn multiple_pods_are_reported_and_not_deleted() {
    let ns = namespace("two-pods").await;
    let sandbox = ns.create(sandbox("double", json!({}))).await;
    ns.until(SANDBOX, "double", "Ready", ready).await;
    let first = ns.get(POD, "double").await;
    let mut second = bare_pod("double-2");
    second["metadata"]["ownerReferences"] = first["metadata"]["ownerReferences"].clone();
    let second = ns.create(second).await;
    assert_eq!(controller(&second), uid(&sandbox));
    ns.until(SANDBOX, "double", "reported", |s| reason(s, "Ready") == "MultiplePods").await;
    for pod in [&first, &second] {
        assert_eq!(uid(&ns.get(POD, name(pod)).await), uid(pod));
    }
    ns.delete(POD, "double-2").await;
    ns.until(SANDBOX, "double", "Ready with one", ready).await;
}

/// The usual way to observe that a pod was replaced: delete it, wait for not Ready, and wait for Ready.
async fn a_deleted_pod_is_not_ready_at_once_and_replaced() {
    let ns = namespace("pod-deleted").await;
    ns.create(sandbox("held", json!({}))).await;
    ns.until(SANDBOX, "held", "Ready", ready).await;
    let hold = json!({ "metadata": { "finalizers": ["tests.paddock.dev/hold"] } });
    let pod = ns.merge(POD, "held", hold).await;
    ns.delete(POD, "held").await;
    let not_ready = ns.until(SANDBOX, "held", "not Ready while its pod goes", |s| !ready(s)).await;
    assert_eq!(reason(&not_ready, "Ready"), "DependenciesNotReady");
    assert!(deleting(&ns.get(POD, "held").await));
    ns.merge(POD, "held", json!({ "metadata": { "finalizers": null } })).await;
    ns.until(SANDBOX, "held", "Ready again", ready).await;
    assert_ne!(uid(&ns.get(POD, "held").await), uid(&pod));
}

/// A terminating pod does not count, although its own status reports Ready until the end.
async fn quick_resume_waits_for_the_terminating_pod() {
    let ns = namespace("quick").await;
    ns.create(sandbox("quick", json!({}))).await;
    ns.until(SANDBOX, "quick", "Ready", ready).await;
    let hold = json!({ "metadata": { "finalizers": ["tests.paddock.dev/hold"] } });
    let old = ns.merge(POD, "quick", hold).await;
    ns.merge(SANDBOX, "quick", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    let suspending = ns.until(SANDBOX, "quick", "suspending", |s| reason(s, "Suspended") == "PodTerminating").await;
    assert_eq!(message(&suspending, "Ready"), "Sandbox is suspending");
    ns.merge(SANDBOX, "quick", json!({ "spec": { "operatingMode": "Running" } })).await;
    let resumed = |s: &Value| text(s, "/status/mode") == "Running" && reason(s, "Suspended") == "NotSuspended";
    let waiting = ns.until(SANDBOX, "quick", "resumed", resumed).await;
    assert!(!ready(&waiting), "the old pod was counted: {}", waiting["status"]);
    assert_eq!(uid(&ns.get(POD, "quick").await), uid(&old));
    ns.merge(POD, "quick", json!({ "metadata": { "finalizers": null } })).await;
    ns.until(SANDBOX, "quick", "Ready again", ready).await;
    assert_ne!(uid(&ns.get(POD, "quick").await), uid(&old));
}

async fn volume_claim_of_another_owner_is_not_mounted() {
    let ns = namespace("foreign-disk").await;
    let theirs = object(VOLUME_CLAIM, "home-wants", disk("home", "1Gi")["spec"].clone());
    ns.create(theirs).await;
    ns.create(sandbox("wants", json!({ "volumeClaimTemplates": [disk("home", "1Gi")] }))).await;
    let reported = |s: &Value| message(s, "Ready").contains("home-wants exists and does not belong to this Sandbox");
    ns.until(SANDBOX, "wants", "reports it", reported).await;
    assert!(ns.find(POD, "wants").await.is_none());
    // If its owner labels the volume claim as adoptable, the Sandbox adopts it with its content.
    let offer = json!({ "metadata": { "labels": { "agents.x-k8s.io/adoptable": "true" } } });
    let offered = ns.merge(VOLUME_CLAIM, "home-wants", offer).await;
    let sandbox = ns.until(SANDBOX, "wants", "Ready", ready).await;
    let taken = ns.get(VOLUME_CLAIM, "home-wants").await;
    assert_eq!((uid(&taken), controller(&taken)), (uid(&offered), uid(&sandbox)));
}

async fn an_evicted_pod_is_replaced() {
    let ns = namespace("evicted").await;
    ns.create(sandbox("moved", json!({}))).await;
    ns.until(SANDBOX, "moved", "Ready", ready).await;
    let pod = ns.get(POD, "moved").await;
    ns.merge_status(
        POD,
        "moved",
        json!({ "status": { "phase": "Failed", "reason": "Evicted", "message": "no room" } }),
    )
    .await;
    ns.until(POD, "moved", "another", |p| uid(p) != uid(&pod)).await;
    ns.until(SANDBOX, "moved", "Ready again", ready).await;
}

/// The API server repeats the refused value in its message, which is then larger than a status may be.
async fn long_message_about_a_refused_pod_is_reported_in_short() {
    let ns = namespace("wordy").await;
    let searches = |searches: Value| json!({ "podTemplate": { "spec": { "dnsConfig": { "searches": searches } } } });
    ns.create(sandbox("wordy", searches(json!(vec!["a"; 20_000])))).await;
    let refused = |s: &Value| message(s, "Ready").contains("the API server refused");
    let reported = ns.until(SANDBOX, "wordy", "reports it", refused).await;
    assert_eq!(reason(&reported, "Ready"), "ReconcilerError");
    assert!(message(&reported, "Ready").len() < 2048, "{} bytes", message(&reported, "Ready").len());
    // The pod is tried again.
    ns.merge(SANDBOX, "wordy", json!({ "spec": searches(Value::Null) })).await;
    ns.until(SANDBOX, "wordy", "Ready", ready).await;
}

async fn a_pod_that_ends_finishes_its_sandbox() {
    let ns = namespace("finish").await;
    for (name, phase, wanted) in [("well", "Succeeded", "PodSucceeded"), ("badly", "Failed", "PodFailed")] {
        ns.create(sandbox(name, json!({ "podTemplate": { "spec": { "restartPolicy": "Never" } } }))).await;
        ns.until(SANDBOX, name, "Ready", ready).await;
        ns.merge_status(POD, name, json!({ "status": { "phase": phase } })).await;
        let done = ns.until(SANDBOX, name, "Finished", |s| reason(s, "Finished") == wanted).await;
        assert_eq!((reason(&done, "Ready"), ready(&done)), (wanted, false));
    }
}

async fn deleted_sandbox_leaves_no_objects() {
    let ns = namespace("gone").await;
    let made = sandbox(
        "whole",
        json!({
            "resumePolicy": "OnDemand", "idleTimeout": "1h",
            "podTemplate": super::manifests::pod_with_workspace(),
            "volumeClaimTemplates": [disk("home", "1Gi")],
        }),
    );
    ns.create(made).await;
    ns.until(SANDBOX, "whole", "Ready", ready).await;
    let children: [(Kind, &str); 5] = [
        (POD, "whole"),
        (SERVICE, "whole"),
        (ENDPOINT_SLICE, "whole"),
        (VOLUME_CLAIM, "home-whole"),
        (VOLUME_CLAIM, "workspace-whole"),
    ];
    for (kind, name) in children {
        ns.get(kind, name).await;
    }
    ns.merge(SANDBOX, "whole", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    ns.until(SANDBOX, "whole", "suspended", suspended).await;
    ns.until_all(EVENT, "an event reports the suspend", |events| {
        events.values().any(|e| text(e, "/regarding/name") == "whole" && text(e, "/reason") == "Suspended")
    })
    .await;
    ns.delete(SANDBOX, "whole").await;
    ns.until_gone(SANDBOX, "whole").await;
    for (kind, name) in children {
        ns.until_gone(kind, name).await;
    }
}
