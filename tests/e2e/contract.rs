//! The facts about the wire that existing clients compare, on a real API server: the whole status of a Sandbox, and
//! changes that are done, refused or shown as pending.

use serde_json::{Value, json};

use super::json::{label, message, name, ready, reason, text, uid};
use super::kinds::{CLAIM, EVENT, POD, POOL, SANDBOX, SERVICE, TEMPLATE};
use super::manifests::{claim, object, pod, pool, sandbox, seconds_from_now, template};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        whole_status_of_a_sandbox_is_upstreams,
        headless_service_has_the_declared_ports,
        mode_that_is_removed_from_a_manifest_means_running,
        change_that_needs_a_new_pod_is_pending_until_there_is_one,
        metadata_of_a_bound_claim_reaches_the_pod,
        full_pool_serves_a_warm_claim_after_a_change_of_its_template,
        ended_claim_is_not_renewed,
    ]
}

/// The status as upstream's clients compare it: the conditions as a set, without times, addresses, the node, and the
/// fields that those clients do not know.
fn compared(object: &Value) -> Value {
    let mut status = object["status"].clone();
    let fields = status.as_object_mut().expect("a status");
    for field in ["podIPs", "nodeName", "mode", "replicas", "runtimeClass", "idle", "policyState", "firstReady"] {
        fields.remove(field);
    }
    let conditions = status["conditions"].as_array_mut().expect("conditions");
    conditions.sort_by_key(|c| text(c, "/type").to_owned());
    for condition in conditions {
        condition.as_object_mut().expect("a condition").remove("lastTransitionTime");
    }
    status
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": message })
}

async fn whole_status_of_a_sandbox_is_upstreams() {
    let ns = namespace("contract-status").await;
    let scheduled = || condition("PodScheduled", "True", "PodScheduled", "");
    let awake = || condition("Suspended", "False", "NotSuspended", "Sandbox is not suspended");
    let check = |object: &Value, conditions: Vec<Value>, rest: Value| {
        let generation = object["metadata"]["generation"].clone();
        let mut conditions = conditions;
        for condition in &mut conditions {
            condition["observedGeneration"] = generation.clone();
        }
        let mut expected = rest;
        expected["conditions"] = conditions.into();
        assert_eq!(compared(object), expected, "{}", name(object));
    };
    // The hash of a name is FNV-1a of 32 bits, which clients compute.
    let selected = |hash: &str| json!({ "selector": format!("agents.x-k8s.io/sandbox-name-hash={hash}") });

    ns.create(sandbox("a", json!({}))).await;
    let now = ns.until(SANDBOX, "a", "Ready", ready).await;
    let is_ready = condition("Ready", "True", "DependenciesReady", "Pod is Ready");
    check(&now, vec![scheduled(), is_ready, awake()], selected("e40c292c"));

    ns.create(sandbox("b", json!({ "service": true }))).await;
    let now = ns.until(SANDBOX, "b", "Ready", ready).await;
    let is_ready = condition("Ready", "True", "DependenciesReady", "Pod is Ready; Service Exists");
    let fqdn = format!("b.{}.svc.cluster.local", text(&now, "/metadata/namespace"));
    let mut rest = selected("e70c2de5");
    rest["service"] = "b".into();
    rest["serviceFQDN"] = fqdn.into();
    check(&now, vec![scheduled(), is_ready, awake()], rest.clone());

    ns.merge(SANDBOX, "b", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    let now = ns.until(SANDBOX, "b", "suspended", |s| reason(s, "Suspended") == "PodTerminated").await;
    let conditions = vec![
        condition("Ready", "False", "SandboxSuspended", "Sandbox is suspended"),
        condition("Suspended", "True", "PodTerminated", "Pod has been terminated. Sandbox is suspended"),
    ];
    check(&now, conditions, rest);

    // A suspended Sandbox does not delete a Pod of its name that belongs to somebody else.
    let foreign = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "c" }, "spec": pod()["spec"] });
    ns.create(foreign).await;
    ns.create(sandbox("c", json!({ "operatingMode": "Suspended" }))).await;
    let now = ns.until(SANDBOX, "c", "reports the Pod", |s| reason(s, "Suspended") == "PodNotOwned").await;
    let refused = "Refused to delete pod because it is not owned by this sandbox";
    let conditions = vec![
        condition("Ready", "False", "SandboxSuspended", "Sandbox is suspending"),
        condition("Suspended", "False", "PodNotOwned", refused),
    ];
    check(&now, conditions, json!({}));

    ns.create(sandbox("d", json!({ "podTemplate": { "spec": { "restartPolicy": "Never" } } }))).await;
    ns.until(SANDBOX, "d", "Ready", ready).await;
    ns.merge_status(POD, "d", json!({ "status": { "phase": "Succeeded" } })).await;
    let now = ns.until(SANDBOX, "d", "finished", |s| reason(s, "Finished") == "PodSucceeded").await;
    let done = "Pod completed successfully";
    let conditions = vec![
        condition("Finished", "True", "PodSucceeded", done),
        scheduled(),
        condition("Ready", "False", "PodSucceeded", done),
        awake(),
    ];
    let selector = now["status"]["selector"].clone();
    check(&now, conditions, json!({ "selector": selector }));

    ns.merge(SANDBOX, "a", json!({ "spec": { "shutdownTime": seconds_from_now(-1) } })).await;
    let now = ns.until(SANDBOX, "a", "expired", |s| reason(s, "Ready") == "SandboxExpired").await;
    check(&now, vec![condition("Ready", "False", "SandboxExpired", "Sandbox has expired"), awake()], json!({}));

    for wanted in ["SandboxPodCreated", "SandboxReady", "SandboxSuspended", "PodSucceeded", "SandboxExpired"] {
        ns.until_all(EVENT, wanted, |all| all.values().any(|event| event["reason"] == wanted)).await;
    }
}

async fn headless_service_has_the_declared_ports() {
    let ns = namespace("contract-ports").await;
    let spec = json!({
        "initContainers": [
            { "name": "once", "image": "i", "ports": [{ "containerPort": 1 }] },
            { "name": "sidecar", "image": "i", "restartPolicy": "Always", "ports": [{ "name": "auth", "containerPort": 4180 }] },
        ],
        "containers": [
            { "name": "a", "image": "i", "ports": [
                { "name": "http", "containerPort": 8888 }, { "containerPort": 5353, "protocol": "UDP" },
            ] },
            { "name": "b", "image": "i", "ports": [{ "containerPort": 8888 }, { "name": "http2", "containerPort": 80 }] },
        ],
    });
    ns.create(sandbox("ports", json!({ "service": true, "podTemplate": { "spec": spec } }))).await;
    let service = ns.until(SERVICE, "ports", "exists", |_| true).await;
    assert_eq!(text(&service, "/spec/clusterIP"), "None");
    let ports: Vec<_> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
    let ports: Vec<_> =
        ports.into_iter().map(|p| (p["port"].as_i64(), text(p, "/protocol"), text(p, "/name"))).collect();
    let expected = [(8888, "TCP", "http"), (5353, "UDP", "udp-5353"), (80, "TCP", "http2"), (4180, "TCP", "auth")];
    assert_eq!(ports, expected.map(|(number, protocol, name)| (Some(number), protocol, name)));
    assert_eq!(ns.until(POD, "ports", "exists", |_| true).await["spec"]["enableServiceLinks"], false);
}

async fn mode_that_is_removed_from_a_manifest_means_running() {
    let ns = namespace("contract-mode").await;
    let manifest = |name: &str, mode: Option<&str>| {
        let mut made = sandbox(name, json!({}));
        if let Some(mode) = mode {
            made["spec"]["operatingMode"] = mode.into();
        }
        made
    };
    ns.apply("gitops", &manifest("flux", Some("Suspended"))).await.expect("applied");
    ns.kubectl(&["apply", "-f", "-"], Some(&manifest("argo", Some("Suspended")).to_string())).await.expect("applied");
    for name in ["flux", "argo"] {
        ns.until(SANDBOX, name, "suspended", |s| reason(s, "Suspended") == "PodTerminated").await;
    }
    ns.apply("gitops", &manifest("flux", None)).await.expect("applied");
    ns.kubectl(&["apply", "-f", "-"], Some(&manifest("argo", None).to_string())).await.expect("applied");
    for name in ["flux", "argo"] {
        ns.until(SANDBOX, name, "Ready", ready).await;
    }
    // A suspend by somebody else is not undone by an apply that never named the mode.
    ns.merge(SANDBOX, "flux", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    let after = ns.apply("gitops", &manifest("flux", None)).await.expect("applied");
    assert_eq!(text(&after, "/spec/operatingMode"), "Suspended");
}

async fn change_that_needs_a_new_pod_is_pending_until_there_is_one() {
    let ns = namespace("contract-pending").await;
    ns.create(sandbox("busy", json!({}))).await;
    let before = ns.until(SANDBOX, "busy", "Ready", ready).await;
    let observed = |s: &Value| {
        s["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == "Ready")
            .and_then(|c| c["observedGeneration"].as_i64())
    };
    let made_at = observed(&before);
    let image = r#"{"spec":{"podTemplate":{"spec":{"containers":[{"name":"agent","image":"agent:2"}]}}}}"#;
    let patch = ["patch", "sandboxes.agents.x-k8s.io", "busy", "--type=merge", "-p", image];
    let output = ns.kubectl_output(&patch, None).await;
    assert!(output.contains("Warning") && output.contains("only a new pod can take the change"), "{output}");
    let pending = |s: &Value| text(s, "/status/pending/0") == "spec.podTemplate.spec.containers[agent].image";
    let waiting = ns.until(SANDBOX, "busy", "shows the change as pending", pending).await;
    assert!(ready(&waiting));
    assert_eq!(observed(&waiting), made_at);
    // The mode needs no new pod. The new pod takes the image.
    ns.merge(SANDBOX, "busy", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    ns.until(SANDBOX, "busy", "suspended", |s| reason(s, "Suspended") == "PodTerminated").await;
    ns.merge(SANDBOX, "busy", json!({ "spec": { "operatingMode": "Running" } })).await;
    let current =
        |s: &Value| ready(s) && s["status"]["pending"].is_null() && observed(s) == s["metadata"]["generation"].as_i64();
    ns.until(SANDBOX, "busy", "Ready with the image", current).await;
    assert_eq!(text(&ns.get(POD, "busy").await, "/spec/containers/0/image"), "agent:2");
}

async fn metadata_of_a_bound_claim_reaches_the_pod() {
    let ns = namespace("contract-metadata").await;
    ns.create(template("billed", json!({}))).await;
    ns.create(pool("billed", "billed", json!({ "replicas": 1 }))).await;
    ns.until(POOL, "billed", "filled", |p| p["status"]["readyReplicas"] == 1).await;
    let metadata = json!({
        "labels": { "sandbox.users.io/team": "red", "sandbox.users.io/old": "1" },
        "annotations": { "podsnapshot.gke.io/ps-name": "s1" },
    });
    ns.create(claim("session", "billed", json!({ "additionalPodMetadata": metadata }))).await;
    let session = ns.until(CLAIM, "session", "Ready", ready).await;
    let sandbox = text(&session, "/status/sandbox/name").to_owned();
    ns.until(POD, &sandbox, "has the labels", |p| label(p, "sandbox.users.io/team") == "red").await;
    let pod = uid(&ns.get(POD, &sandbox).await).to_owned();
    let change = json!({
        "labels": { "sandbox.users.io/team": "blue", "sandbox.users.io/cost-center": "42", "sandbox.users.io/old": null },
        "annotations": { "podsnapshot.gke.io/ps-name": null },
    });
    ns.merge(CLAIM, "session", json!({ "spec": { "additionalPodMetadata": change } })).await;
    let changed = |p: &Value| {
        label(p, "sandbox.users.io/team") == "blue"
            && label(p, "sandbox.users.io/cost-center") == "42"
            && label(p, "sandbox.users.io/old").is_empty()
            && p["metadata"]["annotations"]["podsnapshot.gke.io/ps-name"].is_null()
    };
    let now = ns.until(POD, &sandbox, "has the new labels", changed).await;
    assert_eq!(uid(&now), pod);
    // An annotation that a runtime reads does not reach the pod, and the status says so.
    let kata = json!({ "annotations": { "io.katacontainers.config.hypervisor.kernel_params": "x" } });
    ns.merge(CLAIM, "session", json!({ "spec": { "additionalPodMetadata": kata } })).await;
    let told = ns.until(CLAIM, "session", "reports it", |c| reason(c, "Ready") == "InvalidMetadata").await;
    assert!(message(&told, "Ready").contains("io.katacontainers"), "{told}");
    // A change that cannot reach the Sandbox is refused.
    let env = r#"{"spec":{"env":[{"name":"A","value":"1"}]}}"#;
    let patch = ["patch", "sandboxclaims.extensions.agents.x-k8s.io", "session", "--type=merge", "-p", env];
    let output = ns.kubectl_output(&patch, None).await;
    assert!(output.contains("spec.env") && output.contains("create another claim"), "{output}");
}

async fn full_pool_serves_a_warm_claim_after_a_change_of_its_template() {
    let ns = namespace("contract-release").await;
    ns.create(template("py", json!({}))).await;
    ns.create(pool("py", "py", json!({ "replicas": 2 }))).await;
    ns.until(POOL, "py", "filled", |p| p["status"]["readyReplicas"] == 2).await;
    let image = json!([{ "name": "agent", "image": "agent:2" }]);
    ns.merge(TEMPLATE, "py", json!({ "spec": { "podTemplate": { "spec": { "containers": image } } } })).await;
    let fresh = |all: &super::namespace::Objects| {
        all.len() == 2
            && all.values().all(|s| ready(s) && text(s, "/spec/podTemplate/spec/containers/0/image") == "agent:2")
    };
    ns.until_all(SANDBOX, "replaced", fresh).await;
    ns.create(claim("next", "py", json!({}))).await;
    let next = ns.until(CLAIM, "next", "Ready", ready).await;
    let taken = ns.get(SANDBOX, text(&next, "/status/sandbox/name")).await;
    assert_eq!(label(&taken, "agents.x-k8s.io/launch-type"), "warm");
}

async fn ended_claim_is_not_renewed() {
    let ns = namespace("contract-ended").await;
    ns.create(template("t", json!({}))).await;
    ns.create(object(CLAIM, "short", json!({ "sandboxTemplateRef": { "name": "t" }, "warmpool": "none" }))).await;
    ns.until(CLAIM, "short", "Ready", ready).await;
    ns.merge(CLAIM, "short", json!({ "spec": { "lifecycle": { "shutdownTime": seconds_from_now(-1) } } })).await;
    ns.until(CLAIM, "short", "expired", |c| reason(c, "Ready") == "ClaimExpired").await;
    let later = json!({ "spec": { "lifecycle": { "shutdownTime": seconds_from_now(600) } } }).to_string();
    let patch = ["patch", "sandboxclaims.extensions.agents.x-k8s.io", "short", "--type=merge", "-p", &later];
    let output = ns.kubectl_output(&patch, None).await;
    assert!(output.contains("create another claim"), "{output}");
}
