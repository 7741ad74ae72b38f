//! The replica that reserves Sandboxes, and the time for which it may.

use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::Kind;
use paddock_api::names::name_hash;
use paddock_core::admission::{Entry, Phase, Verb, Write};
use paddock_core::object::Object;
use paddock_core::settings::Settings;
use paddock_core::world::{Observed, World};
use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn object(kind: Kind, name: &str, owner: Option<Kind>, mut document: Value) -> Object {
    document["metadata"] = json!({
        "name": name, "namespace": "ns", "uid": format!("{kind:?}-{name}"), "resourceVersion": "1",
        "creationTimestamp": NOW.to_string(), "labels": document["labels"].take(),
        "annotations": document["annotations"].take(),
    });
    if let Some(owner) = owner {
        document["metadata"]["ownerReferences"] = json!([{
            "apiVersion": owner.api_version(), "kind": owner.name(), "name": "a", "uid": format!("{owner:?}-a"),
            "controller": true,
        }]);
    }
    Object::from_json(kind, document).expect("an object")
}

/// A World with a pool and two Ready Sandboxes, of which one can be reserved.
fn world() -> SharedWorld {
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let condition = json!([{ "type": "Ready", "status": "True", "reason": "r", "message": "",
        "lastTransitionTime": NOW.to_string() }]);
    let template = object(Kind::Template, "a", None, json!({ "spec": { "podTemplate": pod } }));
    let hash = template.template_hash().to_owned();
    let pool = json!({ "spec": { "replicas": 1, "sandboxTemplateRef": { "name": "a" } } });
    let sandbox = json!({
        "labels": { "agents.x-k8s.io/sandbox-template-hash": hash },
        "spec": { "podTemplate": pod }, "status": { "conditions": condition },
    });
    let running = |name: &str| {
        json!({
            "labels": {
                "agents.x-k8s.io/sandbox-template-ref-hash": name_hash("a"),
                "agents.x-k8s.io/sandbox-name-hash": name_hash(name),
                "policy.paddock.dev/sandbox-uid": format!("Sandbox-{name}"),
            },
            "annotations": { "cluster-autoscaler.kubernetes.io/safe-to-evict": "true" },
            "spec": { "nodeName": "n" }, "status": { "phase": "Running", "conditions": condition },
        })
    };
    let mut pod_of_b = object(Kind::Pod, "b", Some(Kind::Sandbox), running("b"));
    if let Some(owner) = &mut pod_of_b.meta.controller {
        let owner = std::sync::Arc::make_mut(owner);
        (owner.name, owner.uid) = ("b".into(), "Sandbox-b".into());
    }
    let mut world = World::new(Settings::default());
    for object in [
        template,
        object(Kind::Pool, "a", None, pool),
        object(Kind::Sandbox, "a", Some(Kind::Pool), sandbox.clone()),
        object(Kind::Pod, "a", Some(Kind::Sandbox), running("a")),
        object(Kind::Sandbox, "b", Some(Kind::Pool), sandbox),
        pod_of_b,
    ] {
        let _ = world.observe(Observed::Applied(object), NOW);
    }
    SharedWorld::new(world)
}

fn review() -> Review {
    Review {
        phase: Phase::Mutate,
        entry: Entry::OwnKinds,
        operation: Verb::Create,
        group: Kind::Claim.group().to_owned(),
        version: Kind::Claim.version().to_owned(),
        kind: Kind::Claim.name().to_owned(),
        resource: Kind::Claim.plural().to_owned(),
        subresource: None,
        namespace: "ns".to_owned(),
        name: "c".to_owned(),
        object: json!({ "metadata": { "name": "c" }, "spec": { "warmPoolRef": { "name": "a" } } }),
        old_object: Value::Null,
        write: Write::default(),
        dry_run: false,
        username: "somebody".to_owned(),
        groups: vec![],
        now: NOW,
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_reserves_for_as_long_as_it_may_write() {
    let fence = Fence::closed();
    let reservations = LeaderReservations::new(world(), fence.clone());
    assert_eq!(reservations.reserve(&review()), None, "it has never led");
    fence.extend(Instant::now() + Duration::from_secs(10));
    assert_eq!(reservations.reserve(&review()).as_deref(), Some("a"));
    reservations.release(&review(), "a");
    advance(Duration::from_secs(10)).await;
    assert_eq!(reservations.reserve(&review()), None, "its lease is over");
    fence.extend(Instant::now() + Duration::from_secs(10));
    assert_eq!(reservations.reserve(&review()).as_deref(), Some("a"), "and renewed");
    reservations.release(&review(), "a");
    fence.revoke();
    assert_eq!(reservations.reserve(&review()), None, "another leads");
}
