//! Tests of `allowed-images`.

use super::*;
use paddock_plugin_sdk::testing::admission::{
    assert_allowed, create, create_sandbox_pod, decide, decide_error, denial, settings_error, update,
};
use serde_json::{Value, json};

const SETTINGS: &str = r#"{"registries": ["ghcr.io", "registry.example/agents"]}"#;

fn spec(image: &str) -> Value {
    json!({"containers": [{"name": "agent", "image": image}]})
}

fn pod(image: &str) -> Value {
    json!({"spec": spec(image)})
}

fn answer(question: &Question) -> Answer {
    decide::<AllowedImages>(question, SETTINGS)
}

#[test]
fn image_of_a_given_registry_is_allowed() {
    for image in ["ghcr.io/team/agent:1", "registry.example/agents/python:3"] {
        assert_allowed(&answer(&create("v1", "Pod", &pod(image))));
    }
}

#[test]
fn image_of_another_registry_is_denied_with_the_field_and_the_registries() {
    assert_eq!(
        denial(&answer(&create("v1", "Pod", &pod("nginx:1")))),
        "spec.containers[0].image is \"nginx:1\", of docker.io/library/nginx; allowed are images of: ghcr.io, \
         registry.example/agents"
    );
}

#[test]
fn pod_of_a_sandbox_is_reviewed() {
    assert!(denial(&answer(&create_sandbox_pod(&pod("nginx")))).starts_with("spec.containers[0].image"));
}

#[test]
fn sandbox_and_template_are_reviewed_in_both_shapes() {
    for (api_version, kind) in [
        ("agents.x-k8s.io/v1beta1", "Sandbox"),
        ("agents.x-k8s.io/v1alpha1", "SandboxTemplate"),
        ("extensions.agents.x-k8s.io/v1beta1", "SandboxTemplate"),
    ] {
        for shape in ["podTemplate", "template"] {
            let object = |image| json!({"spec": {shape: {"spec": spec(image)}}});
            let message = format!("spec.{shape}.spec.containers[0].image");
            assert!(denial(&answer(&create(api_version, kind, &object("nginx")))).starts_with(&message));
            assert_allowed(&answer(&create(api_version, kind, &object("ghcr.io/agent"))));
        }
    }
}

#[test]
fn claim_has_no_image_and_is_allowed() {
    let object = json!({"spec": {"warmPoolRef": {"name": "pool"}}});
    assert_allowed(&answer(&create("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim", &object)));
}

#[test]
fn every_list_of_containers_is_reviewed() {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let object = json!({"spec": {list: [{"image": "ghcr.io/agent"}, {"image": "nginx"}]}});
        let answer = answer(&create("v1", "Pod", &object));
        assert!(denial(&answer).starts_with(&format!("spec.{list}[1].image")), "{answer:?}");
    }
}

#[test]
fn update_is_denied_only_for_an_image_that_it_adds() {
    let old = pod("nginx:1");
    let mut labelled = old.clone();
    labelled["metadata"] = json!({"labels": {"team": "research"}});
    assert_allowed(&answer(&update("v1", "Pod", &old, &labelled)));
    assert!(denial(&answer(&update("v1", "Pod", &old, &pod("nginx:2")))).contains("nginx:2"));
}

#[test]
fn terminating_object_is_allowed() {
    let mut new = pod("nginx:2");
    new["metadata"] = json!({"deletionTimestamp": "2026-09-01T00:00:00Z"});
    assert_allowed(&answer(&update("v1", "Pod", &pod("nginx:1"), &new)));
}

#[test]
fn object_that_is_not_json_is_an_error() {
    let question = Question { object: "{".into(), ..create("v1", "Pod", &json!({})) };
    assert!(decide_error::<AllowedImages>(&question, SETTINGS).starts_with("the object is not JSON"));
}

#[test]
fn settings_error_names_the_field() {
    for (settings, error) in [
        ("{}", "registries: must name at least one"),
        (r#"{"registries":[]}"#, "registries: must name at least one"),
        (r#"{"registries":["ghcr.io","ghcr.io/"]}"#, "registries[1]: "),
        (r#"{"registries":"ghcr.io"}"#, "registries: invalid type"),
        (r#"{"registeries":["ghcr.io"]}"#, "registeries: unknown field"),
    ] {
        let found = settings_error::<AllowedImages>(settings);
        assert!(found.starts_with(error), "{settings}: {found}");
    }
}
