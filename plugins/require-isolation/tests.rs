//! Tests of `require-isolation`.

use super::*;
use paddock_plugin_sdk::testing::admission::{
    assert_allowed, create, decide, denial, patch, settings_error, update as update_of,
};
use paddock_plugin_sdk::testing::{isolating_class, shared_kernel_class};
use serde_json::json;

fn classes() -> Vec<RuntimeClassFact> {
    let (gvisor, kata, nowhere) =
        (isolating_class("gvisor", 2), isolating_class("kata", 1), isolating_class("nowhere", 0));
    vec![gvisor, kata, nowhere, shared_kernel_class("runc", 3)]
}

/// The question about an object of generated code, in a cluster with these classes.
fn generated(question: Question) -> Question {
    Question { generated_code: true, classes: classes(), ..question }
}

fn new(api_version: &str, kind: &str, object: &Value) -> Question {
    generated(create(api_version, kind, object))
}

fn new_pod(class: Option<&str>) -> Question {
    new("v1", "Pod", &pod(class))
}

fn update(old: &Value, new: &Value) -> Question {
    generated(update_of("v1", "Pod", old, new))
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

fn answer(question: &Question) -> Answer {
    decide::<RequireIsolation>(question, "{}")
}

#[test]
fn workload_without_generated_code_is_allowed_unchanged() {
    for class in [None, Some("runc"), Some("unknown")] {
        assert_eq!(answer(&Question { generated_code: false, ..new_pod(class) }), allow());
    }
}

#[test]
fn isolating_class_is_allowed() {
    assert_eq!(answer(&new_pod(Some("kata"))), allow());
}

#[test]
fn class_that_does_not_isolate_is_denied_with_the_classes_that_do() {
    assert_eq!(
        denial(&answer(&new_pod(Some("runc")))),
        "generated code must run isolated, but spec.runtimeClassName is \"runc\", which does not isolate from the host's \
         kernel; set it to one of: gvisor, kata"
    );
}

#[test]
fn class_that_is_not_offered_is_denied_with_the_reason() {
    let denial = denial(&answer(&new_pod(Some("gvisr")))).to_owned();
    let why = "spec.runtimeClassName is \"gvisr\", which does not exist or which this namespace may not use";
    assert!(denial.contains(why), "{denial}");
}

#[test]
fn isolating_class_without_nodes_is_allowed_with_a_warning() {
    let answer = answer(&new_pod(Some("nowhere")));
    assert_allowed(&answer);
    assert_eq!(answer.warnings, ["spec.runtimeClassName: no node can run \"nowhere\" now"]);
}

#[test]
fn workload_without_a_class_gets_the_preferred_one() {
    for (settings, class) in [("{}", "gvisor"), (r#"{"prefer":["kata"]}"#, "kata")] {
        let answer = decide::<RequireIsolation>(&new_pod(None), settings);
        assert_eq!(patch(&answer), json!([{"op": "add", "path": "/spec/runtimeClassName", "value": class}]));
    }
}

#[test]
fn empty_class_name_counts_as_none() {
    assert!(answer(&new_pod(Some(""))).patch.is_some());
}

#[test]
fn generated_code_is_denied_if_no_class_isolates() {
    let classes = vec![shared_kernel_class("runc", 3), isolating_class("gvisor", 0)];
    let question = Question { classes, ..new_pod(None) };
    assert!(denial(&answer(&question)).ends_with("that a node can run: install one first"));
}

#[test]
fn sandbox_of_either_shape_is_patched_where_a_user_would_name_the_class() {
    for (shape, path) in
        [("podTemplate", "/spec/podTemplate/spec/runtimeClassName"), ("template", "/spec/runtimeClassName")]
    {
        let object = json!({"spec": {shape: {"spec": {"containers": []}}}});
        let answer = answer(&new("agents.x-k8s.io/v1beta1", "Sandbox", &object));
        assert_eq!(patch(&answer)[0]["path"], path);
    }
}

#[test]
fn both_fields_of_a_sandbox_are_reviewed() {
    let object = json!({"spec": {"runtimeClassName": "gvisor", "template": {"spec": {"runtimeClassName": "runc"}}}});
    let answer = answer(&new("agents.x-k8s.io/v1alpha1", "Sandbox", &object));
    assert!(denial(&answer).contains("spec.template.spec.runtimeClassName is \"runc\""));
}

#[test]
fn claim_names_no_class_and_is_allowed() {
    let object = json!({"spec": {"templateRef": {"name": "t"}}});
    assert_eq!(answer(&new("agents.x-k8s.io/v1alpha1", "SandboxClaim", &object)), allow());
}

#[test]
fn marker_cannot_be_added_to_a_running_pod_that_is_not_isolated() {
    for class in [None, Some("runc")] {
        let answer = answer(&update(&pod(class), &marked(pod(class))));
        assert!(denial(&answer).starts_with("generated code must run isolated"), "{class:?}");
    }
}

#[test]
fn marker_can_be_added_to_a_running_pod_that_is_isolated() {
    let isolated = pod(Some("gvisor"));
    assert_eq!(answer(&update(&isolated, &marked(isolated.clone()))), allow());
}

#[test]
fn update_that_leaves_the_pod_spec_as_it_was_is_allowed_with_a_warning() {
    let old = marked(pod(Some("runc")));
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let answer = answer(&update(&old, &new));
    assert_allowed(&answer);
    assert_eq!(answer.warnings.len(), 1);
}

#[test]
fn changed_image_is_reviewed_again() {
    let old = marked(pod(Some("runc")));
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "b".into();
    assert!(denial(&answer(&update(&old, &new))).contains("\"runc\""));
}

#[test]
fn terminating_object_is_allowed() {
    let old = pod(None);
    let mut new = marked(old.clone());
    new["metadata"]["deletionTimestamp"] = "2026-09-01T00:00:00Z".into();
    assert_eq!(answer(&update(&old, &new)), allow());
}

#[test]
fn updated_template_is_patched() {
    let template = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"image": image}]}}}});
    let question = update_of("extensions.agents.x-k8s.io/v1beta1", "SandboxTemplate", &template("a"), &template("b"));
    assert!(answer(&generated(question)).patch.is_some());
}

#[test]
fn settings_error_names_the_field() {
    assert!(settings_error::<RequireIsolation>(r#"{"prefer":[""]}"#).starts_with("prefer[0]: "));
    assert!(settings_error::<RequireIsolation>(r#"{"prefer":"gvisor"}"#).starts_with("prefer: "));
}
