//! Claims on a real API server: their allowed fields, claims that are created too early, and the ways in which claims
//! end.

use serde_json::{Value, json};

use super::json::{controller, label, message, name, ready, reason, text, uid};
use super::kinds::{
    CLAIM, CLAIM_V1ALPHA1, NETWORK_POLICY, POD, SANDBOX, SEED_CLAIM, SEED_POOL, SEED_TEMPLATE, TEMPLATE, VOLUME_CLAIM,
};
use super::manifests::{claim, disk, object, pod, pool, sandbox, seconds_from_now, template};
use super::namespace::TestNamespace;
use super::pool::filled;
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        claim_created_before_its_pool_and_template_is_served,
        template_decides_about_environment_of_claims,
        template_decides_about_volume_claims_of_claims,
        labels_and_annotations_reach_the_pod_or_are_refused,
        finished_claim_is_deleted_after_its_ttl,
        retained_claim_deletes_its_sandbox_at_its_end,
        claim_reports_a_deleted_sandbox,
        claim_does_not_adopt_a_foreign_sandbox_of_its_name,
        a_dry_run_reserves_nothing,
        template_gets_a_network_policy,
        managed_fields_of_other_writers_are_kept,
    ]
}

async fn claim_created_before_its_pool_and_template_is_served() {
    let ns = namespace("early").await;
    ns.create(claim("by-pool", "later", json!({}))).await;
    let spec = json!({ "sandboxTemplateRef": { "name": "later" }, "warmpool": "none" });
    ns.create(object(CLAIM_V1ALPHA1, "by-template", spec)).await;
    ns.create(object(SEED_CLAIM, "by-seed", json!({ "templateRef": { "name": "later" } }))).await;
    ns.until(CLAIM, "by-pool", "reports the reason", |c| reason(c, "Ready") == "WarmPoolNotFound").await;
    ns.until(CLAIM, "by-template", "reports the reason", |c| reason(c, "Ready") == "TemplateNotFound").await;
    ns.until(SEED_CLAIM, "by-seed", "reports the reason", |c| reason(c, "Ready") == "TemplateNotFound").await;

    ns.create(pool("later", "later", json!({ "replicas": 1 }))).await;
    ns.until(CLAIM, "by-pool", "reports the next reason", |c| reason(c, "Ready") == "TemplateNotFound").await;
    ns.create(template("later", json!({}))).await;
    ns.create(object(SEED_TEMPLATE, "later", json!({ "template": pod() }))).await;
    for (kind, task) in [(CLAIM, "by-pool"), (CLAIM, "by-template"), (SEED_CLAIM, "by-seed")] {
        ns.until(kind, task, "Ready", ready).await;
    }
}

async fn template_decides_about_environment_of_claims() {
    let ns = namespace("env").await;
    for (name, policy) in [("closed", "Disallowed"), ("open", "Allowed"), ("wide-open", "Overrides")] {
        let container = json!([{ "name": "agent", "image": "agent:1", "env": [{ "name": "A", "value": "template" }] }]);
        let spec = json!({
            "podTemplate": { "spec": { "containers": container } }, "envVarsInjectionPolicy": policy,
        });
        ns.create(template(name, spec)).await;
        let made = ns.create(pool(name, name, json!({ "replicas": 1 }))).await;
        filled(&ns, &made, 1).await;
    }
    let with = |env: Value| json!({ "env": env });
    let refused = [
        ("closed", "b-closed", json!([{ "name": "B", "value": "claim" }]), "Disallowed"),
        ("open", "a-open", json!([{ "name": "A", "value": "claim" }]), "A is set by the template"),
        ("open", "elsewhere", json!([{ "name": "B", "value": "1", "containerName": "none" }]), "no container none"),
    ];
    for (pool, task, env, wanted) in refused {
        ns.create(claim(task, pool, with(env))).await;
        let claim = ns.until(CLAIM, task, "refused", |c| reason(c, "Ready") == "EnvVarsInjectionRejected").await;
        assert!(message(&claim, "Ready").contains(wanted), "{task}: {}", message(&claim, "Ready"));
        assert!(ns.find(SANDBOX, task).await.is_none());
    }
    for (pool, task, variable) in [("open", "b-open", "B"), ("wide-open", "a-wide", "A")] {
        ns.create(claim(task, pool, with(json!([{ "name": variable, "value": "claim" }])))).await;
        ns.until(CLAIM, task, "Ready", ready).await;
        let pod = ns.get(POD, task).await;
        let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        let values: Vec<&Value> = env.iter().filter(|e| e["name"] == variable).map(|e| &e["value"]).collect();
        assert_eq!(values, [&json!("claim")], "{task}");
        assert_eq!(label(&ns.get(SANDBOX, task).await, "agents.x-k8s.io/launch-type"), "cold");
    }
}

async fn template_decides_about_volume_claims_of_claims() {
    let ns = namespace("disks").await;
    for (name, policy) in [("closed", "Disallowed"), ("open", "Allowed"), ("wide-open", "Overrides")] {
        let spec = json!({ "volumeClaimTemplates": [disk("home", "1Gi")], "volumeClaimTemplatesPolicy": policy });
        ns.create(template(name, spec)).await;
        ns.create(pool(name, name, json!({ "replicas": 0 }))).await;
    }
    let with = |disk: Value| json!({ "volumeClaimTemplates": [disk] });
    for (pool, task, disk) in
        [("closed", "more-closed", disk("more", "1Gi")), ("open", "home-open", disk("home", "2Gi"))]
    {
        ns.create(claim(task, pool, with(disk))).await;
        ns.until(CLAIM, task, "refused", |c| reason(c, "Ready") == "VolumeClaimTemplatesError").await;
        assert!(ns.find(SANDBOX, task).await.is_none());
    }
    // The webhook knows the template, and warns at once.
    let copy = json!({ "kind": "PersistentVolumeClaim", "name": "disk-of-somebody-else" });
    let mut copies = disk("more", "1Gi");
    copies["spec"]["dataSource"] = copy;
    for (disk, problem) in [(copies, "spec.dataSource must be left out"), (disk("home", "2Gi"), "is the template's")] {
        let asked = claim("copy", "open", with(disk)).to_string();
        let told = ns.kubectl_output(&["create", "--dry-run=server", "-f", "-"], Some(&asked)).await;
        assert!(told.contains("Warning: spec.volumeClaimTemplates: ") && told.contains(problem), "{told}");
    }
    ns.create(claim("more", "open", with(disk("more", "3Gi")))).await;
    ns.create(claim("larger", "wide-open", with(disk("home", "2Gi")))).await;
    for task in ["more", "larger"] {
        ns.until(CLAIM, task, "Ready", ready).await;
    }
    for (claim, size) in [("home-more", "1Gi"), ("more-more", "3Gi"), ("home-larger", "2Gi")] {
        let volume = ns.get(VOLUME_CLAIM, claim).await;
        assert_eq!(text(&volume, "/spec/resources/requests/storage"), size, "{claim}");
    }
}

async fn labels_and_annotations_reach_the_pod_or_are_refused() {
    let ns = namespace("metadata").await;
    let labelled = json!({ "podTemplate": { "metadata": { "labels": { "team.sandbox.users.io/name": "blue" } } } });
    ns.create(template("t", labelled)).await;
    let made = ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    filled(&ns, &made, 1).await;
    let with = |labels: Value, annotations: Value| json!({ "additionalPodMetadata": { "labels": labels, "annotations": annotations } });
    let good = with(json!({ "sandbox.users.io/user": "ada" }), json!({ "sandbox.users.io/note": "hello" }));
    ns.create(claim("good", "p", good)).await;
    let done = ns.until(CLAIM, "good", "Ready", ready).await;
    let sandbox = text(&done, "/status/sandbox/name").to_owned();
    ns.until(POD, &sandbox, "labelled", |p| {
        label(p, "sandbox.users.io/user") == "ada" && super::json::annotation(p, "sandbox.users.io/note") == "hello"
    })
    .await;
    for (task, labels, annotations) in [
        ("other-domain", json!({ "app": "mine" }), json!({})),
        ("override", json!({ "team.sandbox.users.io/name": "red" }), json!({})),
        ("reserved", json!({}), json!({ "agents.x-k8s.io/pod-name": "yours" })),
        ("other-annotation", json!({}), json!({ "example.com/note": "hello" })),
    ] {
        ns.create(claim(task, "p", with(labels, annotations))).await;
        ns.until(CLAIM, task, "refused", |c| reason(c, "Ready") == "InvalidMetadata").await;
        assert!(ns.find(SANDBOX, task).await.is_none());
    }
}

/// A claim with a Sandbox whose pod has finished.
async fn finished(ns: &TestNamespace, task: &str, lifecycle: Value) -> String {
    ns.create(claim(task, "p", json!({ "lifecycle": lifecycle }))).await;
    let done = ns.until(CLAIM, task, "Ready", ready).await;
    let sandbox = text(&done, "/status/sandbox/name").to_owned();
    ns.merge_status(POD, &sandbox, json!({ "status": { "phase": "Succeeded" } })).await;
    sandbox
}

async fn runs_once(ns: &TestNamespace) {
    ns.create(template("t", json!({ "podTemplate": { "spec": { "restartPolicy": "Never" } } }))).await;
    ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
}

async fn finished_claim_is_deleted_after_its_ttl() {
    let ns = namespace("ttl").await;
    runs_once(&ns).await;
    let lifecycle = json!({ "ttlSecondsAfterFinished": 10, "shutdownPolicy": "Delete" });
    let sandbox = finished(&ns, "short", lifecycle).await;
    ns.until(CLAIM, "short", "Finished", |c| reason(c, "Finished") == "PodSucceeded").await;
    ns.until_gone(CLAIM, "short").await;
    ns.until_gone(SANDBOX, &sandbox).await;

    let lifecycle = json!({ "ttlSecondsAfterFinished": 1, "shutdownPolicy": "DeleteForeground" });
    let sandbox = finished(&ns, "foreground", lifecycle).await;
    ns.until_gone(CLAIM, "foreground").await;
    assert!(ns.find(SANDBOX, &sandbox).await.is_none(), "what is deleted in the foreground goes last");
}

async fn retained_claim_deletes_its_sandbox_at_its_end() {
    let ns = namespace("claim-retain").await;
    runs_once(&ns).await;
    let sandbox = finished(&ns, "kept", json!({ "ttlSecondsAfterFinished": 1 })).await;
    ns.until(CLAIM, "kept", "over", |c| reason(c, "Ready") == "ClaimExpired").await;
    ns.until_gone(SANDBOX, &sandbox).await;
    ns.create(claim("timed", "p", json!({ "lifecycle": { "shutdownTime": seconds_from_now(20) } }))).await;
    let done = ns.until(CLAIM, "timed", "Ready", ready).await;
    ns.until(CLAIM, "timed", "over", |c| reason(c, "Ready") == "ClaimExpired").await;
    ns.until_gone(SANDBOX, text(&done, "/status/sandbox/name")).await;
}

async fn claim_reports_a_deleted_sandbox() {
    let ns = namespace("missing").await;
    ns.create(template("t", json!({}))).await;
    ns.create(pool("p", "t", json!({ "replicas": 1 }))).await;
    ns.create(claim("task", "p", json!({}))).await;
    let done = ns.until(CLAIM, "task", "Ready", ready).await;
    ns.delete(SANDBOX, text(&done, "/status/sandbox/name")).await;
    ns.until(CLAIM, "task", "missed", |c| reason(c, "Ready") == "SandboxMissing").await;
}

async fn claim_does_not_adopt_a_foreign_sandbox_of_its_name() {
    let ns = namespace("namesake").await;
    ns.create(template("t", json!({}))).await;
    let theirs = ns.create(sandbox("task", json!({}))).await;
    let spec = json!({ "sandboxTemplateRef": { "name": "t" }, "warmpool": "none" });
    ns.create(object(CLAIM_V1ALPHA1, "task", spec)).await;
    ns.until(CLAIM, "task", "reports it", |c| reason(c, "Ready") == "AdoptionConflict").await;
    let still = ns.get(SANDBOX, "task").await;
    assert_eq!((uid(&still), controller(&still)), (uid(&theirs), ""));
    ns.delete(SANDBOX, "task").await;
    ns.until(CLAIM, "task", "Ready", ready).await;
}

async fn a_dry_run_reserves_nothing() {
    let ns = namespace("dry-run").await;
    ns.create(object(SEED_TEMPLATE, "t", json!({ "template": pod() }))).await;
    let spec = json!({ "templateRef": { "name": "t" }, "minReady": 1, "maxReady": 1 });
    let made = ns.create(object(SEED_POOL, "p", spec)).await;
    let full = filled(&ns, &made, 1).await;
    let version = |all: &super::namespace::Objects| -> Vec<String> {
        all.values().map(|s| text(s, "/metadata/resourceVersion").to_owned()).collect()
    };
    let before = version(&ns.list(SANDBOX).await);
    let dry = ns.dry_run(&object(SEED_CLAIM, "never", json!({ "templateRef": { "name": "t" } }))).await.unwrap();
    assert_eq!(name(&dry), "never");
    assert!(dry["metadata"]["annotations"]["agents.x-k8s.io/sandbox-name"].is_null(), "{dry}");
    assert!(ns.find(SEED_CLAIM, "never").await.is_none());
    // A real claim gets the same Sandbox, which was not written in between.
    assert_eq!(version(&ns.list(SANDBOX).await), before);
    ns.create(object(SEED_CLAIM, "real", json!({ "templateRef": { "name": "t" } }))).await;
    let done = ns.until(SEED_CLAIM, "real", "Ready", ready).await;
    assert!(full.contains_key(text(&done, "/status/sandbox/name")));
}

async fn template_gets_a_network_policy() {
    let ns = namespace("network").await;
    ns.create(template("plain", json!({}))).await;
    let own = json!({ "networkPolicy": { "egress": [{ "to": [{ "ipBlock": { "cidr": "192.0.2.0/24" } }] }] } });
    ns.create(template("own", own)).await;
    ns.create(template("open", json!({ "networkPolicyManagement": "Unmanaged" }))).await;

    let fence = ns.until(NETWORK_POLICY, "plain-network-policy", "there", |_| true).await;
    let spec = &fence["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    let blocked = spec["egress"].to_string();
    for range in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7"] {
        assert!(blocked.contains(range), "{range} is not excepted: {blocked}");
    }
    assert!(blocked.contains("kube-dns"), "the cluster's DNS is let through: {blocked}");
    assert!(spec["ingress"].to_string().contains("sandbox-router"), "{spec}");
    let theirs = ns.until(NETWORK_POLICY, "own-network-policy", "there", |_| true).await;
    assert_eq!(text(&theirs, "/spec/egress/0/to/0/ipBlock/cidr"), "192.0.2.0/24");

    // The policy selects the pods of its template.
    ns.create(pool("p", "plain", json!({ "replicas": 1 }))).await;
    let pods = ns.until_all(POD, "one", |pods| pods.len() == 1).await;
    let selected = spec["podSelector"]["matchLabels"].as_object().unwrap();
    assert!(!selected.is_empty());
    for (key, value) in selected {
        assert_eq!(label(pods.values().next().unwrap(), key), value.as_str().unwrap());
    }
    // A user's change is reverted, and a policy that is no longer managed is deleted.
    ns.merge(NETWORK_POLICY, "plain-network-policy", json!({ "spec": { "egress": [{}] } })).await;
    let fenced = |p: &Value| p["spec"]["egress"].to_string().contains("10.0.0.0/8");
    ns.until(NETWORK_POLICY, "plain-network-policy", "as before", fenced).await;
    ns.merge(TEMPLATE, "plain", json!({ "spec": { "networkPolicyManagement": "Unmanaged" } })).await;
    ns.until_gone(NETWORK_POLICY, "plain-network-policy").await;
    assert!(ns.find(NETWORK_POLICY, "open-network-policy").await.is_none());
}

/// If the operator was the only writer of a taken Sandbox, the API server does not have to record which manager wrote
/// which field. If there were other writers, their next server-side apply depends on the record.
async fn managed_fields_of_other_writers_are_kept() {
    let ns = namespace("managers").await;
    ns.create(template("base", json!({}))).await;
    let managers = |object: &Value| -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array();
        entries.into_iter().flatten().map(|entry| text(entry, "/manager").to_owned()).collect()
    };
    for (task, shared) in [("alone", false), ("shared", true)] {
        let made = ns.create(pool(task, "base", json!({ "replicas": 1 }))).await;
        let warm = filled(&ns, &made, 1).await.into_keys().find(|name| name.starts_with(task)).expect("a warm one");
        let annotated = |value: Option<&str>| {
            // A label would make the pool replace the Sandbox.
            let annotations = value.map(|value| json!({ "team": value }));
            let metadata = json!({ "name": &warm, "annotations": annotations });
            json!({ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "metadata": metadata })
        };
        if shared {
            ns.apply("somebody", &annotated(Some("red"))).await.expect("an annotation");
        }
        let before = managers(&ns.get(SANDBOX, &warm).await);
        assert!(before.contains(&"paddock".to_owned()), "{task}: {before:?}");
        ns.create(claim(task, task, json!({}))).await;
        let claim = ns.until(CLAIM, task, "Ready", ready).await;
        assert_eq!(text(&claim, "/status/sandbox/name"), warm);
        let taken = managers(&ns.get(SANDBOX, &warm).await);
        if shared {
            assert!(taken.contains(&"somebody".to_owned()), "{taken:?}");
            let without = ns.apply("somebody", &annotated(None)).await.expect("no annotation");
            assert_eq!(text(&without, "/metadata/annotations/team"), "", "what is applied no more goes");
        } else {
            assert!(taken.is_empty(), "{taken:?}");
            let applied = ns.apply("somebody", &annotated(Some("red"))).await.expect("an annotation");
            assert_eq!(text(&applied, "/metadata/annotations/team"), "red");
            assert!(managers(&applied).contains(&"somebody".to_owned()), "it begins again with an apply");
        }
    }
}
