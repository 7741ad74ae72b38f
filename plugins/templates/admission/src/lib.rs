//! `my-plugin`: denies images whose tag may change.
//!
//! Settings: `{"tags": ["latest"]}` is the default. An image without a tag has the tag `latest`. An image with a digest
//! is allowed.
//!
//! The operator asks about a Sandbox and again about its pod (`docs/plugins.md`), so the plugin reads all pod specs.

use paddock_plugin_sdk::admission::{Answer, Plugin, Question, Verdict};
use paddock_plugin_sdk::json;
use paddock_plugin_sdk::serde::Deserialize;

/// The plugin.
pub struct Policy;

/// The settings. They come from the plugin's YAML file. `settings.schema.json` describes them for users, and the operator
/// checks them with it.
#[derive(Deserialize)]
#[serde(crate = "paddock_plugin_sdk::serde", default, deny_unknown_fields)]
pub struct Settings {
    /// The tags that are denied.
    tags: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tags: vec!["latest".into()] }
    }
}

impl Plugin for Policy {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("../settings.schema.json");

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.tags.is_empty() { Err("tags: must name at least one tag".into()) } else { Ok(()) }
    }

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let object = json::object(&question.object)?;
        let verdict = match json::images(&object).find(|(_, image)| is_denied(image, settings)) {
            Some((field, image)) => Verdict::Deny(format!("{field} is {image:?}: name another tag, or a digest")),
            None => Verdict::Allow,
        };
        Ok(Answer { verdict, warnings: vec![], patch: None })
    }
}

fn is_denied(image: &str, settings: &Settings) -> bool {
    if image.contains('@') {
        return false;
    }
    // A colon in front of a slash begins a port, not a tag.
    let tag = match image.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        Some(_) | None => "latest",
    };
    settings.tags.iter().any(|denied| denied == tag)
}

paddock_plugin_sdk::export!(Policy: admission);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::serde_json::{Value, json};
    use paddock_plugin_sdk::testing::admission::{assert_allowed, create, create_sandbox_pod, decide, denial};

    fn spec(image: &str) -> Value {
        json!({"containers": [{"name": "agent", "image": image}]})
    }

    #[test]
    fn image_with_another_tag_or_a_digest_is_allowed() {
        for image in ["agent:1", "registry.example:5000/agent:1", "agent@sha256:00", "agent:latest@sha256:00"] {
            assert_allowed(&decide::<Policy>(&create("v1", "Pod", &json!({"spec": spec(image)})), "{}"));
        }
    }

    #[test]
    fn image_with_the_tag_is_denied_with_its_field() {
        for image in ["agent", "agent:latest", "registry.example:5000/agent"] {
            let pod = create_sandbox_pod(&json!({"spec": spec(image)}));
            assert!(denial(&decide::<Policy>(&pod, "{}")).starts_with("spec.containers[0].image is"), "{image}");
        }
        let sandbox = json!({"spec": {"podTemplate": {"spec": spec("agent:dev")}}});
        let sandbox = create("agents.x-k8s.io/v1beta1", "Sandbox", &sandbox);
        let answer = decide::<Policy>(&sandbox, r#"{"tags": ["dev"]}"#);
        assert!(denial(&answer).starts_with("spec.podTemplate.spec.containers[0].image"));
    }
}
