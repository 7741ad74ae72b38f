//! Tests of reservations: for which claims they are made, how long they last, and their effect on other claims.

use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::Key;
use paddock_api::names::name_hash;
use serde_json::{Value, json};

use super::*;
use crate::admission::Write;
use crate::object::Object;
use crate::plan::{Action, Op, Outcome, Reason};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::time::saturating_add;
use crate::world::Observed;

const GROUP: &str = "extensions.agents.x-k8s.io";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn object(kind: Kind, name: &str, owner: Option<(Kind, &str)>, mut document: Value) -> Object {
    let annotations = document["annotations"].take();
    let labels = document["labels"].take();
    document["metadata"] = json!({
        "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "1",
        "creationTimestamp": at(0).to_string(), "annotations": annotations, "labels": labels,
    });
    if let Some((owner, name)) = owner {
        document["metadata"]["ownerReferences"] = json!([{
            "apiVersion": owner.api_version(), "kind": owner.name(), "name": name, "uid": format!("uid-{name}"),
            "controller": true,
        }]);
    }
    Object::from_json(kind, document).unwrap()
}

/// A pool with two Ready Sandboxes, `a` and `b`.
fn world(settings: Settings) -> World {
    world_of(settings, &["a", "b"])
}

/// A pool with four Ready Sandboxes, of which two can be reserved.
fn larger_world() -> World {
    world_of(Settings::default(), &["a", "b", "c1", "d"])
}

fn world_of(settings: Settings, names: &[&str]) -> World {
    world_with(settings, names, &json!({}))
}

/// The same, with a change of the template's spec that changes no Sandbox.
fn world_with(settings: Settings, names: &[&str], change: &Value) -> World {
    let mut world = World::new(settings);
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i", "command": ["run"] }] } });
    let mut template = json!({ "spec": { "podTemplate": pod } });
    json_patch::merge(&mut template["spec"], change);
    let template = object(Kind::Template, "t", None, template);
    let hash = template.template_hash().to_owned();
    let pool = json!({ "spec": { "replicas": names.len(), "sandboxTemplateRef": { "name": "t" } } });
    let mut all = vec![template, object(Kind::Pool, "p", None, pool)];
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "r", "message": "",
        "lastTransitionTime": at(0).to_string() }]);
    for &name in names {
        let sandbox = json!({
            "labels": { "agents.x-k8s.io/sandbox-template-hash": hash },
            "spec": { "podTemplate": pod }, "status": { "conditions": ready },
        });
        all.push(object(Kind::Sandbox, name, Some((Kind::Pool, "p")), sandbox));
        let labels = json!({
            "agents.x-k8s.io/sandbox-template-ref-hash": name_hash("t"),
            "agents.x-k8s.io/sandbox-name-hash": name_hash(name),
            "policy.paddock.dev/sandbox-uid": format!("uid-{name}"),
        });
        let annotations = json!({ "cluster-autoscaler.kubernetes.io/safe-to-evict": "true" });
        let running = json!({ "labels": labels, "annotations": annotations, "spec": { "nodeName": "n" }, "status": { "phase": "Running", "conditions": ready } });
        let mut running = object(Kind::Pod, name, Some((Kind::Sandbox, name)), running);
        running.meta.uid = format!("pod-{name}").into();
        all.push(running);
    }
    for object in all {
        let _ = world.observe(Observed::Applied(object), at(0));
    }
    world
}

/// A claim under admission with `generateName`, and so without a name.
fn review(now: Timestamp, annotations: Value) -> Review {
    Review {
        phase: Phase::Mutate,
        entry: Entry::OwnKinds,
        operation: Verb::Create,
        group: GROUP.to_owned(),
        version: "v1beta1".to_owned(),
        kind: "SandboxClaim".to_owned(),
        resource: "sandboxclaims".to_owned(),
        subresource: None,
        namespace: "ns".to_owned(),
        name: String::new(),
        object: json!({
            "metadata": { "generateName": "c-", "annotations": annotations },
            "spec": { "warmPoolRef": { "name": "p" } },
        }),
        old_object: Value::Null,
        write: Write::default(),
        dry_run: false,
        username: "somebody".to_owned(),
        groups: vec![],
        now,
    }
}

/// The Sandbox that a claim of this name with this reservation would take.
fn taken(world: &mut World, name: &str, reserved: Option<&str>, now: Timestamp) -> Option<String> {
    let annotations = reserved.map_or(json!({}), |reserved| json!({ "agents.x-k8s.io/sandbox-name": reserved }));
    let claim = json!({ "annotations": annotations, "spec": { "warmPoolRef": { "name": "p" } } });
    let claim = object(Kind::Claim, name, None, claim);
    let key = claim.key.clone();
    let _ = world.observe(Observed::Applied(claim), now);
    let Snapshot::Claim(seen) = world.snapshot(&key, now) else { panic!("no claim") };
    seen.candidate.map(|(sandbox, _)| sandbox.key.name.to_string())
}

/// A claim takes its Sandbox first, and its status follows.
#[test]
fn claim_has_its_sandbox_before_its_status_names_it() {
    let mut world = world(Settings::default());
    for (kind, name) in [(Kind::Claim, "c"), (Kind::Claim, "other")] {
        let claim = object(kind, name, None, json!({ "spec": { "warmPoolRef": { "name": "p" } } }));
        let _ = world.observe(Observed::Applied(claim), at(0));
    }
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let sandbox = object(Kind::Sandbox, "p-a", Some((Kind::Claim, "c")), json!({ "spec": { "podTemplate": pod } }));
    let _ = world.observe(Observed::Applied(sandbox), at(0));
    let of = |resource: &str, name: &str| {
        let review = Review { name: name.to_owned(), resource: resource.to_owned(), ..review(at(1), json!({})) };
        Context::of(&world, &review, None, None).sandbox_of_claim
    };
    assert_eq!(of("sandboxclaims", "c").as_deref(), Some("p-a"));
    for (resource, name) in [("sandboxclaims", "other"), ("sandboxclaims", ""), ("sandboxtemplates", "c")] {
        assert_eq!(of(resource, name), None, "{resource} {name}");
    }
}

#[test]
fn each_claim_takes_the_sandbox_that_is_reserved_for_it() {
    let mut world = larger_world();
    let first = reserve(&mut world, &review(at(1), json!({}))).unwrap();
    let second = reserve(&mut world, &review(at(1), json!({}))).unwrap();
    assert_ne!(first, second);
    let stranger = taken(&mut world, "stranger", None, at(1)).unwrap();
    assert!(![&*first, &*second].contains(&stranger.as_str()), "a claim without a reservation takes another one");
    assert_eq!(taken(&mut world, "c", Some(&second), at(1)).as_deref(), Some(&*second));
}

#[test]
fn reviews_hold_back_at_most_half_of_a_pool_after_a_waste() {
    for size in 0..9 {
        let names: Vec<String> = (0..size).map(|n| format!("s{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut world = world_of(Settings::default(), &names);
        let mut reserve_all = |now| (0..20).filter(|_| reserve(&mut world, &review(now, json!({}))).is_some()).count();
        assert_eq!(reserve_all(at(1)), size, "an honest burst gets the whole pool");
        assert_eq!(reserve_all(at(3)), size / 2, "of {size}, after all were wasted");
        assert_eq!(taken(&mut world, "honest", None, at(3)).is_some(), size > 0, "of {size}");
    }
}

#[test]
fn a_reservation_whose_claim_is_stored_is_not_wasted() {
    let mut world = larger_world();
    for n in 0..4 {
        let sandbox = reserve(&mut world, &review(at(1), json!({}))).unwrap();
        let stamp = first_observed(&json!({}), at(1));
        let annotations = json!({
            "agents.x-k8s.io/sandbox-name": *sandbox, "agents.x-k8s.io/controller-first-observed-at": stamp
        });
        let claim = json!({ "annotations": annotations, "spec": { "warmPoolRef": { "name": "p" } } });
        let _ = world.observe(Observed::Applied(object(Kind::Claim, &format!("c{n}"), None, claim)), at(1));
    }
    let again = (0..20).filter(|_| reserve(&mut world, &review(at(4), json!({}))).is_some()).count();
    assert_eq!(again, 4, "all of them expired, and none was wasted");
}

#[test]
fn existing_claim_gets_no_reservation() {
    let mut world = world(Settings::default());
    let named = |name: &str| {
        let mut review = review(at(1), json!({}));
        review.object["metadata"]["name"] = name.into();
        review
    };
    assert_eq!(taken(&mut world, "c", None, at(1)).as_deref(), Some("a"));
    assert_eq!(reserve(&mut world, &named("c")), None, "it will be refused");
    assert!(reserve(&mut world, &named("another")).is_some());
}

#[test]
fn change_of_a_reserved_sandbox_keeps_the_reservation() {
    let mut world = larger_world();
    let first = reserve(&mut world, &review(at(1), json!({}))).unwrap();
    let mut changed = Object::clone(world.get(&Key::new(Kind::Sandbox, "ns", first.clone())).unwrap());
    (changed.meta.version, changed.meta.resource_version) = (2, "2".into());
    let _ = world.observe(Observed::Applied(changed), at(2));
    assert_ne!(reserve(&mut world, &review(at(2), json!({}))).unwrap(), first);
    assert_ne!(taken(&mut world, "stranger", None, at(2)).unwrap(), *first);
    let others: Vec<_> = (0..4).filter_map(|_| reserve(&mut world, &review(at(2), json!({})))).collect();
    assert_eq!(others.len(), 2, "two of the four were free: {others:?}");
}

#[test]
fn reservation_expires_and_a_released_sandbox_is_free_at_once() {
    let mut world = larger_world();
    let first = reserve(&mut world, &review(at(1), json!({}))).unwrap();
    let second = reserve(&mut world, &review(at(1), json!({}))).unwrap();
    world.release("ns", &second);
    assert_eq!(taken(&mut world, "x", None, at(1)).as_deref(), Some(&*second));
    let third = reserve(&mut world, &review(at(1), json!({}))).unwrap();
    assert_eq!(third, second);
    assert!(![&*first, &*second].contains(&taken(&mut world, "y", None, at(2)).unwrap().as_str()));
    // The Sandboxes have the same age, so their names decide.
    assert_eq!(*first, *"a");
    assert_eq!(taken(&mut world, "z", None, at(3)).as_deref(), Some("a"));
}

#[test]
fn a_second_call_for_the_same_write_gets_the_same_and_a_users_own_word_counts_for_nothing() {
    let mut world = larger_world();
    let first = reserve(&mut world, &review(at(1), json!({}))).unwrap();
    let stamp = first_observed(&json!({}), at(1));
    let again =
        json!({ "agents.x-k8s.io/sandbox-name": *first, "agents.x-k8s.io/controller-first-observed-at": stamp });
    assert_eq!(reserve(&mut world, &review(at(2), again)), Some(first.clone()));
    let theft = json!({ "agents.x-k8s.io/sandbox-name": *first });
    assert_ne!(reserve(&mut world, &review(at(2), theft)), Some(first));
}

#[test]
fn claim_that_is_not_stored_or_takes_nothing_warm_gets_no_reservation() {
    let off = Settings { reserve_for: Duration::ZERO, ..Settings::default() };
    assert_eq!(reserve(&mut world(off), &review(at(1), json!({}))), None);
    let mut world = world(Settings::default());
    let of = |change: &dyn Fn(&mut Review)| {
        let mut review = review(at(1), json!({}));
        change(&mut review);
        review
    };
    for review in [
        of(&|r| r.dry_run = true),
        of(&|r| r.phase = Phase::Validate),
        of(&|r| r.operation = Verb::Update),
        of(&|r| r.group = "agents.x-k8s.io".to_owned()),
        of(&|r| r.namespace = "elsewhere".to_owned()),
        of(&|r| r.object["spec"]["warmPoolRef"]["name"] = "other".into()),
        of(&|r| r.object["spec"]["env"] = json!([{ "name": "A", "value": "1" }])),
        of(&|r| r.object = Value::Null),
    ] {
        assert_eq!(reserve(&mut world, &review), None, "{review:?}");
    }
    assert!(reserve(&mut world, &review(at(1), json!({}))).is_some());
}

#[test]
fn what_was_made_anew_in_the_successor_of_a_namespace_is_looked_at_when_the_old_one_is_gone() {
    let mut world = world(Settings::default());
    let pool = Key::new(Kind::Pool, "ns", "p");
    let mut namespace = object(Kind::Namespace, "ns", None, json!({}));
    namespace.key = Key::new(Kind::Namespace, "", "ns");
    let _ = world.observe(Observed::Applied(namespace.clone()), at(0));
    let mut terminating = namespace.clone();
    (terminating.meta.deletion_timestamp, terminating.meta.version) = (Some(at(1)), 2);
    let _ = world.observe(Observed::Applied(terminating.clone()), at(1));
    assert!(matches!(world.snapshot(&pool, at(1)), Snapshot::Terminating(_)));
    let mut successor = namespace;
    (successor.meta.uid, successor.meta.version) = ("uid-of-another".into(), 3);
    for last in [Observed::Deleted(terminating.clone()), Observed::Applied(successor)] {
        let mut world = self::world(Settings::default());
        let _ = world.observe(Observed::Applied(terminating.clone()), at(1));
        assert!(world.observe(last, at(2)).contains(&pool));
        assert!(matches!(world.snapshot(&pool, at(2)), Snapshot::Pool(_)));
    }
}

#[test]
fn a_refusal_of_the_second_try_says_nothing_of_the_first() {
    for refused in [Outcome::Rejected { status: 403, message: "not yet".into(), by_policy: false }, Outcome::Busy] {
        let mut world = world(Settings::default());
        let pool = Key::new(Kind::Pool, "ns", "p");
        let key = Key::new(Kind::Sandbox, "ns", "c");
        let body = json!({ "metadata": { "name": "c", "namespace": "ns", "ownerReferences": [{
            "apiVersion": Kind::Pool.api_version(), "kind": "SandboxWarmPool", "name": "p", "uid": "uid-p",
            "controller": true,
        }] } });
        let step = vec![Op { key, reason: Reason::PoolBelowDesired, action: Action::Create { body } }];
        for outcome in [Outcome::Unknown, refused] {
            let _ = world.begin(&step).unwrap();
            let _ = world.finish(&step[0], &outcome, at(1));
        }
        let Snapshot::Pool(seen) = world.snapshot(&pool, at(2)) else { panic!("a pool") };
        assert_eq!(seen.creating.len(), 1, "the first try may have been stored");
    }
}

#[test]
fn a_pool_looks_again_when_a_deletion_without_a_reply_does_not_count_any_more() {
    let mut world = world(Settings::default());
    let action = Action::Delete { uid: "uid-a".into(), resource_version: None, foreground: false };
    let step = vec![Op { key: Key::new(Kind::Sandbox, "ns", "a"), reason: Reason::PoolAboveDesired, action }];
    let pool = Key::new(Kind::Pool, "ns", "p");
    let requeue_at =
        |world: &World, now| crate::decide::decide(&world.snapshot(&pool, now), &[]).requeue.map(|requeue| requeue.at);
    let _ = world.begin(&step).unwrap();
    assert_eq!(requeue_at(&world, at(1)), None, "the reply says what became of it");
    let _ = world.finish(&step[0], &Outcome::Unknown, at(1));
    let until = saturating_add(at(1), Settings::default().unknown_timeout);
    assert_eq!(requeue_at(&world, at(2)), Some(until));
    assert_eq!(requeue_at(&world, until), None);
}

#[test]
fn what_the_watch_shows_of_a_take_before_its_reply_is_due_with_the_reply_whatever_that_is() {
    let mut outcomes = vec![Outcome::Gone, Outcome::Conflict, Outcome::Busy, Outcome::Unknown];
    outcomes.push(Outcome::Rejected { status: 403, message: "no".into(), by_policy: false });
    let sandbox = Key::new(Kind::Sandbox, "ns", "a");
    let taken = |object: &Object| {
        let mut taken = Object::clone(object);
        (taken.meta.version, taken.meta.resource_version) = (2, "2".into());
        taken
    };
    let stored = |world: &World| Outcome::Stored(Box::new(taken(world.get(&sandbox).unwrap())));
    for outcome in outcomes.into_iter().map(Some).chain([None]) {
        let mut world = world(Settings::default());
        let outcome = outcome.unwrap_or_else(|| stored(&world));
        let action = Action::Patch {
            uid: "uid-a".into(),
            resource_version: Some("1".into()),
            status: false,
            body: json!({ "metadata": { "ownerReferences": [{ "uid": "uid-c" }] } }),
        };
        let step = vec![Op { key: sandbox.clone(), reason: Reason::Claimed, action }];
        let seen = taken(world.get(&sandbox).unwrap());
        let _ = world.begin(&step).unwrap();
        let at_once = world.observe(Observed::Applied(seen), at(1));
        assert_eq!(at_once, [], "{outcome:?}: in the way of the claim");
        assert!(world.finish(&step[0], &outcome, at(1)).contains(&sandbox), "{outcome:?}: lost");
        // A watch event with any other change makes the Sandbox due at once.
        let Some(object) = world.get(&sandbox) else { continue };
        let mut changed = Object::clone(object);
        (changed.meta.version, changed.meta.resource_version) = (3, "3".into());
        assert!(world.observe(Observed::Applied(changed), at(2)).contains(&sandbox), "{outcome:?}");
    }
}

#[test]
fn connection_reaches_the_sandbox_of_its_pod_or_service_by_any_form_of_the_name() {
    let mut world = world(Settings::default());
    let mut service = object(Kind::Service, "a", Some((Kind::Sandbox, "a")), json!({ "spec": {} }));
    service.meta.uid = "service-a".into();
    let mut foreign = object(Kind::Service, "b", None, json!({ "spec": {} }));
    foreign.meta.uid = "service-b".into();
    for object in [service, foreign] {
        let _ = world.observe(Observed::Applied(object), at(0));
    }
    let sandbox = Key::new(Kind::Sandbox, "ns", "a");
    for resource in ["pods", "services"] {
        for name in ["a", "a:8888", "https:a:8888", "https:a:"] {
            let found = world.connected(resource, "ns", name).sandbox();
            assert_eq!(found.map(|o| &o.key), Some(&sandbox), "{resource} {name}");
        }
    }
    for (resource, name) in [("services", "b"), ("nodes", "a"), ("pods", "a:b:c:d")] {
        assert!(matches!(world.connected(resource, "ns", name), Connected::Other), "{resource} {name}");
    }
    for (resource, name) in [("services", "c"), ("pods", "c"), ("pods", "https:c:1")] {
        assert!(matches!(world.connected(resource, "ns", name), Connected::Unknown), "{resource} {name}");
    }
    let orphan = object(Kind::Pod, "orphan", Some((Kind::Sandbox, "unseen")), json!({ "spec": {} }));
    let _ = world.observe(Observed::Applied(orphan), at(0));
    assert!(matches!(world.connected("pods", "ns", "orphan"), Connected::Unknown), "its Sandbox is not known");
    let mut terminating = object(Kind::Pod, "terminating", Some((Kind::Sandbox, "deleted")), json!({ "spec": {} }));
    terminating.meta.deletion_timestamp = Some(at(0));
    let _ = world.observe(Observed::Applied(terminating), at(0));
    assert!(matches!(world.connected("pods", "ns", "terminating"), Connected::Other), "its Sandbox is deleted");
}

#[test]
fn fact_is_missing_if_no_watch_has_delivered_it() {
    let mut world = world(Settings::default());
    let connect = |namespace: &str, name: &str| Review {
        operation: Verb::Connect,
        resource: "pods".to_owned(),
        subresource: Some("exec".to_owned()),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..review(at(1), json!({}))
    };
    let missing =
        |world: &World, review: &Review, watched: Option<&str>| Context::of(world, review, watched, None).missing;
    assert_eq!(missing(&world, &connect("ns", "a"), None), None);
    assert_eq!(missing(&world, &connect("ns", "new"), None), Some(Missing::Connected));
    let dry = Review { dry_run: true, ..connect("ns", "new") };
    assert_eq!(missing(&world, &dry, None), None, "a dry run connects to nothing");
    assert_eq!(missing(&world, &connect("other", "new"), Some("ns")), None, "another namespace is not watched");
    assert_eq!(missing(&world, &connect("ns", "new"), Some("ns")), Some(Missing::Connected));

    let create = review(at(1), json!({}));
    assert_eq!(missing(&world, &create, None), None, "an operator that sees no namespace cannot wait for one");
    for (name, expected) in [("elsewhere", Some(Missing::Namespace)), ("ns", None)] {
        let mut namespace = object(Kind::Namespace, name, None, json!({}));
        namespace.key = Key::new(Kind::Namespace, "", name);
        let _ = world.observe(Observed::Applied(namespace), at(0));
        assert_eq!(missing(&world, &create, None), expected, "{name}");
        if expected.is_some() {
            let labels = Context::of(&world, &create, None, None).namespace_labels;
            assert_eq!(labels.get(label::NAMESPACE_NAME).map(String::as_str), Some("ns"), "its name is known");
        }
    }
    let of_the_cluster = Review { namespace: String::new(), ..create };
    assert_eq!(missing(&world, &of_the_cluster, None), None);
}

/// A reservation for a claim that is refused would count as wasted, and slow down the other claims of the namespace.
#[test]
fn claim_that_its_template_refuses_reserves_nothing() {
    let with_image = || Settings { init_image: Some("paddock:1".to_owned()), ..Settings::default() };
    let held = json!({ "claimData": { "start": "AfterDelivery" } });
    let env = |container: Option<&str>| json!({ "env": [{ "name": "A", "value": "1", "containerName": container }] });
    let files = json!({ "files": [{ "name": "f", "content": "" }] });
    let allowed = |claim_data: Value| json!({ "claimData": claim_data, "envVarsInjectionPolicy": "Allowed" });
    let with_env = json!({ "podTemplate": { "spec": { "containers": [{
        "name": "c", "image": "i", "env": [{ "name": "A", "value": "0" }],
    }] } }, "claimData": {}, "envVarsInjectionPolicy": "Allowed" });
    for (settings, template, claim, reserves) in [
        (Settings::default(), &json!({}), &json!({}), true),
        (Settings::default(), &held, &json!({}), false),
        (with_image(), &held, &json!({}), true),
        (Settings::default(), &json!({ "claimData": {} }), &env(None), false),
        (Settings::default(), &allowed(json!({})), &env(None), true),
        (Settings::default(), &allowed(json!({})), &env(Some("other")), false),
        (Settings::default(), &allowed(json!({})), &json!({ "env": [{ "name": "A=B", "value": "1" }] }), false),
        (Settings::default(), &with_env, &env(None), false),
        (Settings::default(), &json!({}), &files, false),
        (Settings::default(), &json!({ "claimData": {} }), &files, true),
    ] {
        let mut world = world_with(settings, &["a", "b"], template);
        let mut review = review(at(1), json!({}));
        json_patch::merge(&mut review.object["spec"], claim);
        assert_eq!(reserve(&mut world, &review).is_some(), reserves, "{template} {claim}");
    }
}
