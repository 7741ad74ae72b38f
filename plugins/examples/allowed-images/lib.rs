//! `allowed-images`: allows images of given registries only.
//!
//! Settings: `{"registries": ["ghcr.io", "registry.example/agents"]}`. An entry is a registry, or a registry and the
//! beginning of a path. An image without a registry is one of `docker.io`, and one without a path is in its `library`.
//!
//! The plugin shows how to review every workload:
//!
//! - It reviews `Pod`, since users create Pods of generated code without a Sandbox, and other webhooks may add containers.
//! - It reviews `Sandbox` and `SandboxTemplate` too, in both shapes, so that a user reads the message at once. The operator
//!   asks about the Sandboxes of claims and pools before it makes their pods.
//! - It reads all three lists of containers.
//! - It denies an update only for an image that the update adds, and lets a terminating object go. So an object that is
//!   older than the plugin can still be labelled and deleted.
//! - Its configuration (`allowed-images.yaml`) has `failurePolicy: Fail`, the default of the hook. With any other policy,
//!   a failure of the plugin would allow every image.

mod image;

use image::{is_within, repository};
use paddock_plugin_sdk::admission::{Answer, Plugin, Question, Verdict};
use paddock_plugin_sdk::json;
use serde::Deserialize;

/// The plugin.
pub struct AllowedImages;

/// The settings.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    registries: Vec<String>,
}

impl Plugin for AllowedImages {
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.registries.is_empty() {
            return Err("registries: must name at least one registry, such as ghcr.io".into());
        }
        match settings.registries.iter().position(|entry| entry.is_empty() || entry.ends_with('/')) {
            Some(index) => Err(format!("registries[{index}]: must be a registry without a slash at its end")),
            None => Ok(()),
        }
    }

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let object = json::object(&question.object)?;
        if json::text(&object, "/metadata/deletionTimestamp").is_some() {
            return Ok(allow());
        }
        let old = question.old_object.as_deref().map(json::object).transpose()?.unwrap_or_default();
        let known: Vec<&str> = json::images(&old).map(|(_, image)| image).collect();
        let denied = json::images(&object).find(|(_, image)| !known.contains(image) && !settings.allows(image));
        Ok(match denied {
            Some((field, image)) => deny(&field, image, settings),
            None => allow(),
        })
    }
}

impl Settings {
    fn allows(&self, image: &str) -> bool {
        let repository = repository(image);
        self.registries.iter().any(|prefix| is_within(&repository, prefix))
    }
}

fn allow() -> Answer {
    Answer { verdict: Verdict::Allow, warnings: vec![], patch: None }
}

fn deny(field: &str, image: &str, settings: &Settings) -> Answer {
    let allowed = settings.registries.join(", ");
    let message = format!("{field} is {image:?}, of {}; allowed are images of: {allowed}", repository(image));
    Answer { verdict: Verdict::Deny(message), warnings: vec![], patch: None }
}

paddock_plugin_sdk::export_v0_1_0!(AllowedImages: admission);

#[cfg(test)]
mod tests;
