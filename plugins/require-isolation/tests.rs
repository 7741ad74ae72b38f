//! Cases of `require-isolation`.

use super::*;
use paddock_plugin_sdk::admission::run;
use serde_json::json;

fn class(name: &str, isolated: bool, nodes: u32) -> RuntimeClassFact {
    RuntimeClassFact { name: name.into(), handler: name.into(), isolated, nodes }
}

fn classes() -> Vec<RuntimeClassFact> {
    vec![class("gvisor", true, 2), class("kata", true, 1), class("runc", false, 3), class("nowhere", true, 0)]
}

fn question(group: &str, kind: &str, object: &Value) -> Question {
    Question {
        operation: Operation::Create,
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        namespace: "agents".into(),
        name: "a".into(),
        object: object.to_string(),
        old_object: None,
        namespace_labels: vec![],
        username: "jane".into(),
        groups: vec![],
        generated_code: true,
        classes: classes(),
        dry_run: false,
        now: 0,
    }
}

fn pod(class: Option<&str>) -> Value {
    let mut pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    if let Some(class) = class {
        pod["spec"]["runtimeClassName"] = class.into();
    }
    pod
}

fn marked(mut object: Value) -> Value {
    object["metadata"]["labels"] = json!({"policy.paddock.dev/generated-code": "true"});
    object
}

fn update(old: &Value, new: &Value) -> Question {
    let mut question = question("", "Pod", new);
    question.operation = Operation::Update;
    question.old_object = Some(old.to_string());
    question
}

fn ask(question: &Question) -> Answer {
    run::<RequireIsolation>(question, "{}").unwrap()
}

fn message(answer: &Answer) -> &str {
    match &answer.verdict {
        Verdict::Deny(message) => message,
        Verdict::Allow => panic!("allowed: {answer:?}"),
    }
}

#[test]
fn what_is_not_generated_code_is_let_through_as_it_is() {
    for named in [None, Some("runc"), Some("unknown")] {
        let mut question = question("", "Pod", &pod(named));
        question.generated_code = false;
        assert_eq!(ask(&question), allow());
    }
}

#[test]
fn a_class_that_isolates_is_let_through() {
    assert_eq!(ask(&question("", "Pod", &pod(Some("kata")))), allow());
}

#[test]
fn a_class_that_does_not_isolate_is_denied_with_what_to_set() {
    let answer = ask(&question("", "Pod", &pod(Some("runc"))));
    assert_eq!(
        message(&answer),
        "generated code must run isolated, but spec.runtimeClassName is \"runc\", which does not isolate from the host's \
         kernel; set it to one of: gvisor, kata"
    );
}

#[test]
fn a_class_that_does_not_exist_is_denied() {
    assert!(message(&ask(&question("", "Pod", &pod(Some("gvisr"))))).contains("\"gvisr\""));
}

#[test]
fn a_class_that_isolates_but_has_no_node_is_let_through_with_a_warning() {
    let answer = ask(&question("", "Pod", &pod(Some("nowhere"))));
    assert_eq!(answer.verdict, Verdict::Allow);
    assert_eq!(answer.warnings, ["spec.runtimeClassName: no node can run \"nowhere\" now"]);
}

#[test]
fn a_workload_that_names_no_class_gets_the_preferred_one() {
    for (settings, class) in [("{}", "gvisor"), (r#"{"prefer":["kata"]}"#, "kata")] {
        let answer = run::<RequireIsolation>(&question("", "Pod", &pod(None)), settings).unwrap();
        let patch: Value = serde_json::from_str(&answer.patch.unwrap()).unwrap();
        assert_eq!(patch, json!([{"op": "add", "path": "/spec/runtimeClassName", "value": class}]));
    }
}

#[test]
fn a_class_named_by_an_empty_text_is_none() {
    assert!(ask(&question("", "Pod", &pod(Some("")))).patch.is_some());
}

#[test]
fn where_nothing_isolates_generated_code_is_denied() {
    let mut question = question("", "Pod", &pod(None));
    question.classes = vec![class("runc", false, 3), class("gvisor", true, 0)];
    assert!(message(&ask(&question)).ends_with("that a node can run: install one first"));
}

#[test]
fn both_shapes_of_a_sandbox_are_patched_where_users_would_write_it() {
    for (shape, path) in
        [("podTemplate", "/spec/podTemplate/spec/runtimeClassName"), ("template", "/spec/runtimeClassName")]
    {
        let object = json!({"spec": {shape: {"spec": {"containers": []}}}});
        let patch = ask(&question("agents.x-k8s.io", "Sandbox", &object)).patch.unwrap();
        assert!(patch.contains(&format!("\"path\":\"{path}\"")), "{patch}");
    }
}

#[test]
fn either_field_of_a_sandbox_can_be_at_fault() {
    let object = json!({"spec": {"runtimeClassName": "gvisor", "template": {"spec": {"runtimeClassName": "runc"}}}});
    let answer = ask(&question("agents.x-k8s.io", "Sandbox", &object));
    assert!(message(&answer).contains("spec.template.spec.runtimeClassName is \"runc\""));
}

#[test]
fn a_claim_names_no_class_and_is_let_through() {
    let object = json!({"spec": {"templateRef": {"name": "t"}}});
    assert_eq!(ask(&question("agents.x-k8s.io", "SandboxClaim", &object)), allow());
}

#[test]
fn the_marker_cannot_be_added_to_a_running_pod_that_is_not_isolated() {
    for named in [None, Some("runc")] {
        let answer = ask(&update(&pod(named), &marked(pod(named))));
        assert!(message(&answer).starts_with("generated code must run isolated"), "{named:?}");
    }
}

#[test]
fn the_marker_can_be_added_to_a_running_pod_that_is_isolated() {
    assert_eq!(ask(&update(&pod(Some("gvisor")), &marked(pod(Some("gvisor"))))), allow());
}

#[test]
fn a_change_that_leaves_the_pod_as_it_was_is_let_through_with_a_warning() {
    let old = marked(pod(Some("runc")));
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let answer = ask(&update(&old, &new));
    assert_eq!((answer.verdict, answer.warnings.len()), (Verdict::Allow, 1));
}

#[test]
fn a_changed_image_is_judged_anew() {
    let old = marked(pod(Some("runc")));
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "b".into();
    assert!(message(&ask(&update(&old, &new))).contains("\"runc\""));
}

#[test]
fn what_is_being_deleted_is_let_go() {
    let old = pod(None);
    let mut new = marked(old.clone());
    new["metadata"]["deletionTimestamp"] = "2026-09-01T00:00:00Z".into();
    assert_eq!(ask(&update(&old, &new)), allow());
}

#[test]
fn an_update_of_a_template_is_patched() {
    let template = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"image": image}]}}}});
    let mut question = question("extensions.agents.x-k8s.io", "SandboxTemplate", &template("b"));
    question.operation = Operation::Update;
    question.old_object = Some(template("a").to_string());
    assert!(ask(&question).patch.is_some());
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let question = question("", "Pod", &pod(None));
    let error = |settings| run::<RequireIsolation>(&question, settings).unwrap_err();
    assert!(error(r#"{"prefer":[""]}"#).starts_with("prefer[0]: "));
    assert!(error(r#"{"prefer":"gvisor"}"#).starts_with("prefer: "));
}
