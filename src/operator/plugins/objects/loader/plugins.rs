//! Loads the component of a SandboxPlugin, beside the version that is in use.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use paddock_core::question::PluginRef;
use paddock_plugin_host::{BUILT_INS, Candidate, Host, LoadError, Source};
use paddock_registry::Digest;

use crate::limits;
use crate::plugins::cache::{CachedImage, PluginCache};
use crate::plugins::objects::{Component, Fault, FaultReason, Image, PluginObject};
use crate::plugins::plugin_config::PluginConfig;
use crate::plugins::source::{File, PluginFiles};

/// The folder of the cache, beside the files of the directory's plugins.
const CACHE: &str = "objects";

/// A SandboxPlugin on this replica.
#[derive(Default)]
pub(super) struct LoadedPlugin {
    uid: String,
    tried: Option<Tried>,
    /// The version in use.
    pub(super) active: Option<Candidate>,
    /// The image that the version in use is from.
    pub(super) image: Option<Image>,
    /// The keys that must have signed that image, as a digest.
    trust: Option<String>,
    /// The digest that the spec names. It excludes every other component.
    pin: Option<String>,
    /// The time since which the spec excludes the version in use.
    excluded_since: Option<Instant>,
    /// The fault of the current version.
    fault: Option<Fault>,
    /// The fault of the source, although it has given the current version.
    source_fault: Option<Fault>,
}

/// The facts that were tried last, so that the same component is not tried again.
#[derive(PartialEq)]
struct Tried {
    component: Result<Digest, Fault>,
    digest: Option<String>,
    limits: String,
    is_taken: bool,
}

impl LoadedPlugin {
    /// The plugin in use.
    pub(super) fn plugin(&self) -> Option<&PluginRef> {
        self.active.as_ref().map(|active| &active.plugin().plugin)
    }

    /// The UID of the object.
    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    /// The fault of the current version, or else of its source.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref().or(self.source_fault.as_ref())
    }

    /// Whether the spec permits that a component decides.
    pub(super) fn permits(&self, component: &PluginRef) -> bool {
        self.pin.as_ref().is_none_or(|pin| *pin == component.digest)
    }

    /// Whether something has to be done without a change of the object: a trial has to be repeated, or the use of an
    /// excluded version has to end.
    pub(super) fn waits(&self) -> bool {
        self.tried.is_none() || self.excluded_since.is_some()
    }
}

/// The name of a SandboxPlugin in the cache. Another object of the same name must not get its component. No name of an
/// object contains a slash.
fn cached_as(name: &str, uid: &str) -> String {
    format!("{name}/{uid}")
}

/// A component that was refused, and whether the fault can end without a change of the object.
struct Refused {
    fault: Fault,
    retry: bool,
}

impl Refused {
    fn new(reason: FaultReason, message: String) -> Self {
        Self { fault: Fault::new(reason, message), retry: false }
    }
}

/// Loads components into the host.
pub(super) struct ComponentLoader {
    host: Arc<Host>,
    cache: Option<PluginCache>,
}

impl ComponentLoader {
    /// A loader with a cache in this directory.
    pub(super) fn new(host: Arc<Host>, cache: Option<PathBuf>) -> Self {
        let cache = cache.map(|dir| dir.join(CACHE)).and_then(|dir| {
            std::fs::create_dir_all(&dir)
                .inspect_err(|error| tracing::error!(dir = %dir.display(), %error, "the plugin cache cannot be made"))
                .ok()?;
            Some(PluginCache::open(dir))
        });
        Self { host, cache }
    }

    /// Keeps the cached components of the plugins that exist, by their names and UIDs.
    pub(super) fn retain(&mut self, exists: impl Fn(&str, &str) -> bool) {
        if let Some(cache) = &mut self.cache {
            cache.retain(|key| key.split_once('/').is_some_and(|(name, uid)| exists(name, uid)));
        }
    }

    /// The state of a SandboxPlugin after its current version was tried. `is_taken` says that the directory has a plugin
    /// of the same name.
    pub(super) fn update(
        &mut self,
        (name, object): (&str, &PluginObject),
        is_taken: bool,
        former: LoadedPlugin,
        now: Instant,
    ) -> LoadedPlugin {
        let mut loaded = self.tried((name, object), is_taken, former);
        end_excluded(name, &mut loaded, now);
        loaded
    }

    fn tried(&mut self, (name, object): (&str, &PluginObject), is_taken: bool, former: LoadedPlugin) -> LoadedPlugin {
        let mut loaded = if former.uid == object.uid {
            former
        } else {
            LoadedPlugin { uid: object.uid.clone(), ..LoadedPlugin::default() }
        };
        let tried = Tried {
            component: object.component.as_ref().map(|found| found.content.digest.clone()).map_err(Clone::clone),
            digest: object.digest.clone(),
            limits: object.limits.clone(),
            is_taken,
        };
        loaded.pin.clone_from(&object.digest);
        if loaded.source_fault != object.source_fault {
            if let Some(Fault { reason, message }) = &object.source_fault {
                tracing::warn!(plugin = name, reason = reason.as_str(), error = message, "the source has a fault");
            }
            loaded.source_fault.clone_from(&object.source_fault);
        }
        if loaded.tried.as_ref() == Some(&tried) {
            if let Ok(component) = &object.component
                && loaded.fault.is_none()
                && (&loaded.image, &loaded.trust) != (&component.image, &object.trust)
            {
                // Another image has the same component, or other keys have signed it.
                self.keep((name, object), component, &mut loaded);
            }
            return loaded;
        }
        loaded.tried = Some(tried);
        match self.load(name, object, is_taken) {
            Ok((candidate, component)) => {
                let digest = &candidate.plugin().plugin.digest;
                tracing::info!(plugin = name, %digest, source = object.location, "SandboxPlugin loaded");
                self.host.admit(candidate.clone());
                (loaded.active, loaded.fault) = (Some(candidate), None);
                self.keep((name, object), component, &mut loaded);
            }
            Err(refused) => self.refuse((name, object), refused, &mut loaded),
        }
        loaded
    }

    /// Notes where the version in use is from, and keeps it over a restart of the container.
    fn keep(&mut self, (name, object): (&str, &PluginObject), component: &Component, loaded: &mut LoadedPlugin) {
        loaded.image.clone_from(&component.image);
        loaded.trust.clone_from(&object.trust);
        let Some(cache) = &mut self.cache else { return };
        let image = component.image.as_ref();
        let image = image.map(|image| CachedImage { digest: image.digest.clone(), trust: object.trust.clone() });
        let file = File { location: object.location.clone(), content: Ok(component.content.clone()) };
        cache.store(&cached_as(name, &object.uid), &PluginFiles { component: Some(file), config: None }, image);
    }

    fn refuse(&self, (name, object): (&str, &PluginObject), refused: Refused, loaded: &mut LoadedPlugin) {
        let Refused { fault, retry } = refused;
        if retry {
            loaded.tried = None;
        }
        if fault.reason == FaultReason::NameTaken {
            // The host knows a plugin by its name and digest, and the other plugin may have the same ones.
            (loaded.active, loaded.image) = (None, None);
        } else if loaded.active.is_none() {
            let (active, image) = self.restore(name, object).unzip();
            (loaded.active, loaded.image) = (active, image.flatten());
        }
        if fault.reason == FaultReason::Pulling {
            tracing::info!(plugin = name, source = object.location, "the image is being pulled");
        } else if loaded.fault.as_ref() != Some(&fault) {
            let effect = match loaded.plugin() {
                Some(used) if !loaded.permits(used) => "spec.digest excludes the version in use, which ends soon",
                Some(_) => "its last good version stays in use",
                None => "its policies fail, as their failurePolicy says, until it is loaded",
            };
            tracing::error!(plugin = name, error = fault.message, "SandboxPlugin refused; {effect}");
        }
        loaded.fault = Some(fault);
    }

    /// Compiles and tries the component of a SandboxPlugin.
    fn load<'a>(
        &self,
        name: &str,
        object: &'a PluginObject,
        is_taken: bool,
    ) -> Result<(Candidate, &'a Component), Refused> {
        if BUILT_INS.iter().any(|built_in| built_in.name == name) {
            let message = format!(
                "metadata.name: {name} is the name of a built-in plugin; choose another one, and name the built-in plugin \
                 in spec.source.builtIn"
            );
            return Err(Refused::new(FaultReason::NameTaken, message));
        }
        if is_taken {
            let message =
                format!("metadata.name: the directory of --plugin-dir has a plugin {name}; rename one of them");
            return Err(Refused::new(FaultReason::NameTaken, message));
        }
        let component = object.component.as_ref().map_err(|fault| Refused { fault: fault.clone(), retry: false })?;
        let digest = &component.content.digest;
        if let Some(wanted) = object.digest.as_ref().filter(|wanted| *wanted != digest.as_str()) {
            let message = format!("spec.digest: is {wanted}, but the component of {} has {digest}", object.location);
            return Err(Refused::new(FaultReason::DigestMismatch, message));
        }
        Ok((self.prepare(name, &component.content.bytes, &object.limits)?, component))
    }

    fn prepare(&self, name: &str, component: &[u8], limits: &str) -> Result<Candidate, Refused> {
        let config = PluginConfig::parse(limits, self.host.config().limits)
            .map_err(|error| Refused::new(FaultReason::LoadFailed, format!("spec.{error}")))?;
        let source = Source { name, component, limits: Some(config.limits) };
        self.host.prepare(source).map_err(|error| Refused {
            fault: Fault::new(FaultReason::LoadFailed, format!("spec.source: {error}")),
            retry: matches!(error, LoadError::Busy(_)),
        })
    }

    /// The last good version of an earlier process in this pod, unless the spec names another digest, or keys that were not
    /// required at that time.
    fn restore(&self, name: &str, object: &PluginObject) -> Option<(Candidate, Option<Image>)> {
        let cache = self.cache.as_ref()?;
        let key = cached_as(name, &object.uid);
        let image = cache.image(&key);
        if object.trust.is_some() && object.trust.as_ref() != image.and_then(|image| image.trust.as_ref()) {
            return None;
        }
        let image = image.map(|image| Image { digest: image.digest.clone(), warning: None });
        let content = cache.files(&key)?.component?.content.ok()?;
        let digest = &content.digest;
        if object.digest.as_ref().is_some_and(|wanted| wanted != digest.as_str()) {
            return None;
        }
        match self.prepare(name, &content.bytes, &object.limits) {
            Ok(candidate) => {
                tracing::warn!(plugin = name, %digest, "last good version in use");
                self.host.admit(candidate.clone());
                Some((candidate, image))
            }
            Err(Refused { fault, .. }) => {
                tracing::error!(plugin = name, error = fault.message, "the last good version cannot be loaded");
                None
            }
        }
    }
}

/// Whether the time is over in which a component still decides that `spec.digest` excludes. The time begins now, unless it
/// has begun.
pub(super) fn is_over(excluded_since: &mut Option<Instant>, now: Instant) -> bool {
    let since = *excluded_since.get_or_insert(now);
    now.saturating_duration_since(since) >= limits::PLUGIN_PIN_WAIT
}

/// Ends the use of a version that `spec.digest` excludes, after a time in which the permitted one may arrive. A roll forward
/// thus has no gap, and nobody extends the time by keeping the source from answering.
fn end_excluded(name: &str, loaded: &mut LoadedPlugin, now: Instant) {
    let excluded = loaded.plugin().filter(|used| !loaded.permits(used)).map(|used| used.digest.clone());
    let Some(digest) = excluded else {
        loaded.excluded_since = None;
        return;
    };
    if is_over(&mut loaded.excluded_since, now) {
        tracing::error!(plugin = name, digest, "spec.digest excludes the version in use; its policies fail");
        (loaded.active, loaded.image, loaded.excluded_since) = (None, None, None);
    }
}
