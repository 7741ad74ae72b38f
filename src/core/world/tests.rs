//! Replies that come after the watch has shown the deletion of their object leave nothing behind, and a touch of a warm
//! Sandbox stays although somebody undoes it.

use std::sync::Arc;

use paddock_api::names::{annotation, label};
use serde_json::json;

use super::*;
use crate::as_made::DETACHED;
use crate::binding::{Binding, Bindings, Selector};
use crate::isolation::{HostAccessSet, IsolationRule};
use crate::question::{Hook, PluginRef};
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

/// The creation of the pod of [`sandbox`].
fn pod_creation() -> [Op; 1] {
    let owner = json!([{ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u" }]);
    let body = json!({ "metadata": { "name": "a", "namespace": "ns", "ownerReferences": owner } });
    let key = Key::new(Kind::Pod, "ns", "a");
    [Op { key, reason: crate::plan::Reason::PodMissing, action: Action::Create { body } }]
}

/// Another Sandbox of the same name as [`sandbox`].
fn successor() -> Object {
    let mut successor = sandbox(4);
    successor.meta.uid = "v".into();
    successor
}

/// A pod that never existed has no deletion, and its name may belong to another Sandbox later.
#[test]
fn refusal_of_a_pod_ends_with_its_sandbox() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let create = pod_creation();
    let pod = create[0].key.clone();
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

/// A watch that was cut lists the successor of a Sandbox, and never delivers the deletion.
#[test]
fn refusal_of_a_pod_ends_when_a_list_has_the_successor_of_its_sandbox() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let create = pod_creation();
    let mut world = World::new(Settings::default());
    world.observe(Observed::Listed(Kind::Sandbox, vec![sandbox(1)]), now);
    world.begin(&create).unwrap();
    world.finish(&create[0], &Outcome::rejected(422, "no", false), now);
    assert!(world.pending_writes.refusal(&create[0].key).is_some(), "a Sandbox that exists reports the refusal");
    world.observe(Observed::Listed(Kind::Sandbox, vec![successor()]), now);
    assert!(world.pending_writes.is_empty(), "{:?}", world.pending_writes);
}

/// The Sandbox was deleted between the snapshot and the write, so nothing would end a refusal of its pod.
#[test]
fn creation_for_a_controller_that_was_deleted_does_not_begin() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let create = pod_creation();
    let mut world = World::new(Settings::default());
    world.observe(Observed::Listed(Kind::Sandbox, vec![sandbox(1)]), now);
    world.observe(Observed::Deleted(sandbox(3)), now);
    assert_eq!(world.begin(&create), Err(Stale), "deleted");
    world.observe(Observed::Applied(successor()), now);
    assert_eq!(world.begin(&create), Err(Stale), "another Sandbox of the same name");
    assert!(world.pending_writes.is_empty(), "{:?}", world.pending_writes);
}

/// The operator repeats a refused write at least once a minute, and a template may have thousands of Sandboxes.
#[test]
fn refusal_of_a_network_policy_wakes_the_users_of_its_template_once() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let pool = Object::from_json(
        Kind::Pool,
        json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "p", "resourceVersion": "1" },
            "spec": { "replicas": 1, "sandboxTemplateRef": { "name": "t" } },
        }),
    )
    .unwrap();
    let user = pool.key.clone();
    let mut world = World::new(Settings::default());
    world.observe(Observed::Applied(pool), now);
    let key = Key::new(Kind::NetworkPolicy, "ns", "t-network-policy");
    let action = Action::Create { body: json!({}) };
    let step = [Op { key, reason: crate::plan::Reason::NetworkPolicyMissing, action }];
    for (message, is_new) in [("quota", true), ("quota", false), ("quota", false), ("a webhook", true)] {
        world.begin(&step).unwrap();
        let keys = world.finish(&step[0], &Outcome::rejected(403, message, false), now);
        assert_eq!(keys.contains(&user), is_new, "{message}");
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

/// A warm Sandbox and its pod, as the operator makes them, and with more metadata of the pod.
fn warm(uid: &str, version: u64, pod_metadata: &serde_json::Value) -> (Object, Object) {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let owner = json!({
        "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": "p-1",
        "controller": true,
    });
    let document = json!({
        "metadata": {
            "name": "a", "namespace": "ns", "uid": uid, "resourceVersion": version.to_string(), "generation": 1,
            "creationTimestamp": "2030-01-01T00:00:00Z", "ownerReferences": [owner],
            "annotations": { annotation::TEMPLATE_REF: "t" },
        },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "DependenciesReady", "message": "Pod is Ready",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }] },
    });
    let mut sandbox = Object::from_json(Kind::Sandbox, document).unwrap();
    sandbox.template = Some(Arc::new(Key::new(Kind::Template, "ns", "t")));
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
    json_patch::merge(&mut pod["metadata"], pod_metadata);
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
        let (sandbox, pod) = warm(uid, version, &json!({ "labels": labels }));
        world.observe(Observed::Applied(sandbox), now);
        world.observe(Observed::Applied(pod), now);
        world.touched.get(&key).map(|touch| touch.what.to_string())
    };
    let label = Some("the label role was added to its Pod".to_owned());
    assert_eq!(show(&mut world, "u", 1, json!({})), None, "as made");
    assert_eq!(show(&mut world, "u", 2, json!({ "role": "db-client" })), label, "touched");
    assert_eq!(show(&mut world, "u", 3, json!({})), label, "undone");
    assert_eq!(show(&mut world, "u", 4, json!({ "other": "x" })), label, "the first touch stays");
    world.set_bindings(Bindings::default());
    assert_eq!(show(&mut world, "u", 5, json!({})), label, "no comparison shows it");
    // Another Sandbox of the same name has its own past.
    assert_eq!(show(&mut world, "v", 6, json!({})), None, "another Sandbox");
    // Nobody sees what happens to a pod without its owner.
    let (_, mut detached) = warm("v", 7, &json!({}));
    detached.meta.controller = None;
    world.observe(Observed::Applied(detached), now);
    assert_eq!(show(&mut world, "v", 8, json!({})).as_deref(), Some(DETACHED));
    world.set_bindings(Bindings::default());
    assert_eq!(show(&mut world, "v", 9, json!({})).as_deref(), Some(DETACHED), "no comparison shows it");
    world.observe(Observed::Deleted(warm("v", 10, &json!({})).0), now);
    assert!(world.touched.is_empty());
}

/// The number of warm Sandboxes that a claim can take, of the pool and template of this one.
fn claimable(world: &World, sandbox: &Key) -> usize {
    world.warm.count(&super::relations::pool_revision(world.get(sandbox).unwrap()).unwrap())
}

/// After a start, the Pods may be listed before the plugins are loaded.
#[test]
fn label_of_an_admission_plugin_is_a_touch_only_without_the_plugin() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let metadata = json!({ "labels": { "role": "x" }, "annotations": { annotation::PLUGIN_LABELS: "role" } });
    let (sandbox, pod) = warm("u", 1, &metadata);
    let key = sandbox.key.clone();
    let mut world = World::new(Settings::default());
    world.observe(Observed::Applied(sandbox), now);
    world.observe(Observed::Applied(pod), now);
    let plugin = PluginRef { name: "p".to_owned(), digest: "sha256:p".to_owned() };
    let plugins = Bindings::new(vec![Binding::new(plugin, Hook::Admission)]);
    for (bindings, touched) in [(Bindings::default(), true), (plugins, false), (Bindings::default(), true)] {
        world.set_bindings(bindings);
        assert_eq!((world.touched.contains_key(&key), claimable(&world, &key)), (touched, usize::from(!touched)));
    }
}

/// After a start, the lists of Pods, Namespaces, pools and templates arrive in any order.
#[test]
fn marker_is_no_touch_if_its_demand_is_listed_after_the_pod() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let pool = json!({ "replicas": 1, "sandboxTemplateRef": { "name": "t" } });
    let isolation = json!({ label::ISOLATION: "required" });
    let marker = json!({ label::GENERATED_CODE: label::TRUE });
    let demands = [
        (Kind::Namespace, json!({ "name": "ns", "uid": "ns", "labels": isolation }), json!({})),
        (Kind::Pool, json!({ "name": "p", "namespace": "ns", "uid": "p-1", "labels": marker }), pool),
        (
            Kind::Template,
            json!({ "name": "t", "namespace": "ns", "uid": "t", "labels": marker }),
            json!({ "podTemplate": pod }),
        ),
    ];
    for (kind, mut metadata, spec) in demands {
        metadata["resourceVersion"] = "1".into();
        metadata["creationTimestamp"] = "2030-01-01T00:00:00Z".into();
        let demand = Object::from_json(kind, json!({ "metadata": metadata, "spec": spec })).unwrap();
        for other_label in [false, true] {
            let mut labels = marker.clone();
            if other_label {
                labels["role"] = "db-client".into();
            }
            let (sandbox, pod) = warm("u", 1, &json!({ "labels": labels }));
            let key = sandbox.key.clone();
            let mut world = World::new(Settings::default());
            world.observe(Observed::Listed(Kind::Sandbox, vec![sandbox]), now);
            world.observe(Observed::Listed(Kind::Pod, vec![pod]), now);
            assert!(world.touched.contains_key(&key), "{kind:?}: nothing demands the marker yet");
            world.observe(Observed::Listed(kind, vec![demand.clone()]), now);
            assert_eq!(world.touched.contains_key(&key), other_label, "{kind:?}: {:?}", world.touched);
            assert_eq!(claimable(&world, &key), usize::from(!other_label), "{kind:?}");
        }
    }
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
