//! SandboxPlugins whose component is from a registry: what is used, kept, restored and reported.

use super::*;

const IMAGE: &str = "h.example/p:1";

impl World {
    /// A SandboxPlugin with an image, and what is known of the image.
    pub(super) fn image(&mut self, name: &str, pulled: Pulled) -> &mut Self {
        self.plugins.entry(name.to_owned()).or_insert(json!({ "source": { "oci": { "image": IMAGE } } }));
        self.pulled.insert(name.to_owned(), pulled);
        self
    }
}

pub(super) fn image(digest: &str, warning: Option<&str>) -> Image {
    Image { digest: digest.to_owned(), warning: warning.map(str::to_owned) }
}

pub(super) fn pulled(component: &[u8], image: Image) -> Pulled {
    Pulled { component: Some(Component { content: content(component), image: Some(image) }), ..Pulled::default() }
}

pub(super) fn fault(reason: FaultReason) -> Pulled {
    Pulled { fault: Some(Fault::new(reason, "spec.source.oci.image: no")), ..Pulled::default() }
}

#[test]
fn image_is_pulling_until_it_is_there_and_its_digest_is_in_the_state() {
    let mut world = World::new();
    world.image("fixed", Pulled::default()).policy("three", fixed("fixed", 3)).look();
    let loaded = world.loaded("fixed");
    assert_eq!((loaded.digest, loaded.image), (None, None));
    let fault = loaded.fault.unwrap();
    assert_eq!(fault.reason, FaultReason::Pulling);
    assert!(fault.message.contains(IMAGE), "{}", fault.message);
    assert!(world.bindings(Hook::PoolSize)[0].not_loaded.is_some(), "the failure policy applies");
    world.image("fixed", pulled(POOL_FIXED, image("m1", None))).look();
    let loaded = world.loaded("fixed");
    assert_eq!((loaded.image, loaded.fault), (Some(image("m1", None)), None));
    assert!(world.bindings(Hook::PoolSize)[0].not_loaded.is_none());
}

#[test]
fn fault_of_the_registry_keeps_the_component_and_is_shown() {
    let mut world = World::new();
    world.image("fixed", pulled(POOL_FIXED, image("m1", None))).policy("three", fixed("fixed", 3)).look();
    let good = world.loaded("fixed").digest;
    for reason in [FaultReason::Unreachable, FaultReason::SignatureInvalid] {
        let with_fault = Pulled { fault: fault(reason).fault, ..pulled(POOL_FIXED, image("m1", None)) };
        let loaded = world.image("fixed", with_fault).look().loaded("fixed");
        assert_eq!((loaded.digest, loaded.fault.unwrap().reason), (good.clone(), reason));
        assert_eq!(loaded.image, Some(image("m1", None)));
        let status = world.loaders.status().into_iter().find(|status| status.name == "fixed").unwrap();
        assert_eq!(status.state, PluginState::FormerVersion);
        assert!(world.bindings(Hook::PoolSize)[0].not_loaded.is_none());
        // The spec names another image, which has the same fault.
        let loaded = world.image("fixed", fault(reason)).look().loaded("fixed");
        assert_eq!((loaded.digest, loaded.fault.unwrap().reason), (good.clone(), reason));
    }
    let loaded = world.image("fixed", pulled(POOL_FIXED, image("m2", Some("no signature")))).look().loaded("fixed");
    assert_eq!((loaded.digest, loaded.fault), (good, None));
    assert_eq!(loaded.image, Some(image("m2", Some("no signature"))), "another image has the same component");
}

#[test]
fn broken_component_of_an_image_does_not_replace_a_good_one() {
    let mut world = World::new();
    world.image("fixed", pulled(POOL_FIXED, image("m1", None))).look();
    let good = world.loaded("fixed");
    let loaded = world.image("fixed", pulled(ASK_FOR_WASI, image("m2", None))).look().loaded("fixed");
    assert_eq!((loaded.digest, loaded.image), (good.digest, good.image), "the image is that of the component in use");
    assert_eq!(loaded.fault.unwrap().reason, FaultReason::LoadFailed);
}

#[test]
fn image_of_the_cache_is_used_after_a_restart_only_under_the_keys_that_it_was_pulled_under() {
    let trusted = |trust: Option<&str>, pulled: Pulled| Pulled { trust: trust.map(str::to_owned), ..pulled };
    for (stored, required, restored, now) in [
        (None, None, true, Pulled::default()),
        (Some("keys"), Some("keys"), true, fault(FaultReason::Unreachable)),
        (None, Some("keys"), false, fault(FaultReason::SignatureInvalid)),
        (Some("keys"), Some("others"), false, Pulled::default()),
    ] {
        let cache = TempDir::new().unwrap();
        let good = trusted(stored, pulled(POOL_FIXED, image("m1", None)));
        World::with_cache(Some(&cache)).image("fixed", good).look();
        let mut world = World::with_cache(Some(&cache));
        let loaded = world.image("fixed", trusted(required, now)).look().loaded("fixed");
        assert_eq!(loaded.digest.is_some(), restored, "{stored:?} {required:?}");
        assert_eq!(loaded.image, restored.then(|| image("m1", None)));
        assert!(loaded.fault.is_some(), "the registry has not answered yet");
    }
    // A component from a ConfigMap has no signature.
    let cache = TempDir::new().unwrap();
    World::with_cache(Some(&cache)).plugin("fixed", POOL_FIXED).look();
    let mut world = World::with_cache(Some(&cache));
    let loaded = world.image("fixed", trusted(Some("keys"), Pulled::default())).look().loaded("fixed");
    assert_eq!(loaded.digest, None);
}

/// A plugin whose image was pulled without keys names keys later, and the image has their signature.
#[test]
fn image_that_is_verified_later_is_used_after_a_restart_under_its_keys() {
    let cache = TempDir::new().unwrap();
    let with_keys = |pulled: Pulled| Pulled { trust: Some("keys".to_owned()), ..pulled };
    let mut world = World::with_cache(Some(&cache));
    world.image("fixed", pulled(POOL_FIXED, image("m1", None))).look();
    world.image("fixed", with_keys(pulled(POOL_FIXED, image("m1", None)))).look();
    let mut world = World::with_cache(Some(&cache));
    let loaded = world.image("fixed", with_keys(fault(FaultReason::Unreachable))).look().loaded("fixed");
    assert_eq!(loaded.image, Some(image("m1", None)));
    assert!(loaded.digest.is_some());
}
