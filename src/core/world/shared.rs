//! Copies of equal values that objects share: the members of a pool have the same model.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::model::{Sandbox, StoredSpec};
use crate::object::hash::fnv64;
use crate::object::{Body, Object};

/// The values that objects of the World share.
#[derive(Debug, Default)]
pub(super) struct SharedValues {
    sandboxes: Shared<Sandbox>,
    specs: Shared<StoredSpec>,
}

impl SharedValues {
    /// Replaces the model of a Sandbox by an equal one that is known, so that both use the same memory.
    pub(super) fn share(&mut self, object: &mut Object) {
        match &mut object.body {
            Body::Sandbox(parsed) => {
                let Ok(model) = &mut parsed.spec else { return };
                let spec = hash_of(&model.pod.spec);
                let texts = [&model.pod.labels, &model.pod.annotations].into_iter().flatten();
                let parts = texts.flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
                let whole = fnv64(std::iter::once(&spec.to_le_bytes()[..]).chain(parts));
                if !self.sandboxes.share(whole, model) {
                    self.specs.share(spec, &mut Arc::make_mut(model).pod.spec);
                }
            }
            Body::Template(parsed, _) => {
                let Ok(model) = &mut parsed.spec else { return };
                let spec = hash_of(&model.pod.spec);
                self.specs.share(spec, &mut Arc::make_mut(model).pod.spec);
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
    /// Replaces a value by the known one of the same hash, if they are equal, or else makes it the known one. Returns
    /// whether it was replaced.
    fn share(&mut self, hash: u64, value: &mut Arc<T>) -> bool {
        match self.known.get(&hash).and_then(Weak::upgrade) {
            Some(known) if known == *value => {
                *value = known;
                true
            }
            Some(_) => false,
            None => {
                self.known.insert(hash, Arc::downgrade(value));
                if self.known.len() >= self.prune_at {
                    self.known.retain(|_, known| known.strong_count() > 0);
                    self.prune_at = (self.known.len() * 2).max(64);
                }
                false
            }
        }
    }
}
