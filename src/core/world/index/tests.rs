//! Compares the indexes of the pools' Sandboxes with a computation from all objects.

mod classes;
mod cordons;
mod markers;
mod readiness;

use std::collections::BTreeMap;

use paddock_api::names::group;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::world::Observed;

/// A delivery of a watch, about one of three Sandboxes or one of three pods.
#[derive(Clone, Debug)]
enum Step {
    /// A Sandbox: owned by one of two pools, by a claim or by no object. It is running or suspended, and maybe
    /// terminating.
    Sandbox {
        name: u8,
        uid: u8,
        owner: u8,
        runs: bool,
        terminating: bool,
    },
    /// A pod whose owner reference has the UID of one of the Sandboxes and the name of a kind.
    Pod {
        name: u8,
        sandbox: u8,
        uid: u8,
        kind: &'static str,
    },
    Gone {
        kind: Kind,
        name: u8,
    },
    Listed {
        kind: Kind,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Sandbox), Just(Kind::Pod)];
    prop_oneof![
        4 => (0..3_u8, 0..2_u8, 0..5_u8, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(name, uid, owner, runs, terminating)| Step::Sandbox { name, uid, owner, runs, terminating }),
        4 => (0..3_u8, 0..3_u8, 0..2_u8, prop_oneof![4 => Just("Sandbox"), 1 => Just("SandboxClaim")])
            .prop_map(|(name, sandbox, uid, kind)| Step::Pod { name, sandbox, uid, kind }),
        2 => (kind.clone(), 0..3_u8).prop_map(|(kind, name)| Step::Gone { kind, name }),
        1 => kind.prop_map(|kind| Step::Listed { kind }),
    ]
}

fn object(kind: Kind, name: &str, uid: &str, version: u64, owner: Value, mut document: Value) -> Object {
    let terminating = document["terminating"].take();
    document["metadata"] = json!({
        "name": name, "namespace": "ns", "uid": uid, "resourceVersion": version.to_string(),
        "creationTimestamp": "2030-01-01T00:00:00Z", "ownerReferences": [owner], "deletionTimestamp": terminating,
    });
    if owner_is_none(&document) {
        document["metadata"]["ownerReferences"] = json!([]);
    }
    Object::from_json(kind, document).expect("an object")
}

fn owner_is_none(document: &Value) -> bool {
    document["metadata"]["ownerReferences"][0].is_null()
}

fn owner(kind: &str, group: &str, name: &str, uid: &str) -> Value {
    json!({ "apiVersion": format!("{group}/v1beta1"), "kind": kind, "name": name, "uid": uid, "controller": true })
}

fn observed(world: &World, step: &Step, version: u64) -> Option<Observed> {
    Some(match step {
        Step::Sandbox { name, uid, owner: of, runs, terminating } => {
            let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
            let of = match of {
                0 => Value::Null,
                1 => owner("SandboxClaim", group::EXTENSIONS, "c", "uid-of-c"),
                // Two pools, and a forgery that has the name of one pool and the UID of the other.
                2 => owner("SandboxWarmPool", group::EXTENSIONS, "p", "uid-of-p"),
                3 => owner("SandboxWarmPool", group::AGENTS, "q", "uid-of-q"),
                _ => owner("SandboxWarmPool", group::EXTENSIONS, "p", "uid-of-q"),
            };
            let spec = json!({ "operatingMode": if *runs { "Running" } else { "Suspended" }, "podTemplate": pod });
            let document = json!({ "spec": spec, "terminating": terminating.then_some("2030-01-01T00:00:01Z") });
            let (name, uid) = (format!("s{name}"), format!("uid-of-s{name}-{uid}"));
            Observed::Applied(object(Kind::Sandbox, &name, &uid, version, of, document))
        }
        Step::Pod { name, sandbox, uid, kind } => {
            let of = owner(kind, group::AGENTS, &format!("s{sandbox}"), &format!("uid-of-s{sandbox}-{uid}"));
            let (name, uid) = (format!("s{name}"), format!("uid-of-pod-{version}"));
            Observed::Applied(object(Kind::Pod, &name, &uid, version, of, json!({ "spec": {} })))
        }
        Step::Gone { kind, name } => {
            let object = world.get(&Key::new(*kind, "ns", format!("s{name}")))?;
            Observed::Deleted(Object::clone(object))
        }
        // A list that does not contain the first object.
        Step::Listed { kind } => {
            Observed::Listed(*kind, world.of_kind(*kind).skip(1).map(|o| Object::clone(o)).collect())
        }
    })
}

/// The Sandboxes of each pool, with their pods.
type Found = BTreeMap<(Key, Arc<str>), Vec<(Key, Option<Key>)>>;

/// Both indexes, computed from the objects alone.
fn scan(world: &World) -> (Found, BTreeSet<Key>) {
    let mut members: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut without_pod = BTreeSet::new();
    for sandbox in world.of_kind(Kind::Sandbox) {
        let key = &sandbox.key;
        let own = |pod: &&Arc<Object>| {
            let owner = pod.meta.controller.as_ref();
            owner.is_some_and(|o| o.uid == sandbox.meta.uid && &*o.kind == "Sandbox" && o.name == key.name)
        };
        let pods: Vec<_> = world.of_kind(Kind::Pod).filter(own).collect();
        if sandbox.runs() && sandbox.meta.deletion_timestamp.is_none() && pods.is_empty() {
            without_pod.insert(key.clone());
        }
        if let Some(owner) = sandbox.meta.controller.as_ref().filter(|_| sandbox.meta.in_pool()) {
            let kind = if owner.api_version.starts_with(group::EXTENSIONS) { Kind::Pool } else { Kind::SeedPool };
            let pod = pods.iter().find(|pod| pod.key.name == key.name).map(|pod| pod.key.clone());
            let pool = (key.sibling(kind, owner.name.clone()), owner.uid.clone());
            members.entry(pool).or_default().push((key.clone(), pod));
        }
    }
    (members, without_pod)
}

proptest! {
    // A failing case is printed in its smallest form. Write a test of its own for a case that is worth keeping.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_of_pools_is_what_a_look_at_every_object_finds(steps in prop::collection::vec(steps(), 1..60)) {
        let mut world = World::new(crate::settings::Settings::default());
        for (version, step) in (1..).zip(&steps) {
            let Some(observed) = observed(&world, step, version) else { continue };
            let _ = world.observe(observed, Timestamp::UNIX_EPOCH);
            let (members, without_pod) = scan(&world);
            let indexed = |members: &crate::world::state::Members| {
                members.iter().map(|(key, (_, pod))| (key.clone(), pod.as_ref().map(|p| p.key.clone()))).collect()
            };
            let indexed: BTreeMap<_, Vec<_>> = world.members.iter().map(|(pool, m)| (pool.clone(), indexed(m))).collect();
            prop_assert_eq!(indexed, members, "{:?}", step);
            prop_assert_eq!(&world.without_pod, &without_pod, "{:?}", step);
            for (key, (sandbox, pod)) in world.members.values().flatten() {
                for object in [sandbox].into_iter().chain(pod) {
                    prop_assert!(world.get(&object.key).is_some_and(|newest| Arc::ptr_eq(newest, object)), "{key}: old");
                }
            }
        }
    }
}
