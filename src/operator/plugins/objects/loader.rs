//! The SandboxPlugins and SandboxPolicies of the cluster, as this replica uses them. A good version stays in force until a
//! better one is loaded.

mod plugins;
mod policies;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use paddock_core::binding::Binding;
use paddock_core::isolation::IsolationRule;
use paddock_core::question::PluginRef;
use paddock_plugin_host::Host;

use self::plugins::{ComponentLoader, LoadedPlugin};
use self::policies::{BoundPolicy, OfPolicy};
use super::ObjectContent;
use super::check::Candidates;
use crate::plugins::loading;
use crate::plugins::plugin_config::PluginConfig;

/// The name under which the objects appear among the plugins while they were never read.
const OBJECTS: &str = "SandboxPolicies";

/// The SandboxPlugins and SandboxPolicies of the cluster, as this replica uses them.
pub(in crate::plugins) struct ObjectLoader {
    host: Arc<Host>,
    components: ComponentLoader,
    content: ObjectContent,
    /// The reason why the objects were never read. They may exist, so every hook fails by its default policy.
    unread: Option<Unread>,
    is_known: bool,
    /// The names of the plugins of the directory. A SandboxPlugin with such a name is refused.
    taken: BTreeSet<String>,
    plugins: BTreeMap<String, LoadedPlugin>,
    policies: BTreeMap<String, BoundPolicy>,
    candidates: Candidates,
    replaced: Vec<PluginRef>,
}

/// The reason why the objects were never read.
struct Unread {
    /// The error of the first attempt, which the bindings contain. A change of the bindings queues every object, and every
    /// attempt may have another error.
    first: String,
    /// The error of the last attempt, for people.
    last: String,
}

impl ObjectLoader {
    /// A loader without objects. The cache keeps the last good version of each plugin.
    pub(in crate::plugins) fn new(host: Arc<Host>, cache: Option<PathBuf>) -> Self {
        Self {
            components: ComponentLoader::new(Arc::clone(&host), cache),
            host,
            content: ObjectContent::default(),
            unread: None,
            is_known: false,
            taken: BTreeSet::new(),
            plugins: BTreeMap::new(),
            policies: BTreeMap::new(),
            candidates: Candidates::default(),
            replaced: Vec::new(),
        }
    }

    /// The loaded SandboxPlugins, for the check of policies.
    pub(in crate::plugins) fn candidates(&self) -> Candidates {
        self.candidates.clone()
    }

    /// The plugins that a binding asks, or that a new policy would ask.
    pub(in crate::plugins) fn in_use(&self) -> BTreeSet<PluginRef> {
        let loaded = self.plugins.values().filter_map(LoadedPlugin::plugin);
        loaded.chain(self.policies.values().filter_map(BoundPolicy::active)).cloned().collect()
    }

    /// The plugins that were replaced since the last call.
    pub(in crate::plugins) fn take_replaced(&mut self) -> Vec<PluginRef> {
        std::mem::take(&mut self.replaced)
    }

    /// The bindings in force.
    pub(in crate::plugins) fn bindings(&self) -> Vec<Binding> {
        let of_policies = self.policies.values().filter_map(|policy| policy.binding.clone());
        let config = PluginConfig::absent(self.host.config().limits);
        let unknown = self.unknown(|unread| &unread.first);
        let of_unread = unknown.flat_map(|(name, error)| loading::not_loaded(&name, &config, None, error));
        of_policies.chain(of_unread).collect()
    }

    /// The rules about isolation. There are none while the objects were never read, so that nothing is allowed.
    pub(in crate::plugins) fn isolation(&self) -> Vec<IsolationRule> {
        self.content.isolation.values().map(|object| object.rule.clone()).collect()
    }

    /// The unknown objects by the names under which they appear among the plugins, each with the reason. An unknown object
    /// may be a policy of any hook, so every hook fails by its default policy.
    fn unknown(&self, error: fn(&Unread) -> &String) -> impl Iterator<Item = (String, &String)> {
        let policies = self.content.unreadable.iter().map(|(name, error)| (Binding::name_of_policy(name), error));
        self.unread.iter().map(move |unread| (OBJECTS.to_owned(), error(unread))).chain(policies)
    }

    /// Puts the valid changes of the objects in force.
    pub(in crate::plugins) fn apply(&mut self, content: Result<ObjectContent, String>, now: Instant) {
        match content {
            Ok(content) => {
                (self.unread, self.is_known) = (None, true);
                log_rules(&self.content, &content);
                self.content = content;
                self.update(now);
            }
            Err(_) if self.is_known => {}
            Err(error) => {
                let before = self.unread.take();
                if before.as_ref().is_none_or(|unread| unread.last != error) {
                    tracing::error!(error, "plugins and policies cannot be read; every hook fails until they are");
                }
                let first = before.map_or_else(|| error.clone(), |unread| unread.first);
                self.unread = Some(Unread { first, last: error });
            }
        }
    }

    /// Takes the names of the directory's plugins into account.
    pub(in crate::plugins) fn set_taken(&mut self, taken: BTreeSet<String>, now: Instant) {
        if self.taken != taken {
            self.taken = taken;
            self.update(now);
        }
    }

    /// Whether a trial has to be repeated, because other calls took all the memory, or the use of an excluded version has to
    /// end.
    pub(in crate::plugins) fn waits(&self) -> bool {
        self.plugins.values().any(LoadedPlugin::waits) || self.policies.values().any(BoundPolicy::waits)
    }

    /// Does what had to wait.
    pub(in crate::plugins) fn retry(&mut self, now: Instant) {
        if self.waits() {
            self.update(now);
        }
    }

    fn update(&mut self, now: Instant) {
        if !self.is_known {
            return;
        }
        let before = self.in_use();
        let mut former = std::mem::take(&mut self.plugins);
        for (name, object) in &self.content.plugins {
            let loaded = former.remove(name).unwrap_or_default();
            let loaded = self.components.update((name, object), self.taken.contains(name), loaded, now);
            self.plugins.insert(name.clone(), loaded);
        }
        former.keys().for_each(|name| tracing::info!(plugin = name, "SandboxPlugin removed"));
        let plugins = &self.content.plugins;
        self.components.retain(|name, uid| plugins.get(name).is_some_and(|plugin| plugin.uid == uid));
        let active = |(name, loaded): (&String, &LoadedPlugin)| Some((name.clone(), loaded.active.clone()?));
        self.candidates.set(self.plugins.iter().filter_map(active).collect());
        let mut former = std::mem::take(&mut self.policies);
        for (name, object) in &self.content.policies {
            let bound = former.remove(name).unwrap_or_default();
            let plugin = match (self.plugins.get(&object.plugin), self.content.unreadable_plugins.get(&object.plugin)) {
                (Some(plugin), _) => OfPolicy::Known(plugin),
                (None, Some(error)) => OfPolicy::Unreadable(error),
                (None, None) => OfPolicy::Absent,
            };
            self.policies.insert(name.clone(), policies::update(&self.host, (name, object), &plugin, bound, now));
        }
        former.keys().for_each(|name| tracing::info!(policy = name, "SandboxPolicy removed"));
        let after = self.in_use();
        self.replaced.extend(before.into_iter().filter(|plugin| !after.contains(plugin)));
    }
}

/// Logs the rules about isolation that begin or end.
fn log_rules(before: &ObjectContent, after: &ObjectContent) {
    for (name, object) in &after.isolation {
        if before.isolation.get(name).map(|former| &former.rule) != Some(&object.rule) {
            let IsolationRule { allow, runtime_classes, .. } = &object.rule;
            tracing::info!(policy = name, ?allow, ?runtime_classes, "rules about isolation in force");
        }
    }
    for name in before.isolation.keys().filter(|name| !after.isolation.contains_key(*name)) {
        tracing::info!(policy = name, "rules about isolation removed");
    }
}
