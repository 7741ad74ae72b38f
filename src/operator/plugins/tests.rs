//! The plugin directory, changed in the ways of users and of Kubernetes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, stream};
use jiff::Timestamp;
use paddock_core::binding::{Binding, FailurePolicy};
use paddock_core::object::TextMap;
use paddock_core::question::{Answer, Caller, FailureKind, Hook, PluginRequest, PoolSizeQuestion, Question};
use paddock_guests::{ASK_FOR_WASI, MISBEHAVE, POOL_FIXED};
use paddock_plugin_host::{Host, HostConfig};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::directory::DirectorySource;
use super::loader::Loader;
use super::source::{Content, File, PluginFiles, PluginSource, SourceContent, SourceError};
use super::{PluginStatus, Sources, start};
use crate::limits::REPLACED_PLUGIN_LIFETIME as KEEP;

mod not_loaded;

/// A host, a directory, and the plugins from it.
struct World {
    host: Arc<Host>,
    dir: TempDir,
    source: DirectorySource,
    loader: Loader,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let host = Arc::new(Host::new(HostConfig::default()).unwrap());
        let dir = TempDir::new().unwrap();
        let largest = host.config().component_bytes as u64;
        let source = DirectorySource::new(dir.path().to_owned(), Duration::from_secs(1), largest);
        let loader = Loader::new(Arc::clone(&host), None).unwrap();
        Self { host, dir, source, loader, now: Instant::now() }
    }

    fn write(&mut self, name: &str, content: impl AsRef<[u8]>) -> &mut Self {
        fs::write(self.dir.path().join(name), content).unwrap();
        self
    }

    fn remove(&mut self, name: &str) -> &mut Self {
        fs::remove_file(self.dir.path().join(name)).unwrap();
        self
    }

    fn look(&mut self) -> &mut Self {
        self.now += Duration::from_secs(1);
        self.loader.apply(self.source.read(), self.now);
        self
    }

    /// The names of the bindings of a hook, in the order of asking.
    fn bound(&self, hook: Hook) -> Vec<String> {
        self.loader.bindings().iter().filter(|b| b.hook == hook).map(|b| b.name.clone()).collect()
    }

    fn first(&self, hook: Hook) -> Binding {
        self.loader.bindings().iter().find(|b| b.hook == hook).unwrap().clone()
    }

    /// The size that the first plugin of the hook `pool-size` returns.
    fn size(&self) -> u32 {
        let binding = self.first(Hook::PoolSize);
        let answer = self.host.ask(&ask(&binding), Timestamp::UNIX_EPOCH).unwrap();
        let Answer::PoolSize(answer) = answer else { panic!("{answer:?}") };
        answer.desired
    }

    fn status(&self, name: &str) -> PluginStatus {
        self.loader.status().into_iter().find(|status| status.name == name).unwrap()
    }

    fn error(&self, name: &str) -> String {
        self.status(name).error.unwrap_or_default()
    }
}

fn ask(binding: &Binding) -> PluginRequest {
    binding.request(Question::PoolSize(Box::new(PoolSizeQuestion {
        namespace: "agents".into(),
        name: "pool".into(),
        labels: [].into(),
        min: 1,
        max: 50,
        ready: 0,
        creating: 0,
        claimed: 0,
        bucket_seconds: 60,
        arrivals: vec![],
        hits: 0,
        misses: 0,
        refill_ms: None,
        state: vec![],
        now: Timestamp::UNIX_EPOCH,
    })))
}

#[test]
fn without_files_the_built_ins_are_bound() {
    let mut world = World::new();
    world.look();
    for hook in Hook::ALL {
        assert_eq!(world.bound(hook).len(), 1, "{}", hook.as_str());
        assert!(world.first(hook).built_in);
    }
    assert_eq!(world.loader.status().iter().filter(|status| status.path.is_none()).count(), 4);
}

#[test]
fn a_component_takes_over_its_hook_and_gives_it_back() {
    let mut world = World::new();
    world.write("fixed.wasm", POOL_FIXED).look();
    assert_eq!(world.bound(Hook::PoolSize), ["fixed/pool-size", "pool-by-demand/pool-size"]);
    assert_eq!(world.bound(Hook::Idle), ["idle-timeout/idle"]);
    assert_eq!(world.first(Hook::PoolSize).failure_policy, FailurePolicy::Fallback);
    let status = world.status("fixed");
    assert_eq!((status.hooks, status.error, status.wit_version), (vec![Hook::PoolSize], None, Some("0.2.0".into())));
    let versions = ["require-isolation", "pool-by-demand"].map(|built_in| world.status(built_in).wit_version);
    assert_eq!(versions, [Some("0.1.0".into()), Some("0.2.0".into())]);
    world.remove("fixed.wasm").look();
    assert_eq!(world.bound(Hook::PoolSize), ["pool-by-demand/pool-size"]);
}

#[test]
fn the_file_beside_it_binds_it() {
    let mut world = World::new();
    world.write("fixed.yaml", "settings: {desired: 9}\norder: 3\nobjectSelector: {matchLabels: {tier: gold}}\n");
    world.write("fixed.wasm", POOL_FIXED).look();
    let binding = world.first(Hook::PoolSize);
    assert_eq!((binding.order, world.size()), (3, 9));
    assert!(!binding.objects.matches(&TextMap::default()));
    assert!(binding.objects.matches(&BTreeMap::from([("tier".to_owned(), "gold".to_owned())])));
}

#[test]
fn changed_settings_take_effect_even_when_size_and_times_look_the_same() {
    let mut world = World::new();
    world.write("fixed.wasm", POOL_FIXED).write("fixed.yaml", "settings: {desired: 3}").look();
    assert_eq!(world.size(), 3);
    for desired in [4, 5, 6, 7] {
        world.write("fixed.yaml", format!("settings: {{desired: {desired}}}")).look();
        assert_eq!(world.size(), desired);
    }
}

#[test]
fn a_bad_component_does_not_replace_a_good_one() {
    let mut world = World::new();
    world.write("fixed.wasm", POOL_FIXED).write("fixed.yaml", "settings: {desired: 7}").look();
    let good = world.status("fixed");
    for (bad, error) in [
        (&b"rubbish"[..], "fixed.wasm: the file is not a WebAssembly component"),
        (ASK_FOR_WASI, "fixed.wasm: the component imports wasi:clocks/wall-clock@0.2.0"),
        (&POOL_FIXED[..POOL_FIXED.len() / 2], "fixed.wasm: the component does not compile"),
    ] {
        world.write("fixed.wasm", bad).look();
        assert!(world.error("fixed").starts_with(error), "{}", world.error("fixed"));
        assert_eq!(world.status("fixed").digest, good.digest);
        assert_eq!(world.size(), 7);
    }
    world.write("fixed.wasm", POOL_FIXED).look();
    assert_eq!(world.status("fixed"), good);
}

#[test]
fn bad_settings_do_not_replace_good_ones() {
    let mut world = World::new();
    world.write("fixed.wasm", POOL_FIXED).write("fixed.yaml", "settings: {desired: 7}").look();
    for (bad, error) in [
        ("settings: {desired: many}", "fixed.yaml: settings: /desired: must be an integer, is a string"),
        ("settings: {desird: 8}", "fixed.yaml: settings: /desird: unknown field; the schema has desired"),
        ("hooks: [idle]", "fixed.yaml: hooks[0]: fixed.wasm does not export idle; it exports pool-size"),
        (
            "limits: {memory: 64Ki}",
            "fixed.wasm: the component cannot be instantiated: wanted more than 65536 bytes of memory",
        ),
        ("limits: {fuel: 1}", "fixed.wasm: the component cannot be instantiated"),
        ("limits: {fuel: 1000}\nsettings: {desired: 8}", "fixed.yaml: settings: no answer with 1000 units of fuel"),
        ("{", "fixed.yaml: "),
    ] {
        world.write("fixed.yaml", bad).look();
        assert!(world.error("fixed").starts_with(error), "{bad}: {}", world.error("fixed"));
        assert_eq!(world.size(), 7, "{bad}");
    }
    world.write("fixed.yaml", "settings: {desired: 8}").look();
    assert_eq!((world.size(), world.error("fixed")), (8, String::new()));
}

#[test]
fn a_file_that_is_still_being_copied_is_taken_when_it_is_whole() {
    let mut world = World::new();
    // The operator runs when the file appears.
    world.look();
    for part in [0, 8, POOL_FIXED.len() / 2, POOL_FIXED.len() - 1] {
        world.write("fixed.wasm", &POOL_FIXED[..part]).look();
        assert_eq!(world.bound(Hook::PoolSize), ["pool-by-demand/pool-size"], "{part}");
        assert!(!world.error("fixed").is_empty());
    }
    world.write("fixed.wasm", POOL_FIXED).look();
    assert_eq!((world.first(Hook::PoolSize).name, world.error("fixed")), ("fixed/pool-size".into(), String::new()));
}

#[test]
fn a_config_map_that_is_swapped_is_seen() {
    let mut world = World::new();
    let version = |world: &World, name: &str, desired: u32| {
        let dir = world.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("fixed.wasm"), POOL_FIXED).unwrap();
        fs::write(dir.join("fixed.yaml"), format!("settings: {{desired: {desired}}}")).unwrap();
    };
    let swap = |world: &World, name: &str| {
        let link = |name: &str| world.dir.path().join(name);
        std::os::unix::fs::symlink(name, link("..data_tmp")).unwrap();
        fs::rename(link("..data_tmp"), link("..data")).unwrap();
    };
    version(&world, "..2026_09_01", 3);
    swap(&world, "..2026_09_01");
    for file in ["fixed.wasm", "fixed.yaml"] {
        std::os::unix::fs::symlink(Path::new("..data").join(file), world.dir.path().join(file)).unwrap();
    }
    assert_eq!(world.look().size(), 3);
    version(&world, "..2026_09_02", 4);
    swap(&world, "..2026_09_02");
    assert_eq!(world.look().size(), 4);
    assert_eq!(world.loader.status().iter().filter(|status| status.error.is_some()).count(), 0);
}

/// One thread swaps the ConfigMap all the time, and another reads it. Each version has its own number in both files.
#[test]
fn files_of_a_config_map_are_read_from_one_version() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let swap = |number: u32| {
        let version = format!("..version_{number}");
        fs::create_dir(at(&version)).unwrap();
        for file in ["a.wasm", "a.yaml"] {
            fs::write(at(&version).join(file), number.to_string()).unwrap();
        }
        std::os::unix::fs::symlink(&version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        // The kubelet removes the former version.
        let _ = fs::remove_dir_all(at(&format!("..version_{}", number.wrapping_sub(1))));
    };
    swap(0);
    for file in ["a.wasm", "a.yaml"] {
        std::os::unix::fs::symlink(Path::new("..data").join(file), at(file)).unwrap();
    }
    let mut source = DirectorySource::new(dir.path().to_owned(), Duration::ZERO, 1 << 20);
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..400).for_each(swap);
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            let Ok(content) = source.read() else { continue };
            let files = &content.plugins["a"];
            let bytes = |file: &Option<File>| file.as_ref().unwrap().content.as_ref().unwrap().bytes.to_vec();
            assert_eq!(bytes(&files.component), bytes(&files.config), "two versions at once");
        }
    });
    assert!(source.read().is_ok());
}

#[test]
fn what_cannot_be_a_plugin_is_named() {
    let mut world = World::new();
    world.write("idle-timeout.wasm", POOL_FIXED).write("Big.wasm", POOL_FIXED).write("lonely.yaml", "order: 1");
    world.write("other.yml", "order: 1").write("README", "hello").write(".hidden.wasm", "x").look();
    assert!(world.error("idle-timeout").is_empty(), "the built-in's own status");
    let errors: Vec<_> = world.loader.status().into_iter().filter_map(|status| status.error).collect();
    assert_eq!(
        errors,
        [
            "Big.wasm: the file name, which names the plugin, must consist of 1 to 63 lower-case letters, digits and dashes",
            "idle-timeout.wasm: the name must not be the name of a built-in plugin",
            "lonely.yaml: the directory must contain lonely.wasm too",
            "the file is ignored, because its name must be NAME.yaml",
        ]
    );
    // Each of the three names a plugin that somebody wants, so it fails for every hook that it may have.
    for hook in Hook::ALL {
        let failing = world.loader.bindings();
        let failing = failing.iter().filter(|b| b.hook == hook && b.not_loaded.is_some());
        let names: Vec<_> = failing.map(|b| b.plugin.name.clone()).collect();
        let expected = match hook {
            Hook::PoolSize => vec!["Big", "idle-timeout", "lonely"],
            Hook::Admission | Hook::RuntimeClass | Hook::Idle => vec!["lonely"],
        };
        assert_eq!(names, expected, "{}", hook.as_str());
    }
}

#[test]
fn a_directory_that_cannot_be_listed_changes_nothing() {
    let mut world = World::new();
    world.write("fixed.wasm", POOL_FIXED).look();
    let (dir, away) = (world.dir.path().to_owned(), world.dir.path().with_extension("away"));
    fs::rename(&dir, &away).unwrap();
    world.look();
    assert_eq!(world.first(Hook::PoolSize).name, "fixed/pool-size");
    let error = world.error("--plugin-dir");
    assert!(error.contains(&dir.display().to_string()), "{error}");
    fs::rename(&away, &dir).unwrap();
    world.remove("fixed.wasm").look();
    assert!(world.first(Hook::PoolSize).built_in);
    assert_eq!(world.loader.status().iter().filter(|status| status.error.is_some()).count(), 0);
}

#[test]
fn a_replaced_component_can_be_asked_for_a_while() {
    let mut world = World::new();
    world.write("sizer.wasm", POOL_FIXED).look();
    let old = world.first(Hook::PoolSize);
    world.write("sizer.yaml", "settings: {mode: behave}\nhooks: [pool-size]").write("sizer.wasm", MISBEHAVE).look();
    assert_ne!(world.first(Hook::PoolSize).plugin, old.plugin);
    let asked = |world: &World| world.host.ask(&ask(&old), Timestamp::UNIX_EPOCH).map_err(|failure| failure.kind);
    assert!(asked(&world).is_ok());
    world.now += KEEP - Duration::from_secs(2);
    assert!(asked(world.look()).is_ok());
    assert_eq!(asked(world.look()), Err(FailureKind::Missing));
}

#[test]
fn a_component_that_comes_back_in_time_is_not_unloaded() {
    let mut world = World::new();
    world.write("fixed.wasm", POOL_FIXED).look().remove("fixed.wasm").look();
    world.write("fixed.wasm", POOL_FIXED).look();
    world.now += KEEP * 2;
    assert_eq!(world.look().size(), 1);
}

#[tokio::test]
async fn receivers_hear_of_changes_and_of_nothing_else() {
    let world = World::new();
    let source = DirectorySource::new(world.dir.path().to_owned(), Duration::from_millis(20), u64::MAX);
    let stop = CancellationToken::new();
    fs::write(world.dir.path().join("fixed.wasm"), POOL_FIXED).unwrap();
    let plugins = start(Arc::clone(&world.host), files_of(source), stop.clone()).await.unwrap();
    let mut bindings = plugins.policies.bindings.clone();
    let first = |bindings: &tokio::sync::watch::Receiver<paddock_core::binding::Bindings>| {
        bindings.borrow().iter().find(|b| b.hook == Hook::PoolSize).unwrap().clone()
    };
    assert_eq!(first(&bindings).name, "fixed/pool-size", "what is there at the start is in force at the start");
    let nothing = tokio::time::timeout(Duration::from_millis(300), bindings.changed()).await;
    assert!(nothing.is_err(), "woken without a change");
    // The file is renamed into place, because a plain write might be read half-way.
    let written = world.dir.path().join(".fixed.yaml.new");
    fs::write(&written, "settings: {desired: 12}").unwrap();
    fs::rename(&written, world.dir.path().join("fixed.yaml")).unwrap();
    tokio::time::timeout(Duration::from_secs(60), bindings.changed()).await.unwrap().unwrap();
    let answer =
        (plugins.policies.plugin_client)(&ask(&first(&bindings)), Caller::Verified, Timestamp::UNIX_EPOCH).0.unwrap();
    assert!(matches!(answer, Answer::PoolSize(answer) if answer.desired == 12));
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(60), bindings.changed()).await.unwrap();
    assert!(ended.is_err(), "the task ends with the token");
}

/// A source of files alone.
fn files_of<S>(source: S) -> Sources<S> {
    Sources { files: Some(source), objects: None, cache: None }
}

/// A source that is no directory.
struct Bundle(Vec<SourceContent>);

impl PluginSource for Bundle {
    fn contents(self) -> impl Stream<Item = Result<SourceContent, SourceError>> + Send + 'static {
        stream::iter(self.0.into_iter().map(Ok))
    }
}

#[tokio::test]
async fn another_source_replaces_the_directory() {
    let host = Arc::new(Host::new(HostConfig::default()).unwrap());
    let content = Content::of(POOL_FIXED);
    let file = File { location: "configmap agents/plugins".to_owned(), content: Ok(content) };
    let files = PluginFiles { component: Some(file), config: None };
    let plugins = [("fixed".to_owned(), files)].into();
    let bundle = Bundle(vec![SourceContent { plugins, ignored: vec![] }]);
    let started = start(host, files_of(bundle), CancellationToken::new()).await.unwrap();
    let bound = started.policies.bindings.borrow().iter().find(|b| b.hook == Hook::PoolSize).unwrap().clone();
    assert_eq!(bound.name, "fixed/pool-size");
    let paths: Vec<_> = started.status.borrow().iter().filter_map(|status| status.path.clone()).collect();
    assert_eq!(paths, ["configmap agents/plugins"]);
}
