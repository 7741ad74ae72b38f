//! `my-plugin`: runs the pods of a Sandbox under one RuntimeClass.
//!
//! Settings: `{"class": "gvisor"}` is the default. A pod that names another class is refused.

use paddock_plugin_sdk::runtime_class::{Answer, Choice, Plugin, Question};
use paddock_plugin_sdk::serde::Deserialize;

/// The plugin.
pub struct Policy;

/// The settings. They come from the plugin's YAML file. `settings.schema.json` describes them for users, and the operator
/// checks them with it.
#[derive(Deserialize)]
#[serde(crate = "paddock_plugin_sdk::serde", default, deny_unknown_fields)]
pub struct Settings {
    /// The name of the RuntimeClass.
    class: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { class: "gvisor".into() }
    }
}

impl Plugin for Policy {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("../settings.schema.json");

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.class.is_empty() { Err("class: must be the name of a RuntimeClass".into()) } else { Ok(()) }
    }

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let class = &settings.class;
        if let Some(other) = question.requested.as_ref().filter(|requested| *requested != class) {
            return Ok(refuse(format!("runtimeClassName is {other}; leave it out, or name {class}")));
        }
        if !question.classes.iter().any(|fact| fact.name == *class && fact.nodes > 0) {
            return Ok(refuse(format!("no Ready node runs pods of the RuntimeClass {class}")));
        }
        Ok(Answer { choice: Choice::Class(class.clone()), reason: format!("every pod runs under {class}") })
    }
}

fn refuse(reason: String) -> Answer {
    Answer { choice: Choice::Refuse, reason }
}

paddock_plugin_sdk::export!(Policy: runtime_class);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::testing::isolating_class;
    use paddock_plugin_sdk::testing::runtime_class::{decide, question, settings_error};

    #[test]
    fn every_pod_gets_the_class() {
        for requested in [None, Some("gvisor".to_owned())] {
            let answer = decide::<Policy>(&Question { requested, ..question() }, "{}");
            assert_eq!(answer.choice, Choice::Class("gvisor".into()));
        }
    }

    #[test]
    fn other_class_and_class_without_nodes_are_refused() {
        let other = Question { requested: Some("runc".into()), ..question() };
        let no_nodes = Question { classes: vec![isolating_class("gvisor", 0)], ..question() };
        for question in [other, no_nodes] {
            assert_eq!(decide::<Policy>(&question, "{}").choice, Choice::Refuse);
        }
    }

    #[test]
    fn settings_error_names_the_field() {
        assert!(settings_error::<Policy>(r#"{"class": ""}"#).starts_with("class: "));
    }
}
