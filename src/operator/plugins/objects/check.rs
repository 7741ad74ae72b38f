//! Checks a SandboxPolicy before it is stored: whether its plugin exports the hook, and accepts the settings.
//!
//! Only the plugin knows its settings. A plugin that this replica has not loaded cannot be asked, so the policy is
//! admitted with a warning, and its status reports a fault later.

use std::collections::BTreeMap;
use std::sync::Arc;

use paddock_api::SandboxPolicySpec;
use paddock_core::admission::Cause;
use paddock_core::question::{Caller, Hook};
use paddock_plugin_host::{Candidate, Host, Plugin, SettingsError};
use parking_lot::RwLock;
use serde_json::Value;

use super::read;
use crate::plugins::plugin_config::PluginConfig;

/// Checks the JSON of a SandboxPolicy for a caller. Returns a warning if the plugin cannot be asked.
pub type PolicyCheck = Arc<dyn Fn(&Value, Caller) -> Result<Option<String>, Cause> + Send + Sync>;

/// The loaded SandboxPlugins, by name. Clones are handles on the same table.
#[derive(Clone, Default)]
pub(in crate::plugins) struct Candidates {
    loaded: Arc<RwLock<BTreeMap<String, Candidate>>>,
}

impl Candidates {
    pub(super) fn set(&self, candidates: BTreeMap<String, Candidate>) {
        *self.loaded.write() = candidates;
    }

    /// The check of a policy with these plugins.
    pub(in crate::plugins) fn check(&self, host: Arc<Host>) -> PolicyCheck {
        let candidates = self.clone();
        Arc::new(move |policy, caller| candidates.check_policy(&host, policy, caller))
    }

    fn check_policy(&self, host: &Host, policy: &Value, caller: Caller) -> Result<Option<String>, Cause> {
        // The API server has compared the object with the schema.
        let Ok(spec) = serde_json::from_value::<SandboxPolicySpec>(policy["spec"].clone()) else { return Ok(None) };
        // No plugin knows rules about isolation.
        let (Some(plugin), Some(hook)) = (&spec.plugin, spec.hook) else { return Ok(None) };
        let config = PluginConfig::parse(&read::config(&spec, hook), host.config().limits).map_err(|error| {
            let text = error.to_string();
            let (field, message) = text.split_once(": ").unwrap_or(("", &text));
            Cause { field: format!("spec.{field}").trim_end_matches('.').to_owned(), message: message.to_owned() }
        })?;
        let Some(candidate) = self.loaded.read().get(plugin).cloned() else {
            return Ok(Some(format!(
                "this replica has not loaded SandboxPlugin {plugin}, so the settings are not checked yet; the condition \
                 Ready of the policy will report a fault"
            )));
        };
        if let Some(message) = missing_hook(candidate.plugin(), hook) {
            return Err(Cause { field: "spec.hook".to_owned(), message });
        }
        match host.check_settings_for(caller, &candidate, (hook, &config.settings)) {
            Ok(()) => Ok(None),
            Err(error @ SettingsError::Busy(_)) => Ok(Some(format!("spec.settings: {error}"))),
            Err(SettingsError::Refused(failure)) => {
                let (field, message) = settings_field(&failure.message);
                Err(Cause { field, message })
            }
        }
    }
}

/// The message about a hook that a plugin does not export.
pub(super) fn missing_hook(plugin: &Plugin, hook: Hook) -> Option<String> {
    if plugin.hooks.contains(&hook) {
        return None;
    }
    let exports: Vec<&str> = plugin.hooks.iter().map(|hook| hook.as_str()).collect();
    let (name, hook, exports) = (&plugin.plugin.name, hook.as_str(), exports.join(", "));
    Some(format!("SandboxPlugin {name} does not export {hook}; it exports {exports}"))
}

/// The path of the field that a plugin refuses, and its message. Plugins begin their messages with the path of the field
/// in the settings.
pub(super) fn settings_field(message: &str) -> (String, String) {
    let is_path = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.[]".contains(c);
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(fits)
    };
    match message.split_once(": ") {
        Some((path, rest)) if is_path(path) => (format!("spec.settings.{path}"), rest.to_owned()),
        Some(_) | None => ("spec.settings".to_owned(), message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::settings_field;

    #[test]
    fn path_of_a_wrong_setting_is_that_of_the_policys_field() {
        for (message, field, rest) in [
            ("registries[1]: must be a registry", "spec.settings.registries[1]", "must be a registry"),
            ("desird: unknown field `desird`", "spec.settings.desird", "unknown field `desird`"),
            ("not a JSON object: x", "spec.settings", "not a JSON object: x"),
            ("missing field `desired`", "spec.settings", "missing field `desired`"),
        ] {
            assert_eq!(settings_field(message), (field.to_owned(), rest.to_owned()), "{message}");
        }
    }
}
