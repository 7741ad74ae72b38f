//! Open connections: which pod they count for, for how long, and what waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use paddock_api::kind::{Key, Kind};
use paddock_api::names::annotation;
use serde_json::{Value, json};

use super::*;
use crate::binding::{Binding, Bindings};
use crate::decide::{decide, questions};
use crate::plan::{Plan, Reason};
use crate::question::{Answer, Hook, IdleAnswer, IdleTier, PluginRef, PluginReply, PluginRequest, Question};
use crate::settings::Settings;
use crate::world::Observed;

fn at(seconds: i64) -> Timestamp {
    let noon: Timestamp = "2030-01-01T12:00:00Z".parse().unwrap();
    noon + SignedDuration::from_secs(seconds)
}

fn key() -> Key {
    Key::new(Kind::Sandbox, "ns", "a")
}

fn binding(built_in: bool) -> Binding {
    let name = if built_in { "idle-timeout" } else { "by-connections" };
    let plugin = PluginRef { name: name.to_owned(), digest: format!("sha256:{name}") };
    let order = if built_in { Binding::BUILT_IN_ORDER } else { 0 };
    Binding { order, built_in, ..Binding::new(plugin, Hook::Idle) }
}

fn sandbox(version: u64, annotations: &Value) -> Object {
    let document = json!({
        "metadata": {
            "name": "a", "namespace": "ns", "uid": "uid-of-a", "resourceVersion": version.to_string(),
            "creationTimestamp": at(-3600), "annotations": annotations,
        },
        "spec": {
            "operatingMode": "Running", "replicas": 1, "idleTimeout": "10m",
            "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        },
        "status": { "mode": "Running" },
    });
    Object::from_json(Kind::Sandbox, document).unwrap()
}

/// The pod of this UID, which was created at this second.
fn pod(uid: &str, created: i64, version: u64) -> Object {
    let owner = json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "uid-of-a", "controller": true,
    });
    let document = json!({
        "metadata": {
            "name": "a", "namespace": "ns", "uid": uid, "resourceVersion": version.to_string(),
            "creationTimestamp": at(created), "ownerReferences": [owner],
        },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "image": "i" }] },
        "status": { "phase": "Running" },
    });
    Object::from_json(Kind::Pod, document).unwrap()
}

fn world() -> World {
    let settings = Settings { connections_interval: Duration::from_secs(30), ..Settings::default() };
    let mut world = World::new(settings);
    world.set_bindings(Bindings::new(vec![binding(false), binding(true)]));
    world.observe(Observed::Applied(sandbox(1, &json!({}))), at(-3600));
    world.observe(Observed::Applied(pod("pod-1", -1800, 2)), at(-1800));
    world
}

/// A round that began and ended at these seconds.
fn round(world: &mut World, pods: Option<&[(&str, u32)]>, asked: i64, ended: i64) {
    let sum = pods.map(|pods| OpenConnections {
        pods: pods.iter().map(|(uid, open)| (Arc::from(*uid), *open)).collect::<BTreeMap<_, _>>(),
        asked: at(asked),
    });
    assert_eq!(world.observe(Observed::GatewaysAsked(sum), at(ended)), [], "no round makes a key due");
}

fn request(world: &World, now: i64) -> PluginRequest {
    questions(&world.snapshot(&key(), at(now)), &[]).into_iter().next().expect("a question")
}

/// The connections in the question about the Sandbox.
fn asked(world: &World, now: i64) -> Option<u32> {
    let Question::Idle(question) = request(world, now).question else { panic!("another question") };
    question.connections
}

/// Whether the operator suspends the Sandbox when the plugin wants that, and the plan.
fn suspends(world: &World, now: i64) -> (bool, Plan) {
    let answer =
        IdleAnswer { action: Some(IdleTier::Suspend), next_check: None, reason: "quiet".to_owned(), state: None };
    let reply = PluginReply { request: request(world, now), result: Ok(Answer::Idle(answer)) };
    let plan = decide(&world.snapshot(&key(), at(now)), &[reply]);
    (plan.steps.iter().flatten().any(|op| op.reason == Reason::IdleSuspended), plan)
}

#[test]
fn sum_reaches_the_question_until_the_next_one_is_late() {
    let mut world = world();
    assert_eq!(asked(&world, 0), None);
    round(&mut world, Some(&[("pod-1", 3), ("other", 5)]), 0, 2);
    assert_eq!((asked(&world, 2), asked(&world, 44), asked(&world, 45)), (Some(3), Some(3), None));
    round(&mut world, Some(&[("other", 5)]), 50, 51);
    assert_eq!(asked(&world, 51), Some(0), "every gateway answered, and none has a connection to the pod");
    round(&mut world, None, 80, 90);
    assert_eq!(asked(&world, 90), None, "a gateway that does not answer may have some");
}

#[test]
fn sum_says_nothing_about_a_later_pod() {
    let mut world = world();
    round(&mut world, Some(&[("pod-1", 3)]), 0, 1);
    world.observe(Observed::Deleted(pod("pod-1", -1800, 3)), at(1));
    world.observe(Observed::Applied(pod("pod-2", 2, 4)), at(2));
    assert_eq!(asked(&world, 3), None, "it was created after the gateways were asked");
    round(&mut world, Some(&[("pod-1", 3)]), 2, 3);
    assert_eq!(asked(&world, 3), None, "or in the same second");
    round(&mut world, Some(&[("pod-1", 3), ("pod-2", 1)]), 3, 4);
    assert_eq!(asked(&world, 4), Some(1));
}

/// A connection may have ended after the gateways were asked, and before its user wished for a suspend.
#[test]
fn wish_for_a_suspend_is_newer_than_the_sum() {
    let mut world = world();
    round(&mut world, Some(&[("pod-1", 1)]), 0, 1);
    let wish = json!({ annotation::IDLE_SINCE: at(2).to_string() });
    world.observe(Observed::Applied(sandbox(5, &wish)), at(2));
    assert_eq!(asked(&world, 3), None);
}

#[test]
fn nothing_is_suspended_before_the_first_round_has_ended() {
    let mut world = world();
    let (suspended, plan) = suspends(&world, 0);
    assert!(!suspended, "{plan:?}");
    assert_eq!(plan.requeue.map(|requeue| requeue.at), Some(at(2)));
    // The round has ended, and not every gateway answered.
    round(&mut world, None, 0, 1);
    assert!(suspends(&world, 2).0 && suspends(&world, 45).0);
    // Nobody asked for a while.
    assert!(!suspends(&world, 46).0);
    // The plugin decides what connections mean.
    round(&mut world, Some(&[("pod-1", 1)]), 46, 47);
    assert!(suspends(&world, 47).0);
}

#[test]
fn nothing_waits_for_a_round_that_is_not_made() {
    let mut world = world();
    world.settings = Arc::new(Settings::default());
    assert!(suspends(&world, 0).0, "the operator asks no gateway");
    let mut world = self::world();
    world.set_bindings(Bindings::new(vec![binding(true)]));
    assert!(suspends(&world, 0).0, "the built-in relies on the records of activity");
}
