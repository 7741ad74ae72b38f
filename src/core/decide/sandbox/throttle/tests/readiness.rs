//! Code that is not Ready with little CPU, on purpose or because it cannot be.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::model::{FORMER, LOW, Model, pair};
use super::throttled;
use crate::question::IdleTier;

const NOT_READY: &str = "its pod was not Ready with little CPU";

#[test]
fn code_that_stops_its_readiness_probe_has_its_cpu_for_a_minute_once() {
    let mut model = throttled();
    model.set_ready(false);
    model.reconcile(usize::MAX);
    assert_eq!((&model.throttle()["state"], &model.throttle()["reason"]), (&json!("Failed"), &json!(NOT_READY)));
    model.rest();
    assert_eq!(model.cpus(), FORMER.map(pair));
    let again = model.plan().requeue.expect("a requeue").at;
    assert!(again <= model.now + SignedDuration::from_secs(20), "{again}");
    model.passes(20);
    for hours in 0..3 {
        model.settle();
        assert_eq!(
            (model.cpus(), &model.throttle()["state"]),
            ([pair(LOW), pair(LOW)], &json!("Throttled")),
            "{hours}"
        );
        model.passes(3601);
    }
    // The Sandbox is used, and is idle again.
    model.answer = None;
    model.rest();
    assert_eq!((model.cpus(), model.throttle()), (FORMER.map(pair), &Value::Null));
    model.answer = Some(IdleTier::Throttle);
    model.settle();
    assert_eq!((model.cpus(), &model.throttle()["reason"]), (FORMER.map(pair), &json!(NOT_READY)));
}

#[test]
fn pod_that_is_never_ready_is_throttled_after_its_idle_timeout() {
    let mut model = Model::new();
    model.sandbox["status"]["firstReady"] = Value::Null;
    model.set_ready(false);
    // The pod is an hour old, and the idleTimeout has ten minutes.
    model.answer = Some(IdleTier::Throttle);
    model.settle();
    assert_eq!(model.throttle()["reason"], NOT_READY, "the one minute");
    model.passes(61);
    model.settle();
    assert_eq!(model.cpus(), [pair(LOW), pair(LOW)]);
}
