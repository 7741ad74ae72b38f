//! Turns the content of a source into plugins and bindings. A working plugin stays in force until a better version loads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use paddock_core::binding::{Binding, Bindings};
use paddock_core::question::{Hook, PluginRef};
use paddock_plugin_host::{BUILT_INS, Candidate, Host, LoadError, Plugin};
use serde::Serialize;

use super::plugin_config::PluginConfig;
use super::source::{File, PluginFiles, SourceContent, SourceError};
use crate::limits;

/// The state of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    /// The name of the plugin.
    pub name: String,
    /// The location of the component. `None` for a built-in.
    pub path: Option<String>,
    /// The digest of the component in force. `None` if no version of this plugin works.
    pub digest: Option<String>,
    /// The version of `paddock:policy` that the component in force implements.
    pub wit_version: Option<String>,
    /// The hooks that the plugin is bound to.
    pub hooks: Vec<Hook>,
    /// The fault of the current file. If there is a digest, an older version is in force.
    pub error: Option<String>,
}

/// The plugins of the source, followed by the built-ins.
pub(super) struct Loader {
    host: Arc<Host>,
    built_ins: Vec<Binding>,
    content: SourceContent,
    /// The reason why the source could not be read the last time.
    unread: Option<SourceError>,
    plugins: BTreeMap<String, Entry>,
    /// Replaced plugins that are still loaded, each with the time of its replacement.
    replaced: Vec<(PluginRef, Instant)>,
}

/// The state of one plugin name in the source.
#[derive(Default)]
struct Entry {
    path: Option<String>,
    /// The digests of the files that were tried last, so that the same files are not tried again.
    tried: Option<Sums>,
    active: Option<Active>,
    error: Option<String>,
}

type Sums = (Option<[u8; 32]>, Option<[u8; 32]>);

/// The version of a plugin that is in force.
struct Active {
    plugin: Plugin,
    bindings: Vec<Binding>,
}

impl Loader {
    pub(super) fn new(host: Arc<Host>) -> Result<Self, LoadError> {
        let built_ins = host.load_built_ins()?;
        let (content, plugins) = (SourceContent::default(), BTreeMap::new());
        Ok(Self { host, built_ins, content, unread: None, plugins, replaced: vec![] })
    }

    /// The bindings in force.
    pub(super) fn bindings(&self) -> Bindings {
        let dropped_in = self.plugins.values().filter_map(|entry| entry.active.as_ref());
        Bindings::new(dropped_in.flat_map(|active| &active.bindings).chain(&self.built_ins).cloned().collect())
    }

    /// The state of every plugin: first the built-ins, then the files by name, then faults of the source itself.
    pub(super) fn status(&self) -> Vec<PluginStatus> {
        let built_ins = self.built_ins.iter().map(|binding| PluginStatus {
            name: binding.plugin.name.clone(),
            digest: Some(binding.plugin.digest.clone()),
            wit_version: Some(paddock_plugin_host::MAX_VERSION.to_owned()),
            hooks: vec![binding.hook],
            ..PluginStatus::default()
        });
        let files = self.plugins.iter().map(|(name, entry)| {
            let active = entry.active.as_ref();
            PluginStatus {
                name: name.clone(),
                path: entry.path.clone(),
                digest: active.map(|active| active.plugin.plugin.digest.clone()),
                wit_version: active.map(|active| active.plugin.wit_version.clone()),
                hooks: active.map(|active| active.bindings.iter().map(|b| b.hook).collect()).unwrap_or_default(),
                error: entry.error.clone(),
            }
        });
        let wrong = |name: &str, location: &str, error: &str| PluginStatus {
            name: name.to_owned(),
            path: Some(location.to_owned()),
            error: Some(error.to_owned()),
            ..PluginStatus::default()
        };
        let ignored = self.content.ignored.iter().map(|file| wrong(&file.name, &file.location, file.reason));
        let source = self.unread.iter().map(|error| wrong("", &error.location, &error.message));
        built_ins.chain(files).chain(ignored).chain(source).collect()
    }

    /// Puts the valid changes of the source in force.
    pub(super) fn apply(&mut self, content: Result<SourceContent, SourceError>, now: Instant) {
        match content {
            Err(error) => {
                // If the source cannot be read, nothing is known about its files, so the plugins stay in force.
                if self.unread.as_ref() != Some(&error) {
                    tracing::error!(%error, "the source of plugins cannot be read; the loaded plugins stay in use");
                }
                self.unread = Some(error);
            }
            Ok(content) => {
                self.unread = None;
                for file in content.ignored.iter().filter(|file| !self.content.ignored.contains(file)) {
                    tracing::warn!(path = file.location, "{}", file.reason);
                }
                let gone: Vec<String> =
                    self.plugins.keys().filter(|name| !content.plugins.contains_key(*name)).cloned().collect();
                gone.iter().for_each(|name| self.remove(name, now));
                content.plugins.iter().for_each(|(name, files)| self.update(name, files, now));
                self.content = content;
            }
        }
        self.unload_replaced(now);
    }

    fn remove(&mut self, name: &str, now: Instant) {
        let Some(entry) = self.plugins.remove(name) else { return };
        if let Some(active) = entry.active {
            tracing::info!(plugin = name, "plugin removed; its hooks use the next binding, or the built-in plugin");
            self.replaced.push((active.plugin.plugin, now));
        }
    }

    fn update(&mut self, name: &str, files: &PluginFiles, now: Instant) {
        let sum = |file: &Option<File>| file.as_ref().and_then(|file| Some(file.content.as_ref().ok()?.sum));
        let sums = (sum(&files.component), sum(&files.config));
        let entry = self.plugins.entry(name.to_owned()).or_default();
        let first = files.component.as_ref().or(files.config.as_ref());
        entry.path = first.map(|file| file.location.clone());
        // Files that cannot be read have no digest. They are tried again at every read.
        let readable = [&files.component, &files.config].into_iter().flatten().all(|file| file.content.is_ok());
        if readable && entry.tried == Some(sums) {
            return;
        }
        let loaded = load(&self.host, name, files);
        let Some(entry) = self.plugins.get_mut(name) else { return };
        entry.tried = Some(sums);
        match loaded {
            Ok(active) => {
                let digest = &active.plugin.plugin.digest;
                let hooks: Vec<_> = active.bindings.iter().map(|binding| binding.hook.as_str()).collect();
                tracing::info!(plugin = name, %digest, ?hooks, "plugin in use");
                entry.error = None;
                let former = entry.active.replace(active);
                let same =
                    |former: &Active| entry.active.as_ref().is_some_and(|a| a.plugin.plugin == former.plugin.plugin);
                if let Some(former) = former.filter(|former| !same(former)) {
                    self.replaced.push((former.plugin.plugin, now));
                }
            }
            Err(error) => {
                // Without a component no version of this plugin may stay in force.
                let removed = if files.component.is_none() { entry.active.take() } else { None };
                if removed.is_some() {
                    tracing::error!(plugin = name, %error, "plugin removed, because its component is absent");
                } else if entry.error.as_ref() != Some(&error) {
                    let effect =
                        if entry.active.is_some() { "its former version stays in use" } else { "no hook is bound" };
                    tracing::error!(plugin = name, %error, "plugin refused; {effect}");
                }
                self.replaced.extend(removed.map(|former| (former.plugin.plugin, now)));
                entry.error = Some(error);
            }
        }
    }

    /// Unloads plugins some time after their replacement. Decisions that began with them may still ask them until then.
    pub(super) fn unload_replaced(&mut self, now: Instant) {
        let keep = limits::REPLACED_PLUGIN_LIFETIME;
        let active = |plugin: &PluginRef| {
            let mut loaded = self.plugins.values().filter_map(|entry| entry.active.as_ref());
            loaded.any(|active| active.plugin.plugin == *plugin)
        };
        let (due, rest): (Vec<_>, Vec<_>) =
            self.replaced.drain(..).partition(|(_, since)| now.saturating_duration_since(*since) >= keep);
        due.iter().filter(|(plugin, _)| !active(plugin)).for_each(|(plugin, _)| self.host.unload(plugin));
        self.replaced = rest;
    }
}

/// Loads, checks and binds the files of one plugin. A failure changes nothing for other plugins.
fn load(host: &Host, name: &str, files: &PluginFiles) -> Result<Active, String> {
    check_name(name).map_err(|error| format!("{name}.wasm: {error}"))?;
    let config = match &files.config {
        None => PluginConfig::absent(host.config().limits),
        Some(file) => {
            let content = file.content.as_ref().map_err(|error| format!("{name}.yaml: {error}"))?;
            let text = std::str::from_utf8(&content.bytes).map_err(|error| format!("{name}.yaml: {error}"))?;
            PluginConfig::parse(text, host.config().limits).map_err(|error| format!("{name}.yaml: {error}"))?
        }
    };
    let Some(component) = &files.component else {
        return Err(format!("{name}.yaml: the directory must contain {name}.wasm too"));
    };
    let content = component.content.as_ref().map_err(|error| format!("{name}.wasm: {error}"))?;
    let source = paddock_plugin_host::Source { name, component: &content.bytes, limits: Some(config.limits) };
    let candidate = host.prepare(source).map_err(|error| format!("{name}.wasm: {error}"))?;
    let bindings = bind(host, name, &candidate, config)?;
    Ok(Active { plugin: host.admit(candidate), bindings })
}

/// Binds the requested hooks, after the plugin has accepted its settings for each of them.
fn bind(host: &Host, name: &str, candidate: &Candidate, config: PluginConfig) -> Result<Vec<Binding>, String> {
    let PluginConfig { hooks, namespaces, objects, kinds, settings, failure_policy, order, limits: _ } = config;
    let plugin = candidate.plugin();
    let hooks = hooks.unwrap_or_else(|| plugin.hooks.clone());
    let exported = |hook: &Hook| plugin.hooks.contains(hook);
    if let Some((index, hook)) = hooks.iter().enumerate().find(|(_, hook)| !exported(hook)) {
        let has: Vec<_> = plugin.hooks.iter().map(|hook| hook.as_str()).collect();
        let (hook, has) = (hook.as_str(), has.join(", "));
        return Err(format!("{name}.yaml: hooks[{index}]: {name}.wasm does not export {hook}; it exports {has}"));
    }
    let bind = |hook: Hook| {
        host.check_settings(candidate, hook, &settings)
            .map_err(|failure| format!("{name}.yaml: settings: {}", failure.message))?;
        Ok(Binding {
            name: format!("{name}/{}", hook.as_str()),
            hook,
            plugin: plugin.plugin.clone(),
            order,
            namespaces: namespaces.clone(),
            objects: objects.clone(),
            kinds: if hook == Hook::Admission { kinds.clone() } else { vec![] },
            settings: settings.clone(),
            failure_policy,
            built_in: false,
        })
    };
    hooks.into_iter().map(bind).collect()
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
