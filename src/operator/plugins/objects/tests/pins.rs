//! `spec.digest` of a SandboxPlugin: which component decides while the source has another one, or does not answer.

use super::images::{fault, image, pulled};
use super::*;
use crate::limits::PLUGIN_PIN_WAIT;

impl World {
    fn pin(&mut self, name: &str, digest: &str) -> &mut Self {
        self.plugins.get_mut(name).unwrap()["digest"] = json!(digest);
        self
    }

    /// Lets time pass without a change of the objects.
    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.loaders.pass_time(self.now);
        self
    }

    /// The digest of the component that decides for a policy, as its binding says.
    fn decides(&self, policy: &str) -> Option<String> {
        let bindings = self.loaders.bindings();
        let binding = bindings.iter().find(|binding| binding.name == Binding::name_of_policy(policy)).unwrap();
        assert_eq!(binding.not_loaded.is_none(), self.bound(policy).digest.is_some());
        binding.not_loaded.is_none().then(|| binding.plugin.digest.clone())
    }
}

fn digest(component: &[u8]) -> String {
    paddock_plugin_host::digest(component)
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// The component of a ConfigMap is not the pinned one: the pin stops it.
#[test]
fn component_that_the_digest_excludes_stops_although_its_source_still_has_it() {
    let mut world = World::new();
    world.plugin("fixed", POOL_FIXED).policy("three", fixed("fixed", 3)).look();
    let used = world.bindings(Hook::PoolSize)[0].plugin.clone();
    // The pinned component may arrive a moment later.
    world.pin("fixed", &digest(ALLOWED_IMAGES)).look();
    assert_eq!(world.decides("three"), Some(digest(POOL_FIXED)));
    assert_eq!(world.loaded("fixed").fault.unwrap().reason, FaultReason::DigestMismatch);
    assert!(world.loaders.waits());
    world.pass(PLUGIN_PIN_WAIT - second());
    assert!(world.decides("three").is_some());
    world.pass(second());
    assert_eq!(world.decides("three"), None);
    let loaded = world.loaded("fixed");
    assert_eq!((loaded.digest, loaded.fault.unwrap().reason), (None, FaultReason::DigestMismatch));
    assert_eq!(world.bound("three").fault.unwrap().reason, FaultReason::PluginNotLoaded);
    assert!(!world.loaders.waits(), "nothing is left to do");
    world.pass(KEEP * 2);
    assert!(!world.is_loaded(&used));
    // The pin is taken back, or names the component that the source has.
    world.pin("fixed", &digest(POOL_FIXED)).look();
    assert_eq!(world.decides("three"), Some(digest(POOL_FIXED)));
}

#[test]
fn component_that_the_digest_names_stays_while_its_source_has_another_one() {
    let mut world = World::new();
    world.plugin("fixed", POOL_FIXED).policy("three", fixed("fixed", 3));
    world.pin("fixed", &digest(POOL_FIXED)).look();
    world.plugin("fixed", ALLOWED_IMAGES).look().pass(PLUGIN_PIN_WAIT * 2);
    assert_eq!(world.decides("three"), Some(digest(POOL_FIXED)));
    assert_eq!(world.loaded("fixed").fault.unwrap().reason, FaultReason::DigestMismatch);
}

/// A roll forward by a digest has no gap, although the tag may still name the former image. Nothing that the source has
/// extends the use of the former component beyond a minute.
#[test]
fn former_component_decides_until_the_pinned_one_is_there_and_for_a_minute_at_most() {
    for (source, arrives) in [
        (Pulled::default(), true),
        (fault(FaultReason::Unreachable), true),
        (pulled(ALLOWED_IMAGES, image("m1", None)), true),
        (Pulled::default(), false),
        (fault(FaultReason::Unreachable), false),
        (pulled(ALLOWED_IMAGES, image("m1", None)), false),
    ] {
        let mut world = World::new();
        world.image("p", pulled(ALLOWED_IMAGES, image("m1", None)));
        world.policy("guard", json!({ "plugin": "p", "hook": "admission", "settings": { "registries": ["ghcr.io"] } }));
        world.look();
        world.pin("p", &digest(POOL_FIXED)).image("p", source).look();
        world.pass(PLUGIN_PIN_WAIT - second());
        assert_eq!(world.decides("guard"), Some(digest(ALLOWED_IMAGES)));
        if arrives {
            world.policy("guard", fixed("p", 3)).image("p", pulled(POOL_FIXED, image("m2", None))).look();
            assert_eq!((world.decides("guard"), world.loaded("p").fault), (Some(digest(POOL_FIXED)), None));
            assert!(!world.loaders.waits());
        } else {
            world.pass(second());
            assert_eq!((world.decides("guard"), world.loaded("p").digest), (None, None));
        }
    }
}

/// The pinned component is there, and refuses the policy, which is changed after it. The pin is as old as the component, or
/// comes later.
#[test]
fn former_component_decides_until_the_policy_fits_the_pinned_one_and_for_a_minute_at_most() {
    for (fits, is_pinned_later) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut world = World::new();
        world.plugin("p", POOL_FIXED).policy("three", fixed("p", 3)).look();
        let used = world.bindings(Hook::PoolSize)[0].plugin.clone();
        world.plugin("p", ALLOWED_IMAGES);
        if is_pinned_later {
            world.look().pass(PLUGIN_PIN_WAIT * 2);
            assert_eq!(world.decides("three"), Some(digest(POOL_FIXED)), "without a pin, the former one goes on");
            assert!(!world.loaders.waits());
        }
        world.pin("p", &digest(ALLOWED_IMAGES)).look();
        let loaded = world.loaded("p");
        assert_eq!((loaded.digest, loaded.fault), (Some(digest(ALLOWED_IMAGES)), None));
        assert_eq!(world.bound("three").fault.unwrap().reason, FaultReason::HookNotExported);
        assert!(world.loaders.waits());
        world.pass(PLUGIN_PIN_WAIT - second());
        assert_eq!(world.decides("three"), Some(digest(POOL_FIXED)));
        if fits {
            let settings = json!({ "registries": ["ghcr.io"] });
            world.policy("three", json!({ "plugin": "p", "hook": "admission", "settings": settings })).look();
            assert_eq!(world.decides("three"), Some(digest(ALLOWED_IMAGES)));
            assert_eq!(world.bound("three").fault, None);
        } else {
            world.pass(second());
            assert_eq!(world.decides("three"), None);
            assert_eq!(world.bound("three").fault.unwrap().reason, FaultReason::HookNotExported);
        }
        assert!(!world.loaders.waits(), "nothing is left to do");
        world.pass(KEEP * 2);
        assert!(!world.is_loaded(&used));
    }
}

#[test]
fn component_that_was_stopped_is_used_again_when_the_digest_names_it_and_the_registry_is_away() {
    let cache = TempDir::new().unwrap();
    let mut world = World::with_cache(Some(&cache));
    world.image("fixed", pulled(POOL_FIXED, image("m1", None))).policy("three", fixed("fixed", 3)).look();
    world.pin("fixed", &digest(ALLOWED_IMAGES)).image("fixed", fault(FaultReason::Unreachable)).look();
    world.pass(PLUGIN_PIN_WAIT);
    assert_eq!(world.decides("three"), None);
    world.pin("fixed", &digest(POOL_FIXED)).look();
    assert_eq!(world.decides("three"), Some(digest(POOL_FIXED)));
}
