//! Copies of equal values that objects share: the members of a pool have the same model.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use paddock_api::DecidingPlugin;

use crate::model::{Sandbox, StoredSpec};
use crate::object::hash::fnv64;
use crate::object::{Body, Object};

/// The values that objects of the World share.
#[derive(Debug, Default)]
pub(super) struct SharedValues {
    sandboxes: Shared<Sandbox>,
    specs: Shared<StoredSpec>,
    plugins: Shared<Vec<DecidingPlugin>>,
}

impl SharedValues {
    /// Replaces the model of a Sandbox by an equal one that is known, so that both use the same memory.
    pub(super) fn share(&mut self, object: &mut Object) {
        match &mut object.body {
            Body::Sandbox(parsed) => {
                if !parsed.status.plugins.is_empty() {
                    self.share_plugins(&mut Arc::make_mut(&mut parsed.status).plugins);
                }
                let Ok(model) = &mut parsed.spec else { return };
                let spec = hash_of(&model.pod.spec);
                let texts = [&model.pod.labels, &model.pod.annotations].into_iter().flatten();
                let parts = texts.flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
                let whole = fnv64(std::iter::once(&spec.to_le_bytes()[..]).chain(parts));
                // The spec comes first, because `make_mut` would move a model that is known already.
                self.specs.share(spec, &mut Arc::make_mut(model).pod.spec);
                self.sandboxes.share(whole, model);
            }
            Body::Template(parsed, _) => {
                let Ok(model) = &mut parsed.spec else { return };
                let spec = hash_of(&model.pod.spec);
                self.specs.share(spec, &mut Arc::make_mut(model).pod.spec);
            }
            Body::Claim(parsed) if !parsed.status.plugins.is_empty() => {
                self.share_plugins(&mut Arc::make_mut(&mut parsed.status).plugins);
            }
            Body::Pod(Some(pod)) if !pod.plugins.is_empty() => {
                self.share_plugins(&mut Arc::make_mut(pod).plugins);
            }
            Body::Pool(_)
            | Body::Claim(_)
            | Body::Pod(_)
            | Body::Service(_)
            | Body::VolumeClaim(_)
            | Body::NetworkPolicy(_)
            | Body::EndpointSlice(_)
            | Body::Namespace
            | Body::Node(_)
            | Body::RuntimeClass(_)
            | Body::StorageClass => {}
        }
    }

    fn share_plugins(&mut self, plugins: &mut Arc<Vec<DecidingPlugin>>) {
        let parts = plugins.iter().flat_map(|plugin| {
            let settings = plugin.settings.as_deref().unwrap_or_default();
            [&*plugin.name, &*plugin.digest, settings].map(str::as_bytes)
        });
        self.plugins.share(fnv64(parts), plugins);
    }
}

fn hash_of(spec: &StoredSpec) -> u64 {
    fnv64([spec.text().as_str().as_bytes()])
}

/// The known values of one type, by their hash. A value is dropped with the last object that has it.
#[derive(Debug)]
struct Shared<T> {
    known: BTreeMap<u64, Weak<T>>,
    /// The number of values at which those that were dropped are removed.
    prune_at: usize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), prune_at: 64 }
    }
}

impl<T: PartialEq> Shared<T> {
    /// Replaces a value by the known one of the same hash, if they are equal, or else makes it the known one.
    fn share(&mut self, hash: u64, value: &mut Arc<T>) {
        match self.known.get(&hash).and_then(Weak::upgrade) {
            Some(known) if known == *value => *value = known,
            Some(_) => {}
            None => {
                self.known.insert(hash, Arc::downgrade(value));
                if self.known.len() >= self.prune_at {
                    self.known.retain(|_, known| known.strong_count() > 0);
                    self.prune_at = (self.known.len() * 2).max(64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use paddock_api::kind::{Key, Kind};
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::Settings;
    use crate::world::{Observed, World};

    fn sandbox(name: &str, version: u32, image: &str, labels: &Value) -> Object {
        let document = json!({
            "metadata": { "name": name, "namespace": "n", "uid": name, "resourceVersion": version.to_string() },
            "spec": { "podTemplate": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "c", "image": image }] },
            } },
        });
        Object::from_json(Kind::Sandbox, document).unwrap()
    }

    fn model(world: &World, name: &str) -> Arc<Sandbox> {
        world.get(&Key::new(Kind::Sandbox, "n", name)).unwrap().sandbox().unwrap().spec.clone().unwrap()
    }

    #[test]
    fn sandboxes_with_equal_models_share_one_and_others_share_the_spec() {
        let mut world = World::new(Settings::default());
        let observe = |object: Object, world: &mut World| {
            // A reply is put into the World as a copy.
            let _ = world.observe(Observed::Applied(object.clone()), Timestamp::UNIX_EPOCH);
            drop(object);
        };
        observe(sandbox("a", 1, "i", &json!({})), &mut world);
        observe(sandbox("b", 2, "i", &json!({})), &mut world);
        observe(sandbox("c", 3, "i", &json!({ "team": "x" })), &mut world);
        observe(sandbox("d", 4, "j", &json!({})), &mut world);
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| model(&world, name));
        assert!(Arc::ptr_eq(&a, &b), "equal models");
        assert!(!Arc::ptr_eq(&a, &c) && Arc::ptr_eq(&a.pod.spec, &c.pod.spec), "equal specs with other labels");
        assert!(!Arc::ptr_eq(&a.pod.spec, &d.pod.spec), "other specs");
        assert_eq!(
            (c.pod.labels["team"].as_str(), d.pod.spec.parse().containers[0].image.as_deref()),
            ("x", Some("j"))
        );
        observe(sandbox("b", 5, "j", &json!({})), &mut world);
        assert!(Arc::ptr_eq(&model(&world, "b"), &d), "after a change");
    }

    #[test]
    fn values_that_no_object_has_are_forgotten() {
        let mut world = World::new(Settings::default());
        for n in 0..1000_u32 {
            let changed = sandbox("a", n + 1, &format!("i{n}"), &json!({}));
            let _ = world.observe(Observed::Applied(changed), Timestamp::UNIX_EPOCH);
        }
        let known = (world.shared.sandboxes.known.len(), world.shared.specs.known.len());
        assert!(known.0 <= 64 && known.1 <= 64, "{known:?}");
    }
}
