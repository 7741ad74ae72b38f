//! The reviews that wait for a fact that no watch has delivered yet. A review keeps its memory while it waits, and anybody
//! can make up names, so their number, their memory and the share of a namespace have limits.

use std::sync::Arc;

use paddock_kube::turns::Held;
use parking_lot::Mutex;

use crate::limits;

/// The places for reviews that wait. A place stands for [`limits::REVIEW_MEMORY_MIN`] bytes of memory.
#[derive(Clone)]
pub(super) struct FactWaits(Arc<Mutex<Places>>);

struct Places {
    free: usize,
    held: Held<String>,
}

impl Default for FactWaits {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Places { free: limits::FACT_WAITS, held: Held::default() })))
    }
}

/// A review that waits. Its places are free again when this value is dropped.
pub(super) struct Waiting {
    waits: FactWaits,
    namespace: String,
    places: usize,
}

impl FactWaits {
    /// Begins the wait of a review of a namespace that needs this much memory. `None` if the places are taken, or the
    /// namespace has its share of them.
    pub(super) fn begin(&self, namespace: &str, memory: usize) -> Option<Waiting> {
        let wanted = memory.div_ceil(limits::REVIEW_MEMORY_MIN).max(1);
        let mut waiting = Waiting { waits: self.clone(), namespace: namespace.to_owned(), places: 0 };
        while waiting.places < wanted {
            if !waiting.take_one() {
                return None;
            }
        }
        Some(waiting)
    }
}

impl Waiting {
    fn take_one(&mut self) -> bool {
        let mut places = self.waits.0.lock();
        let may_take = places.free > 0 && places.held.may_take(&self.namespace, places.free);
        if may_take {
            places.free -= 1;
            places.held.take(self.namespace.clone());
            self.places += 1;
        }
        may_take
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut places = self.waits.0.lock();
        places.free += self.places;
        for _ in 0..self.places {
            places.held.give_back(&self.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: usize = limits::REVIEW_MEMORY_MIN;

    #[test]
    fn one_namespace_leaves_places_for_others() {
        let waits = FactWaits::default();
        let of_one: Vec<_> = std::iter::from_fn(|| waits.begin("a", SMALL)).collect();
        assert!(of_one.len() > limits::FACT_WAITS / 2 && of_one.len() < limits::FACT_WAITS, "{}", of_one.len());
        assert!(waits.begin("b", SMALL).is_some());
    }

    #[test]
    fn review_takes_places_by_its_memory_and_gives_all_of_them_back() {
        let waits = FactWaits::default();
        assert!(waits.begin("a", SMALL * limits::FACT_WAITS).is_none(), "more than the share of a namespace");
        let large = waits.begin("a", SMALL * 30 + 1).unwrap();
        assert_eq!(waits.0.lock().free, limits::FACT_WAITS - 31);
        assert!(waits.begin("a", SMALL * 30).is_none());
        drop(large);
        assert_eq!(waits.0.lock().free, limits::FACT_WAITS);
        assert!(waits.begin("a", SMALL * 30).is_some());
    }
}
