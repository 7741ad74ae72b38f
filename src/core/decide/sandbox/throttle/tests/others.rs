//! The throttle together with drains and schedules.

use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use super::model::{FORMER, LOW, Model, pair};
use super::{deletes, nothing_keeps_the_pod, resizes, throttled};
use crate::decide::questions;
use crate::plan::Reason;
use crate::question::{IdleTier, Question};

#[test]
fn drained_pod_gets_its_cpu_back_before_it_is_deleted() {
    let node = |unschedulable: bool| {
        json!({
            "metadata": { "name": "n", "uid": "n", "resourceVersion": if unschedulable { "2" } else { "1" } },
            "spec": { "unschedulable": unschedulable },
        })
    };
    let drained = || {
        let mut model = Model::new();
        model.sandbox["spec"]["resumePolicy"] = "OnDemand".into();
        model.sandbox["spec"]["drainPolicy"] = "Suspend".into();
        // The model has no Service.
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "DependenciesReady", "message": "Pod is Ready",
            "lastTransitionTime": "2030-01-01T11:00:00Z",
        });
        model.sandbox["status"]["conditions"] = json!([ready]);
        model.observe(Kind::Node, node(false));
        model.watched();
        model.answer = Some(IdleTier::Throttle);
        for _ in 0..4 {
            model.reconcile(usize::MAX);
            model.node();
        }
        assert_eq!((model.cpus(), model.throttle()["state"].as_str()), ([pair(LOW), pair(LOW)], Some("Throttled")));
        model.observe(Kind::Node, node(true));
        model
    };
    let mut model = drained();
    let plan = model.reconcile(usize::MAX);
    let suspends = plan.ops().any(|op| op.reason == Reason::DrainSuspended);
    assert_eq!((suspends, resizes(&plan), deletes(&plan)), (true, vec![Reason::ThrottleEnded], false), "{plan:#?}");
    assert!(!deletes(&model.reconcile(usize::MAX)));
    let status = &model.sandbox["status"];
    assert_eq!((&status["suspendedBy"], &status["throttle"]["state"]), (&json!("Drain"), &json!("Restoring")));
    assert!(status["idle"]["tier"].is_null(), "{status:#}");
    model.node();
    // The endpoints of the stable Service are drained.
    model.passes(4);
    assert!(deletes(&model.plan()), "its CPU is back");
    assert_eq!(model.cpus(), FORMER.map(pair));
    model.pod_is_gone();
    model.reconcile(usize::MAX);
    assert_eq!(model.throttle(), &Value::Null);
    nothing_keeps_the_pod(drained, 4);
}

#[test]
fn time_of_the_schedule_ends_the_throttle() {
    let mut model = throttled();
    // Half an hour after `now`.
    model.sandbox["spec"]["wakeSchedule"] = json!({ "cron": "30 12 * * *" });
    model.watched();
    let due = model.plan().requeue.expect("the next check").at;
    assert!(due <= "2030-01-01T12:30:01Z".parse().unwrap(), "{due}");
    // The model's plugin answers as the test says, and a real one sees the time as activity.
    model.passes(1800);
    let snapshot = model.world.snapshot(&Key::new(Kind::Sandbox, "ns", "a"), model.now);
    let request = questions(&snapshot, &[]).remove(0);
    let Question::Idle(question) = &request.question else { panic!("no other hook is bound") };
    assert_eq!(question.last_activity, Some("2030-01-01T12:30:00Z".parse().unwrap()));
}
