//! The explanation of each kind, and the sentences about questions and answers.

use jiff::Timestamp;
use paddock_api::Hook;
use paddock_api::kind::{Key, Kind};
use serde_json::{Value, json};

use super::*;
use crate::binding::Mode;
use crate::decide::decide;
use crate::object::Object;
use crate::question::{Caller, Failure, FailureKind, PluginRef, PluginRequest, form};
use crate::record::{Asker, Decision, ObjectName, Subject};
use crate::settings::Settings;
use crate::world::{Observed, World};

const NOW: &str = "2027-01-15T08:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A World with a namespace and these objects: the kind, the name, and the fields besides the metadata.
fn world(objects: &[(Kind, &str, Value)]) -> World {
    let mut world = World::new(Settings::default());
    let mut observe = |kind: Kind, name: &str, namespace: Option<&str>, fields: &Value| {
        let mut document = fields.clone();
        document["metadata"] = json!({
            "name": name, "namespace": namespace, "uid": name, "resourceVersion": "5",
            "creationTimestamp": "2027-01-15T07:00:00Z",
        });
        let object = Object::from_json(kind, document).unwrap();
        let _ = world.observe(Observed::Applied(object), now());
    };
    observe(Kind::Namespace, "agents", None, &json!({}));
    for (kind, name, fields) in objects {
        observe(*kind, name, Some("agents"), fields);
    }
    world
}

fn explained(world: &World, kind: Kind, name: &str) -> String {
    let snapshot = world.snapshot(&Key::new(kind, "agents", name), now());
    [seen(&snapshot), status(&snapshot), decided(&decide(&snapshot, &[]))].concat().join("\n")
}

#[test]
fn each_kind_is_explained_by_its_snapshot() {
    let pod = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    let ready = json!([{
        "type": "Ready", "status": "False", "reason": "DependenciesNotReady", "message": "Pod does not exist",
        "lastTransitionTime": "2027-01-15T07:30:00Z",
    }]);
    let sandbox = json!({"spec": {"podTemplate": pod, "idleTimeout": "90m"}, "status": {"conditions": ready}});
    let world = world(&[
        (Kind::Sandbox, "s", sandbox),
        (Kind::Sandbox, "bad", json!({"spec": {"podTemplate": {"spec": {"containers": []}}}})),
        (Kind::Sandbox, "off", json!({"spec": {"podTemplate": pod, "operatingMode": "Suspended"}})),
        (Kind::Pool, "p", json!({"spec": {"sandboxTemplateRef": {"name": "t"}, "minReady": 1, "maxReady": 6}})),
        (Kind::Pool, "fixed", json!({"spec": {"sandboxTemplateRef": {"name": "t"}, "replicas": 1}})),
        (Kind::Claim, "c", json!({"spec": {"warmPoolRef": {"name": "gone"}}})),
        (Kind::Claim, "d", json!({"spec": {"sandboxTemplateRef": {"name": "t"}, "warmpool": "none"}})),
    ]);
    for (kind, name, parts) in [
        (
            Kind::Sandbox,
            "s",
            vec![
                "It was created at 2027-01-15T07:00:00Z.",
                "It should run.",
                "It counts as idle after 1h30m without activity.",
                "It has no pod.",
                "Ready is False since 2027-01-15T07:30:00Z (DependenciesNotReady): Pod does not exist",
                "It decided to create Pod s (PodMissing).",
            ],
        ),
        (Kind::Sandbox, "bad", vec!["Its spec is not valid: ", "It decided to write the status of Sandbox bad"]),
        (Kind::Sandbox, "off", vec!["It should be suspended."]),
        (
            Kind::Pool,
            "p",
            vec![
                "It should keep between 1 and 6 Sandboxes warm, and a plugin decides how many.",
                "Its SandboxTemplate t does not exist.",
                "It has no Sandbox: 0 Ready, 0 not Ready, and 0",
                "Claims have no Sandbox that it made.",
                "No claim arrived in the last 10m.",
            ],
        ),
        (Kind::Pool, "fixed", vec!["It should keep 1 Sandbox warm."]),
        (
            Kind::Claim,
            "c",
            vec![
                "It asks for a Sandbox of SandboxWarmPool gone.",
                "SandboxWarmPool gone does not exist.",
                "It has no Sandbox yet.",
                "It sees no warm Sandbox that it may take.",
            ],
        ),
        (
            Kind::Claim,
            "d",
            vec!["It asks for a Sandbox of SandboxTemplate t, from no pool.", "SandboxTemplate t does not exist."],
        ),
        (Kind::Claim, "nothing", vec!["The operator sees no such object.", "Nothing had to be written."]),
    ] {
        let text = explained(&world, kind, name);
        for part in parts {
            assert!(text.contains(part), "{name}: {part:?} is not in:\n{text}");
        }
    }
}

fn asked_about(hook: Hook, question: Value, result: Result<Value, Failure>) -> String {
    let object = ObjectName {
        group: String::new(),
        kind: "Sandbox".into(),
        namespace: "agents".into(),
        name: "s".into(),
        uid: None,
    };
    let plugin = PluginRef { name: "mine".into(), digest: format!("sha256:{}", "ab".repeat(32)) };
    let question = form::question(hook, question).unwrap();
    let decision = Decision {
        time: now(),
        subject: std::sync::Arc::new(Subject { asker: Asker::Webhook, caller: Caller::Verified, object }),
        request: PluginRequest {
            binding: "mine/x".into(),
            plugin,
            mode: Mode::Enforce,
            settings: "{}".into(),
            question,
        },
        result: result.map(|answer| form::answer(hook, answer).unwrap()),
        fuel: 0,
        memory_bytes: 0,
        took: std::time::Duration::ZERO,
    };
    asked(&decision.record(&[])).join("\n")
}

#[test]
fn questions_and_answers_of_every_hook_are_sentences() {
    let review = json!({
        "operation": "create", "group": "", "version": "v1", "kind": "Pod", "namespace": "agents", "name": "s",
        "object": {"spec": {}}, "namespace-labels": {}, "username": "alice", "groups": [], "generated-code": true,
        "classes": [], "dry-run": false, "now": NOW,
    });
    let class = json!({
        "namespace": "agents", "name": "s", "labels": {}, "images": [], "generated-code": false,
        "namespace-labels": {}, "now": NOW,
        "classes": [{"name": "gvisor", "handler": "runsc", "isolated": true, "nodes": 2}],
    });
    let idle = json!({
        "namespace": "agents", "name": "s", "labels": {}, "idle-timeout-ms": 1_800_000, "created": NOW,
        "last-activity": "2027-01-15T07:55:00Z", "tiers": ["suspend"], "state": "", "now": NOW,
    });
    let pool = json!({
        "namespace": "agents", "name": "p", "labels": {}, "min": 1, "max": 5, "ready": 2, "creating": 1, "claimed": 3,
        "bucket-seconds": 10, "arrivals": [1, 2], "hits": 2, "misses": 1, "state": "", "now": NOW,
    });
    let patch = json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]);
    let failed = Failure { kind: FailureKind::Fuel, message: "no answer with 5 units of fuel".into() };
    for (hook, question, result, parts) in [
        (
            Hook::Admission,
            &review,
            Ok(json!({"verdict": "allow", "warnings": ["soon"], "patch": patch})),
            vec![
                "At 2027-01-15T08:00:00Z, the webhook asked mine (admission, sha256:abababababab):",
                "\n  May alice create Pod agents/s? Generated code: yes.",
                "\n  It allowed, with a change of /metadata/labels/a. It warned: soon",
            ],
        ),
        (Hook::Admission, &review, Ok(json!({"verdict": {"deny": "no"}, "warnings": []})), vec!["\n  It denied: no"]),
        (
            Hook::RuntimeClass,
            &class,
            Ok(json!({"choice": {"class": "gone"}, "reason": "r"})),
            vec![
                "Requested: none. Generated code: no. There are: gvisor (isolated, 2 nodes).",
                "\n  It answered: RuntimeClass gone, because: r",
                "\n  The operator refused the answer: there is no RuntimeClass gone",
            ],
        ),
        (
            Hook::Idle,
            &idle,
            Ok(json!({"action": null, "reason": "in use", "next-check": "2027-01-15T08:10:00Z"})),
            vec![
                "Its idleTimeout is 30m. Its last activity was at 2027-01-15T07:55:00Z (5m ago). Possible: suspend.",
                "It answered: leave it as it is, because: in use. It wants to be asked again at 2027-01-15T08:10:00Z.",
            ],
        ),
        (
            Hook::PoolSize,
            &pool,
            Ok(json!({"desired": 9, "reason": ""})),
            vec![
                "How many Sandboxes does pool p keep, from 1 to 5? 2 Ready, 1 starting, 3 claimed.",
                "3 claims in 20s: 2 found a Ready Sandbox, and 1 did not.",
                "\n  It answered: 9 Sandboxes.",
                "\n  The operator did not follow the answer: the pool keeps 5",
            ],
        ),
        (
            Hook::PoolSize,
            &pool,
            Err(failed),
            vec!["\n  It gave no answer: plugin fuel: no answer with 5 units of fuel"],
        ),
    ] {
        let text = asked_about(hook, question.clone(), result);
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }
}

#[test]
fn durations_have_two_units() {
    use std::time::Duration;
    for (seconds, text) in
        [(0, "0ms"), (45, "45s"), (60, "1m"), (90, "1m30s"), (5400, "1h30m"), (90_000, "25h"), (180_000, "2d2h")]
    {
        assert_eq!(words::duration(Duration::from_secs(seconds)), text);
    }
    assert_eq!(words::ago(now(), now() - jiff::SignedDuration::from_secs(60)), "1m ahead");
}
