//! The children of a Sandbox on a real API server: what somebody changes is restored, what an orphaning deletion left
//! behind is taken back, and what somebody prepared reaches no claim.

use serde_json::{Value, json};

use super::json::{controller, label, message, ready, reason, text, uid};
use super::kinds::{CLAIM, POD, SANDBOX, SERVICE, VOLUME_CLAIM};
use super::manifests::{claim, disk, object, pool, sandbox, template};
use super::setup::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        changed_service_and_volume_claim_are_restored,
        sandbox_takes_back_the_children_of_an_orphaning_deletion,
        claim_gets_nothing_that_somebody_prepared_under_its_name,
    ]
}

/// A Sandbox with a Service and a volume claim.
pub(super) fn with_children() -> Value {
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

/// Each prepared object is as the operator would make it at the moment at which the claim finds it. A pod has had another
/// image before, and a volume claim may have been filled.
async fn claim_gets_nothing_that_somebody_prepared_under_its_name() {
    let ns = namespace("prepared").await;
    let offered = json!({ "agents.x-k8s.io/adoptable": "true" });
    let offer = |mut object: Value| {
        object["metadata"]["labels"] = offered.clone();
        object
    };
    ns.create(template("t", json!({ "volumeClaimTemplates": [disk("data", "1Gi")] }))).await;
    ns.create(pool("p", "t", json!({ "replicas": 0 }))).await;

    // A Sandbox that equals the template, and whose pod ran another image for a moment.
    let prepared = sandbox("whole", json!({ "service": false, "volumeClaimTemplates": [disk("data", "1Gi")] }));
    let prepared = ns.create(offer(prepared)).await;
    ns.until(SANDBOX, "whole", "Ready", ready).await;
    for image in ["other:1", "agent:1"] {
        ns.merge(POD, "whole", json!({ "spec": { "containers": [{ "name": "agent", "image": image }] } })).await;
    }
    ns.create(claim("whole", "p", json!({}))).await;
    let conflict = ns.until(CLAIM, "whole", "reports it", |c| reason(c, "Ready") == "AdoptionConflict").await;
    assert!(message(&conflict, "Ready").contains("delete the Sandbox"), "{}", message(&conflict, "Ready"));
    let still = ns.get(SANDBOX, "whole").await;
    assert_eq!((uid(&still), controller(&still)), (uid(&prepared), ""));
    ns.delete(SANDBOX, "whole").await;
    ns.until(CLAIM, "whole", "Ready", ready).await;

    // The pod and the volume claim of the Sandbox that the claim will get.
    let container = json!({ "name": "agent", "image": "agent:1" });
    let spec = json!({
        "hostname": "parts", "automountServiceAccountToken": false, "enableServiceLinks": false,
        "containers": [container],
        "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data-parts" } }],
    });
    let pod = ns.create(offer(object(POD, "parts", spec))).await;
    let filled = ns.create(offer(object(VOLUME_CLAIM, "data-parts", disk("data", "1Gi")["spec"].clone()))).await;
    ns.create(claim("parts", "p", json!({}))).await;
    let names = |kind: &'static str, name: &'static str| {
        move |c: &Value| {
            let problem = message(c, "Ready");
            reason(c, "Ready") == "ReconcilerError"
                && problem.contains(&format!("{kind} {name} exists and does not belong to this Sandbox"))
                && problem.contains("takes over no Pod and no PersistentVolumeClaim: delete it")
        }
    };
    ns.until(CLAIM, "parts", "names the pod", names("Pod", "parts")).await;
    for (kind, name, made) in [(POD, "parts", &pod), (VOLUME_CLAIM, "data-parts", &filled)] {
        let still = ns.get(kind, name).await;
        assert_eq!((uid(&still), controller(&still)), (uid(made), ""), "{kind:?}");
    }
    ns.delete(POD, "parts").await;
    ns.until(CLAIM, "parts", "names the volume claim", names("PersistentVolumeClaim", "data-parts")).await;
    assert_eq!(controller(&ns.get(VOLUME_CLAIM, "data-parts").await), "");
    assert!(ns.find(POD, "parts").await.is_none(), "no pod mounts the prepared volume claim");
    ns.delete(VOLUME_CLAIM, "data-parts").await;
    let done = ns.until(CLAIM, "parts", "Ready", ready).await;
    assert_eq!(text(&done, "/status/sandbox/name"), "parts");
    assert_ne!(uid(&ns.get(POD, "parts").await), uid(&pod));
    assert_ne!(uid(&ns.get(VOLUME_CLAIM, "data-parts").await), uid(&filled));
}
