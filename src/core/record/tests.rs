//! Records: what they contain, and the values that they must not contain.

use paddock_api::names::annotation;
use serde_json::json;

use super::*;
use crate::binding::Mode;
use crate::question::FailureKind;

/// The text that no record may contain.
const SECRET: &str = "hunter2-\"very\"\nsecret";

fn decision(hook: Hook, question: Value, result: Result<Value, Failure>) -> Decision {
    let object = ObjectName {
        group: "agents.x-k8s.io".into(),
        kind: "Sandbox".into(),
        namespace: "agents".into(),
        name: "s".into(),
        uid: Some("u".into()),
    };
    let question = form::question(hook, question).unwrap();
    let plugin = PluginRef { name: "p".into(), digest: "sha256:0".into() };
    Decision {
        time: "2027-01-15T08:00:00Z".parse().unwrap(),
        subject: Arc::new(Subject { asker: Asker::Reconcile, caller: Caller::Verified, object }),
        request: PluginRequest { binding: "p/x".into(), plugin, mode: Mode::Enforce, settings: "{}".into(), question },
        result: result.map(|answer| form::answer(hook, answer).unwrap()),
        fuel: 7,
        memory_bytes: 65536,
        took: Duration::from_micros(12),
    }
}

fn admission(object: &Value, old: &Value, answer: &Value) -> Decision {
    let question = json!({
        "operation": "update", "group": "", "version": "v1", "kind": "Pod", "namespace": "agents", "name": "s",
        "object": object, "old-object": old, "namespace-labels": {}, "username": "alice", "groups": [],
        "generated-code": true, "classes": [], "dry-run": false, "now": 0,
    });
    decision(Hook::Admission, question, Ok(answer.clone()))
}

fn pool(answer: Result<Value, Failure>) -> Decision {
    let question = json!({
        "namespace": "agents", "name": "p", "labels": {"team": "a"}, "min": 1, "max": 5, "ready": 1, "creating": 0,
        "claimed": 0, "bucket-seconds": 10, "arrivals": [1, 2], "hits": 2, "misses": 1, "refill-ms": 900,
        "state": [255, 0], "now": 1_800_000_000_000_u64,
    });
    decision(Hook::PoolSize, question, answer)
}

fn allow() -> Value {
    json!({"verdict": "allow", "warnings": []})
}

fn record(decision: &Decision) -> Record {
    decision.record(&["kept.example".to_owned()])
}

fn text(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

#[test]
fn record_is_one_line_that_is_read_again() {
    let size = json!({"desired": 9, "reason": "many", "state": "abc"});
    let failure = Failure { kind: FailureKind::Fuel, message: "no answer".into() };
    for decision in [
        pool(Ok(size)),
        pool(Err(failure)),
        admission(&json!({"metadata": {}, "spec": {"env": [{"name": "A", "value": "b"}]}}), &Value::Null, &allow()),
    ] {
        let record = record(&decision);
        let line = text(&record);
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(Record::read(&line).unwrap(), record, "{line}");
    }
    let line: Value = serde_json::from_str(&text(&record(&pool(Ok(json!({"desired": 9, "reason": ""})))))).unwrap();
    assert_eq!(line["outcome"], "corrected");
    assert_eq!(line["note"], "the pool keeps 5, because 9 is not between 1 and 5");
    assert_eq!(line["object"]["uid"], "u");
    assert_eq!((&line["hook"], &line["askedBy"], &line["fuel"]), (&json!("pool-size"), &json!("reconcile"), &json!(7)));
    assert_eq!((&line["settingsDigest"], &line["durationMicros"]), (&json!(settings_digest("{}")), &json!(12)));
    assert!(line.get("failure").is_none() && line.get("redactedValues").is_none(), "{line}");
}

#[test]
fn fault_of_a_line_names_its_field() {
    let line: Value = serde_json::from_str(&text(&record(&pool(Ok(json!({"desired": 1, "reason": ""})))))).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut line = line.clone();
        *line.pointer_mut(pointer).unwrap() = value;
        line.to_string()
    };
    let mut both = line.clone();
    both["failure"] = json!({"kind": "trap", "message": ""});
    let mut kind = both.clone();
    kind["failure"]["kind"] = "tired".into();
    kind.as_object_mut().unwrap().remove("answer");
    for (line, part) in [
        ("{".to_owned(), "not JSON: "),
        ("[]".to_owned(), "invalid length 0"),
        (with("/time", json!("noon")), "time: "),
        (with("/hook", json!("supper")), "hook: unknown variant `supper`"),
        (with("/question/min", json!("x")), "question: min: invalid type"),
        (with("/question", json!({})), "question: missing field"),
        (with("/answer/desired", json!(-1)), "answer: desired: "),
        (with("/object", json!({"kind": "Sandbox"})), "object: missing field"),
        (both.to_string(), "exactly one of answer and failure"),
        (kind.to_string(), "failure: kind: unknown variant `tired`"),
    ] {
        let error = Record::read(&line).unwrap_err().to_string();
        assert!(error.starts_with(part), "{part}: {error}");
    }
}

/// Each field of an object that can carry a secret, as a user or a claim writes it.
fn carriers() -> Vec<Value> {
    let container = |field: &str, value: Value| json!({"spec": {"containers": [{"name": "c", field: value}]}});
    let variable = json!([{"name": "TOKEN", "value": SECRET}]);
    let probe = json!({"httpGet": {"path": "/", "httpHeaders": [{"name": "Authorization", "value": SECRET}]}});
    let copy = json!({"spec": {"env": [{"name": "TOKEN", "value": SECRET}]}}).to_string();
    vec![
        container("env", variable.clone()),
        container("env", json!([{"name": "TOKEN", "value": SECRET, "unknown": {"field": SECRET}}])),
        container("command", json!(["sh", "-c", SECRET])),
        container("args", json!([format!("--token={SECRET}")])),
        container("livenessProbe", probe.clone()),
        container("readinessProbe", json!({"exec": {"command": ["curl", SECRET]}})),
        container("lifecycle", json!({"postStart": probe, "preStop": {"exec": {"command": [SECRET]}}})),
        json!({"spec": {"initContainers": [{"name": "c", "env": variable}]}}),
        json!({"spec": {"ephemeralContainers": [{"name": "c", "env": variable}]}}),
        json!({"spec": {"podTemplate": {"spec": {"containers": [{"env": variable}]}}}}),
        json!({"spec": {"template": {"metadata": {"annotations": {"example.com/key": SECRET}}}}}),
        // What a claim brings.
        json!({"spec": {"env": variable}}),
        json!({"spec": {"env": {"TOKEN": SECRET}}}),
        json!({"spec": {"files": [{"name": "token", "content": SECRET}]}}),
        json!({"spec": {"additionalPodMetadata": {"annotations": {"sandbox.users.io/token": SECRET}}}}),
        json!({"spec": {"volumeClaimTemplates": [{"metadata": {"annotations": {"a": SECRET}}}]}}),
        // Annotations.
        json!({"metadata": {"annotations": {"password": SECRET}}}),
        json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": copy}}}),
        json!({"metadata": {"annotations": {"policy.paddock.dev/runtime-class-reason": SECRET}}}),
        // Volumes.
        json!({"spec": {"volumes": [{"csi": {"volumeAttributes": {"key": SECRET}}}]}}),
        json!({"spec": {"volumes": [{"flexVolume": {"options": {"key": SECRET}}}]}}),
        json!({"spec": {"volumes": [{"gitRepo": {"repository": format!("https://x:{SECRET}@example.com")}}]}}),
    ]
}

#[test]
fn no_field_that_can_carry_a_secret_is_recorded() {
    // The forms in which the text could be in a line of JSON.
    let forms = ["hunter2", "very", "secret\""];
    for carrier in carriers() {
        let patch = |path: &str| json!([{"op": "add", "path": path, "value": carrier.get(&path[1..])}]);
        let spec = if carrier.get("spec").is_some() { "/spec" } else { "/metadata" };
        for decision in [
            admission(&carrier, &Value::Null, &allow()),
            admission(&json!({}), &carrier, &allow()),
            admission(&json!({}), &Value::Null, &json!({"verdict": "allow", "warnings": [], "patch": patch(spec)})),
        ] {
            let record = record(&decision);
            let line = text(&record);
            assert!(!forms.iter().any(|form| line.contains(form)), "{carrier}: {line}");
            assert!(record.redacted_values > 0, "{carrier}: {line}");
            assert_eq!(Record::read(&line).unwrap(), record);
        }
    }
}

/// A label may have the name of a field that can carry a secret. A status repeats what plugins were given and said.
#[test]
fn labels_are_recorded_and_a_status_is_not() {
    let object = json!({
        "metadata": { "labels": { "env": "prod", "options": "many" } },
        "spec": { "nodeSelector": { "args": "fast" } },
        "status": { "plugins": [{ "settings": SECRET }], "conditions": [{ "message": SECRET }] },
    });
    let record = record(&admission(&object, &object, &allow()));
    let line = text(&record);
    for kept in ["prod", "many", "fast"] {
        assert!(line.contains(kept), "{line}");
    }
    assert!(!line.contains("hunter2"), "{line}");
    assert_eq!(record.redacted_values, 2);
}

#[test]
fn path_of_a_patch_says_what_its_value_is() {
    let annotations = format!("/metadata/annotations/{}", annotation::WARM_POOL.replace('/', "~1"));
    let deep = "/a".repeat(100_000);
    for (path, value, stays) in [
        ("/spec/containers/0/env/-", json!({"name": "TOKEN", "value": SECRET}), false),
        ("/spec/containers/0/env/0/value", json!(SECRET), false),
        ("/spec/containers/0/env/0/name", json!("TOKEN-NAME"), true),
        ("/metadata/annotations/example.com~1key", json!(SECRET), false),
        ("/metadata/annotations/kept.example~1key", json!("TOKEN-NAME"), true),
        (annotations.as_str(), json!("TOKEN-NAME"), true),
        ("/spec/containers/0/args", json!(["a", SECRET]), false),
        (deep.as_str(), json!(SECRET), false),
        ("/spec/runtimeClassName", json!("TOKEN-NAME"), true),
        ("", json!({"spec": {"env": [{"value": SECRET}]}}), false),
    ] {
        let patch = json!([{"op": "add", "path": path, "value": value}]);
        let answer = json!({"verdict": "allow", "warnings": [], "patch": patch});
        let record = record(&admission(&json!({}), &Value::Null, &answer));
        let Ok(Answer::Admission(answer)) = &record.result else { panic!("{record:?}") };
        let written: Value = serde_json::from_str(answer.patch.as_ref().unwrap()).unwrap();
        let line = text(&record);
        assert_eq!(written[0]["value"] == value, stays, "{path}");
        assert_eq!(written[0]["path"], path);
        assert!(!line.contains("hunter2"), "{path}: {line}");
    }
}

#[test]
fn names_references_and_what_paddock_writes_stay() {
    let object = json!({
        "metadata": {
            "labels": {"team": "research"},
            "annotations": {annotation::LAST_ACTIVITY: "2027-01-15T08:00:00Z", "kept.example/owner": "alice"},
        },
        "spec": {
            "containers": [{
                "name": "c", "image": "ghcr.io/a/b:1", "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "B", "value": ""},
                ],
            }],
            "files": [{"name": "f", "secretKeyRef": {"name": "s", "key": "k"}}],
            "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
        },
    });
    let decision = admission(&object, &Value::Null, &allow());
    let record = record(&decision);
    assert_eq!((&record.question, record.redacted_values), (&decision.request.question, 0));
}

/// A plugin may compare an object with its old version, so equal values stay equal.
#[test]
fn equal_values_get_equal_replacements() {
    let object = |a: &str, b: &str| json!({"spec": {"env": [{"name": "A", "value": a}, {"name": "B", "value": b}]}});
    let record = record(&admission(&object("one", "two"), &object("one", "three"), &allow()));
    let Question::Admission(question) = &record.question else { panic!("{record:?}") };
    let value = |text: &str, at: usize| {
        let object: Value = serde_json::from_str(text).unwrap();
        object["spec"]["env"][at]["value"].as_str().unwrap().to_owned()
    };
    let old = question.old_object.as_deref().unwrap();
    assert_eq!(value(&question.object, 0), value(old, 0));
    assert_ne!(value(&question.object, 1), value(old, 1));
    assert_ne!(value(&question.object, 0), value(&question.object, 1));
    assert_eq!(record.redacted_values, 4);
}

#[test]
fn copies_of_a_secret_in_an_answer_are_replaced() {
    let object = json!({"spec": {"env": [{"name": "TOKEN", "value": SECRET}]}});
    let plain = SECRET.replace('\n', " ");
    let cut = format!("{}{}…", "x".repeat(20), &plain[..12]);
    let label = json!([{"op": "add", "path": "/metadata/labels/x", "value": SECRET}]);
    for answer in [
        json!({"verdict": {"deny": format!("TOKEN is {SECRET}.")}, "warnings": []}),
        json!({"verdict": {"deny": format!("TOKEN is {SECRET:?}.")}, "warnings": []}),
        json!({"verdict": {"deny": format!("TOKEN is {plain}, of {plain}")}, "warnings": []}),
        json!({"verdict": {"deny": cut}, "warnings": []}),
        json!({"verdict": "allow", "warnings": ["fine", plain]}),
        json!({"verdict": "allow", "warnings": [], "patch": label}),
    ] {
        let line = text(&record(&admission(&object, &Value::Null, &answer)));
        assert!(!line.contains("hunter2") && line.contains("[redacted-1]"), "{line}");
    }
    // A failure, and settings.
    let mut decision = admission(&object, &Value::Null, &allow());
    decision.request.settings = json!({"api": {"access-token": "open sesame"}, "class": "gvisor"}).to_string();
    decision.result = Err(Failure { kind: FailureKind::Error, message: format!("{plain} open sesame gvisor") });
    let line = text(&record(&decision));
    assert!(!line.contains("hunter2") && !line.contains("sesame") && line.contains("gvisor"), "{line}");
}

/// Users fill objects, and the search for copies takes the product of their number and the size of the answer.
#[test]
fn with_too_many_values_the_texts_of_an_answer_are_replaced_as_a_whole() {
    let variable = |at: usize| json!({"name": "A", "value": format!("value {at}")});
    let object = |count: usize| json!({"spec": {"env": (0..count).map(variable).collect::<Vec<_>>()}});
    let answer = json!({"verdict": {"deny": "value 3 is wrong"}, "warnings": [], "patch": [
        {"op": "add", "path": "/metadata/labels", "value": {"a": "value 3"}},
    ]});
    for (count, message) in [(256, "[redacted-4] is wrong"), (257, "[redacted-0]")] {
        let line = text(&record(&admission(&object(count), &Value::Null, &answer)));
        assert!(line.contains(&format!("{{\"deny\":\"{message}\"}}")), "{count}: {line}");
        assert!(!line.contains("\"value 3"), "{count}: {line}");
    }
}

#[test]
fn object_that_cannot_be_read_is_not_recorded() {
    let mut decision = admission(&json!({}), &Value::Null, &allow());
    let Question::Admission(question) = &mut decision.request.question else { panic!("a question") };
    question.object = format!("{{\"spec\": {}{SECRET}", "[".repeat(200));
    let record = record(&decision);
    assert!(!text(&record).contains("hunter2") && record.redacted_values == 1, "{record:?}");
}

#[test]
fn replacement_stands_for_any_text() {
    for (recorded, text, same) in [
        ("a", "a", true),
        ("a", "b", false),
        ("port [redacted-1] is not open", "port 80 is not open", true),
        ("port [redacted-1] is not open", "port 80 is open", false),
        ("[redacted-0]", "", true),
        ("[redacted-1] and [redacted-2]!", "x and y!", true),
        ("[redacted-1] and [redacted-2]!", "x or y!", false),
        ("[redacted-1]", "[redacted-1]", true),
        ("[redacted-] [redacted-x]", "[redacted-] [redacted-x]", true),
        ("[redacted-] [redacted-x]", "other", false),
        ("aa[redacted-1]aa", "aaa", false),
    ] {
        assert_eq!(is_same_text(recorded, text), same, "{recorded} {text}");
    }
}

#[test]
fn size_counts_what_users_fill() {
    let small = admission(&json!({}), &Value::Null, &allow()).bytes();
    let big = "x".repeat(100_000);
    let object = admission(&json!({"spec": big}), &json!({"spec": big}), &allow()).bytes();
    assert!(object >= small + 200_000, "{small} {object}");
    let state = pool(Ok(json!({"desired": 1, "reason": "", "state": "y".repeat(16_000)}))).bytes();
    assert!(state >= 16_000, "{state}");
}

/// An answer without effect is no decision, whatever it says.
#[test]
fn answer_of_a_policy_that_does_not_act_is_unenforced() {
    for (mode, note) in [
        (Mode::Shadow, "the mode of the policy is Shadow"),
        (Mode::Audit, "the mode of the policy is Audit"),
        (Mode::Warn, "the mode of the policy is Warn"),
    ] {
        let mut decision = pool(Ok(json!({"desired": 3, "reason": ""})));
        assert_eq!(record(&decision).outcome, Outcome::Followed);
        decision.request.mode = mode;
        let record = record(&decision);
        assert_eq!((record.outcome, record.note.as_deref()), (Outcome::Unenforced, Some(note)));
    }
}
