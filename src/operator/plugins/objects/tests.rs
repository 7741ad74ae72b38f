//! SandboxPlugins and SandboxPolicies that appear, change, break and disappear.

mod images;
mod pins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use paddock_core::binding::{Binding, Mode};
use paddock_core::isolation::HostAccess;
use paddock_core::question::{Caller, Hook, PluginRef};
use paddock_guests::{ALLOWED_IMAGES, ASK_FOR_WASI, POOL_FIXED};
use paddock_plugin_host::{Host, HostConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::read::{self, Components, Known};
use super::{BoundState, Component, Fault, FaultReason, Image, LoadedState, ObjectContent};
use crate::limits::REPLACED_PLUGIN_LIFETIME as KEEP;
use crate::plugins::loader::PluginState;
use crate::plugins::registry::Pulled;
use crate::plugins::source::{Content, File, PluginFiles, SourceContent};
use crate::plugins::sources::Loaders;

/// The objects of a cluster, and the plugins that a replica makes of them.
struct World {
    host: Arc<Host>,
    loaders: Loaders,
    plugins: BTreeMap<String, Value>,
    policies: BTreeMap<String, Value>,
    maps: BTreeMap<String, Components>,
    /// The SandboxPlugins that cannot be read, each with the error.
    unreadable: BTreeMap<String, String>,
    /// The number of times that the objects were made again.
    incarnation: u32,
    pulled: BTreeMap<String, Pulled>,
    now: Instant,
}

fn content(bytes: &[u8]) -> Content {
    Content::of(bytes)
}

impl World {
    fn new() -> Self {
        Self::with_cache(None)
    }

    fn with_cache(cache: Option<&TempDir>) -> Self {
        let host = Arc::new(Host::new(HostConfig::default()).unwrap());
        let loaders = Loaders::new(Arc::clone(&host), cache.map(|dir| dir.path().to_owned())).unwrap();
        let (plugins, policies, maps, unreadable, pulled) = Default::default();
        Self { host, loaders, plugins, policies, maps, unreadable, incarnation: 0, pulled, now: Instant::now() }
    }

    /// A SandboxPlugin `NAME`, whose component is in the ConfigMap `NAME`.
    fn plugin(&mut self, name: &str, component: &[u8]) -> &mut Self {
        self.maps.insert(name.to_owned(), Arc::new([("c.wasm".to_owned(), content(component))].into()));
        let spec = json!({ "source": { "configMap": { "name": name, "key": "c.wasm" } } });
        self.plugins.entry(name.to_owned()).or_insert(spec);
        self
    }

    fn policy(&mut self, name: &str, spec: Value) -> &mut Self {
        self.policies.insert(name.to_owned(), spec);
        self
    }

    fn look(&mut self) -> &mut Self {
        self.now += Duration::from_secs(1);
        let object = |name: &String, uid: String, spec: &Value| {
            let metadata = json!({ "name": name, "uid": uid, "generation": 1 });
            json!({ "metadata": metadata, "spec": spec })
        };
        let plugins = self.plugins.iter().map(|(name, spec)| {
            let uid = format!("uid-{name}-{}", self.incarnation);
            let plugin = serde_json::from_value(object(name, uid, spec)).unwrap();
            let known = Known { namespace: Some("sys"), maps: Ok(&self.maps), pulled: self.pulled.get(name) };
            (name.clone(), read::plugin(&plugin, &known))
        });
        let mut content = ObjectContent {
            plugins: plugins.collect(),
            unreadable_plugins: self.unreadable.clone(),
            ..ObjectContent::default()
        };
        for (name, spec) in &self.policies {
            let policy = serde_json::from_value(object(name, format!("uid-{name}"), spec)).unwrap();
            read::add_policy(&mut content, name, &policy);
        }
        self.loaders.apply_objects(Ok(content), self.now);
        self
    }

    fn bindings(&self, hook: Hook) -> Vec<Binding> {
        self.loaders.bindings().iter().filter(|binding| binding.hook == hook).cloned().collect()
    }

    fn names(&self, hook: Hook) -> Vec<String> {
        self.bindings(hook).into_iter().map(|binding| binding.name).collect()
    }

    fn loaded(&self, name: &str) -> LoadedState {
        self.loaders.states().plugins[name].clone()
    }

    fn bound(&self, name: &str) -> BoundState {
        self.loaders.states().policies[name].clone()
    }

    fn is_loaded(&self, plugin: &PluginRef) -> bool {
        let loaded: BTreeSet<PluginRef> =
            self.host.plugins(jiff::Timestamp::UNIX_EPOCH).into_iter().map(|report| report.plugin.plugin).collect();
        loaded.contains(plugin)
    }
}

fn fixed(plugin: &str, desired: u32) -> Value {
    json!({ "plugin": plugin, "hook": "pool-size", "settings": { "desired": desired } })
}

fn images(settings: Value) -> Value {
    json!({ "plugin": "images", "hook": "admission", "settings": settings })
}

#[test]
fn plugin_alone_is_loaded_and_decides_nothing_until_a_policy_binds_it() {
    let mut world = World::new();
    world.plugin("fixed", POOL_FIXED).look();
    let loaded = world.loaded("fixed");
    assert!(loaded.digest.is_some() && loaded.fault.is_none(), "{loaded:?}");
    assert_eq!((loaded.hooks, loaded.wit_version.as_deref()), (vec![Hook::PoolSize], Some("0.2.0")));
    assert_eq!(world.names(Hook::PoolSize), ["pool-by-demand/pool-size"]);
    world.policy("three", fixed("fixed", 3)).look();
    let first = &world.bindings(Hook::PoolSize)[0];
    assert_eq!((first.name.as_str(), first.settings.as_str()), ("SandboxPolicy/three", r#"{"desired":3}"#));
    assert_eq!((first.order, first.mode), (0, Mode::Enforce));
    world.policies.clear();
    assert_eq!(world.look().names(Hook::PoolSize), ["pool-by-demand/pool-size"]);
}

#[test]
fn policies_of_a_hook_are_asked_by_their_order() {
    let mut world = World::new();
    world.plugin("fixed", POOL_FIXED);
    for (name, order) in [("late", 5), ("b", 0), ("a", 0), ("first", -1)] {
        let mut spec = fixed("fixed", 1);
        spec["order"] = order.into();
        spec["namespaceSelector"] = json!({ "matchLabels": { "team": name } });
        world.policy(name, spec);
    }
    let names = world.look().names(Hook::PoolSize);
    let expected = ["first", "a", "b", "late"].map(|name| format!("SandboxPolicy/{name}"));
    assert_eq!(names[..4], expected);
    assert_eq!(world.bindings(Hook::PoolSize)[0].namespaces.match_labels["team"], "first");
}

#[test]
fn broken_component_does_not_replace_a_good_one() {
    let mut world = World::new();
    world.plugin("fixed", POOL_FIXED).policy("three", fixed("fixed", 3)).look();
    let good = world.loaded("fixed").digest;
    for bad in [b"not a component".as_slice(), ASK_FOR_WASI] {
        let loaded = world.plugin("fixed", bad).look().loaded("fixed");
        assert_eq!(loaded.digest, good);
        assert_eq!(loaded.fault.unwrap().reason, FaultReason::LoadFailed);
        assert_eq!(world.bound("three"), BoundState { digest: good.clone(), ..world.bound("three") });
        assert!(world.bindings(Hook::PoolSize)[0].not_loaded.is_none());
    }
    world.maps.clear();
    let loaded = world.look().loaded("fixed");
    assert_eq!((loaded.digest, loaded.fault.map(|fault| fault.reason)), (good, Some(FaultReason::SourceNotFound)));
    let status = world.loaders.status().into_iter().find(|status| status.name == "fixed").unwrap();
    assert_eq!(status.state, PluginState::FormerVersion);
}

#[test]
fn policy_without_a_plugin_fails_by_its_policy() {
    let mut world = World::new();
    let mut spec = images(json!({ "registries": ["ghcr.io"] }));
    spec["failurePolicy"] = "Fail".into();
    spec["kinds"] = json!(["Sandbox"]);
    world.policy("guard", spec).look();
    let first = world.bindings(Hook::Admission).remove(0);
    assert!(first.not_loaded.is_some_and(|error| error.contains("there is no SandboxPlugin images")));
    assert_eq!((first.kinds, first.failure_policy.as_str()), (vec!["Sandbox".to_owned()], "Fail"));
    assert_eq!(world.bound("guard").fault.unwrap().reason, FaultReason::PluginNotFound);
    world.plugin("images", b"broken").look();
    assert_eq!(world.bound("guard").fault.unwrap().reason, FaultReason::PluginNotLoaded);
    let status = world.loaders.status().into_iter().find(|status| status.name == "SandboxPolicy/guard").unwrap();
    assert_eq!((status.state, status.hooks), (PluginState::NotLoaded, vec![Hook::Admission]));
    world.plugin("images", ALLOWED_IMAGES).look();
    assert_eq!((world.bound("guard").fault, world.bound("guard").digest.is_some()), (None, true));
    // The plugin is removed: no version of the policy stays in force.
    world.plugins.clear();
    assert!(world.look().bindings(Hook::Admission)[0].not_loaded.is_some());
}

#[test]
fn wrong_settings_keep_the_last_good_version_and_name_the_field() {
    let mut world = World::new();
    world.plugin("images", ALLOWED_IMAGES).policy("guard", images(json!({ "registries": ["ghcr.io"] }))).look();
    let good = world.bindings(Hook::Admission)[0].clone();
    world.policy("guard", images(json!({ "registries": ["ghcr.io", ""] }))).look();
    let fault = world.bound("guard").fault.unwrap();
    assert_eq!(fault.reason, FaultReason::InvalidSettings);
    assert!(fault.message.starts_with("spec.settings.registries[1]: must be"), "{}", fault.message);
    assert_eq!(world.bindings(Hook::Admission)[0], good);
    // A policy that never had a good version fails.
    world.policy("other", images(json!({}))).look();
    assert!(world.bindings(Hook::Admission).iter().any(|binding| binding.not_loaded.is_some()));
    let mut wrong = images(json!({}));
    wrong["hook"] = "idle".into();
    world.policy("other", wrong).look();
    let fault = world.bound("other").fault.unwrap();
    assert_eq!(fault.reason, FaultReason::HookNotExported);
    assert!(fault.message.ends_with("does not export idle; it exports admission"), "{}", fault.message);
}

#[test]
fn component_with_another_digest_than_the_spec_is_refused() {
    let mut world = World::new();
    world.plugin("fixed", POOL_FIXED).policy("three", fixed("fixed", 3));
    world.plugins.get_mut("fixed").unwrap()["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    let loaded = world.look().loaded("fixed");
    assert_eq!((loaded.digest, loaded.fault.map(|fault| fault.reason)), (None, Some(FaultReason::DigestMismatch)));
    assert!(world.bindings(Hook::PoolSize)[0].not_loaded.is_some());
    world.plugins.get_mut("fixed").unwrap()["digest"] = json!(paddock_plugin_host::digest(POOL_FIXED));
    assert!(world.look().loaded("fixed").fault.is_none());
}

#[test]
fn built_in_is_bound_with_other_settings() {
    let mut world = World::new();
    world.plugins.insert("idle".to_owned(), json!({ "source": { "builtIn": { "name": "idle-timeout" } } }));
    let settings = json!({ "tiers": ["throttle", "suspend"] });
    world.policy("gentle", json!({ "plugin": "idle", "hook": "idle", "settings": settings })).look();
    assert_eq!(world.names(Hook::Idle), ["SandboxPolicy/gentle", "idle-timeout/idle"]);
    assert!(world.bound("gentle").fault.is_none(), "{:?}", world.bound("gentle"));
    world.plugins.insert("idle-timeout".to_owned(), json!({ "source": { "builtIn": { "name": "idle-timeout" } } }));
    world.plugins.insert("other".to_owned(), json!({ "source": { "builtIn": { "name": "idel" } } }));
    let loaded = world.look().loaded("idle-timeout");
    assert_eq!(loaded.fault.unwrap().reason, FaultReason::NameTaken);
    let fault = world.loaded("other").fault.unwrap();
    assert!(fault.message.contains("must be one of") && fault.message.contains("idle-timeout"), "{}", fault.message);
}

#[test]
fn built_in_that_is_no_default_decides_where_a_policy_binds_it() {
    let mut world = World::new();
    assert_eq!(world.look().names(Hook::PoolSize), ["pool-by-demand/pool-size"]);
    world.plugins.insert("seasonal".to_owned(), json!({ "source": { "builtIn": { "name": "pool-seasonal" } } }));
    let policy = json!({ "plugin": "seasonal", "hook": "pool-size", "settings": { "hitRate": 0.995 } });
    world.policy("office", policy).look();
    assert_eq!(world.names(Hook::PoolSize), ["SandboxPolicy/office", "pool-by-demand/pool-size"]);
    assert!(world.bound("office").fault.is_none(), "{:?}", world.bound("office"));
}

#[test]
fn plugin_of_the_directory_takes_its_name_from_an_object() {
    let mut world = World::new();
    world.plugin("fixed", POOL_FIXED).policy("three", fixed("fixed", 3)).look();
    let file = |bytes: &[u8]| Some(File { location: "fixed.wasm".to_owned(), content: Ok(content(bytes)) });
    let files = |plugins| Ok(SourceContent { plugins, ignored: vec![] });
    let of_directory = PluginFiles { component: file(POOL_FIXED), config: None };
    world.loaders.apply_files(files([("fixed".to_owned(), of_directory)].into()), world.now);
    assert_eq!(world.loaded("fixed").fault.unwrap().reason, FaultReason::NameTaken);
    let all = world.bindings(Hook::PoolSize);
    assert!(all.iter().any(|binding| binding.name == "SandboxPolicy/three" && binding.not_loaded.is_some()));
    let plugin = all.iter().find(|binding| binding.name == "fixed/pool-size").unwrap().plugin.clone();
    // Both have the same name and bytes. The component stays loaded for as long as one of them uses it.
    world.loaders.apply_files(files(BTreeMap::new()), world.now);
    assert!(world.loaded("fixed").fault.is_none());
    world.loaders.pass_time(world.now + KEEP * 2);
    assert!(world.is_loaded(&plugin));
    world.policies.clear();
    world.plugins.clear();
    world.look();
    world.loaders.pass_time(world.now + KEEP * 2);
    assert!(!world.is_loaded(&plugin));
}

#[test]
fn former_component_stays_loaded_for_a_policy_that_the_new_one_refuses() {
    let mut world = World::new();
    world.plugin("p", POOL_FIXED).policy("three", fixed("p", 3)).look();
    let former = world.bindings(Hook::PoolSize)[0].plugin.clone();
    // The new component does not export the hook of the policy.
    world.plugin("p", ALLOWED_IMAGES).look();
    assert_eq!(world.bound("three").fault.unwrap().reason, FaultReason::HookNotExported);
    assert_eq!(world.bindings(Hook::PoolSize)[0].plugin, former);
    world.loaders.pass_time(world.now + KEEP * 2);
    assert!(world.is_loaded(&former));
}

#[test]
fn last_good_component_survives_a_restart_unless_the_spec_names_another_digest() {
    let cache = TempDir::new().unwrap();
    World::with_cache(Some(&cache)).plugin("fixed", POOL_FIXED).look();
    for (digest, restored) in [
        (Value::Null, true),
        (json!(paddock_plugin_host::digest(POOL_FIXED)), true),
        (json!(format!("sha256:{}", "0".repeat(64))), false),
    ] {
        let mut world = World::with_cache(Some(&cache));
        world.plugin("fixed", b"broken");
        if digest.is_string() {
            world.plugins.get_mut("fixed").unwrap()["digest"] = digest.clone();
        }
        let loaded = world.look().loaded("fixed");
        assert_eq!((loaded.digest.is_some(), loaded.fault.is_some()), (restored, true), "{digest}");
    }
}

/// Somebody deletes a SandboxPlugin and makes another one of its name. Its component is another one too, even if it is
/// broken.
#[test]
fn plugin_of_the_same_name_gets_no_component_of_its_predecessor() {
    let cache = TempDir::new().unwrap();
    let mut world = World::with_cache(Some(&cache));
    world.plugin("fixed", POOL_FIXED).policy("three", fixed("fixed", 3)).look();
    assert!(world.bound("three").digest.is_some());
    // The watch may show only the new object.
    world.incarnation += 1;
    world.plugin("fixed", b"broken").look();
    assert_eq!((world.loaded("fixed").digest, world.bound("three").digest), (None, None));
    assert!(world.bindings(Hook::PoolSize)[0].not_loaded.is_some());
    // A component without the hook of the policy does not leave the former component in force either.
    world.plugin("fixed", POOL_FIXED).look();
    assert!(world.bound("three").fault.is_none());
    world.incarnation += 1;
    world.plugin("fixed", ALLOWED_IMAGES).look();
    assert_eq!(world.bound("three").digest, None);
    // After a restart of the container, the cache has the component of the former object.
    let mut world = World::with_cache(Some(&cache));
    world.incarnation = 9;
    world.plugin("fixed", b"broken").look();
    assert_eq!(world.loaded("fixed").digest, None);
}

#[test]
fn policy_of_a_plugin_that_cannot_be_read_says_so() {
    let mut world = World::new();
    world.unreadable.insert("images".to_owned(), "unknown field `sauce`".to_owned());
    world.policy("guard", images(json!({ "registries": ["ghcr.io"] }))).look();
    let fault = world.bound("guard").fault.unwrap();
    assert_eq!(fault.reason, FaultReason::PluginNotLoaded);
    assert_eq!(fault.message, "spec.plugin: SandboxPlugin images cannot be read: unknown field `sauce`");
    world.unreadable.clear();
    assert_eq!(world.look().bound("guard").fault.unwrap().reason, FaultReason::PluginNotFound);
}

/// Every change of the bindings queues every object.
#[test]
fn other_error_of_unread_objects_changes_no_binding() {
    let mut world = World::new();
    world.loaders.apply_objects(Err("timeout 1".to_owned()), world.now);
    let bindings = world.loaders.bindings();
    world.loaders.apply_objects(Err("timeout 2".to_owned()), world.now);
    assert_eq!(world.loaders.bindings(), bindings);
    let shown = world.loaders.status().into_iter().find(|status| status.name == "SandboxPolicies").unwrap();
    assert_eq!(shown.error.as_deref(), Some("timeout 2"));
}

#[test]
fn objects_that_were_never_read_let_every_hook_fail_and_later_errors_change_nothing() {
    let mut world = World::new();
    world.loaders.apply_objects(Err("sandboxpolicies cannot be watched: 403".to_owned()), world.now);
    for hook in Hook::ALL {
        assert!(world.bindings(hook)[0].not_loaded.is_some(), "{}", hook.as_str());
    }
    world.plugin("fixed", POOL_FIXED).policy("three", fixed("fixed", 3)).look();
    let names = world.names(Hook::PoolSize);
    assert_eq!(names, ["SandboxPolicy/three", "pool-by-demand/pool-size"]);
    world.loaders.apply_objects(Err("timeout".to_owned()), world.now);
    assert_eq!(world.names(Hook::PoolSize), names);
}

#[test]
fn rules_about_isolation_are_in_force_until_the_policy_is_removed() {
    let mut world = World::new();
    let rules = |world: &World| -> Vec<(String, Vec<&'static str>)> {
        let rules = world.loaders.bindings().isolation().to_vec();
        rules.into_iter().map(|rule| (rule.policy, rule.allow.iter().map(HostAccess::as_str).collect())).collect()
    };
    assert_eq!(rules(&world), []);
    let open = |fields: &[&str]| {
        let selector = json!({ "matchLabels": { "team": "red" } });
        json!({ "namespaceSelector": selector, "isolation": { "allow": fields } })
    };
    let before = world.policy("open", open(&["hostPath"])).look().bound("open");
    assert_eq!(rules(&world), [("open".to_owned(), vec!["hostPath"])]);
    assert!(before.fault.is_none() && before.uid == "uid-open", "{before:?}");
    assert!(before.digest.as_ref().is_some_and(|digest| digest.len() == "sha256:".len() + 64), "{before:?}");
    let after = world.policy("open", open(&["hostPath", "hostPID"])).look().bound("open");
    assert_eq!(rules(&world), [("open".to_owned(), vec!["hostPath", "hostPID"])]);
    assert_ne!(before.digest, after.digest, "the replicas that know the new rules are told apart");
    assert!(world.bindings(Hook::Admission).iter().all(|binding| binding.built_in), "no plugin is asked");
    world.loaders.apply_objects(Err("timeout".to_owned()), world.now);
    assert_eq!(rules(&world).len(), 1, "the rules that are known stay in force");
    world.policies.clear();
    assert_eq!(rules(world.look()), []);
}

/// The schema refuses such policies. They could be about any hook.
#[test]
fn policy_of_no_form_allows_nothing_and_lets_every_hook_fail() {
    let isolation = json!({ "allow": ["hostPath"] });
    for spec in [
        json!({ "plugin": "p", "hook": "idle", "isolation": isolation }),
        json!({ "hook": "idle", "isolation": isolation }),
        json!({ "plugin": "p" }),
        json!({}),
    ] {
        let mut world = World::new();
        world.policy("odd", spec.clone()).look();
        assert!(world.loaders.bindings().isolation().is_empty(), "{spec}");
        for hook in Hook::ALL {
            assert!(world.bindings(hook)[0].not_loaded.is_some(), "{spec}: {}", hook.as_str());
        }
    }
}

#[test]
fn check_of_a_policy_names_the_field_and_asks_only_loaded_plugins() {
    let mut world = World::new();
    world.plugin("images", ALLOWED_IMAGES).look();
    let check = world.loaders.policy_check(Arc::clone(&world.host));
    let checked = |spec: Value| check(&json!({ "spec": spec }), Caller::Verified);
    assert_eq!(checked(images(json!({ "registries": ["ghcr.io"] }))), Ok(None));
    let cause = checked(images(json!({ "registeries": ["ghcr.io"] }))).unwrap_err();
    assert_eq!(cause.field, "spec.settings.registeries");
    assert!(cause.message.contains("unknown field"), "{}", cause.message);
    let mut other = images(json!({ "registries": ["ghcr.io"] }));
    other["hook"] = "idle".into();
    assert_eq!(checked(other).unwrap_err().field, "spec.hook");
    let mut selected = images(json!({ "registries": ["ghcr.io"] }));
    selected["objectSelector"] = json!({ "matchExpressions": [{ "key": "a", "operator": "In" }] });
    assert_eq!(checked(selected).unwrap_err().field, "spec.objectSelector.matchExpressions[0].values");
    assert_eq!(checked(json!({ "isolation": { "allow": ["hostPath"] } })), Ok(None), "no plugin knows these rules");
    let mut absent = images(json!({ "any": 1 }));
    absent["plugin"] = "absent".into();
    assert!(checked(absent).unwrap().is_some_and(|warning| warning.contains("absent")));
}
