//! The whole status of each kind in each state of its lifecycle, as existing clients compare it on a real API server:
//! the conditions as a set, without times, addresses, the node, and the fields that those clients do not know.

use paddock_cluster::eventually;
use serde_json::{Value, json};

use super::json::{condition, deleting, name, ready, reason, text, uid};
use super::kinds::{CLAIM, EVENT, Kind, POD, POOL, RESOURCE_QUOTA, SANDBOX, SEED_CLAIM, SEED_POOL, SEED_TEMPLATE};
use super::manifests::{claim, disk, object, pod, pool, sandbox, seconds_from_now, template};
use super::namespace::TestNamespace;
use super::pool::{filled, members};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        sandbox_has_upstreams_status_in_every_state,
        sandbox_that_waits_or_is_refused_says_why,
        claim_has_upstreams_status_in_every_state,
        claim_that_gets_no_sandbox_says_why,
        pool_has_upstreams_status_in_every_state,
    ]
}

/// The fields of a status that upstream's clients ignore or do not know.
const IGNORED: [&str; 14] = [
    "podIPs",
    "nodeName",
    "mode",
    "suspendedBy",
    "replicas",
    "pending",
    "template",
    "networkPolicyBypass",
    "runtimeClass",
    "isolation",
    "firstReady",
    "idle",
    "plugins",
    "policyState",
];

/// The status as upstream's clients compare it.
fn compared(object: &Value) -> Value {
    let mut status = object["status"].clone();
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|field, _| !IGNORED.contains(&field.as_str()));
    }
    if let Some(sandbox) = status.get_mut("sandbox").and_then(Value::as_object_mut) {
        sandbox.remove("podIPs");
    }
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.sort_by_key(|c| text(c, "/type").to_owned());
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        condition.remove("lastTransitionTime");
    }
    status["conditions"] = conditions.into();
    status
}

/// A condition. A message that ends with `…` is the beginning of the expected one.
fn says(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": message })
}

fn is_ready(message: &str) -> Value {
    says("Ready", "True", "DependenciesReady", message)
}

fn waits(message: &str) -> Value {
    says("Ready", "False", "DependenciesNotReady", message)
}

fn not_suspended() -> Value {
    says("Suspended", "False", "NotSuspended", "Sandbox is not suspended")
}

fn scheduled() -> Value {
    says("PodScheduled", "True", "PodScheduled", "")
}

/// Whether a status is the expected one: its conditions, all of the current generation, and its other fields.
fn is(object: &Value, conditions: &[Value], rest: &Value) -> bool {
    let mut actual = compared(object);
    let mut expected = rest.clone();
    let mut sorted = conditions.to_vec();
    sorted.sort_by_key(|c| text(c, "/type").to_owned());
    for condition in &mut sorted {
        condition["observedGeneration"] = object["metadata"]["generation"].clone();
    }
    if let Some(actual) = actual["conditions"].as_array_mut() {
        for (actual, expected) in actual.iter_mut().zip(&sorted) {
            let beginning = text(expected, "/message").strip_suffix('…');
            if beginning.is_some_and(|beginning| text(actual, "/message").starts_with(beginning)) {
                actual["message"] = expected["message"].clone();
            }
        }
    }
    expected["conditions"] = sorted.into();
    actual == expected
}

/// Waits for a whole status.
async fn until(ns: &TestNamespace, kind: Kind, name: &str, conditions: &[Value], rest: Value) -> Value {
    let what = format!("has exactly {conditions:?} and {rest}");
    ns.until(kind, name, &what, |object| is(object, conditions, &rest)).await
}

/// The selector in the status of a Sandbox: the FNV-1a hash of 32 bits of its name, which clients compute.
fn selected(name: &str) -> Value {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    json!({ "selector": format!("agents.x-k8s.io/sandbox-name-hash={hash:08x}") })
}

/// The fields in the status of a Sandbox with a Service.
fn with_service(ns: &TestNamespace, name: &str) -> Value {
    let mut rest = selected(name);
    rest["service"] = name.into();
    rest["serviceFQDN"] = format!("{name}.{}.svc.cluster.local", ns.namespace).into();
    rest
}

/// The fields in the status of a claim with a Sandbox.
fn of_sandbox(name: &str) -> Value {
    json!({ "sandbox": { "name": name } })
}

/// A pod template whose pod is not Ready before the label is removed.
fn held() -> Value {
    json!({ "podTemplate": { "metadata": { "labels": { "kwok.paddock.dev/hold": "true" } } } })
}

fn finalizer(on: bool) -> Value {
    json!({ "metadata": { "finalizers": if on { json!(["tests.paddock.dev/hold"]) } else { Value::Null } } })
}

fn mode(mode: &str) -> Value {
    json!({ "spec": { "operatingMode": mode } })
}

async fn sandbox_has_upstreams_status_in_every_state() {
    let ns = namespace("whole-sandbox").await;
    // The published hash of this name.
    assert_eq!(selected("a")["selector"], "agents.x-k8s.io/sandbox-name-hash=e40c292c");

    // Made, and Ready without and with a Service.
    ns.create(sandbox("made", held())).await;
    let pending = waits("Pod exists with phase: Pending");
    until(&ns, SANDBOX, "made", &[pending.clone(), not_suspended(), scheduled()], selected("made")).await;
    let nowhere = json!({ "podTemplate": { "spec": { "nodeSelector": { "example.com/no": "node" } } } });
    ns.create(sandbox("nowhere", nowhere)).await;
    let unschedulable = says("PodScheduled", "False", "Unschedulable", "0/…");
    until(&ns, SANDBOX, "nowhere", &[pending, not_suspended(), unschedulable], selected("nowhere")).await;
    ns.create(sandbox("a", json!({}))).await;
    let running = |message: &str| [is_ready(message), not_suspended(), scheduled()];
    until(&ns, SANDBOX, "a", &running("Pod is Ready"), selected("a")).await;
    ns.create(sandbox("b", json!({ "service": true }))).await;
    until(&ns, SANDBOX, "b", &running("Pod is Ready; Service Exists"), with_service(&ns, "b")).await;

    // The pod is deleted and goes slowly: not Ready, and Ready again with another pod.
    ns.merge(POD, "a", finalizer(true)).await;
    ns.delete(POD, "a").await;
    until(&ns, SANDBOX, "a", &[waits("Pod is terminating"), not_suspended(), scheduled()], selected("a")).await;
    ns.merge(POD, "a", finalizer(false)).await;
    until(&ns, SANDBOX, "a", &running("Pod is Ready"), selected("a")).await;
    let conditions = json!([{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "False" }]);
    ns.merge_status(POD, "a", json!({ "status": { "conditions": conditions } })).await;
    let not_ready = waits("Pod is Running but not Ready");
    until(&ns, SANDBOX, "a", &[not_ready, not_suspended(), scheduled()], selected("a")).await;

    // Suspending, suspended, and resumed.
    ns.merge(POD, "b", finalizer(true)).await;
    ns.merge(SANDBOX, "b", mode("Suspended")).await;
    let suspending = says("Ready", "False", "SandboxSuspended", "Sandbox is suspending");
    let terminating = says("Suspended", "False", "PodTerminating", "Pod is terminating. Sandbox is suspending");
    let conditions = [suspending.clone(), terminating, scheduled()];
    until(&ns, SANDBOX, "b", &conditions, with_service(&ns, "b")).await;
    ns.merge(POD, "b", finalizer(false)).await;
    let suspended = says("Ready", "False", "SandboxSuspended", "Sandbox is suspended");
    let terminated = says("Suspended", "True", "PodTerminated", "Pod has been terminated. Sandbox is suspended");
    until(&ns, SANDBOX, "b", &[suspended, terminated], with_service(&ns, "b")).await;
    ns.merge(SANDBOX, "b", mode("Running")).await;
    until(&ns, SANDBOX, "b", &running("Pod is Ready; Service Exists"), with_service(&ns, "b")).await;

    // A Pod of its name belongs to somebody else.
    for (name, mode) in [("c", "Suspended"), ("foreign", "Running")] {
        ns.create(object(POD, name, pod()["spec"].clone())).await;
        ns.create(sandbox(name, json!({ "operatingMode": mode }))).await;
    }
    let refused = "Refused to delete pod because it is not owned by this sandbox";
    let not_owned = says("Suspended", "False", "PodNotOwned", refused);
    until(&ns, SANDBOX, "c", &[suspending, not_owned], json!({})).await;
    let foreign = "Pod foreign exists and does not belong to this Sandbox";
    let blocked = says("Ready", "False", "ReconcilerError", foreign);
    let cannot = "Pod state is unknown. Pod scheduling cannot be determined";
    let unknown = says("PodScheduled", "Unknown", "PodSchedulingUnknown", cannot);
    until(&ns, SANDBOX, "foreign", &[blocked, not_suspended(), unknown.clone()], json!({})).await;

    // It owns two pods.
    ns.create(sandbox("two", json!({}))).await;
    until(&ns, SANDBOX, "two", &running("Pod is Ready"), selected("two")).await;
    let mut second = object(POD, "two-2", pod()["spec"].clone());
    second["metadata"]["ownerReferences"] = ns.get(POD, "two").await["metadata"]["ownerReferences"].clone();
    ns.create(second).await;
    let two = says("Ready", "False", "MultiplePods", "Sandbox has more than one pod: two, two-2");
    until(&ns, SANDBOX, "two", &[two.clone(), not_suspended(), unknown.clone()], selected("two")).await;
    ns.merge(SANDBOX, "two", mode("Suspended")).await;
    let cannot = "Pod state is unknown. Sandbox suspension cannot be confirmed";
    let unconfirmed = says("Suspended", "Unknown", "PodStateUnknown", cannot);
    until(&ns, SANDBOX, "two", &[two, unconfirmed, unknown], selected("two")).await;

    // The pod ends: well, badly, and at its deadline, after which it is not replaced although it always restarts.
    let never = json!({ "podTemplate": { "spec": { "restartPolicy": "Never" } } });
    let deadline = json!({ "podTemplate": { "spec": { "activeDeadlineSeconds": 3600 } } });
    for (name, with, status, reason, message) in [
        ("well", &never, json!({ "phase": "Succeeded" }), "PodSucceeded", "Pod completed successfully"),
        ("badly", &never, json!({ "phase": "Failed" }), "PodFailed", "Pod failed"),
        ("late", &deadline, json!({ "phase": "Failed", "reason": "DeadlineExceeded" }), "PodFailed", "Pod failed"),
    ] {
        ns.create(sandbox(name, with.clone())).await;
        ns.until(SANDBOX, name, "Ready", ready).await;
        ns.merge_status(POD, name, json!({ "status": status })).await;
        let [ready, finished] =
            [("Ready", "False"), ("Finished", "True")].map(|(kind, holds)| says(kind, holds, reason, message));
        until(&ns, SANDBOX, name, &[finished, scheduled(), ready, not_suspended()], selected(name)).await;
    }

    // Expired and retained: running, suspended, and with its work done.
    ns.create(sandbox("rests", json!({ "operatingMode": "Suspended" }))).await;
    ns.until(SANDBOX, "rests", "suspended", |s| reason(s, "Suspended") == "PodTerminated").await;
    let done = says("Finished", "True", "PodSucceeded", "Pod completed successfully");
    let stopped = says("Suspended", "True", "PodTerminated", "Pod has been terminated. Sandbox is suspended");
    let cases = [("b", vec![not_suspended()]), ("rests", vec![stopped]), ("well", vec![not_suspended(), done])];
    for (name, mut conditions) in cases {
        ns.merge(SANDBOX, name, json!({ "spec": { "shutdownTime": seconds_from_now(-1) } })).await;
        conditions.push(says("Ready", "False", "SandboxExpired", "Sandbox has expired"));
        until(&ns, SANDBOX, name, &conditions, json!({})).await;
    }

    // An end that deletes says so first.
    ns.create(sandbox("ends", json!({}))).await;
    ns.until(SANDBOX, "ends", "Ready", ready).await;
    ns.merge(SANDBOX, "ends", finalizer(true)).await;
    let ending = json!({ "shutdownTime": seconds_from_now(-1), "shutdownPolicy": "Delete" });
    ns.merge(SANDBOX, "ends", json!({ "spec": ending })).await;
    ns.until(SANDBOX, "ends", "says so", |s| deleting(s) && reason(s, "Ready") == "SandboxExpired").await;
    ns.merge(SANDBOX, "ends", finalizer(false)).await;
    ns.until_gone(SANDBOX, "ends").await;

    for wanted in [
        "SandboxPodCreated",
        "SandboxReady",
        "SandboxSuspended",
        "PodSucceeded",
        "PodFailed",
        "MultiplePods",
        "SandboxExpired",
    ] {
        ns.until_all(EVENT, wanted, |all| all.values().any(|event| event["reason"] == wanted)).await;
    }
}

/// A policy of the cluster that denies the Pods of a namespace with the label `deny`.
async fn deny_pods(ns: &TestNamespace) {
    let name = format!("deny-in-{}", ns.namespace);
    let at = json!({ "matchLabels": { "kubernetes.io/metadata.name": ns.namespace } });
    let version = "admissionregistration.k8s.io/v1";
    let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] });
    let policies = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name }, "spec": {
            "matchConstraints": { "namespaceSelector": at, "resourceRules": [rule] },
            "validations": [{ "expression": "!has(object.metadata.labels) || !('deny' in object.metadata.labels)", "message": "not here" }],
        } },
        { "apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
          "spec": { "policyName": name, "validationActions": ["Deny"] } },
    ] });
    ns.kubectl(&["apply", "-f", "-"], Some(&policies.to_string())).await.expect("the policy is accepted");
    let mut probe = object(POD, "probe", pod()["spec"].clone());
    probe["metadata"]["labels"] = json!({ "deny": "" });
    eventually("the policy is in force", async || ns.dry_run(&probe).await.is_err()).await;
}

/// A quota that admits none of these objects.
async fn no_more(ns: &TestNamespace, what: &str) {
    ns.create(object(RESOURCE_QUOTA, "none", json!({ "hard": { what: "0" } }))).await;
    ns.until(RESOURCE_QUOTA, "none", "in force", |q| q["status"]["hard"].is_object()).await;
}

/// A pod template whose Pods the policy of [`deny_pods`] denies.
fn denied() -> Value {
    json!({ "podTemplate": { "metadata": { "labels": { "deny": "" } } } })
}

async fn sandbox_that_waits_or_is_refused_says_why() {
    let ns = namespace("whole-waiting").await;
    // Refused by a policy of the cluster.
    deny_pods(&ns).await;
    ns.create(sandbox("denied", denied())).await;
    let refused =
        says("Ready", "False", "PolicyDenied", &format!("Pod/{}/denied: the API server refused: …", ns.namespace));
    until(&ns, SANDBOX, "denied", &[refused, not_suspended()], json!({})).await;

    // Warm, and then adopted.
    ns.create(template("t", json!({}))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let all = filled(&ns, &made, 1).await;
    let warm = name(members(&all, uid(&made))[0]).to_owned();
    let running = [is_ready("Pod is Ready"), not_suspended(), scheduled()];
    until(&ns, SANDBOX, &warm, &running, selected(&warm)).await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    assert_eq!(text(&done, "/status/sandbox/name"), warm);
    until(&ns, SANDBOX, &warm, &running, selected(&warm)).await;

    // Waiting for a NetworkPolicy.
    let ns = namespace("whole-walled").await;
    no_more(&ns, "count/networkpolicies.networking.k8s.io").await;
    ns.create(template("t", json!({}))).await;
    ns.create(pool("p", "t", json!({ "replicas": 0 }))).await;
    ns.create(claim("walled", "p", json!({}))).await;
    let missing =
        says("Ready", "False", "NetworkPolicyNotReady", "the API server refused NetworkPolicy t-network-policy: …");
    until(&ns, SANDBOX, "walled", &[missing.clone(), not_suspended()], json!({})).await;
    until(&ns, CLAIM, "walled", &[missing], of_sandbox("walled")).await;
}

async fn claim_has_upstreams_status_in_every_state() {
    let ns = namespace("whole-claim").await;
    ns.create(template("t", json!({ "service": true }))).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    let seed = json!({ "template": pod() });
    ns.create(object(SEED_TEMPLATE, "seed", seed)).await;
    let seed = ns.create(object(SEED_POOL, "seed", json!({ "templateRef": { "name": "seed" }, "minReady": 1 }))).await;

    // Warm, in both shapes. A Sandbox of the seed shape always has a Service.
    for (kind, name, made, spec) in [
        (CLAIM, "warm", &made, json!({ "warmPoolRef": { "name": "p" } })),
        (SEED_CLAIM, "warm", &seed, json!({ "templateRef": { "name": "seed" } })),
    ] {
        let all = filled(&ns, made, 1).await;
        let warm: Vec<String> = members(&all, uid(made)).into_iter().map(|s| super::json::name(s).to_owned()).collect();
        ns.create(object(kind, name, spec)).await;
        let done = ns.until(kind, name, "Ready", ready).await;
        let given = text(&done, "/status/sandbox/name");
        assert_eq!(warm, [given]);
        until(&ns, kind, name, &[is_ready("Pod is Ready; Service Exists")], of_sandbox(given)).await;
    }

    // Cold: starting, Ready, not Ready, suspended, finished, expired, and gone.
    ns.create(template("slow", held())).await;
    ns.create(template("never", json!({ "podTemplate": { "spec": { "restartPolicy": "Never" } } }))).await;
    for name in ["slow", "never"] {
        ns.create(pool(name, name, json!({ "replicas": 0 }))).await;
        ns.create(claim(name, name, json!({}))).await;
    }
    until(&ns, CLAIM, "slow", &[waits("Pod exists with phase: Pending")], of_sandbox("slow")).await;
    until(&ns, CLAIM, "never", &[is_ready("Pod is Ready")], of_sandbox("never")).await;
    ns.merge(SANDBOX, "never", mode("Suspended")).await;
    let suspended = says("Ready", "False", "SandboxSuspended", "Sandbox is suspended");
    until(&ns, CLAIM, "never", &[suspended], of_sandbox("never")).await;
    ns.merge(SANDBOX, "never", mode("Running")).await;
    until(&ns, CLAIM, "never", &[is_ready("Pod is Ready")], of_sandbox("never")).await;
    ns.merge_status(POD, "never", json!({ "status": { "phase": "Succeeded" } })).await;
    let done = "Pod completed successfully";
    let finished = says("Finished", "True", "PodSucceeded", done);
    let ended = says("Ready", "False", "PodSucceeded", done);
    until(&ns, CLAIM, "never", &[finished.clone(), ended], of_sandbox("never")).await;
    // The Sandbox of a claim that has expired is deleted. The claim still says that its work was done.
    let passed = json!({ "spec": { "lifecycle": { "shutdownTime": seconds_from_now(-1) } } });
    ns.merge(CLAIM, "never", passed.clone()).await;
    let expired = says("Ready", "False", "ClaimExpired", "Claim expired. Sandbox cleanup initiated.");
    ns.until_gone(SANDBOX, "never").await;
    let over = ns.until(CLAIM, "never", "expired", |c| reason(c, "Ready") == "ClaimExpired").await;
    let kept = condition(&over, "Finished").cloned().expect("the condition stays");
    assert_eq!((&kept["status"], &kept["reason"]), (&finished["status"], &finished["reason"]));
    ns.merge(CLAIM, "slow", passed).await;
    until(&ns, CLAIM, "slow", &[expired], of_sandbox("slow")).await;
    // An end that deletes says so first, however long the deletion takes.
    ns.create(claim("ends", "slow", json!({}))).await;
    until(&ns, CLAIM, "ends", &[waits("Pod exists with phase: Pending")], of_sandbox("ends")).await;
    ns.merge(CLAIM, "ends", finalizer(true)).await;
    let ending = json!({ "shutdownTime": seconds_from_now(-1), "shutdownPolicy": "Delete" });
    ns.merge(CLAIM, "ends", json!({ "spec": { "lifecycle": ending } })).await;
    ns.until(CLAIM, "ends", "says so", |c| deleting(c) && reason(c, "Ready") == "ClaimExpired").await;
    ns.merge(CLAIM, "ends", finalizer(false)).await;
    ns.until_gone(CLAIM, "ends").await;

    let given = text(&ns.get(CLAIM, "warm").await, "/status/sandbox/name").to_owned();
    ns.merge(SANDBOX, &given, json!({ "spec": { "shutdownTime": seconds_from_now(-1) } })).await;
    let alone = "Underlying Sandbox resource has expired independently of the Claim.";
    let expired = says("Ready", "False", "SandboxExpired", alone);
    until(&ns, CLAIM, "warm", &[expired], of_sandbox(&given)).await;
    ns.delete(SANDBOX, &given).await;
    let gone = says("Ready", "False", "SandboxMissing", "Sandbox does not exist");
    until(&ns, CLAIM, "warm", &[gone], of_sandbox(&given)).await;
}

async fn claim_that_gets_no_sandbox_says_why() {
    let ns = namespace("whole-refused").await;
    deny_pods(&ns).await;
    ns.create(template("t", json!({}))).await;
    ns.create(pool("p", "t", json!({ "replicas": 0 }))).await;
    ns.create(template("denied", denied())).await;
    ns.create(pool("denied", "denied", json!({ "replicas": 0 }))).await;
    ns.create(pool("no-template", "nowhere", json!({ "replicas": 0 }))).await;
    ns.create(sandbox("taken", json!({}))).await;
    let no = |reason: &str, message: &str| says("Ready", "False", reason, message);
    let label = json!({ "additionalPodMetadata": { "labels": { "example.com/team": "red" } } });
    let env = json!({ "env": [{ "name": "A", "value": "1" }] });
    let volumes = json!({ "volumeClaimTemplates": [disk("home", "1Gi")] });
    let denied_pod = format!("Pod/{}/denied: the API server refused: …", ns.namespace);
    let cases = [
        ("no-pool", "nowhere", json!({}), no("WarmPoolNotFound", "SandboxWarmPool \"nowhere\" not found"), None),
        (
            "no-template",
            "no-template",
            json!({}),
            no("TemplateNotFound", "SandboxTemplate \"nowhere\" not found"),
            None,
        ),
        ("label", "p", label, no("InvalidMetadata", "spec.additionalPodMetadata.labels[example.com/team]…"), None),
        ("env", "p", env, no("EnvVarsInjectionRejected", "…"), None),
        ("volumes", "p", volumes, no("VolumeClaimTemplatesError", "…"), None),
        (
            "taken",
            "p",
            json!({}),
            no("AdoptionConflict", "Sandbox taken exists and does not belong to this claim"),
            None,
        ),
        ("denied", "denied", json!({}), no("PolicyDenied", &denied_pod), Some("denied")),
    ];
    for (name, pool, with, ..) in &cases {
        ns.create(claim(name, pool, with.clone())).await;
    }
    for (name, _, _, expected, sandbox) in cases {
        until(&ns, CLAIM, name, &[expected], sandbox.map_or(json!({}), of_sandbox)).await;
    }
    // What was missing is made, and the claim becomes Ready.
    ns.create(template("nowhere", json!({}))).await;
    ns.create(pool("nowhere", "nowhere", json!({ "replicas": 0 }))).await;
    for name in ["no-pool", "no-template"] {
        until(&ns, CLAIM, name, &[is_ready("Pod is Ready")], of_sandbox(name)).await;
    }
}

async fn pool_has_upstreams_status_in_every_state() {
    let ns = namespace("whole-pool").await;
    ns.create(template("t", json!({}))).await;
    ns.create(template("slow", held())).await;
    let sized = || says("Sized", "True", "Decided", "as spec says");
    let status = |name: &str, replicas: usize, ready: usize, desired: usize| {
        let hash =
            selected(name)["selector"].as_str().unwrap_or_default().rsplit('=').next().unwrap_or_default().to_owned();
        json!({
            "readyReplicas": ready,
            "desiredReplicas": desired,
            "selector": format!("agents.x-k8s.io/warm-pool-sandbox={hash}"),
            "observedGeneration": 1,
            "replicas": replicas,
        })
    };
    let whole = async |name: &str, condition: Value, rest: Value| {
        let what = format!("has exactly {condition} and {rest}");
        let mut expected = rest.clone();
        let replicas = expected.as_object_mut().and_then(|fields| fields.remove("replicas"));
        ns.until(POOL, name, &what, |pool| {
            is(pool, &[condition.clone(), sized()], &expected) && Some(&pool["status"]["replicas"]) == replicas.as_ref()
        })
        .await
    };
    for (name, template, replicas) in [("full", "t", 2), ("empty", "t", 0), ("slow", "slow", 1), ("lost", "nowhere", 1)]
    {
        let made = ns.create(pool(name, template, json!({ "replicas": replicas }))).await;
        assert_eq!(super::json::name(&made), name);
    }
    let is_full = says("Ready", "True", "PoolReady", "all warm sandboxes are Ready");
    let not = |reason: &str, message: &str| says("Ready", "False", reason, message);
    whole("full", is_full.clone(), status("full", 2, 2, 2)).await;
    whole("empty", is_full, status("empty", 0, 0, 0)).await;
    whole("slow", not("PoolNotReady", "warm sandboxes are being made"), status("slow", 1, 0, 1)).await;
    let lost = not("TemplateNotFound", "SandboxTemplate nowhere does not exist");
    whole("lost", lost, status("lost", 0, 0, 1)).await;
    no_more(&ns, "count/pods").await;
    let made = ns.create(pool("quota", "t", json!({ "replicas": 1 }))).await;
    let refused = not("ReconcilerError", "…");
    let stopped = whole("quota", refused, status("quota", 1, 0, 1)).await;
    assert!(text(&stopped, "/status/conditions/0/message").contains("exceeded quota"), "{}", name(&made));
}
