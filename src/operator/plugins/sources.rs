//! The loaders of all sources, and what they share: the host, the names of plugins, and the order of bindings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use paddock_core::binding::Bindings;
use paddock_plugin_host::{Host, LoadError};

use super::cache::PluginCache;
use super::loader::{Loader, PluginStatus};
use super::objects::check::PolicyCheck;
use super::objects::loader::ObjectLoader;
use super::objects::{ObjectContent, ObjectStates};
use super::source::{SourceContent, SourceError};

/// The plugins of files, of objects, and the built-ins.
pub(super) struct Loaders {
    files: Loader,
    objects: ObjectLoader,
}

impl Loaders {
    /// Loads the built-ins. The cache is a directory that keeps the last good version of each plugin.
    pub(super) fn new(host: Arc<Host>, cache: Option<PathBuf>) -> Result<Self, LoadError> {
        let objects = ObjectLoader::new(Arc::clone(&host), cache.clone());
        Ok(Self { files: Loader::new(host, cache.map(PluginCache::open))?, objects })
    }

    /// Puts the content of the directory in force. A plugin of the directory takes its name from a SandboxPlugin.
    pub(super) fn apply_files(&mut self, content: Result<SourceContent, SourceError>, now: Instant) {
        self.files.apply(content, now);
        self.objects.set_taken(self.files.names(), now);
        self.settle(now);
    }

    /// Puts the objects of the cluster in force.
    pub(super) fn apply_objects(&mut self, content: Result<ObjectContent, String>, now: Instant) {
        self.objects.apply(content, now);
        self.settle(now);
    }

    /// Does what had to wait, and unloads what was replaced some time ago.
    pub(super) fn pass_time(&mut self, now: Instant) {
        self.objects.retry(now);
        self.settle(now);
        self.files.unload_replaced(now);
    }

    /// One loader unloads the replaced plugins of both, because both may use the same component.
    fn settle(&mut self, now: Instant) {
        let replaced = self.objects.take_replaced();
        self.files.share(self.objects.in_use(), replaced, now);
    }

    /// Whether something has to be tried again soon.
    pub(super) fn waits(&self) -> bool {
        self.objects.waits()
    }

    /// The bindings in force, in the order in which they are asked, and the rules about isolation.
    pub(super) fn bindings(&self) -> Bindings {
        let bindings = self.files.bindings().iter().cloned().chain(self.objects.bindings()).collect();
        Bindings::new(bindings).with_isolation(self.objects.isolation())
    }

    /// The state of every plugin: first the built-ins, then the files, then the objects.
    pub(super) fn status(&self) -> Vec<PluginStatus> {
        self.files.status().into_iter().chain(self.objects.object_statuses()).collect()
    }

    /// The state of every object.
    pub(super) fn states(&self) -> ObjectStates {
        self.objects.object_states()
    }

    /// The check of a policy with the plugins that are loaded at the time.
    pub(super) fn policy_check(&self, host: Arc<Host>) -> PolicyCheck {
        self.objects.candidates().check(host)
    }
}
