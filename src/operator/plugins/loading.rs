//! Loads the files of one plugin: its configuration, its component, and the bindings that follow from both.

use paddock_core::binding::{Binding, FailurePolicy};
use paddock_core::question::{Hook, PluginRef};
use paddock_plugin_host::{BUILT_INS, Candidate, Host, LoadError, Plugin, SettingsError, Source};

use super::plugin_config::PluginConfig;
use super::source::PluginFiles;

/// The version of a plugin that is in force.
pub(super) struct Active {
    pub(super) plugin: Plugin,
    pub(super) bindings: Vec<Binding>,
}

/// A plugin whose files were refused, and what is known about it.
pub(super) struct Refused {
    /// The fault, which names the file and the field.
    pub(super) error: String,
    /// Whether the fault can end without a change of the files.
    pub(super) retry: bool,
    /// Whether the files belong to a plugin at all. A YAML file alone that is no configuration belongs to something
    /// else.
    pub(super) is_plugin: bool,
    /// The bindings of a plugin that is not loaded: it fails for these hooks and objects.
    pub(super) bindings: Vec<Binding>,
}

/// Loads, checks and binds the files of one plugin. A failure changes nothing for other plugins.
pub(super) fn load(host: &Host, name: &str, files: &PluginFiles) -> Result<Active, Refused> {
    let default = host.config().limits;
    let text = files.config.as_ref().map(|file| {
        let content = file.content.as_ref().map_err(|error| format!("{name}.yaml: {error}"))?;
        std::str::from_utf8(&content.bytes).map_err(|error| format!("{name}.yaml: {error}"))
    });
    let parsed = match &text {
        None => Ok(PluginConfig::absent(default)),
        Some(Ok(text)) => PluginConfig::parse(text, default).map_err(|error| format!("{name}.yaml: {error}")),
        Some(Err(error)) => Err(error.clone()),
    };
    let known = match (&parsed, &text) {
        (Ok(config), _) => config.clone(),
        (Err(_), Some(Ok(text))) => PluginConfig::salvage(text, default),
        (Err(_), Some(Err(_)) | None) => PluginConfig::absent(default),
    };
    let is_plugin = files.component.is_some() || parsed.is_ok();
    let candidate = prepare(host, name, files, &known);
    let exports = candidate.as_ref().ok().map(|candidate| candidate.plugin().hooks.clone());
    let mut busy = matches!(candidate, Err(Fault::Load(LoadError::Busy(_))));
    let loaded = check_name(name)
        .map_err(|error| format!("{name}.wasm: {error}"))
        .and(parsed)
        .and_then(|config| Ok((config, candidate.map_err(|fault| fault.message(name))?)))
        .and_then(|(config, candidate)| {
            let origin = format!("{name}.yaml");
            let bindings = bind(host, (name, &origin), &candidate, config).map_err(|refused| {
                busy |= refused.retry;
                refused.error
            })?;
            Ok((bindings, candidate))
        });
    match loaded {
        Ok((bindings, candidate)) => Ok(Active { plugin: host.admit(candidate), bindings }),
        Err(error) => {
            let bindings = not_loaded(name, &known, exports.as_deref(), &error);
            Err(Refused { error, retry: busy, is_plugin, bindings })
        }
    }
}

/// Loads a component and checks it with its configuration, as the operator does with the files of its directory. The
/// component is not admitted to the host.
///
/// # Errors
/// The fault, in the words of the operator. `settings` is the file that gives the settings, and begins the message if
/// the plugin refuses them.
pub fn check(
    host: &Host,
    (name, component): (&str, &[u8]),
    config: PluginConfig,
    settings: &str,
) -> Result<(Candidate, Vec<Binding>), String> {
    check_name(name).map_err(|error| format!("{name}.wasm: {error}"))?;
    let source = Source { name, component, limits: Some(config.limits) };
    let candidate = host.prepare(source).map_err(|error| format!("{name}.wasm: {error}"))?;
    let bindings = bind(host, (name, settings), &candidate, config).map_err(|unbound| unbound.error)?;
    Ok((candidate, bindings))
}

/// The reason why there is no component to bind.
enum Fault {
    Absent,
    Unreadable(String),
    Load(LoadError),
}

impl Fault {
    fn message(&self, name: &str) -> String {
        match self {
            Fault::Absent => format!("{name}.yaml: the directory must contain {name}.wasm too"),
            Fault::Unreadable(error) => format!("{name}.wasm: {error}"),
            Fault::Load(error) => format!("{name}.wasm: {error}"),
        }
    }
}

fn prepare(host: &Host, name: &str, files: &PluginFiles, config: &PluginConfig) -> Result<Candidate, Fault> {
    let component = files.component.as_ref().ok_or(Fault::Absent)?;
    let content = component.content.as_ref().map_err(|error| Fault::Unreadable(error.clone()))?;
    let source = Source { name, component: &content.bytes, limits: Some(config.limits) };
    host.prepare(source).map_err(Fault::Load)
}

/// The reason why a component cannot be bound, and whether it can end without a change of the files.
struct Unbound {
    error: String,
    retry: bool,
}

impl From<String> for Unbound {
    fn from(error: String) -> Self {
        Self { error, retry: false }
    }
}

/// Binds the requested hooks, after the plugin has accepted its settings for each of them. `settings` says where the
/// settings are from.
fn bind(
    host: &Host,
    (name, settings): (&str, &str),
    candidate: &Candidate,
    config: PluginConfig,
) -> Result<Vec<Binding>, Unbound> {
    let plugin = candidate.plugin();
    let hooks = config.hooks.clone().unwrap_or_else(|| plugin.hooks.clone());
    let exported = |hook: &Hook| plugin.hooks.contains(hook);
    let has: Vec<_> = plugin.hooks.iter().map(|hook| hook.as_str()).collect();
    let has = has.join(", ");
    if let Some((index, hook)) = hooks.iter().enumerate().find(|(_, hook)| !exported(hook)) {
        let hook = hook.as_str();
        let error = format!("{name}.yaml: hooks[{index}]: {name}.wasm does not export {hook}; it exports {has}");
        return Err(error.into());
    }
    if !config.kinds.is_empty() && !hooks.contains(&Hook::Admission) {
        let error = format!(
            "{name}.yaml: kinds: must be left out, because {name}.wasm does not export admission; it exports {has}"
        );
        return Err(error.into());
    }
    let bind = |hook: Hook| {
        host.check_settings(candidate, hook, &config.settings).map_err(|error| Unbound {
            error: format!("{settings}: settings: {error}"),
            retry: matches!(error, SettingsError::Busy(_)),
        })?;
        Ok(binding((&plugin.plugin, hook), &config))
    };
    hooks.into_iter().map(bind).collect()
}

pub(super) fn binding((plugin, hook): (&PluginRef, Hook), config: &PluginConfig) -> Binding {
    Binding {
        order: config.order,
        namespaces: config.namespaces.clone(),
        objects: config.objects.clone(),
        kinds: if hook == Hook::Admission { config.kinds.clone() } else { vec![] },
        settings: config.settings.clone(),
        failure_policy: config.failure_policy.unwrap_or(FailurePolicy::default_of(hook)),
        ..Binding::new(plugin.clone(), hook)
    }
}

/// The bindings of a plugin that is configured and not loaded. If neither the configuration nor the component names the
/// hooks, the plugin may have any of them.
pub(super) fn not_loaded(name: &str, config: &PluginConfig, exports: Option<&[Hook]>, error: &str) -> Vec<Binding> {
    let plugin = PluginRef { name: name.to_owned(), digest: String::new() };
    let hooks = config.hooks.as_deref().or(exports).unwrap_or(&Hook::ALL);
    let bind = |hook: &Hook| Binding {
        // The name of the plugin may be that of a built-in, and names of bindings are unique.
        name: format!("{name}.wasm/{}", hook.as_str()),
        not_loaded: Some(error.to_owned()),
        ..binding((&plugin, *hook), config)
    };
    hooks.iter().map(bind).collect()
}

/// Checks the name of a component. Plugin names appear in metrics, Events and the status, together with those of the
/// built-ins.
///
/// # Errors
/// The rule that the name breaks.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
        let rule =
            "the file name, which names the plugin, must consist of 1 to 63 lower-case letters, digits and dashes";
        return Err(rule.to_owned());
    }
    if BUILT_INS.iter().any(|built_in| built_in.name == name) {
        return Err("the name must not be the name of a built-in plugin".to_owned());
    }
    Ok(())
}
