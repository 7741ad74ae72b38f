//! Replies that come after the watch has shown the deletion of their object leave nothing behind, and a touch of a warm
//! Sandbox stays although somebody undoes it.

use serde_json::json;

use super::*;
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
            // Refusals and lost writes have an end of their own.
            world.pending_writes.forget_old(now + jiff::SignedDuration::from_hours(24), std::time::Duration::ZERO);
            let case = format!("{action:?} {outcome:?}");
            assert!(world.objects.is_empty() && world.status_written.is_empty(), "{case}");
            assert!(world.tombstones.is_empty() && world.awaiting_watch.is_empty(), "{case}");
            assert!(world.pending_writes.is_empty(), "{case}: {:?}", world.pending_writes);
        }
    }
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
    world.set_bindings(crate::binding::Bindings::default());
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
