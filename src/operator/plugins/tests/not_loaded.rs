//! Plugins that are configured and not loaded, at the start of an operator and after a restart of its container.

use paddock_core::binding::Binding;

use super::*;
use crate::plugins::cache::PluginCache;
use crate::plugins::loader::PluginState;

/// The settings of a guard that denies in some namespaces.
const GUARD: &str = "hooks: [admission]\nkinds: [Sandbox]\nfailurePolicy: Fail\n\
                     namespaceSelector: {matchLabels: {team: research}}\nsettings: {mode: behave}\n";

impl World {
    /// The same directory, as an operator sees it that starts now.
    fn restarted(mut self, cache: Option<&Path>) -> Self {
        self.host = Arc::new(Host::new(HostConfig::default()).unwrap());
        let cache = cache.map(|dir| PluginCache::open(dir.to_owned()));
        self.loader = Loader::new(Arc::clone(&self.host), cache).unwrap();
        let largest = self.host.config().component_bytes as u64;
        self.source = DirectorySource::new(self.dir.path().to_owned(), Duration::from_secs(1), largest);
        self
    }

    /// The bindings of plugins that are not loaded.
    fn failing(&self) -> Vec<Binding> {
        self.loader.bindings().iter().filter(|binding| binding.not_loaded.is_some()).cloned().collect()
    }
}

fn hooks(bindings: &[Binding]) -> Vec<Hook> {
    let mut hooks: Vec<_> = bindings.iter().map(|binding| binding.hook).collect();
    hooks.sort_unstable();
    hooks
}

/// The component, the configuration, the hooks that fail, and whether the configuration limits them to a namespace.
type Case<'a> = (Option<&'a [u8]>, Option<String>, &'a [Hook], bool);

/// Whatever is wrong with the files at the start, the plugin is a binding that fails, with the scope that can be read.
#[test]
fn every_fault_at_the_start_leaves_a_failing_binding() {
    let half = &MISBEHAVE[..MISBEHAVE.len() / 2];
    let all = Hook::ALL.to_vec();
    let admission = vec![Hook::Admission];
    let cases: [Case<'_>; 10] = [
        (Some(b"rubbish"), Some(GUARD.to_owned()), &admission, true),
        (Some(half), Some(GUARD.to_owned()), &admission, true),
        (Some(ASK_FOR_WASI), Some(GUARD.to_owned()), &admission, true),
        (Some(MISBEHAVE), Some(GUARD.replace("mode", "moed")), &admission, true),
        (Some(MISBEHAVE), Some(format!("{GUARD}colour: red\n")), &admission, true),
        (Some(MISBEHAVE), Some(format!("{GUARD}limits: {{memory: lots}}\n")), &admission, true),
        (Some(MISBEHAVE), Some(GUARD.replace("namespaceSelector", "namspaceSelector")), &admission, false),
        (Some(MISBEHAVE), Some("{".to_owned()), &all, false),
        (Some(half), None, &all, false),
        (None, Some(GUARD.to_owned()), &admission, true),
    ];
    for (component, config, expected, limited) in cases {
        let mut world = World::new();
        if let Some(component) = component {
            world.write("guard.wasm", component);
        }
        if let Some(config) = &config {
            world.write("guard.yaml", config);
        }
        world.look();
        let failing = world.failing();
        assert_eq!(hooks(&failing), expected, "{config:?}");
        assert_eq!(world.status("guard").state, PluginState::NotLoaded, "{config:?}");
        for binding in failing {
            assert_eq!(binding.plugin.name, "guard");
            assert_eq!(binding.namespaces.match_labels.contains_key("team"), limited, "{config:?}");
            let denies = matches!(binding.hook, Hook::Admission | Hook::RuntimeClass);
            let policy = if denies { FailurePolicy::Fail } else { FailurePolicy::Fallback };
            assert_eq!(binding.failure_policy, policy, "{config:?}");
        }
        world.write("guard.wasm", MISBEHAVE).write("guard.yaml", GUARD).look();
        assert_eq!((world.failing().len(), world.status("guard").state), (0, PluginState::Loaded), "it heals");
    }
}

#[test]
fn yaml_that_is_no_configuration_and_has_no_component_is_not_used() {
    let mut world = World::new();
    world.write("kustomization.yaml", "resources: [a]").look();
    assert_eq!((world.failing().len(), world.status("kustomization").state), (0, PluginState::Ignored));
}

#[test]
fn directory_that_was_never_read_fails_every_hook_by_its_default() {
    let mut world = World::new();
    let (dir, away) = (world.dir.path().to_owned(), world.dir.path().with_extension("away"));
    fs::rename(&dir, &away).unwrap();
    world.look();
    assert_eq!(hooks(&world.failing()), Hook::ALL);
    assert_eq!(world.status("--plugin-dir").state, PluginState::NotLoaded);
    for binding in world.failing() {
        assert_eq!(binding.failure_policy, FailurePolicy::default_of(binding.hook));
    }
    fs::rename(&away, &dir).unwrap();
    world.look();
    assert_eq!(world.failing(), []);
}

#[test]
fn component_that_is_removed_while_its_configuration_stays_fails_by_its_policy() {
    let mut world = World::new();
    world.write("guard.wasm", MISBEHAVE).write("guard.yaml", GUARD).look();
    assert_eq!(world.first(Hook::Admission).name, "guard/admission");
    world.remove("guard.wasm").look();
    assert_eq!(hooks(&world.failing()), [Hook::Admission]);
    world.remove("guard.yaml").look();
    assert!(world.failing().is_empty() && world.first(Hook::Admission).built_in);
}

#[test]
fn new_plugin_fails_when_its_files_have_stopped_changing() {
    let mut world = World::new();
    world.look();
    world.write("guard.yaml", GUARD).write("guard.wasm", &MISBEHAVE[..1000]).look();
    assert!(world.failing().is_empty(), "the file may still be copied");
    assert_eq!(world.status("guard").state, PluginState::NotLoaded);
    world.look();
    assert_eq!(hooks(&world.failing()), [Hook::Admission]);
}

#[test]
fn last_good_version_survives_a_restart() {
    let cache = TempDir::new().unwrap();
    let mut world = World::new().restarted(Some(cache.path()));
    world.write("guard.wasm", MISBEHAVE).write("guard.yaml", GUARD).look();
    let good = world.first(Hook::Admission);
    for (component, config) in [
        (&b"rubbish"[..], GUARD.to_owned()),
        (MISBEHAVE, GUARD.replace("mode", "moed")),
        (MISBEHAVE, "{".to_owned()),
        (ASK_FOR_WASI, GUARD.replace("research", "nobody")),
    ] {
        world = world.restarted(Some(cache.path()));
        world.write("guard.wasm", component).write("guard.yaml", &config).look();
        assert_eq!(world.first(Hook::Admission), good, "component and configuration together: {config}");
        assert_eq!(world.status("guard").state, PluginState::FormerVersion);
        assert!(world.failing().is_empty());
    }
    // A restart without the cache has no good version.
    world = world.restarted(None);
    world.look();
    assert_eq!(world.status("guard").state, PluginState::NotLoaded);
}

#[test]
fn directory_that_is_missing_after_a_restart_leaves_the_last_good_plugins() {
    let cache = TempDir::new().unwrap();
    let mut world = World::new().restarted(Some(cache.path()));
    world.write("guard.wasm", MISBEHAVE).write("guard.yaml", GUARD).look();
    let good = world.first(Hook::Admission);
    let (dir, away) = (world.dir.path().to_owned(), world.dir.path().with_extension("away"));
    fs::rename(&dir, &away).unwrap();
    world = world.restarted(Some(cache.path()));
    world.look();
    assert_eq!((world.first(Hook::Admission), world.failing()), (good, vec![]));
    fs::rename(&away, &dir).unwrap();
    world.look();
    assert_eq!(world.status("guard").state, PluginState::Loaded);
}

/// The cache gives nothing that was not the last good version of that name.
#[test]
fn cache_gives_only_what_was_last_good() {
    let cache = TempDir::new().unwrap();
    let mut world = World::new().restarted(Some(cache.path()));
    world.write("guard.wasm", MISBEHAVE).write("guard.yaml", GUARD).look();
    let components = || {
        let files = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "wasm")).collect::<Vec<_>>()
    };
    assert_eq!(components().len(), 1);
    // A newer good version replaces the older one, whose component is removed.
    world.write("guard.wasm", POOL_FIXED).write("guard.yaml", "settings: {desired: 7}").look();
    assert_eq!(components().len(), 1);
    world.write("guard.wasm", b"rubbish");
    world = world.restarted(Some(cache.path()));
    assert_eq!(world.look().size(), 7);
    // Bytes that changed in the cache are not loaded.
    fs::write(&components()[0], MISBEHAVE).unwrap();
    world = world.restarted(Some(cache.path()));
    world.look();
    assert_eq!(world.status("guard").state, PluginState::NotLoaded);
    // A plugin that was removed does not come back under its name.
    world.write("guard.wasm", POOL_FIXED).look().remove("guard.wasm").remove("guard.yaml").look();
    assert_eq!(components().len(), 0);
    world.write("guard.wasm", b"rubbish");
    world = world.restarted(Some(cache.path()));
    world.look();
    assert_eq!(world.status("guard").state, PluginState::NotLoaded);
    // An index that cannot be read is an empty cache.
    fs::write(cache.path().join("index.json"), "{").unwrap();
    world.write("guard.wasm", POOL_FIXED).look();
    assert_eq!(world.restarted(Some(cache.path())).look().status("guard").state, PluginState::Loaded);
}
