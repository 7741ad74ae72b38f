//! The reviews that wait for a fact that no watch has delivered yet. A review keeps its memory while it waits, and anybody
//! can make up names, so their number and their memory have limits. So have the share of a client and, within it, the share
//! of a namespace. A client that makes up namespaces leaves places for other clients.

use std::sync::Arc;

use paddock_kube::peer::Peer;
use paddock_kube::turns::{Held, left};
use parking_lot::Mutex;

use crate::limits;

/// The places for reviews that wait. A place stands for [`limits::REVIEW_MEMORY_MIN`] bytes of memory.
#[derive(Clone)]
pub(super) struct FactWaits(Arc<Mutex<Places>>);

struct Places {
    free: usize,
    clients: Held<Peer>,
    namespaces: Held<Named>,
}

/// A namespace, as one client names it.
type Named = (Peer, String);

impl Default for FactWaits {
    fn default() -> Self {
        let (clients, namespaces) = (Held::default(), Held::default());
        Self(Arc::new(Mutex::new(Places { free: limits::FACT_WAITS, clients, namespaces })))
    }
}

/// A review that waits. Its places are free again when this value is dropped.
pub(super) struct Waiting {
    waits: FactWaits,
    of: Named,
    places: usize,
}

impl FactWaits {
    /// Begins the wait of a review that needs this much memory. `None` if the places are taken, or the client or its
    /// namespace has its share of them.
    pub(super) fn begin(&self, client: Peer, namespace: &str, memory: usize) -> Option<Waiting> {
        let wanted = memory.div_ceil(limits::REVIEW_MEMORY_MIN).max(1);
        let mut waiting = Waiting { waits: self.clone(), of: (client, namespace.to_owned()), places: 0 };
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
        let of_client = left(places.clients.of(&self.of.0), places.free);
        let may_take = places.namespaces.may_take(&self.of, of_client);
        if may_take {
            places.free -= 1;
            places.clients.take(self.of.0);
            places.namespaces.take(self.of.clone());
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
            places.clients.give_back(&self.of.0);
            places.namespaces.give_back(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const SMALL: usize = limits::REVIEW_MEMORY_MIN;

    fn client(n: u8) -> Peer {
        Peer::of(IpAddr::from([10, 0, 0, n]))
    }

    #[test]
    fn one_namespace_leaves_places_for_others() {
        let waits = FactWaits::default();
        let of_one: Vec<_> = std::iter::from_fn(|| waits.begin(client(1), "a", SMALL)).collect();
        assert!(of_one.len() > limits::FACT_WAITS / 2, "{}", of_one.len());
        assert!(waits.begin(client(1), "b", SMALL).is_some());
    }

    #[test]
    fn client_that_makes_up_namespaces_leaves_places_for_others() {
        let waits = FactWaits::default();
        let made_up = (0..).map_while(|n| waits.begin(client(1), &format!("made-up-{n}"), SMALL));
        let made_up: Vec<_> = made_up.collect();
        assert!(made_up.len() > limits::FACT_WAITS / 2 && made_up.len() < limits::FACT_WAITS, "{}", made_up.len());
        let others: Vec<_> = std::iter::from_fn(|| waits.begin(client(2), "a", SMALL)).collect();
        assert!(others.len() >= 4, "{}", others.len());
    }

    #[test]
    fn client_takes_no_places_of_a_namespace_that_another_one_names() {
        let waits = FactWaits::default();
        let _strange: Vec<_> = std::iter::from_fn(|| waits.begin(client(1), "a", SMALL)).collect();
        let in_another: Vec<_> = std::iter::from_fn(|| waits.begin(client(2), "b", SMALL)).collect();
        let count = in_another.len();
        drop(in_another);
        let in_the_same = std::iter::from_fn(|| waits.begin(client(2), "a", SMALL)).collect::<Vec<_>>();
        assert_eq!(in_the_same.len(), count);
    }

    #[test]
    fn review_takes_places_by_its_memory_and_gives_all_of_them_back() {
        let waits = FactWaits::default();
        let begin = |memory: usize| waits.begin(client(1), "a", memory);
        assert!(begin(SMALL * limits::FACT_WAITS).is_none(), "more than the share of a namespace");
        let large = begin(SMALL * 30 + 1).unwrap();
        assert_eq!(waits.0.lock().free, limits::FACT_WAITS - 31);
        assert!(begin(SMALL * 30).is_none());
        drop(large);
        assert_eq!(waits.0.lock().free, limits::FACT_WAITS);
        assert!(begin(SMALL * 30).is_some());
    }
}
