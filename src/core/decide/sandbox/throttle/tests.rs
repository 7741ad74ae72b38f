//! The throttle of a pod against a model of its node: any sequence of activity, crashes, resizes by users and nodes without
//! room ends with the CPU that the pod is to have.

use paddock_api::kind::{Key, Kind};
use proptest::prelude::*;
use serde_json::{Value, json};

use self::model::{FORMER, LOW, Model, Refuses, binding, pair};
use crate::binding::Bindings;
use crate::decide::{decide, questions};
use crate::plan::{Action, Plan, Reason};
use crate::question::{Answer, IdleAnswer, IdleTier, PluginReply, Question};
use crate::settings::Settings;
use crate::world::World;

mod model;
mod others;
mod readiness;

fn resizes(plan: &Plan) -> Vec<Reason> {
    plan.ops().filter(|op| matches!(op.action, Action::Resize { .. })).map(|op| op.reason).collect()
}

/// What happens to a model, and its name.
type Change<'a> = (&'static str, &'a dyn Fn(&mut Model));

/// A pod that is throttled.
fn throttled() -> Model {
    let mut model = Model::new();
    model.answer = Some(IdleTier::Throttle);
    model.settle();
    assert_eq!((model.cpus(), model.throttle()["state"].as_str()), ([pair(LOW), pair(LOW)], Some("Throttled")));
    model
}

fn deletes(plan: &Plan) -> bool {
    plan.ops().any(|op| op.key.kind == Kind::Pod && matches!(op.action, Action::Delete { .. }))
}

/// A node that does not answer, a refusal and a lost reply do not keep the pod of a Sandbox that ends.
fn nothing_keeps_the_pod(ending: impl Fn() -> Model, reconciles: usize) {
    for (what, happens) in [
        ("a node", (|_| {}) as fn(&mut Model)),
        ("a refusal", |model| model.refuses = Refuses::Everything),
        ("a lost reply", |model| model.delays = true),
    ] {
        let mut model = ending();
        happens(&mut model);
        for _ in 0..reconciles {
            model.reconcile(usize::MAX);
        }
        model.passes(4);
        assert!(deletes(&model.plan()), "it waited for {what}");
    }
}

#[test]
fn idle_pod_is_throttled_and_gets_its_cpu_back_with_the_first_plan() {
    let mut model = throttled();
    assert_eq!((model.applied(), &model.sandbox["status"]["idle"]["tier"]), (vec!["10m", "10m"], &json!("Throttle")));
    assert!(model.plan().is_empty());
    model.answer = None;
    let plan = model.plan();
    let first = plan.steps.iter().find(|step| !step.is_empty()).expect("a step");
    assert!(first.iter().any(|op| op.reason == Reason::ThrottleEnded), "{plan:#?}");
    model.settle();
    assert_eq!((model.cpus(), &model.throttle()["state"]), (FORMER.map(pair), &json!("Restoring")));
    model.rest();
    assert_eq!((model.cpus(), model.throttle()), (FORMER.map(pair), &Value::Null));
}

#[test]
fn pod_is_resized_only_after_the_status_shows_the_record() {
    for prunes in [false, true] {
        let mut model = Model::new();
        (model.answer, model.prunes) = (Some(IdleTier::Throttle), prunes);
        assert_eq!(resizes(&model.reconcile(usize::MAX)), [], "prunes: {prunes}");
        let wanted = if prunes { vec![] } else { vec![Reason::IdleThrottled] };
        assert_eq!(resizes(&model.reconcile(usize::MAX)), wanted, "prunes: {prunes}");
    }
}

#[test]
fn resize_that_is_stored_after_its_reply_was_lost_is_undone() {
    for crashes in [false, true] {
        let mut model = Model::new();
        model.answer = Some(IdleTier::Throttle);
        model.reconcile(usize::MAX);
        model.delays = true;
        model.reconcile(usize::MAX);
        model.answer = None;
        if crashes {
            model.restart();
        }
        model.settle();
        model.passes(33);
        model.settle();
        model.late_arrives();
        assert_eq!(model.cpus(), [pair(LOW), pair(LOW)], "it was stored late");
        model.rest();
        assert_eq!((model.cpus(), model.throttle()), (FORMER.map(pair), &Value::Null));
    }
}

#[test]
fn throttle_that_is_not_in_force_is_taken_back_with_the_reason_and_not_tried_for_an_hour() {
    let infeasible = |model: &mut Model| {
        let pending =
            json!({ "type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "swap" });
        model.pod["status"]["conditions"].as_array_mut().unwrap().push(pending);
        model.watched();
    };
    let cases: [Change<'_>; 3] = [
        ("cannot resize its pod: Infeasible: swap", &infeasible),
        ("not Ready with little CPU", &|model| model.set_ready(false)),
        ("within 30 s: its status shows no resize", &|model| model.passes(31)),
    ];
    for (reason, happens) in cases {
        let mut model = Model::new();
        model.answer = Some(IdleTier::Throttle);
        model.reconcile(usize::MAX);
        model.reconcile(usize::MAX);
        assert_eq!(model.cpus(), [pair(LOW), pair(LOW)], "{reason}");
        happens(&mut model);
        model.reconcile(usize::MAX);
        assert_eq!(model.throttle()["state"], "Failed", "{reason}");
        let said = model.throttle()["reason"].as_str().expect("a reason").to_owned();
        assert!(said.contains(reason), "{said}");
        model.set_ready(true);
        model.rest();
        assert_eq!(model.cpus(), FORMER.map(pair), "{reason}");
        let idle = model.sandbox["status"]["idle"]["reason"].as_str().expect("a reason").to_owned();
        assert!(idle.contains(&said) && idle.contains("not throttled"), "{idle}");
        model.passes(3601);
        model.settle();
        assert_eq!(model.cpus(), [pair(LOW), pair(LOW)], "{reason}");
    }
}

#[test]
fn user_who_resizes_a_throttled_pod_ends_the_throttle_for_an_hour() {
    for cpu in [FORMER[0], ("31m", "301m")] {
        let mut model = throttled();
        model.user_resizes(0, pair(cpu));
        model.rest();
        assert_eq!((model.cpus(), &model.throttle()["state"]), ([pair(cpu), pair(FORMER[1])], &json!("Failed")));
        assert!(model.throttle()["reason"].as_str().unwrap().contains("somebody else"), "{}", model.throttle());
    }
    let mut model = throttled();
    model.user_limits(0, "1000m");
    model.rest();
    assert_eq!(model.cpu(0), pair((FORMER[0].0, "1000m")), "the request is that from before the throttle");
}

#[test]
fn refused_throttle_is_reported_and_changes_nothing_else() {
    let mut model = Model::new();
    (model.answer, model.refuses) = (Some(IdleTier::Throttle), Refuses::Everything);
    model.rest();
    let status = &model.sandbox["status"];
    assert_eq!((&status["throttle"]["state"], &status["conditions"][0]["status"]), (&json!("Failed"), &json!("True")));
    assert!(status["idle"]["reason"].as_str().unwrap().contains("exceeded quota"), "{status:#}");
    // `kubectl scale` writes one of the two fields.
    model.sandbox["spec"]["replicas"] = 0.into();
    model.watched();
    for _ in 0..4 {
        model.reconcile(usize::MAX);
    }
    let spec = &model.sandbox["spec"];
    assert_eq!((&spec["operatingMode"], &spec["replicas"]), (&json!("Suspended"), &json!(0)));
}

#[test]
fn without_room_the_limits_come_back_first_and_the_requests_when_there_is_room() {
    for refuses in [Refuses::Nothing, Refuses::Requests] {
        let mut model = throttled();
        (model.answer, model.refuses) = (None, refuses);
        model.room = if refuses == Refuses::Nothing { 100 } else { 10_000 };
        for _ in 0..6 {
            model.reconcile(usize::MAX);
            model.node();
        }
        assert_eq!(model.applied(), ["1500m", "100m"], "the limits, {refuses:?}");
        let reason = model.throttle()["reason"].as_str().expect("a reason").to_owned();
        let wanted = if refuses == Refuses::Nothing { "no room for the CPU requests" } else { "exceeded quota" };
        assert!(reason.contains(wanted), "{reason}");
        (model.refuses, model.room) = (Refuses::Nothing, 10_000);
        model.node();
        model.rest();
        assert_eq!((model.cpus(), model.throttle()), (FORMER.map(pair), &Value::Null), "{refuses:?}");
    }
}

#[test]
fn refused_cpu_is_restored_when_it_is_allowed_again() {
    for (first, then) in [
        (Refuses::Limits, Refuses::Nothing),
        (Refuses::Everything, Refuses::Nothing),
        (Refuses::Everything, Refuses::Ratios),
        (Refuses::Requests, Refuses::Ratios),
    ] {
        let mut model = throttled();
        (model.answer, model.refuses) = (None, first);
        for _ in 0..3 {
            let plan = model.reconcile(1);
            assert!(plan.events.iter().all(|event| event.reason != Reason::ThrottleEnded), "it is not restored");
        }
        model.reconcile(usize::MAX);
        model.refuses = then;
        model.rest();
        assert_eq!((model.cpus(), model.throttle()), (FORMER.map(pair), &Value::Null), "{first:?} {then:?}");
    }
}

#[test]
fn changed_flag_loses_no_cpu() {
    for flag in [None, Some(20), Some(200), Some(1000)] {
        let mut model = throttled();
        (model.answer, model.refuses) = (None, Refuses::Everything);
        model.reconcile(usize::MAX);
        model.reconcile(usize::MAX);
        model.flag = flag;
        model.restart();
        model.answer = Some(IdleTier::Throttle);
        model.refuses = Refuses::Nothing;
        for _ in 0..4 {
            model.reconcile(usize::MAX);
            model.node();
        }
        model.answer = None;
        model.rest();
        assert_eq!((model.cpus(), model.throttle()), (FORMER.map(pair), &Value::Null), "{flag:?}");
    }
}

#[test]
fn suspended_or_expired_pod_gets_its_cpu_back_before_it_is_deleted() {
    let changes = [
        json!({ "spec": { "operatingMode": "Suspended", "replicas": 0 } }),
        json!({ "spec": { "shutdownTime": "2030-01-01T11:59:00Z" } }),
    ];
    for change in changes {
        let ending = || {
            let mut model = throttled();
            json_patch::merge(&mut model.sandbox, &change);
            model.watched();
            model
        };
        let mut model = ending();
        let plan = model.reconcile(usize::MAX);
        assert_eq!((resizes(&plan), deletes(&plan)), (vec![Reason::ThrottleEnded], false), "{change}");
        assert!(plan.requeue.is_some(), "{change}");
        assert!(model.sandbox["status"]["idle"]["tier"].is_null(), "{:#}", model.sandbox["status"]);
        model.node();
        assert!(deletes(&model.plan()), "{change}: its CPU is back");
        nothing_keeps_the_pod(ending, 1);
    }
}

#[test]
fn world_keeps_the_cpu_of_pods_only_if_it_may_be_changed_or_was() {
    for (flag, generation, keeps) in
        [(None, Some(1), false), (None, Some(2), true), (None, None, true), (Some(10), Some(1), true)]
    {
        let mut model = Model::new();
        model.flag = flag;
        model.pod["metadata"]["generation"] = json!(generation);
        model.restart();
        let pod = model.world.get(&Key::new(Kind::Pod, "ns", "a")).and_then(|pod| pod.pod()).expect("a pod");
        assert_eq!(pod.cpu().is_some(), keeps, "{flag:?} {generation:?}");
    }
}

#[test]
fn node_says_why_the_cpu_is_not_restored() {
    for (kind, reason, wanted) in [
        ("PodResizePending", "Deferred", "the node has no room for the CPU requests of its pod yet: Deferred: why"),
        ("PodResizePending", "Infeasible", "the node cannot resize its pod: Infeasible: why"),
        ("PodResizeInProgress", "Error", "the node failed to resize its pod, and tries again: Error: why"),
    ] {
        let mut model = throttled();
        model.answer = None;
        model.reconcile(usize::MAX);
        let condition = json!({ "type": kind, "status": "True", "reason": reason, "message": "why" });
        model.pod["status"]["conditions"].as_array_mut().unwrap().push(condition);
        model.watched();
        model.reconcile(usize::MAX);
        assert_eq!(model.throttle()["reason"], wanted);
    }
}

#[test]
fn cpu_comes_back_whatever_ends_the_idle_policy() {
    let ends: [Change<'_>; 4] = [
        ("no idleTimeout", &|model| {
            model.sandbox["spec"].as_object_mut().unwrap().remove("idleTimeout");
        }),
        ("an invalid spec", &|model| model.sandbox["spec"]["shutdownTime"] = "soon".into()),
        ("another tier", &|model| model.answer = Some(IdleTier::Suspend)),
        ("a marker of generated code", &|model| {
            model.sandbox["metadata"]["labels"] = json!({ "policy.paddock.dev/generated-code": "true" });
        }),
    ];
    for (what, end) in ends {
        let mut model = throttled();
        end(&mut model);
        model.watched();
        assert_eq!(resizes(&model.plan()), [Reason::ThrottleEnded], "{what}");
    }
}

#[test]
fn record_of_a_pod_that_is_gone_ends_and_the_next_pod_is_not_resized() {
    let mut model = throttled();
    model.answer = None;
    model.pod["metadata"]["uid"] = "another".into();
    for (container, cpu) in FORMER.into_iter().enumerate() {
        model.user_resizes(container, pair(cpu));
    }
    // An operator that starts sees the new pod alone.
    model.restart();
    let plan = model.reconcile(usize::MAX);
    assert_eq!((resizes(&plan), model.throttle()), (vec![], &Value::Null));
}

#[test]
fn sandbox_is_not_throttled_where_it_cannot_be() {
    let changes: [Change<'_>; 5] = [
        ("runs without --throttle-cpu", &|model| {
            model.world = World::new(Settings::default());
            let _ = model.world.set_bindings(Bindings::new(vec![binding()]));
            model.observe(Kind::Namespace, json!({ "metadata": { "name": "ns", "uid": "n", "resourceVersion": "1" } }));
        }),
        ("no container of its pod has a CPU limit", &|model| {
            for container in model.pod["spec"]["containers"].as_array_mut().unwrap() {
                container["resources"]["limits"].as_object_mut().unwrap().remove("cpu");
            }
        }),
        ("at most 10m already", &|model| {
            for container in model.pod["spec"]["containers"].as_array_mut().unwrap() {
                container["resources"]["limits"]["cpu"] = "10m".into();
            }
        }),
        ("QoS class of its pod is Guaranteed", &|model| model.pod["status"]["qosClass"] = "Guaranteed".into()),
        ("its pod was not Ready yet", &|model| {
            model.sandbox["spec"]["idleTimeout"] = "10h".into();
            model.sandbox["status"]["firstReady"] = Value::Null;
            model.pod["status"]["conditions"][0]["status"] = "False".into();
        }),
    ];
    for (why, change) in changes {
        let mut model = Model::new();
        change(&mut model);
        model.watched();
        // A status is replaced when its check is due.
        model.passes(3601);
        model.answer = Some(IdleTier::Throttle);
        let snapshot = model.world.snapshot(&Key::new(Kind::Sandbox, "ns", "a"), model.now);
        let request = questions(&snapshot, &[]).remove(0);
        let Question::Idle(question) = &request.question else { panic!("no other hook is bound") };
        assert!(!question.tiers.contains(&IdleTier::Throttle), "{why}");
        // A plugin that asks for it all the same.
        let action = Some(IdleTier::Throttle);
        let answer = IdleAnswer { action, next_check: None, reason: "idle".to_owned(), state: None };
        let plan = decide(&snapshot, &[PluginReply { request, result: Ok(Answer::Idle(answer)) }]);
        assert_eq!(resizes(&plan), [], "{why}");
        let said = plan.events.iter().find(|event| event.reason == Reason::PluginOverruled).expect("an Event");
        assert!(said.note.starts_with("idle; not throttled: ") && said.note.contains(why), "{}", said.note);
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Idle,
    Active,
    Node,
    Reconcile,
    CrashAfter(usize),
    Delays,
    LateArrives,
    UserResizes(usize, u32),
    UserLimits(usize, u32),
    UserRestores(usize),
    Room(u32),
    Refuses(Refuses),
    Flag(Option<u32>),
    Ready(bool),
    Passes(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let refuses = [Refuses::Nothing, Refuses::Requests, Refuses::Limits, Refuses::Ratios, Refuses::Everything];
    prop_oneof![
        3 => Just(Happens::Idle),
        3 => Just(Happens::Active),
        6 => Just(Happens::Node),
        9 => Just(Happens::Reconcile),
        3 => (0..3_usize).prop_map(Happens::CrashAfter),
        2 => Just(Happens::Delays),
        2 => Just(Happens::LateArrives),
        1 => (0..2_usize, 0..9_u32).prop_map(|(container, n)| Happens::UserResizes(container, n)),
        1 => (0..2_usize, 0..9_u32).prop_map(|(container, n)| Happens::UserLimits(container, n)),
        1 => (0..2_usize).prop_map(Happens::UserRestores),
        1 => prop_oneof![Just(50), Just(10_000)].prop_map(Happens::Room),
        2 => prop::sample::select(refuses.to_vec()).prop_map(Happens::Refuses),
        1 => prop::sample::select(vec![None, Some(10), Some(20), Some(200)]).prop_map(Happens::Flag),
        1 => any::<bool>().prop_map(Happens::Ready),
        2 => prop_oneof![Just(1), Just(20), Just(31), Just(3601)].prop_map(Happens::Passes),
    ]
}

impl Happens {
    fn to(self, model: &mut Model) {
        match self {
            Happens::Idle => model.answer = Some(IdleTier::Throttle),
            Happens::Active => model.answer = None,
            Happens::Node => model.node(),
            Happens::Reconcile => drop(model.reconcile(usize::MAX)),
            Happens::CrashAfter(writes) => drop(model.reconcile(writes)),
            Happens::Delays => model.delays = true,
            Happens::LateArrives => model.late_arrives(),
            // No such value is one that the operator sets.
            Happens::UserResizes(container, n) => {
                model.user_resizes(container, (format!("{}m", 31 + n), format!("{}m", 301 + n)));
            }
            Happens::UserLimits(container, n) => model.user_limits(container, &format!("{}m", 1001 + n)),
            Happens::UserRestores(container) => model.user_resizes(container, model.wanted[container].clone()),
            Happens::Room(room) => model.room = room,
            Happens::Refuses(refuses) => model.refuses = refuses,
            Happens::Flag(flag) => {
                model.flag = flag;
                model.restart();
            }
            Happens::Ready(ready) => model.set_ready(ready),
            Happens::Passes(seconds) => model.passes(seconds),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_with_the_cpu_that_the_pod_is_to_have(history in prop::collection::vec(happens(), 1..50)) {
        let mut model = Model::new();
        for event in history {
            event.to(&mut model);
            model.check_record();
        }
        if model.refuses != Refuses::Ratios {
            model.refuses = Refuses::Nothing;
        }
        (model.answer, model.room, model.delays) = (None, 10_000, false);
        model.set_ready(true);
        model.node();
        model.settle();
        model.late_arrives();
        model.rest();
        prop_assert_eq!(model.cpus(), model.wanted.clone());
        let left = model.throttle()["containers"].as_array().map_or(0, Vec::len);
        prop_assert_eq!(left, 0, "{:#}", model.throttle());
    }
}
