//! Turns the content of a source into plugins and bindings. A working plugin stays in force until a better version
//! loads. A plugin without a working version is bound too: it fails, and its failure policy applies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use paddock_core::binding::{Binding, Bindings};
use paddock_core::question::{Hook, PluginRef};
use paddock_plugin_host::{Host, LoadError};
use paddock_registry::Digest;
use serde::Serialize;

use super::cache::PluginCache;
use super::loading::{self, Active, Refused};
use super::plugin_config::PluginConfig;
use super::source::{File, PluginFiles, SourceContent, SourceError};
use crate::limits;

/// The name under which the source itself appears among the plugins: the flag that names it.
const SOURCE: &str = "--plugin-dir";

/// The state of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    /// The name of the plugin.
    pub name: String,
    /// Whether the plugin is loaded.
    pub state: PluginState,
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

/// Whether a plugin is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PluginState {
    /// The current files are in force.
    #[default]
    Loaded,
    /// The current files are refused, and the last good version is in force.
    FormerVersion,
    /// No version works. The plugin fails for its hooks, and its failure policy applies.
    NotLoaded,
    /// The file is not used, and belongs to no plugin.
    Ignored,
}

/// The plugins of the source, followed by the built-ins.
pub(super) struct Loader {
    host: Arc<Host>,
    built_ins: Vec<Binding>,
    content: SourceContent,
    /// The reason why the source could not be read the last time.
    unread: Option<SourceError>,
    /// Whether the plugins of the source are known, from the source itself or from the cache.
    is_known: bool,
    /// Whether the source was read. Files that appear later may not be copied completely.
    has_read: bool,
    plugins: BTreeMap<String, Entry>,
    cache: Option<PluginCache>,
    /// Replaced plugins that are still loaded, each with the time of its replacement.
    replaced: Vec<(PluginRef, Instant)>,
    /// The plugins that another source uses. They stay loaded.
    used_elsewhere: BTreeSet<PluginRef>,
}

/// The state of one plugin name in the source.
#[derive(Default)]
struct Entry {
    path: Option<String>,
    /// The digests of the files that were tried last, so that the same files are not tried again.
    tried: Option<Digests>,
    /// Whether the last good version of the cache was tried.
    tried_cache: bool,
    version: Version,
    /// The failing bindings of a new plugin whose files may not be copied completely, with the digests of the files. They
    /// take effect if the next read finds the same files.
    arriving: Option<(Digests, Vec<Binding>)>,
    error: Option<String>,
}

/// The version of a plugin that decides.
enum Version {
    /// A version that works.
    Active(Active),
    /// No version works. The bindings of the plugin fail. There are none if the files belong to no plugin.
    NotLoaded(Vec<Binding>),
}

impl Default for Version {
    fn default() -> Self {
        Self::NotLoaded(Vec::new())
    }
}

impl Entry {
    fn active(&self) -> Option<&Active> {
        match &self.version {
            Version::Active(active) => Some(active),
            Version::NotLoaded(_) => None,
        }
    }

    /// Puts the failing bindings of a new plugin in force if its files have not changed since the last read.
    fn settle(&mut self, digests: &Digests) {
        if let Some((_, bindings)) = self.arriving.take().filter(|(arrived, _)| arrived == digests) {
            self.version = Version::NotLoaded(bindings);
        }
    }

    fn bindings(&self) -> &[Binding] {
        match &self.version {
            Version::Active(active) => &active.bindings,
            Version::NotLoaded(bindings) => bindings,
        }
    }

    fn state(&self) -> PluginState {
        match &self.version {
            Version::Active(_) if self.error.is_none() => PluginState::Loaded,
            Version::Active(_) => PluginState::FormerVersion,
            Version::NotLoaded(bindings) if bindings.is_empty() && self.arriving.is_none() => PluginState::Ignored,
            Version::NotLoaded(_) => PluginState::NotLoaded,
        }
    }
}

/// The digests of a component and of its configuration.
type Digests = (Option<Digest>, Option<Digest>);

impl Loader {
    pub(super) fn new(host: Arc<Host>, cache: Option<PluginCache>) -> Result<Self, LoadError> {
        Ok(Self {
            built_ins: host.load_built_ins()?,
            host,
            content: SourceContent::default(),
            unread: None,
            is_known: false,
            has_read: false,
            plugins: BTreeMap::new(),
            cache,
            replaced: Vec::new(),
            used_elsewhere: BTreeSet::new(),
        })
    }

    /// The names of all plugins of the source.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.plugins.keys().cloned().collect()
    }

    /// Takes another source into account: the plugins that it uses, and those that it has replaced.
    pub(super) fn share(&mut self, used: BTreeSet<PluginRef>, replaced: Vec<PluginRef>, now: Instant) {
        self.used_elsewhere = used;
        self.replaced.extend(replaced.into_iter().map(|plugin| (plugin, now)));
    }

    /// The bindings in force.
    pub(super) fn bindings(&self) -> Bindings {
        let of_plugins = self.plugins.values().flat_map(Entry::bindings).cloned();
        let bindings = of_plugins.chain(self.bindings_of_source()).chain(self.built_ins.iter().cloned());
        Bindings::new(bindings.collect())
    }

    /// The bindings of a source that was never read. It may have any plugin, so every hook fails by its default policy.
    fn bindings_of_source(&self) -> Vec<Binding> {
        match &self.unread {
            Some(error) if !self.is_known => {
                let config = PluginConfig::absent(self.host.config().limits);
                loading::not_loaded(SOURCE, &config, None, &error.message)
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// The state of every plugin: first the built-ins, then the files by name, then faults of the source itself.
    pub(super) fn status(&self) -> Vec<PluginStatus> {
        let built_ins = self.built_ins.iter().map(|binding| PluginStatus {
            name: binding.plugin.name.clone(),
            digest: Some(binding.plugin.digest.clone()),
            wit_version: self.host.wit_version(&binding.plugin).map(str::to_owned),
            hooks: vec![binding.hook],
            ..PluginStatus::default()
        });
        let files = self.plugins.iter().map(|(name, entry)| {
            let active = entry.active();
            PluginStatus {
                name: name.clone(),
                state: entry.state(),
                path: entry.path.clone(),
                digest: active.map(|active| active.plugin.plugin.digest.clone()),
                wit_version: active.map(|active| active.plugin.wit_version.clone()),
                hooks: entry.bindings().iter().map(|binding| binding.hook).collect(),
                error: entry.error.clone(),
            }
        });
        let wrong = |name: &str, state, location: &str, error: &str| PluginStatus {
            name: name.to_owned(),
            state,
            path: Some(location.to_owned()),
            error: Some(error.to_owned()),
            ..PluginStatus::default()
        };
        let ignored = self.content.ignored.iter();
        let ignored = ignored.map(|file| wrong(&file.name, PluginState::Ignored, &file.location, file.reason));
        let of_source = if self.is_known { PluginState::FormerVersion } else { PluginState::NotLoaded };
        let source = self.unread.iter().map(|error| PluginStatus {
            hooks: self.bindings_of_source().iter().map(|binding| binding.hook).collect(),
            ..wrong(SOURCE, of_source, &error.location, &error.message)
        });
        built_ins.chain(files).chain(ignored).chain(source).collect()
    }

    /// Puts the valid changes of the source in force.
    pub(super) fn apply(&mut self, content: Result<SourceContent, SourceError>, now: Instant) {
        match content {
            Err(error) => self.unreadable(error),
            Ok(content) => {
                self.unread = None;
                self.is_known = true;
                for file in content.ignored.iter().filter(|file| !self.content.ignored.contains(file)) {
                    tracing::warn!(path = file.location, "{}", file.reason);
                }
                let gone: Vec<String> =
                    self.plugins.keys().filter(|name| !content.plugins.contains_key(*name)).cloned().collect();
                gone.iter().for_each(|name| self.remove(name, now));
                if let Some(cache) = &mut self.cache {
                    cache.retain(|name| content.plugins.contains_key(name));
                }
                content.plugins.iter().for_each(|(name, files)| self.update(name, files, now));
                self.content = content;
                self.has_read = true;
            }
        }
        self.unload_replaced(now);
    }

    /// If the source cannot be read, nothing is known about its files. The plugins in force stay, or those that were in
    /// force before the container was restarted.
    fn unreadable(&mut self, error: SourceError) {
        if let Some(cache) = self.cache.as_ref().filter(|cache| !self.is_known && cache.is_known()) {
            let names = cache.names();
            self.is_known = true;
            for name in names {
                let mut entry = Entry { error: Some(error.message.clone()), ..Entry::default() };
                self.restore(&name, &mut entry);
                if entry.active().is_none() {
                    let config = PluginConfig::absent(self.host.config().limits);
                    entry.version = Version::NotLoaded(loading::not_loaded(&name, &config, None, &error.message));
                }
                self.plugins.insert(name, entry);
            }
        }
        if self.unread.as_ref() != Some(&error) {
            let effect =
                if self.is_known { "the loaded plugins stay in use" } else { "every hook fails until it can be read" };
            tracing::error!(%error, "the source of plugins cannot be read; {effect}");
        }
        self.unread = Some(error);
    }

    fn remove(&mut self, name: &str, now: Instant) {
        let Some(entry) = self.plugins.remove(name) else { return };
        if !entry.bindings().is_empty() {
            tracing::info!(plugin = name, "plugin removed; its hooks use the next binding, or the built-in plugin");
        }
        self.replaced.extend(entry.active().map(|active| (active.plugin.plugin.clone(), now)));
    }

    fn update(&mut self, name: &str, files: &PluginFiles, now: Instant) {
        let digest = |file: &Option<File>| Some(file.as_ref()?.content.as_ref().ok()?.digest.clone());
        let digests = (digest(&files.component), digest(&files.config));
        let mut entry = self.plugins.remove(name).unwrap_or_default();
        let first = files.component.as_ref().or(files.config.as_ref());
        entry.path = first.map(|file| file.location.clone());
        entry.settle(&digests);
        // Files that cannot be read have no digest. They are tried again at every read.
        let readable = [&files.component, &files.config].into_iter().flatten().all(|file| file.content.is_ok());
        if !readable || entry.tried.as_ref() != Some(&digests) {
            entry.tried = Some(digests.clone());
            let former = entry.active().map(|active| active.plugin.plugin.clone());
            match loading::load(&self.host, name, files) {
                Ok(active) => self.put_in_force(name, files, active, &mut entry),
                Err(refused) => self.refuse(name, (files, digests), refused, &mut entry),
            }
            let current = entry.active().map(|active| &active.plugin.plugin);
            self.replaced.extend(former.filter(|former| current != Some(former)).map(|former| (former, now)));
        }
        self.plugins.insert(name.to_owned(), entry);
    }

    fn put_in_force(&mut self, name: &str, files: &PluginFiles, active: Active, entry: &mut Entry) {
        let digest = &active.plugin.plugin.digest;
        let hooks: Vec<_> = active.bindings.iter().map(|binding| binding.hook.as_str()).collect();
        tracing::info!(plugin = name, %digest, ?hooks, "plugin in use");
        entry.error = None;
        entry.version = Version::Active(active);
        if let Some(cache) = &mut self.cache {
            cache.store(name, files, None);
        }
    }

    fn refuse(&self, name: &str, (files, digests): (&PluginFiles, Digests), refused: Refused, entry: &mut Entry) {
        let Refused { error, retry, is_plugin, bindings } = refused;
        if retry {
            entry.tried = None;
        }
        if files.component.is_none() {
            // The user has removed the component, so no earlier version of it may stay in force.
            let is_cached = self.cache.as_ref().is_some_and(|cache| cache.has(name));
            let is_plugin = is_plugin || is_cached || !entry.bindings().is_empty();
            entry.version = Version::NotLoaded(if is_plugin { bindings } else { Vec::new() });
        } else {
            self.restore(name, entry);
            match &entry.version {
                Version::Active(_) => {}
                Version::NotLoaded(former) if former.is_empty() && self.has_read => {
                    entry.arriving = Some((digests, bindings));
                }
                Version::NotLoaded(_) => entry.version = Version::NotLoaded(bindings),
            }
        }
        if entry.error.as_ref() != Some(&error) {
            let effect = match &entry.version {
                Version::Active(_) => "its last good version stays in use",
                Version::NotLoaded(_) if entry.state() == PluginState::Ignored => "the file is not used",
                Version::NotLoaded(_) => "it fails for its hooks, as its failurePolicy says, until it is loaded",
            };
            tracing::error!(plugin = name, %error, "plugin refused; {effect}");
        }
        entry.error = Some(error);
    }

    /// Puts the last good version of a plugin in force that has none, if the cache has it.
    fn restore(&self, name: &str, entry: &mut Entry) {
        if entry.active().is_some() || std::mem::replace(&mut entry.tried_cache, true) {
            return;
        }
        let Some(files) = self.cache.as_ref().and_then(|cache| cache.files(name)) else { return };
        match loading::load(&self.host, name, &files) {
            Ok(active) => {
                tracing::warn!(plugin = name, digest = %active.plugin.plugin.digest, "last good version in use");
                entry.version = Version::Active(active);
            }
            Err(Refused { error, .. }) => {
                tracing::error!(plugin = name, %error, "the last good version of the plugin cannot be loaded");
            }
        }
    }

    /// Unloads plugins some time after their replacement. Decisions that began with them may still ask them until then.
    pub(super) fn unload_replaced(&mut self, now: Instant) {
        let keep = limits::REPLACED_PLUGIN_LIFETIME;
        let active = |plugin: &PluginRef| {
            let mut loaded = self.plugins.values().filter_map(Entry::active);
            self.used_elsewhere.contains(plugin) || loaded.any(|active| active.plugin.plugin == *plugin)
        };
        let (due, rest): (Vec<_>, Vec<_>) =
            self.replaced.drain(..).partition(|(_, since)| now.saturating_duration_since(*since) >= keep);
        due.iter().filter(|(plugin, _)| !active(plugin)).for_each(|(plugin, _)| self.host.unload(plugin));
        self.replaced = rest;
    }
}

#[cfg(test)]
mod tests {
    use paddock_plugin_host::HostConfig;

    use super::*;
    use crate::plugins::plugin_config::PluginConfig;
    use crate::plugins::source::Content;

    fn file(bytes: &[u8]) -> File {
        File { location: "guard.wasm".to_owned(), content: Ok(Content::of(bytes)) }
    }

    /// The trial of a component may be repeated for as long as other calls take all the memory.
    #[test]
    fn new_plugin_whose_trial_is_repeated_fails_from_the_second_read_on() {
        let mut loader = Loader::new(Arc::new(Host::new(HostConfig::default()).unwrap()), None).unwrap();
        loader.has_read = true;
        let files = PluginFiles { component: Some(file(b"guard")), config: None };
        let digests: Digests = (Some(Digest::of(b"guard")), None);
        let config = PluginConfig::absent(loader.host.config().limits);
        let refused = || Refused {
            error: "busy".to_owned(),
            retry: true,
            is_plugin: true,
            bindings: loading::not_loaded("guard", &config, Some(&[Hook::Admission]), "busy"),
        };
        let mut entry = Entry::default();
        for (read, failing) in [(1, 0), (2, 1), (3, 1)] {
            entry.settle(&digests);
            loader.refuse("guard", (&files, digests.clone()), refused(), &mut entry);
            assert_eq!(entry.tried, None, "it is tried again");
            assert_eq!((entry.bindings().len(), entry.state()), (failing, PluginState::NotLoaded), "read {read}");
        }
        entry = Entry::default();
        loader.refuse("guard", (&files, digests), refused(), &mut entry);
        entry.settle(&(Some(Digest::of(b"other")), None));
        assert!(entry.bindings().is_empty(), "the files have changed, so they may be copied still");
    }
}
