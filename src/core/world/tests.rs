//! Replies that come after the watch has shown the deletion of their object leave nothing behind, and a touch of a warm
//! Sandbox stays although somebody undoes it.

use serde_json::json;

use super::*;
use crate::binding::{Bindings, Selector};
use crate::isolation::{HostAccessSet, IsolationRule};
use crate::settings::Settings;

fn sandbox(version: u64) -> Object {
    let document = json!({
        "metadata": {
            "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": version.to_string(),
            "creationTimestamp": "2030-01-01T00:00:00Z",
        },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
    });
    Object::from_json(Kind::Sandbox, document).unwrap()
}

#[test]
fn reply_after_the_deletion_leaves_no_key_behind() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let patch = |status: bool, version: Option<&str>| Action::Patch {
        uid: "u".to_owned(),
        resource_version: version.map(str::to_owned),
        status,
        body: json!({}),
    };
    let delete = || Action::Delete { uid: "u".to_owned(), resource_version: Some("1".to_owned()), foreground: false };
    for action in [patch(true, None), patch(true, Some("1")), patch(false, None), patch(false, Some("1")), delete()] {
        for outcome in [
            Outcome::Stored(Box::new(sandbox(2))),
            Outcome::Conflict,
            Outcome::Gone,
            Outcome::Busy,
            Outcome::Unknown,
            Outcome::Rejected { status: 422, message: "no".to_owned(), by_policy: false },
        ] {
            let mut world = World::new(Settings::default());
            world.observe(Observed::Listed(Kind::Sandbox, vec![sandbox(1)]), now);
            let step = [Op { key: sandbox(1).key, reason: crate::plan::Reason::StatusChanged, action: action.clone() }];
            world.begin(&step).unwrap();
            world.observe(Observed::Deleted(sandbox(3)), now);
            world.finish(&step[0], &outcome, now);
            let is_refused = matches!(outcome, Outcome::Rejected { .. });
            assert!(!is_refused || world.pending_writes.is_empty(), "{action:?}: {:?}", world.pending_writes);
            // Lost writes have an end of their own.
            world.pending_writes.forget_old(now + jiff::SignedDuration::from_hours(24), std::time::Duration::ZERO);
            let case = format!("{action:?} {outcome:?}");
            assert!(world.objects.is_empty() && world.status_written.is_empty(), "{case}");
            assert!(world.tombstones.is_empty() && world.awaiting_watch.is_empty(), "{case}");
            assert!(world.pending_writes.is_empty(), "{case}: {:?}", world.pending_writes);
        }
    }
}

/// A pod that never existed has no deletion, and its name may belong to another Sandbox later.
#[test]
fn refusal_of_a_pod_ends_with_its_sandbox() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let owner = json!([{ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u" }]);
    let body = json!({ "metadata": { "name": "a", "namespace": "ns", "ownerReferences": owner } });
    let pod = Key::new(Kind::Pod, "ns", "a");
    let create = [Op { key: pod.clone(), reason: crate::plan::Reason::PodMissing, action: Action::Create { body } }];
    for is_late in [false, true] {
        let mut world = World::new(Settings::default());
        world.observe(Observed::Listed(Kind::Sandbox, vec![sandbox(1)]), now);
        let finish = |world: &mut World| {
            world.finish(&create[0], &Outcome::rejected(422, "no", false), now);
            world.pending_writes.refusal(&pod).is_some()
        };
        world.begin(&create).unwrap();
        assert!(is_late || finish(&mut world), "a Sandbox that exists reports the refusal");
        world.observe(Observed::Deleted(sandbox(3)), now);
        assert!(!is_late || !finish(&mut world), "nobody reads it");
        assert!(world.pending_writes.is_empty(), "late: {is_late}: {:?}", world.pending_writes);
    }
}

#[test]
fn decision_is_large_if_an_object_is_whose_content_it_repeats() {
    let object = |kind: Kind, name: &str, is_large: bool, spec: serde_json::Value| {
        let note = "x".repeat(if is_large { 200_000 } else { 10 });
        let owner = json!([{
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "s", "uid": "s", "controller": true,
        }]);
        let metadata = json!({
            "name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", "annotations": { "a": note },
            "ownerReferences": if kind == Kind::Pod { owner } else { json!([]) },
        });
        Object::from_json(kind, json!({ "metadata": metadata, "spec": spec })).unwrap()
    };
    let pod = json!({ "containers": [{ "name": "c", "image": "i" }] });
    for is_large in [false, true] {
        let mut world = World::new(Settings::default());
        let template = json!({ "podTemplate": { "spec": pod } });
        for object in [
            object(Kind::Template, "t", is_large, template.clone()),
            object(Kind::Pool, "p", false, json!({ "replicas": 1, "sandboxTemplateRef": { "name": "t" } })),
            object(Kind::Claim, "c", false, json!({ "warmPoolRef": { "name": "p" } })),
            object(Kind::Sandbox, "s", false, template),
            object(Kind::Pod, "s", is_large, pod.clone()),
        ] {
            world.observe(Observed::Applied(object), Timestamp::UNIX_EPOCH);
        }
        for (kind, name) in [(Kind::Template, "t"), (Kind::Pool, "p"), (Kind::Claim, "c"), (Kind::Sandbox, "s")] {
            assert_eq!(world.is_large(&Key::new(kind, "ns", name)), is_large, "{kind:?}");
        }
    }
    assert!(!World::new(Settings::default()).is_large(&Key::new(Kind::Sandbox, "ns", "none")));
}

/// A warm Sandbox and its pod, as the operator makes them.
fn warm(uid: &str, version: u64, pod_labels: &serde_json::Value) -> (Object, Object) {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let owner = json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": "p-1",
        "controller": true,
    });
    let document = json!({
        "metadata": {
            "name": "a", "namespace": "ns", "uid": uid, "resourceVersion": version.to_string(), "generation": 1,
            "creationTimestamp": "2030-01-01T00:00:00Z", "ownerReferences": [owner],
        },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "DependenciesReady", "message": "Pod is Ready",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }] },
    });
    let sandbox = Object::from_json(Kind::Sandbox, document).unwrap();
    let model = sandbox.sandbox().unwrap().spec.as_ref().unwrap();
    let plan = crate::manifest::PodPlan {
        name: "a",
        runtime_class: None,
        class_reason: None,
        class_plugin: None,
        kept_dirs: &[],
        now,
        init_image: None,
        isolate: false,
    };
    let mut pod = crate::manifest::pod(&sandbox, model, &plan);
    json_patch::merge(&mut pod["metadata"]["labels"], pod_labels);
    pod["metadata"]["uid"] = "pod".into();
    pod["metadata"]["resourceVersion"] = version.to_string().into();
    pod["metadata"]["generation"] = 1.into();
    (sandbox.clone(), Object::from_json(Kind::Pod, pod).unwrap())
}

#[test]
fn a_touch_stays_when_it_is_undone_and_ends_with_the_sandbox() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut world = World::new(Settings::default());
    let key = Key::new(Kind::Sandbox, "ns", "a");
    let show = |world: &mut World, uid: &str, version: u64, labels: serde_json::Value| {
        let (sandbox, pod) = warm(uid, version, &labels);
        world.observe(Observed::Applied(sandbox), now);
        world.observe(Observed::Applied(pod), now);
        world.touched.get(&key).map(ToString::to_string)
    };
    let label = Some("the label role was added to its Pod".to_owned());
    assert_eq!(show(&mut world, "u", 1, json!({})), None, "as made");
    assert_eq!(show(&mut world, "u", 2, json!({ "role": "db-client" })), label, "touched");
    assert_eq!(show(&mut world, "u", 3, json!({})), label, "undone");
    assert_eq!(show(&mut world, "u", 4, json!({ "other": "x" })), label, "the first touch stays");
    // The bindings decide what counts, so each member is compared again.
    let _ = show(&mut world, "u", 5, json!({}));
    world.set_bindings(Bindings::default());
    assert_eq!(world.touched.get(&key), None, "compared again");
    let revision = super::relations::pool_revision(world.get(&key).unwrap()).unwrap();
    assert_eq!(world.warm.count(&revision), 1, "a claim may take it again");
    // Nobody sees what happens to a pod without its owner.
    let (_, mut detached) = warm("u", 6, &json!({}));
    detached.meta.controller = None;
    world.observe(Observed::Applied(detached), now);
    assert_eq!(show(&mut world, "u", 7, json!({})).as_deref(), Some(crate::as_made::DETACHED));
    // Another Sandbox of the same name has its own past.
    assert_eq!(show(&mut world, "v", 8, json!({})), None, "another Sandbox");
    assert!(show(&mut world, "v", 9, json!({ "role": "db-client" })).is_some());
    world.observe(Observed::Deleted(warm("v", 10, &json!({})).0), now);
    assert!(world.touched.is_empty());
}

/// Pools replace their members, and Sandboxes report their pods, by the rules for their namespace.
#[test]
fn namespace_that_rules_about_isolation_begin_or_cease_to_select_is_reconciled() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut world = World::new(Settings::default());
    let (sandbox, pod) = warm("u", 1, &json!({}));
    let key = sandbox.key.clone();
    world.observe(Observed::Applied(sandbox), now);
    world.observe(Observed::Applied(pod), now);
    let rule = IsolationRule {
        policy: "open".to_owned(),
        namespaces: Selector { match_labels: [("team".to_owned(), "red".to_owned())].into(), ..Selector::default() },
        allow: HostAccessSet::default(),
        runtime_classes: None,
    };
    world.set_bindings(Bindings::default().with_isolation(vec![rule]));
    for (version, team, changes) in [("2", "blue", false), ("3", "red", true), ("4", "red", false), ("5", "blue", true)]
    {
        let metadata = json!({
            "name": "ns", "uid": "ns", "resourceVersion": version, "creationTimestamp": "2030-01-01T00:00:00Z",
            "labels": { "team": team, "other": version },
        });
        let namespace = Object::from_json(Kind::Namespace, json!({ "metadata": metadata })).unwrap();
        let keys = world.observe(Observed::Applied(namespace), now);
        assert_eq!(keys.contains(&key), changes, "{version}: {team}");
    }
}
