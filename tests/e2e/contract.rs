//! The facts about the wire that existing clients rely on, on a real API server: ports, modes, and changes that are done,
//! refused or shown as pending.

use serde_json::{Value, json};

use super::json::{label, message, ready, reason, text, uid};
use super::kinds::{CLAIM, POD, POOL, SANDBOX, SERVICE, TEMPLATE};
use super::manifests::{claim, object, pool, sandbox, seconds_from_now, template};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        headless_service_has_the_declared_ports,
        mode_that_is_removed_from_a_manifest_means_running,
        change_that_needs_a_new_pod_is_pending_until_there_is_one,
        metadata_of_a_bound_claim_reaches_the_pod,
        full_pool_serves_a_warm_claim_after_a_change_of_its_template,
        ended_claim_is_not_renewed,
        name_is_a_dns_label_where_a_service_has_it,
        claim_with_errors_is_created_and_says_why,
    ]
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
    let expected = [(80, "TCP", "http2"), (4180, "TCP", "auth"), (5353, "UDP", "p-5353-udp"), (8888, "TCP", "http")];
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

async fn name_is_a_dns_label_where_a_service_has_it() {
    let ns = namespace("contract-names").await;
    ns.create(sandbox("a.b", json!({}))).await;
    ns.until(SANDBOX, "a.b", "Ready", ready).await;
    assert_eq!(text(&ns.get(POD, "a.b").await, "/spec/hostname"), "");
    let long = "a".repeat(64);
    for name in ["c.d", long.as_str()] {
        let asked = sandbox(name, json!({ "service": true })).to_string();
        let output = ns.kubectl_output(&["create", "-f", "-"], Some(&asked)).await;
        assert!(output.contains("metadata.name") && output.contains("DNS label"), "{output}");
    }
    let service = r#"{"spec":{"service":true}}"#;
    let patch = ["patch", "sandboxes.agents.x-k8s.io", "a.b", "--type=merge", "-p", service];
    let output = ns.kubectl_output(&patch, None).await;
    assert!(output.contains("metadata.name"), "{output}");
    for (name, service) in [("plain", false), ("served", true)] {
        ns.create(template(name, json!({ "service": service }))).await;
        ns.create(pool(name, name, json!({ "replicas": 0 }))).await;
    }
    ns.create(claim("e.f", "plain", json!({}))).await;
    let done = ns.until(CLAIM, "e.f", "Ready", ready).await;
    assert_eq!(text(&done, "/status/sandbox/name"), "e.f");
    ns.create(claim("g.h", "served", json!({}))).await;
    ns.until(CLAIM, "g.h", "says why", |c| reason(c, "Ready") == "InvalidConfiguration").await;
    assert!(ns.find(SANDBOX, "g.h").await.is_none());
}

async fn claim_with_errors_is_created_and_says_why() {
    let ns = namespace("contract-claims").await;
    let open = json!({ "volumeClaimTemplatesPolicy": "Overrides", "envVarsInjectionPolicy": "Overrides" });
    ns.create(template("open", open)).await;
    ns.create(pool("open", "open", json!({ "replicas": 0 }))).await;
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    let volume = json!({ "metadata": { "name": "data" }, "spec": spec });
    let (nameless, incomplete) = (json!({ "spec": spec }), json!({ "metadata": { "name": "data" }, "spec": {} }));
    let volumes = "VolumeClaimTemplatesError";
    for (name, spec, wanted) in [
        ("nameless", json!({ "volumeClaimTemplates": [nameless] }), volumes),
        ("twice", json!({ "volumeClaimTemplates": [volume, volume] }), volumes),
        ("incomplete", json!({ "volumeClaimTemplates": [incomplete] }), volumes),
        ("env", json!({ "env": [{ "name": "A=B", "value": "1" }] }), "EnvVarsInjectionRejected"),
    ] {
        let asked = claim(name, "open", spec).to_string();
        let told = ns.kubectl_output(&["create", "-f", "-"], Some(&asked)).await;
        assert!(told.contains("Warning: spec.") && told.contains("will not become Ready"), "{told}");
        ns.until(CLAIM, name, "says why", |c| reason(c, "Ready") == wanted).await;
        assert!(ns.find(SANDBOX, name).await.is_none());
    }
}
