//! The children of a Sandbox on a real API server: what somebody changes is restored, and what an orphaning deletion left
//! behind is taken back.

use serde_json::{Value, json};

use super::json::{controller, label, ready, text, uid};
use super::kinds::{POD, SANDBOX, SERVICE, VOLUME_CLAIM};
use super::manifests::{disk, sandbox};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![changed_service_and_volume_claim_are_restored, sandbox_takes_back_the_children_of_an_orphaning_deletion]
}

fn with_children() -> Value {
    sandbox("a", json!({ "service": true, "volumeClaimTemplates": [disk("data", "1Gi")] }))
}

async fn changed_service_and_volume_claim_are_restored() {
    let ns = namespace("restored-children").await;
    ns.create(with_children()).await;
    ns.until(SANDBOX, "a", "Ready", ready).await;
    let made = ns.get(SERVICE, "a").await;
    for change in [
        json!({ "spec": { "selector": { "app": "other" } } }),
        json!({ "spec": { "selector": { "agents.x-k8s.io/sandbox-name-hash": "0" } } }),
        json!({ "spec": { "type": "ExternalName", "externalName": "example.com", "clusterIP": null, "clusterIPs": null, "selector": null } }),
    ] {
        let changed = ns.merge(SERVICE, "a", change.clone()).await;
        assert!(changed["spec"] != made["spec"], "{change}");
        let as_made =
            |s: &Value| ["selector", "type", "clusterIP"].iter().all(|field| s["spec"][field] == made["spec"][field]);
        ns.until(SERVICE, "a", &format!("as made, after {change}"), as_made).await;
    }
    let hash = "agents.x-k8s.io/sandbox-name-hash";
    for kind in [SERVICE, VOLUME_CLAIM] {
        let name = if kind == SERVICE { "a" } else { "data-a" };
        ns.merge(kind, name, json!({ "metadata": { "labels": { hash: null, "team": "red" } } })).await;
        let back = ns.until(kind, name, "labelled again", |o| !label(o, hash).is_empty()).await;
        assert_eq!(label(&back, "team"), "red", "a label of somebody else stays");
    }
}

async fn sandbox_takes_back_the_children_of_an_orphaning_deletion() {
    let ns = namespace("orphans").await;
    ns.create(with_children()).await;
    ns.until(SANDBOX, "a", "Ready", ready).await;
    let pod = ns.get(POD, "a").await;
    ns.kubectl(&["delete", "sandbox", "a", "--cascade=orphan"], None).await.expect("deleted");
    for (kind, name) in [(POD, "a"), (SERVICE, "a"), (VOLUME_CLAIM, "data-a")] {
        ns.until(kind, name, "has no owner", |o| controller(o).is_empty()).await;
    }
    let made = ns.create(with_children()).await;
    for (kind, name) in [(POD, "a"), (SERVICE, "a"), (VOLUME_CLAIM, "data-a")] {
        ns.until(kind, name, "belongs to the new Sandbox", |o| controller(o) == uid(&made)).await;
    }
    ns.until(SANDBOX, "a", "Ready", ready).await;
    assert_eq!(uid(&ns.get(POD, "a").await), uid(&pod), "the pod went on");
    let selector = |s: &Value| text(s, "/spec/selector/policy.paddock.dev~1sandbox-uid") == uid(&made);
    ns.until(SERVICE, "a", "selects the pod of the new Sandbox", selector).await;
}
