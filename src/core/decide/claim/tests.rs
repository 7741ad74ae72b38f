//! How a claim starts, and for which pools the start counts.

use paddock_api::names::name_hash;

use super::*;
use crate::settings::Settings;
use crate::snapshot::{Refusal, Snapshot};
use crate::world::{Observed, World};

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn object(kind: Kind, name: &str, owner: Option<(Kind, &str)>, mut document: Value) -> Object {
    let (labels, annotations) = (document["labels"].take(), document["annotations"].take());
    document["metadata"] = json!({
        "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "1",
        "creationTimestamp": now().to_string(), "labels": labels, "annotations": annotations,
    });
    if let Some((kind, name)) = owner {
        document["metadata"]["ownerReferences"] = json!([{
            "apiVersion": kind.api_version(), "kind": kind.name(), "name": name, "uid": format!("uid-{name}"),
            "controller": true,
        }]);
    }
    Object::from_json(kind, document).unwrap()
}

/// The pools `a` and `b` of a template.
fn world() -> World {
    let mut world = World::new(Settings::default());
    let pool = |name| object(Kind::Pool, name, None, json!({ "spec": { "sandboxTemplateRef": { "name": "t" } } }));
    for object in [template("run"), pool("a"), pool("b")] {
        let _ = world.observe(Observed::Applied(object), now());
    }
    world
}

fn pod(command: &str) -> Value {
    json!({ "spec": { "containers": [{ "name": "c", "image": "i", "command": [command] }] } })
}

fn template(command: &str) -> Object {
    let spec = json!({
        "podTemplate": pod(command), "networkPolicyManagement": "Unmanaged", "envVarsInjectionPolicy": "Allowed",
    });
    object(Kind::Template, "t", None, json!({ "spec": spec }))
}

/// Adds a Ready Sandbox to the pool `b`.
fn add_warm(world: &mut World) {
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "r", "message": "",
        "lastTransitionTime": now().to_string() }]);
    let sandbox = json!({
        "labels": { label::TEMPLATE_HASH: template("run").template_hash() },
        "spec": { "podTemplate": pod("run") }, "status": { "conditions": ready },
    });
    let labels = json!({
        label::TEMPLATE_REF_HASH: name_hash("t"),
        label::SANDBOX_NAME_HASH: name_hash("warm"),
        label::SANDBOX_UID: "uid-warm",
    });
    let annotations = json!({ annotation::SAFE_TO_EVICT: "true" });
    let running = json!({
        "labels": labels, "annotations": annotations,
        "spec": { "nodeName": "n" }, "status": { "phase": "Running", "conditions": ready },
    });
    let mut running = object(Kind::Pod, "warm", Some((Kind::Sandbox, "warm")), running);
    running.meta.uid = "uid-pod".into();
    for object in [object(Kind::Sandbox, "warm", Some((Kind::Pool, "b")), sandbox), running] {
        let _ = world.observe(Observed::Applied(object), now());
    }
}

/// The snapshot of a new claim with this spec.
fn snapshot(world: &mut World, spec: &Value) -> ClaimSnapshot {
    let claim = object(Kind::Claim, "c", None, json!({ "spec": spec }));
    let key = claim.key.clone();
    let _ = world.observe(Observed::Applied(claim), now());
    let Snapshot::Claim(snapshot) = world.snapshot(&key, now()) else { panic!("no claim") };
    *snapshot
}

/// The start that a decision gives to a claim: its kind, and the pools that it counts for.
fn start(snapshot: &ClaimSnapshot) -> Option<(StartKind, Vec<String>)> {
    let ClaimStart { kind, pools } = decide(snapshot, &[]).start?;
    assert!(pools.iter().all(|pool| pool.kind == Kind::Pool), "{pools:?}");
    Some((kind, pools.iter().map(|pool| pool.name.to_string()).collect()))
}

fn counted(kind: StartKind, pools: &[&str]) -> Option<(StartKind, Vec<String>)> {
    Some((kind, pools.iter().map(|name| (*name).to_owned()).collect()))
}

fn from_template(pools: &str) -> Value {
    json!({ "sandboxTemplateRef": { "name": "t" }, "warmpool": pools })
}

#[test]
fn cold_start_counts_for_each_pool_that_the_claim_looked_in() {
    for (spec, pools) in [
        (json!({ "warmPoolRef": { "name": "a" } }), &["a"][..]),
        (from_template("a"), &["a"]),
        (from_template("default"), &["a", "b"]),
        (from_template("none"), &[]),
    ] {
        assert_eq!(start(&snapshot(&mut world(), &spec)), counted(StartKind::NoneReady, pools), "{spec}");
    }
}

#[test]
fn warm_start_counts_for_the_pool_of_the_sandbox() {
    let mut world = world();
    add_warm(&mut world);
    let snapshot = snapshot(&mut world, &from_template("default"));
    assert_eq!(start(&snapshot), counted(StartKind::Warm, &["b"]));
}

#[test]
fn cold_start_beside_a_ready_sandbox_has_a_reason() {
    let of_pool = json!({ "warmPoolRef": { "name": "b" } });
    let mut own = of_pool.clone();
    own["env"] = json!([{ "name": "A", "value": "1" }]);
    let mut ready = world();
    add_warm(&mut ready);
    assert_eq!(start(&snapshot(&mut ready, &own)), counted(StartKind::OwnEnvOrVolumes, &["b"]));

    let mut ready = world();
    add_warm(&mut ready);
    let mut refused = snapshot(&mut ready, &of_pool);
    let refusal = Refusal { status: 403, message: "no".into(), by_policy: true, at: now() };
    refused.refused_take = Some((refused.claim.key.sibling(Kind::Sandbox, "warm"), refusal));
    assert_eq!(start(&refused), counted(StartKind::TakeRefused, &["b"]));

    let mut newer = template("run-more");
    (newer.meta.version, newer.meta.resource_version) = (2, "2".into());
    let mut changed = world();
    add_warm(&mut changed);
    let _ = changed.observe(Observed::Applied(newer), now());
    assert_eq!(start(&snapshot(&mut changed, &of_pool)), counted(StartKind::TemplateChanged, &["b"]));
}
