//! The directory: lists, events and replies in any order.

use serde_json::{Value, json};

use super::*;

fn name(name: &str) -> Name {
    Name { namespace: "ns".into(), name: name.into() }
}

fn sandbox(uid: &str, version: u64, spec: Value) -> Sandbox {
    let object = json!({
        "metadata": { "name": "a", "namespace": "ns", "uid": uid, "resourceVersion": version.to_string(), "annotations": {
            "policy.paddock.dev/suspended-by": "Idle",
        } },
        "spec": spec,
    });
    Sandbox::read(&Document::parse(&object.to_string()).unwrap()).unwrap()
}

fn asleep(uid: &str, version: u64) -> Sandbox {
    sandbox(uid, version, json!({ "operatingMode": "Suspended", "replicas": 0, "resumePolicy": "OnDemand" }))
}

fn awake(uid: &str, version: u64) -> Sandbox {
    sandbox(uid, version, json!({ "operatingMode": "Running", "replicas": 1, "resumePolicy": "OnDemand" }))
}

fn directory() -> Directory {
    let directory = Directory::default();
    assert_eq!(directory.state(&name("a")), State::Unknown);
    directory.sandboxes(vec![]);
    assert!(!directory.is_complete());
    directory.pods(vec![]);
    assert!(directory.is_complete());
    directory
}

const SUSPENDED: State = State::Suspended(Wakes::OnDemand);

#[test]
fn older_version_never_replaces_a_newer_one() {
    let directory = directory();
    let state = || directory.state(&name("a"));
    directory.sandbox(name("a"), asleep("u", 5));
    assert_eq!(state(), SUSPENDED);
    // The reply to the write that woke it is faster than the watch and than a list.
    directory.replied(name("a"), awake("u", 7));
    directory.sandbox(name("a"), asleep("u", 6));
    assert_eq!(state(), State::Starting(None));
    directory.sandboxes(vec![(name("a"), asleep("u", 6))]);
    assert_eq!(state(), State::Starting(None));
    directory.sandboxes(vec![(name("a"), asleep("u", 8))]);
    assert_eq!(state(), SUSPENDED);
    directory.sandboxes(vec![]);
    assert_eq!(state(), State::Absent);
}

#[test]
fn late_reply_brings_no_sandbox_back() {
    let directory = directory();
    directory.sandbox(name("a"), asleep("u", 5));
    directory.no_sandbox(&name("a"), "u");
    directory.replied(name("a"), awake("u", 6));
    assert_eq!(directory.state(&name("a")), State::Absent);
    directory.sandbox(name("a"), asleep("v", 9));
    directory.no_sandbox(&name("a"), "u");
    assert_eq!(directory.state(&name("a")), SUSPENDED, "the next Sandbox of the name stays");
    directory.replied(name("a"), awake("u", 10));
    assert_eq!(directory.state(&name("a")), SUSPENDED);
}

#[test]
fn pod_of_the_time_before_a_suspend_does_not_count_until_the_operator_resumed() {
    let directory = directory();
    let pod = json!({
        "metadata": { "name": "a", "namespace": "ns", "uid": "p", "ownerReferences": [
            { "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u", "controller": true },
        ] },
        "status": { "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }] },
    });
    let pod = Pod::read(&Document::parse(&pod.to_string()).unwrap(), false, Instant::now(), |_| Default::default());
    directory.pod(name("a"), pod.unwrap());
    let mut resuming = awake("u", 5);
    resuming.resuming = true;
    directory.sandbox(name("a"), resuming);
    assert_eq!(directory.state(&name("a")), State::Starting(None));
    directory.sandbox(name("a"), awake("u", 6));
    assert!(matches!(directory.state(&name("a")), State::Running(_)));
    directory.no_pod(&name("a"), "another");
    assert!(matches!(directory.state(&name("a")), State::Running(_)));
    directory.no_pod(&name("a"), "p");
    assert_eq!(directory.state(&name("a")), State::Starting(None));
}

#[test]
fn record_of_a_use_never_replaces_one_of_a_later_use() {
    let directory = directory();
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let now = at("2030-01-01T12:00:00Z");
    let moves = |recorded: &str, to: &str| {
        let mut used = awake("u", 5);
        (used.idle_timeout, used.last_activity) = (Some(std::time::Duration::from_secs(1800)), Some(at(recorded)));
        directory.sandboxes(vec![]);
        directory.sandbox(name("a"), used);
        directory.to_record(&name("a"), "u", at(to), now).is_some()
    };
    assert!(moves("2030-01-01T11:50:00Z", "2030-01-01T11:55:00Z"));
    assert!(!moves("2030-01-01T11:50:00Z", "2030-01-01T11:51:00Z"), "less than a tenth of the timeout");
    assert!(!moves("2030-01-01T11:50:00Z", "2030-01-01T11:40:00Z"), "another gateway saw a later use");
    assert!(moves("2030-01-01T13:00:00Z", "2030-01-01T12:00:00Z"), "a clock that was wrong wrote the future");
}

#[test]
fn first_use_after_a_wish_to_be_suspended_is_recorded_at_once() {
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let moves = |since: &str, to: &str| {
        let object = json!({
            "metadata": { "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "5", "annotations": {
                "policy.paddock.dev/last-activity": "2030-01-01T11:59:00Z", "policy.paddock.dev/idle-since": since,
            } },
            "spec": { "operatingMode": "Running", "replicas": 1, "idleTimeout": "30m" },
        });
        let directory = directory();
        directory.sandbox(name("a"), Sandbox::read(&Document::parse(&object.to_string()).unwrap()).unwrap());
        directory.to_record(&name("a"), "u", at(to), at("2030-01-01T12:00:00Z")).is_some()
    };
    assert!(moves("2030-01-01T11:59:30Z", "2030-01-01T11:59:31Z"));
    assert!(!moves("2030-01-01T11:59:30Z", "2030-01-01T11:59:29Z"));
    assert!(!moves("2030-01-01T11:58:30Z", "2030-01-01T11:59:31Z"), "the record is later than the wish");
}

#[tokio::test]
async fn who_follows_a_sandbox_sees_every_state_and_is_forgotten() {
    let directory = directory();
    let mut follow = directory.follow(&name("a"));
    let other = directory.follow(&name("a"));
    assert_eq!(follow.seen().state, State::Absent);
    for (change, state) in [(asleep("u", 5), SUSPENDED), (awake("u", 6), State::Starting(None))] {
        directory.sandbox(name("a"), change);
        follow.changed().await;
        assert_eq!(follow.seen().state, state);
    }
    drop(follow);
    assert_eq!(directory.0.lock().followed.len(), 1);
    drop(other);
    assert!(directory.0.lock().followed.is_empty());
}

#[test]
fn sandbox_costs_less_than_a_kilobyte() {
    let fixed = size_of::<Name>() + size_of::<Sandbox>() + size_of::<Name>() + size_of::<Pod>();
    // Names, UIDs, versions, a message, and the tables.
    let strings = 2 * (63 + 63) + 3 * 36 + 20 + 200;
    assert!(fixed + strings < 1000, "{fixed} + {strings}");
}

/// A Sandbox that has expired stays so while it is suspended and after a write that resumed it: the operator makes no pod.
#[test]
fn expired_sandbox_is_ended_in_every_mode_and_a_finished_one_can_be_resumed() {
    let read = |reason: &str, mode: &str, acted: Value| {
        let object = json!({
            "metadata": { "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "5", "annotations": {
                "policy.paddock.dev/suspended-by": "Idle",
            } },
            "spec": { "operatingMode": mode, "resumePolicy": "OnDemand" },
            "status": { "mode": acted, "conditions": [{ "type": "Ready", "status": "False", "reason": reason }] },
        });
        let directory = directory();
        directory.sandbox(name("a"), Sandbox::read(&Document::parse(&object.to_string()).unwrap()).unwrap());
        (directory.state(&name("a")), directory.wakeable(&name("a")).is_some())
    };
    for mode in ["Running", "Suspended"] {
        for acted in [json!("Running"), json!("Suspended"), json!(null)] {
            assert_eq!(read("SandboxExpired", mode, acted.clone()), (State::Ended, false), "{mode} {acted}");
        }
    }
    for reason in ["PodSucceeded", "PodFailed"] {
        assert_eq!(read(reason, "Running", json!("Running")), (State::Ended, false));
        assert_eq!(read(reason, "Suspended", json!("Suspended")), (SUSPENDED, true));
        assert!(matches!(read(reason, "Running", json!("Suspended")).0, State::Starting(_)));
    }
}
