//! The example plugins, with the settings and the questions that their own comments describe.

use paddock_core::question::{AdmissionQuestion, Answer, Hook, Question, Verdict};
use paddock_plugin_host::Source;

use crate::common::{ask, host, load, now, pod};

const SETTINGS: &str = r#"{"registries":["ghcr.io"]}"#;

#[test]
fn allowed_images_reviews_the_pod_of_a_sandbox() {
    let host = host();
    let plugin = load(&host, "allowed-images", paddock_guests::ALLOWED_IMAGES);
    assert_eq!(plugin.hooks, [Hook::Admission]);
    let verdict = |image: &str| {
        let object = format!(r#"{{"spec":{{"containers":[{{"image":"{image}"}}]}}}}"#);
        // The operator asks before it creates the pod of a Sandbox, and that question has no user.
        let question = AdmissionQuestion { object, username: String::new(), groups: vec![], ..pod() };
        let question = ask(&plugin.plugin, SETTINGS, Question::Admission(Box::new(question)));
        let Answer::Admission(answer) = host.ask(&question, now()).unwrap() else { panic!() };
        answer.verdict
    };
    assert_eq!(verdict("ghcr.io/team/agent:1"), Verdict::Allow);
    let Verdict::Deny(message) = verdict("nginx") else { panic!() };
    assert!(message.starts_with("spec.containers[0].image is \"nginx\""), "{message}");
}

#[test]
fn allowed_images_needs_a_registry_in_its_settings() {
    let host = host();
    let source = Source { name: "allowed-images", component: paddock_guests::ALLOWED_IMAGES, limits: None };
    let candidate = host.prepare(source).unwrap();
    assert_eq!(host.check_settings(&candidate, Hook::Admission, SETTINGS), Ok(()));
    let error = host.check_settings(&candidate, Hook::Admission, "{}").unwrap_err().to_string();
    assert!(error.starts_with("registries: must name at least one"), "{error}");
}
