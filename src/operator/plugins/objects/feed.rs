//! Watches SandboxPlugins, SandboxPolicies and the ConfigMaps with components, and follows the images with components.
//!
//! ConfigMaps are read in the operator's own namespace alone. A component decides about the Sandboxes of the whole
//! cluster, and a user who may write ConfigMaps elsewhere need not have that right.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::ApiResource;
use paddock_api::{SandboxPlugin, SandboxPolicy};
use tokio::sync::watch;
use tracing::warn;

use super::ObjectContent;
use super::follow::{Followed, Update, follow};
use super::read::{self, Components, Known};
use crate::plugins::registry::{PullUpdate, Puller, Pulls, Wanted};

/// The source of plugins and policies in a cluster.
pub struct ObjectSource {
    client: Client,
    namespace: Option<String>,
    puller: Arc<Puller>,
    seen: watch::Sender<SeenObjects>,
    outages: watch::Sender<Outages>,
}

/// The kinds whose watch has failed for a minute, each with the error. The objects that are known stay in force, and a
/// newer policy may exist.
pub type Outages = BTreeMap<&'static str, String>;

/// The kinds that are watched, as metrics and [`Outages`] name them.
pub const WATCHED: [&str; 3] = [PLUGINS, POLICIES, CONFIG_MAPS];
pub(super) const PLUGINS: &str = "SandboxPlugin";
pub(super) const POLICIES: &str = "SandboxPolicy";
pub(super) const CONFIG_MAPS: &str = "ConfigMap";

/// The objects as the watches show them, with their status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenObjects {
    /// The SandboxPlugins, by name.
    pub plugins: BTreeMap<String, Arc<SandboxPlugin>>,
    /// The SandboxPolicies, by name.
    pub policies: BTreeMap<String, Arc<SandboxPolicy>>,
}

impl ObjectSource {
    /// The objects of the cluster of a client. The ConfigMaps are in this namespace, which is that of the operator. Outside
    /// of a cluster, an operator may have none. The puller pulls the components that are in registries.
    #[must_use]
    pub fn new(client: Client, namespace: Option<String>, puller: Puller) -> Self {
        let (seen, outages) = (watch::Sender::default(), watch::Sender::default());
        Self { client, namespace, puller: Arc::new(puller), seen, outages }
    }

    /// The objects as they are seen, for the reports of their status.
    pub fn seen(&self) -> watch::Receiver<SeenObjects> {
        self.seen.subscribe()
    }

    /// The kinds whose watch fails.
    pub fn outages(&self) -> watch::Receiver<Outages> {
        self.outages.subscribe()
    }

    /// The content of the objects: first what there is now, then again whenever it changes. An error says nothing about
    /// the objects. There are only errors before the first content.
    pub fn contents(self) -> impl Stream<Item = Result<ObjectContent, String>> + Send + 'static {
        let Self { client, namespace, puller, seen, outages } = self;
        let followed =
            |resource, namespace: Option<&String>| Followed { resource, namespace: namespace.cloned(), labels: None };
        let plugins = followed(ApiResource::erase::<SandboxPlugin>(&()), None);
        let policies = followed(ApiResource::erase::<SandboxPolicy>(&()), None);
        let plugins = follow(client.clone(), plugins, read::typed).map(News::Plugins).boxed();
        let policies = follow(client.clone(), policies, read::typed).map(News::Policies).boxed();
        let maps = match &namespace {
            Some(_) => {
                let maps = followed(ApiResource::erase::<ConfigMap>(&()), namespace.as_ref());
                follow(client, maps, read::components).map(News::Components).boxed()
            }
            None => stream::iter([News::Components(Update::Objects(BTreeMap::new()))]).boxed(),
        };
        let (pulls, updates) = Pulls::new(puller);
        let images = updates.map(|update| News::Image(Box::new(update))).boxed();
        let state = State::new(namespace, pulls, (seen, outages));
        let news = stream::select_all([plugins, policies, maps, images]);
        news.scan(state, |state, news| future::ready(Some(state.take_in(news)))).filter_map(future::ready)
    }
}

/// An update of one of the kinds.
enum News {
    Plugins(Update<Result<Arc<SandboxPlugin>, String>>),
    Policies(Update<Result<Arc<SandboxPolicy>, String>>),
    Components(Update<Components>),
    Image(Box<PullUpdate>),
}

/// The kinds that are known so far.
struct State {
    namespace: Option<String>,
    pulls: Pulls,
    seen: watch::Sender<SeenObjects>,
    outages: watch::Sender<Outages>,
    /// The kinds whose watch has failed for a minute, each with the first error.
    failing: Outages,
    plugins: Option<BTreeMap<String, Arc<SandboxPlugin>>>,
    policies: Option<BTreeMap<String, Arc<SandboxPolicy>>>,
    maps: Option<BTreeMap<String, Components>>,
    /// The objects that cannot be read, each with the error. The former version of one that is known stays in force.
    unreadable: Unreadable,
    /// The reason why the ConfigMaps are not known. It concerns only the plugins whose component is in a ConfigMap.
    maps_fault: Option<String>,
    last: Option<ObjectContent>,
}

impl State {
    fn new(
        namespace: Option<String>,
        pulls: Pulls,
        (seen, outages): (watch::Sender<SeenObjects>, watch::Sender<Outages>),
    ) -> Self {
        Self {
            namespace,
            pulls,
            seen,
            outages,
            failing: Outages::new(),
            plugins: None,
            policies: None,
            unreadable: Unreadable::default(),
            maps: None,
            maps_fault: None,
            last: None,
        }
    }

    /// The new content, if the news change it.
    fn take_in(&mut self, news: News) -> Option<Result<ObjectContent, String>> {
        match &news {
            News::Plugins(update) => self.note(PLUGINS, update),
            News::Policies(update) => self.note(POLICIES, update),
            News::Components(update) => self.note(CONFIG_MAPS, update),
            News::Image(_) => {}
        }
        let content = self.content_after(news);
        self.publish_outages();
        content
    }

    /// Notes whether the watch of a kind fails. Each attempt may have another error, and the first one stays.
    fn note<T>(&mut self, kind: &'static str, update: &Update<T>) {
        match update {
            Update::Objects(_) => drop(self.failing.remove(kind)),
            Update::Fault { message, is_outage: true } => {
                self.failing.entry(kind).or_insert_with(|| message.clone());
            }
            Update::Fault { is_outage: false, .. } => {}
        }
    }

    /// Publishes the kinds whose watch fails. ConfigMaps matter only if a plugin is in one: an operator needs no right to
    /// read them otherwise.
    fn publish_outages(&self) {
        let mut plugins = self.plugins.iter().flat_map(BTreeMap::values);
        let needs_maps = plugins.any(|plugin| plugin.spec.source.config_map.is_some());
        let mut failing = self.failing.clone();
        failing.retain(|kind, _| *kind != CONFIG_MAPS || needs_maps);
        self.outages.send_if_modified(|before| {
            let changed = *before != failing;
            *before = failing;
            changed
        });
    }

    fn content_after(&mut self, news: News) -> Option<Result<ObjectContent, String>> {
        let fault = match news {
            News::Plugins(Update::Objects(objects)) => {
                let former = self.plugins.take().unwrap_or_default();
                let plugins = readable(("SandboxPlugin", &mut self.unreadable.plugins), former, objects);
                let image = |(name, plugin): (&String, &Arc<SandboxPlugin>)| Some((name.clone(), Wanted::of(plugin)?));
                self.pulls.want(plugins.iter().filter_map(image).collect());
                self.plugins = Some(plugins);
                None
            }
            News::Policies(Update::Objects(objects)) => {
                let former = self.policies.take().unwrap_or_default();
                self.policies = Some(readable(("SandboxPolicy", &mut self.unreadable.policies), former, objects));
                None
            }
            News::Components(Update::Objects(objects)) => {
                self.maps = Some(objects);
                None
            }
            News::Image(update) => {
                self.pulls.take_in(*update);
                None
            }
            News::Components(Update::Fault { message, .. }) => {
                self.maps_fault = Some(message);
                None
            }
            News::Plugins(Update::Fault { message, .. }) | News::Policies(Update::Fault { message, .. }) => {
                Some(message)
            }
        };
        let (Some(plugins), Some(policies)) = (&self.plugins, &self.policies) else {
            return fault.map(Err);
        };
        if fault.is_some() {
            // The objects that are known stay in force.
            return None;
        }
        let none = BTreeMap::new();
        let maps = match (&self.maps, &self.maps_fault) {
            // The ConfigMaps that are known stay in force.
            (Some(maps), _) => Ok(maps),
            (None, Some(fault)) => Err(fault.as_str()),
            (None, None) if plugins.values().any(|plugin| plugin.spec.source.config_map.is_some()) => return None,
            (None, None) => Ok(&none),
        };
        let of_plugin = |name: &String, object: &Arc<SandboxPlugin>| {
            let known = Known { namespace: self.namespace.as_deref(), maps, pulled: self.pulls.pulled(name) };
            read::plugin(object, &known)
        };
        let mut content = ObjectContent {
            plugins: plugins.iter().map(|(name, object)| (name.clone(), of_plugin(name, object))).collect(),
            unreadable_plugins: unknown(&self.unreadable.plugins, plugins),
            unreadable: unknown(&self.unreadable.policies, policies),
            ..ObjectContent::default()
        };
        policies.iter().for_each(|(name, object)| read::add_policy(&mut content, name, object));
        let seen = SeenObjects { plugins: plugins.clone(), policies: policies.clone() };
        self.seen.send_if_modified(|before| {
            let changed = *before != seen;
            *before = seen;
            changed
        });
        if self.last.as_ref() == Some(&content) {
            return None;
        }
        self.last = Some(content.clone());
        Some(Ok(content))
    }
}

/// The objects of each kind that cannot be read, by name, each with the error.
#[derive(Default)]
struct Unreadable {
    plugins: BTreeMap<String, String>,
    policies: BTreeMap<String, String>,
}

/// The objects that can be read, and the former versions of those that cannot be read any more. The schema admits no such
/// objects. Every event lists all of them, so an error is logged when it is new.
fn readable<T>(
    (kind, unreadable): (&str, &mut BTreeMap<String, String>),
    mut former: BTreeMap<String, Arc<T>>,
    objects: BTreeMap<String, Result<Arc<T>, String>>,
) -> BTreeMap<String, Arc<T>> {
    let before = std::mem::take(unreadable);
    let mut known = BTreeMap::new();
    for (name, object) in objects {
        let object = match object {
            Ok(object) => Some(object),
            Err(error) => {
                unreadable.insert(name.clone(), without_position(&error).to_owned());
                former.remove(&name)
            }
        };
        known.extend(object.map(|object| (name, object)));
    }
    for (name, error) in new_errors(&before, unreadable) {
        warn!(kind, name, error, "the object cannot be read");
    }
    known
}

/// The errors that were not there before.
fn new_errors<'a>(
    before: &BTreeMap<String, String>,
    now: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a String, &'a String)> {
    now.iter().filter(|(name, error)| before.get(*name) != Some(*error))
}

/// The error of a parser without the place in the text. Every write of the object moves the place, and does not make
/// another error.
fn without_position(error: &str) -> &str {
    error.rsplit_once(" at line ").map_or(error, |(problem, _)| problem)
}

/// The objects that cannot be read and of which no former version is known.
fn unknown<T>(unreadable: &BTreeMap<String, String>, known: &BTreeMap<String, T>) -> BTreeMap<String, String> {
    let errors = unreadable.iter().filter(|(name, _)| !known.contains_key(*name));
    errors.map(|(name, error)| (name.clone(), error.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn state() -> State {
        let pulls = Pulls::new(Arc::new(Puller::none())).0;
        State::new(Some("paddock".to_owned()), pulls, (watch::Sender::default(), watch::Sender::default()))
    }

    fn fails<T>(message: &str, is_outage: bool) -> Update<T> {
        Update::Fault { message: message.to_owned(), is_outage }
    }

    /// The content after these plugins were listed, and after the ConfigMaps could not be.
    fn without_config_maps(plugins: &[(&str, Value)]) -> Option<Result<ObjectContent, String>> {
        let mut state = state();
        let object = |(name, source): &(&str, Value)| {
            let object = json!({
                "apiVersion": "policy.paddock.dev/v1alpha1", "kind": "SandboxPlugin",
                "metadata": { "name": name, "uid": name }, "spec": { "source": source },
            });
            ((*name).to_owned(), Ok(Arc::new(serde_json::from_value(object).unwrap())))
        };
        assert!(state.take_in(News::Policies(Update::Objects(BTreeMap::new()))).is_none());
        let listed = state.take_in(News::Plugins(Update::Objects(plugins.iter().map(object).collect())));
        state.take_in(News::Components(fails("no right", false))).or(listed)
    }

    #[test]
    fn config_maps_that_cannot_be_read_concern_only_plugins_in_them() {
        let content = without_config_maps(&[]).unwrap().unwrap();
        assert!(content.plugins.is_empty());
        let built_in = ("gentle", json!({ "builtIn": { "name": "idle-timeout" } }));
        let in_a_map = ("mine", json!({ "configMap": { "name": "m", "key": "k.wasm" } }));
        let content = without_config_maps(&[built_in, in_a_map]).unwrap().unwrap();
        assert!(content.plugins["gentle"].component.is_ok());
        let error = content.plugins["mine"].component.as_ref().err().unwrap();
        assert_eq!(error.message, "spec.source.configMap: no right");
    }

    #[test]
    fn kind_whose_watch_fails_for_a_minute_is_published_with_its_first_error_until_it_is_listed() {
        let mut state = state();
        let outages = state.outages.subscribe();
        let is = |state: &mut State, news: News, expected: &[(&'static str, &str)]| {
            state.take_in(news);
            let expected: Outages = expected.iter().map(|(kind, error)| (*kind, (*error).to_owned())).collect();
            assert_eq!(*outages.borrow(), expected);
        };
        is(&mut state, News::Plugins(Update::Objects(BTreeMap::new())), &[]);
        is(&mut state, News::Policies(Update::Objects(BTreeMap::new())), &[]);
        is(&mut state, News::Policies(fails("one", false)), &[]);
        is(&mut state, News::Policies(fails("two", true)), &[(POLICIES, "two")]);
        is(&mut state, News::Policies(fails("three", true)), &[(POLICIES, "two")]);
        is(&mut state, News::Plugins(fails("four", true)), &[(PLUGINS, "four"), (POLICIES, "two")]);
        is(&mut state, News::Policies(Update::Objects(BTreeMap::new())), &[(PLUGINS, "four")]);
        // No plugin is in a ConfigMap, so the operator needs no right to read them.
        is(&mut state, News::Components(fails("five", true)), &[(PLUGINS, "four")]);
        let in_a_map = json!({
            "apiVersion": "policy.paddock.dev/v1alpha1", "kind": "SandboxPlugin", "metadata": { "name": "a", "uid": "a" },
            "spec": { "source": { "configMap": { "name": "m", "key": "k.wasm" } } },
        });
        let listed = BTreeMap::from([("a".to_owned(), Ok(Arc::new(serde_json::from_value(in_a_map).unwrap())))]);
        is(&mut state, News::Plugins(Update::Objects(listed)), &[(CONFIG_MAPS, "five")]);
    }

    #[test]
    fn policy_that_cannot_be_read_is_the_former_version_or_fails() {
        let policy = json!({
            "apiVersion": "policy.paddock.dev/v1alpha1", "kind": "SandboxPolicy",
            "metadata": { "name": "a", "uid": "a" }, "spec": { "plugin": "p", "hook": "idle" },
        });
        let readable = Ok(Arc::new(serde_json::from_value(policy).unwrap()));
        let unreadable = Err("too deep".to_owned());
        let listed = |policies: &[(&str, &Result<Arc<SandboxPolicy>, String>)]| {
            News::Policies(Update::Objects(
                policies.iter().map(|(name, of)| ((*name).to_owned(), (*of).clone())).collect(),
            ))
        };
        let mut state = state();
        assert!(state.take_in(News::Plugins(Update::Objects(BTreeMap::new()))).is_none());
        state.take_in(listed(&[("a", &readable)])).unwrap().unwrap();
        let content = state.take_in(listed(&[("a", &unreadable), ("b", &unreadable)])).unwrap().unwrap();
        assert_eq!(content.policies.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(content.unreadable, BTreeMap::from([("b".to_owned(), "too deep".to_owned())]));
        let content = state.take_in(listed(&[("b", &readable)])).unwrap().unwrap();
        assert_eq!((content.policies.len(), content.unreadable.len()), (1, 0));
    }

    #[test]
    fn plugin_that_cannot_be_read_is_the_former_version_or_has_a_reason() {
        let plugin = json!({
            "apiVersion": "policy.paddock.dev/v1alpha1", "kind": "SandboxPlugin",
            "metadata": { "name": "a", "uid": "a" }, "spec": { "source": { "builtIn": { "name": "idle-timeout" } } },
        });
        let readable: Result<Arc<SandboxPlugin>, String> = Ok(Arc::new(serde_json::from_value(plugin).unwrap()));
        let unreadable = |place: &str| Err(format!("unknown field `sauce` at line 1 column {place}"));
        let listed = |of: &[(&str, Result<Arc<SandboxPlugin>, String>)]| {
            News::Plugins(Update::Objects(of.iter().map(|(name, of)| ((*name).to_owned(), of.clone())).collect()))
        };
        let mut state = state();
        assert!(state.take_in(News::Policies(Update::Objects(BTreeMap::new()))).is_none());
        state.take_in(listed(&[("a", readable)])).unwrap().unwrap();
        let content = state.take_in(listed(&[("a", unreadable("7")), ("b", unreadable("7"))])).unwrap().unwrap();
        assert_eq!(content.plugins.keys().collect::<Vec<_>>(), ["a"]);
        let expected = BTreeMap::from([("b".to_owned(), "unknown field `sauce`".to_owned())]);
        assert_eq!(content.unreadable_plugins, expected);
        // Another write of the object moves the place of the error, and changes nothing.
        assert_eq!(state.take_in(listed(&[("a", unreadable("99")), ("b", unreadable("99"))])), None);
    }

    /// Every event lists all objects.
    #[test]
    fn error_of_an_object_is_new_once() {
        let mut unreadable = BTreeMap::new();
        for (error, is_new) in
            [("deep at line 1 column 2", true), ("deep at line 1 column 3", false), ("odd", true), ("odd", false)]
        {
            let before = unreadable.clone();
            let objects: BTreeMap<_, Result<Arc<SandboxPolicy>, _>> = [("a".to_owned(), Err(error.to_owned()))].into();
            let known = readable(("SandboxPolicy", &mut unreadable), BTreeMap::new(), objects);
            assert!(known.is_empty());
            assert_eq!(new_errors(&before, &unreadable).count(), usize::from(is_new), "{error}");
        }
    }
}
