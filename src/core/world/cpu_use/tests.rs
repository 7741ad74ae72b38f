//! Samples of CPU use: which pod they count for, for how long, and who is asked again because of them.

use std::time::Duration;

use jiff::SignedDuration;
use paddock_api::kind::Key;
use serde_json::json;

use super::*;
use crate::binding::{Bindings, Selector};
use crate::decide::{decide, questions};
use crate::plan::Plan;
use crate::question::{Answer, IdleAnswer, IdleQuestion, IdleTier, PluginRef, PluginReply, PluginRequest, Question};
use crate::settings::Settings;
use crate::world::Observed;

fn at(seconds: i64) -> Timestamp {
    let noon: Timestamp = "2030-01-01T12:00:00Z".parse().unwrap();
    noon + SignedDuration::from_secs(seconds)
}

fn key() -> Key {
    Key::new(Kind::Sandbox, "ns", "a")
}

fn pod_key() -> Key {
    Key::new(Kind::Pod, "ns", "a")
}

fn binding(built_in: bool) -> Binding {
    let name = if built_in { "idle-timeout" } else { "by-cpu" };
    let plugin = PluginRef { name: name.to_owned(), digest: format!("sha256:{name}") };
    let order = if built_in { Binding::BUILT_IN_ORDER } else { 0 };
    Binding { order, built_in, ..Binding::new(plugin, Hook::Idle) }
}

fn sandbox(namespace: &str, idle_timeout: Option<&str>) -> Object {
    let mut document = json!({
        "metadata": {
            "name": "a", "namespace": namespace, "uid": format!("uid-of-a-{namespace}"), "resourceVersion": "1",
            "creationTimestamp": at(-3600),
        },
        "spec": {
            "operatingMode": "Running", "replicas": 1,
            "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        },
        "status": { "mode": "Running" },
    });
    if let Some(timeout) = idle_timeout {
        document["spec"]["idleTimeout"] = timeout.into();
    }
    Object::from_json(Kind::Sandbox, document).unwrap()
}

/// The pod of this UID, which was created at this second.
fn pod(uid: &str, created: i64, version: u64) -> Object {
    let owner = json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "uid-of-a-ns", "controller": true,
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
    let settings = Settings { cpu_metrics_interval: Duration::from_secs(30), ..Settings::default() };
    let mut world = World::new(settings);
    world.set_bindings(Bindings::new(vec![binding(false), binding(true)]));
    world.observe(Observed::Applied(sandbox("ns", Some("10m"))), at(-3600));
    world.observe(Observed::Applied(pod("pod-1", -1800, 2)), at(-1800));
    world
}

/// Observes a sample of 250 thousandths of a core, which ended at `measured` after 15 seconds.
fn sample(world: &mut World, measured: i64, now: i64) {
    let window = Duration::from_secs(15);
    let used = PodCpuUse { pod: pod_key(), millicores: 250, measured: at(measured), window };
    assert_eq!(world.observe(Observed::CpuUse(vec![used]), at(now)), [], "no sample makes a key due");
    assert_eq!(world.observe(Observed::CpuUseListed, at(now)), []);
}

/// The first question about the Sandbox.
fn asked(world: &World, now: i64) -> (IdleQuestion, PluginRequest) {
    let requests = questions(&world.snapshot(&key(), at(now)), &[]);
    let request = requests.into_iter().next().expect("a question");
    let Question::Idle(question) = &request.question else { panic!("another question") };
    (IdleQuestion::clone(question), request)
}

fn used(world: &World, now: i64) -> Option<u32> {
    asked(world, now).0.cpu_millicores
}

/// The plan if the plugin answers with this action.
fn planned(world: &World, now: i64, action: Option<IdleTier>) -> Plan {
    let answer = IdleAnswer { action, next_check: None, reason: "quiet".to_owned(), state: None };
    let reply = PluginReply { request: asked(world, now).1, result: Ok(Answer::Idle(answer)) };
    decide(&world.snapshot(&key(), at(now)), &[reply])
}

fn suspends(plan: &Plan) -> bool {
    plan.steps.iter().flatten().any(|op| op.reason == crate::plan::Reason::IdleSuspended)
}

#[test]
fn sample_reaches_the_question_until_it_is_too_old() {
    let mut world = world();
    assert_eq!(used(&world, 0), None);
    sample(&mut world, -20, 0);
    assert_eq!(used(&world, 0), Some(250));
    assert_eq!((used(&world, 159), used(&world, 160)), (Some(250), None), "180 seconds after it was measured");
    // A clock that may be wrong ends no sample alone.
    let early = world.snapshot(&key(), at(400)).with_passed(at(100));
    let Question::Idle(question) = &questions(&early, &[])[0].question else { panic!("another question") };
    assert_eq!(question.cpu_millicores, Some(250));
}

#[test]
fn sample_that_a_fast_clock_took_ends_although_it_is_repeated() {
    let mut world = world();
    for now in [0, 60, 120, 179] {
        sample(&mut world, 3600, now);
        assert_eq!(used(&world, now), Some(250), "{now}");
    }
    sample(&mut world, 3600, 180);
    assert_eq!(used(&world, 180), None, "180 seconds after it was seen first");
    sample(&mut world, 3630, 181);
    assert_eq!(used(&world, 181), Some(250), "a new sample");
}

#[test]
fn sample_of_an_earlier_pod_of_the_name_does_not_count() {
    let mut world = world();
    sample(&mut world, -20, 0);
    world.observe(Observed::Deleted(pod("pod-1", -1800, 3)), at(1));
    assert!(world.cpu.samples.is_empty(), "it is dropped with its pod");
    world.observe(Observed::Applied(pod("pod-2", 1, 4)), at(1));
    for measured in [-20, 0, 1, 15] {
        sample(&mut world, measured, 20);
        assert_eq!(used(&world, 20), None, "{measured}: its window began before the pod");
    }
    sample(&mut world, 16, 20);
    assert_eq!(used(&world, 20), Some(250));
    // A watch may miss the deletion.
    world.observe(Observed::Applied(pod("pod-3", 30, 5)), at(30));
    assert!(world.cpu.samples.is_empty() && used(&world, 31).is_none());
}

#[test]
fn pods_without_a_sandbox_and_unknown_pods_leave_no_sample() {
    let mut world = world();
    let mut stranger = pod("stranger", -1800, 6);
    stranger.key = Key::new(Kind::Pod, "ns", "b");
    stranger.meta.controller = None;
    world.observe(Observed::Applied(stranger), at(0));
    for name in ["b", "c"] {
        let pod = Key::new(Kind::Pod, "ns", name);
        let used = PodCpuUse { pod, millicores: 1, measured: at(0), window: Duration::from_secs(1) };
        world.observe(Observed::CpuUse(vec![used]), at(0));
    }
    assert!(world.cpu.samples.is_empty());
}

#[test]
fn nothing_is_suspended_before_the_first_list_has_ended() {
    let mut world = world();
    let plan = planned(&world, 0, Some(IdleTier::Suspend));
    assert!(!suspends(&plan), "{plan:?}");
    let soon = at(0) + SignedDuration::from_secs(2);
    assert_eq!(plan.requeue.map(|requeue| requeue.at), Some(soon));
    // The list has ended, and had no sample of the pod, or failed.
    world.observe(Observed::CpuUseListed, at(1));
    assert!(suspends(&planned(&world, 2, Some(IdleTier::Suspend))));
    assert!(suspends(&planned(&world, 60, Some(IdleTier::Suspend))));
    // Nobody asked for the CPU use for a while, so no list was made.
    assert!(!suspends(&planned(&world, 61, Some(IdleTier::Suspend))));
    // A sample is there, and the plugin suspends the Sandbox all the same.
    sample(&mut world, 60, 61);
    assert!(suspends(&planned(&world, 62, Some(IdleTier::Suspend))));
}

#[test]
fn without_an_interval_nothing_waits_for_a_list() {
    let mut world = world();
    world.settings = Arc::new(Settings::default());
    assert!(suspends(&planned(&world, 0, Some(IdleTier::Suspend))));
    // The built-in does not need the CPU use.
    let mut world = self::world();
    world.set_bindings(Bindings::new(vec![binding(true)]));
    assert!(suspends(&planned(&world, 0, Some(IdleTier::Suspend))));
}

#[test]
fn cpu_use_is_needed_where_a_plugin_decides_about_a_running_sandbox_with_an_idle_timeout() {
    let needed = |world: &World| -> Vec<String> {
        world.namespaces_with_idle_plugins().iter().map(ToString::to_string).collect()
    };
    let mut world = world();
    for (namespace, timeout) in [("b", Some("1h")), ("c", None)] {
        world.observe(Observed::Applied(sandbox(namespace, timeout)), at(0));
    }
    assert_eq!(needed(&world), ["b", "ns"]);
    let only = |selected: Selector| Binding { namespaces: selected, ..binding(false) };
    let team = Selector { match_labels: [("team".to_owned(), "red".to_owned())].into(), ..Selector::default() };
    world.set_bindings(Bindings::new(vec![only(team), binding(true)]));
    assert_eq!(needed(&world), [""; 0], "no namespace has the label");
    let namespace =
        json!({ "metadata": { "name": "b", "uid": "b", "resourceVersion": "1", "labels": { "team": "red" } } });
    world.observe(Observed::Applied(Object::from_json(Kind::Namespace, namespace).unwrap()), at(0));
    assert_eq!(needed(&world), ["b"]);
    for unneeded in [
        vec![binding(true)],
        vec![Binding { not_loaded: Some("broken".to_owned()), ..binding(false) }],
        vec![Binding { hook: Hook::Admission, ..binding(false) }],
    ] {
        world.set_bindings(Bindings::new(unneeded));
        assert_eq!(needed(&world), [""; 0]);
    }
}
