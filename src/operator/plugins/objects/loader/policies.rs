//! Binds a SandboxPolicy to the loaded version of its plugin.

use std::time::Instant;

use paddock_core::binding::Binding;
use paddock_core::question::PluginRef;
use paddock_plugin_host::{Candidate, Host, SettingsError};

use super::plugins::{LoadedPlugin, is_over};
use crate::plugins::loading;
use crate::plugins::objects::check::{missing_hook, settings_field};
use crate::plugins::objects::{Fault, FaultReason, PolicyObject};
use crate::plugins::plugin_config::PluginConfig;

/// The SandboxPlugin of a policy.
pub(super) enum OfPolicy<'a> {
    /// It exists, and may be loaded.
    Known(&'a LoadedPlugin),
    /// It exists, and cannot be read for this reason.
    Unreadable(&'a str),
    /// It does not exist.
    Absent,
}

impl<'a> OfPolicy<'a> {
    fn known(&self) -> Option<&'a LoadedPlugin> {
        match self {
            OfPolicy::Known(plugin) => Some(plugin),
            OfPolicy::Unreadable(_) | OfPolicy::Absent => None,
        }
    }

    /// Whether `spec.digest` excludes a component.
    fn excludes(&self, component: &PluginRef) -> bool {
        self.known().is_some_and(|plugin| !plugin.permits(component))
    }
}

/// A SandboxPolicy on this replica.
#[derive(Default)]
pub(super) struct BoundPolicy {
    uid: String,
    /// The UID of the SandboxPlugin when the policy was bound last. Another plugin of the same name is another plugin.
    plugin_uid: Option<String>,
    tried: Option<Tried>,
    /// The binding in force. Its plugin fails if no version of the policy works.
    pub(super) binding: Option<Binding>,
    /// The time since which `spec.digest` excludes the component of the binding.
    excluded_since: Option<Instant>,
    /// The fault of the current version.
    pub(super) fault: Option<Fault>,
}

/// The facts that were tried last.
#[derive(PartialEq)]
struct Tried {
    object: PolicyObject,
    plugin: Option<PluginRef>,
    /// The reason why the SandboxPlugin cannot be read.
    unreadable: Option<String>,
}

impl BoundPolicy {
    /// The plugin that decides, unless the failure policy applies.
    pub(super) fn active(&self) -> Option<&PluginRef> {
        self.binding.as_ref().filter(|binding| binding.not_loaded.is_none()).map(|binding| &binding.plugin)
    }

    /// Whether a trial has to be repeated, or the use of an excluded component has to end.
    pub(super) fn waits(&self) -> bool {
        self.tried.is_none() || self.excluded_since.is_some()
    }
}

/// The reason why a policy has no binding with its plugin.
struct Unbound {
    fault: Fault,
    /// Whether the fault can end without a change.
    retry: bool,
    /// Whether a former good version of the policy stays in force.
    keeps_former: bool,
}

impl Unbound {
    /// The plugin refuses the policy.
    fn refused(reason: FaultReason, message: String) -> Self {
        Self { fault: Fault::new(reason, message), retry: false, keeps_former: true }
    }

    /// There is no plugin, which ends every version of the policy.
    fn without_plugin(reason: FaultReason, message: String) -> Self {
        Self { fault: Fault::new(reason, message), retry: false, keeps_former: false }
    }
}

/// The state of a SandboxPolicy after its current version was bound to its SandboxPlugin. A former good version stays in
/// force only if both objects are the same as before, and only for a time if the SandboxPlugin excludes its component.
pub(super) fn update(
    host: &Host,
    (name, object): (&str, &PolicyObject),
    plugin: &OfPolicy<'_>,
    former: BoundPolicy,
    now: Instant,
) -> BoundPolicy {
    let mut policy = bound(host, (name, object), plugin, former);
    end_excluded(host, (name, object), plugin, &mut policy, now);
    policy
}

fn bound(
    host: &Host,
    (name, object): (&str, &PolicyObject),
    plugin: &OfPolicy<'_>,
    former: BoundPolicy,
) -> BoundPolicy {
    let plugin_uid = plugin.known().map(|plugin| plugin.uid().to_owned());
    let mut policy = if former.uid == object.uid && former.plugin_uid == plugin_uid {
        former
    } else {
        BoundPolicy { uid: object.uid.clone(), plugin_uid, ..BoundPolicy::default() }
    };
    let tried = Tried {
        object: PolicyObject { generation: 0, ..object.clone() },
        plugin: plugin.known().and_then(LoadedPlugin::plugin).cloned(),
        unreadable: match plugin {
            OfPolicy::Unreadable(error) => Some((*error).to_owned()),
            OfPolicy::Known(_) | OfPolicy::Absent => None,
        },
    };
    if policy.tried.as_ref() == Some(&tried) {
        return policy;
    }
    policy.tried = Some(tried);
    match bind(host, object, plugin) {
        Ok(binding) => {
            // Another binding with the same excluded component has no time of its own.
            if policy.active() != Some(&binding.plugin) {
                policy.excluded_since = None;
            }
            let (plugin, hook) = (&binding.plugin.name, binding.hook.as_str());
            tracing::info!(policy = name, plugin, hook, digest = binding.plugin.digest, "SandboxPolicy in force");
            policy.binding = Some(Binding { name: Binding::name_of_policy(name), ..binding });
            policy.fault = None;
        }
        Err(Unbound { fault, retry, keeps_former }) => {
            if retry {
                policy.tried = None;
            }
            if !(keeps_former && policy.active().is_some()) {
                policy.binding = Some(failing(host, (name, object), &fault.message));
            }
            if policy.fault.as_ref() != Some(&fault) {
                let effect = match policy.active() {
                    Some(used) if plugin.excludes(used) => {
                        "spec.digest excludes its last good version, which ends soon"
                    }
                    Some(_) => "its last good version stays in force",
                    None => "its failurePolicy applies",
                };
                tracing::error!(policy = name, error = fault.message, "SandboxPolicy refused; {effect}");
            }
            policy.fault = Some(fault);
        }
    }
    policy
}

/// Ends the use of a component that `spec.digest` excludes. The permitted one may be loaded and refuse the policy until the
/// policy is changed too, so a roll forward of both has no gap.
fn end_excluded(
    host: &Host,
    (name, object): (&str, &PolicyObject),
    plugin: &OfPolicy<'_>,
    policy: &mut BoundPolicy,
    now: Instant,
) {
    let excluded = policy.active().filter(|used| plugin.excludes(used)).map(|used| used.digest.clone());
    let Some(digest) = excluded else {
        policy.excluded_since = None;
        return;
    };
    if is_over(&mut policy.excluded_since, now) {
        tracing::error!(policy = name, digest, "spec.digest excludes the last good version; the failurePolicy applies");
        let error = format!("spec.digest of SandboxPlugin {} excludes the last good version", object.plugin);
        (policy.binding, policy.excluded_since) = (Some(failing(host, (name, object), &error)), None);
    }
}

/// Binds the loaded version of a plugin, after it has accepted the settings.
fn bind(host: &Host, object: &PolicyObject, plugin: &OfPolicy<'_>) -> Result<Binding, Unbound> {
    let (name, hook) = (&object.plugin, object.hook);
    let plugin = match plugin {
        OfPolicy::Known(plugin) => plugin,
        OfPolicy::Unreadable(error) => {
            let message = format!("spec.plugin: SandboxPlugin {name} cannot be read: {error}");
            return Err(Unbound::without_plugin(FaultReason::PluginNotLoaded, message));
        }
        OfPolicy::Absent => {
            let message = format!("spec.plugin: there is no SandboxPlugin {name}");
            return Err(Unbound::without_plugin(FaultReason::PluginNotFound, message));
        }
    };
    let candidate: &Candidate = plugin.active.as_ref().ok_or_else(|| {
        let message =
            format!("spec.plugin: no version of SandboxPlugin {name} can be used; its condition Ready says why");
        Unbound::without_plugin(FaultReason::PluginNotLoaded, message)
    })?;
    let config = PluginConfig::parse(&object.config, host.config().limits)
        .map_err(|error| Unbound::refused(FaultReason::InvalidSpec, format!("spec.{error}")))?;
    let plugin = candidate.plugin();
    if let Some(message) = missing_hook(plugin, hook) {
        return Err(Unbound::refused(FaultReason::HookNotExported, format!("spec.hook: {message}")));
    }
    host.check_settings(candidate, hook, &config.settings).map_err(|error| match error {
        SettingsError::Busy(_) => {
            Unbound { retry: true, ..Unbound::refused(FaultReason::InvalidSettings, format!("spec.settings: {error}")) }
        }
        SettingsError::Refused(failure) => {
            let (field, message) = settings_field(&failure.message);
            Unbound::refused(FaultReason::InvalidSettings, format!("{field}: {message}"))
        }
    })?;
    Ok(Binding { mode: object.mode, ..loading::binding((&plugin.plugin, hook), &config) })
}

/// The binding of a policy without a good version. Its plugin fails for the objects that the policy selects.
fn failing(host: &Host, (name, object): (&str, &PolicyObject), error: &str) -> Binding {
    let config = PluginConfig::salvage(&object.config, host.config().limits);
    let plugin = PluginRef { name: object.plugin.clone(), digest: String::new() };
    Binding {
        name: Binding::name_of_policy(name),
        mode: object.mode,
        not_loaded: Some(error.to_owned()),
        ..loading::binding((&plugin, object.hook), &config)
    }
}
