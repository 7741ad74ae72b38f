//! The index of warm Sandboxes, in the order in which claims take them. The order keeps a pool spread over the nodes.
//!
//! A claim takes the oldest Sandbox on the node that has most Sandboxes of the pool. A burst of claims therefore
//! takes from all nodes in turn, and the loss of a node costs the pool as few Sandboxes as possible. A take counts at
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use paddock_api::kind::Key;

/// The origin of a warm Sandbox: the UID of its pool, and the revision of the template that it was created from.
pub(super) type PoolRevision = (Arc<str>, Arc<str>);

/// The warm Sandboxes, by pool and template revision, so that a search does not meet the Sandboxes of an old template.
#[derive(Debug, Default)]
pub(super) struct Warm {
    pools: BTreeMap<PoolRevision, Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// The node and creation time of each Sandbox in `nodes`, so that it is found even after its pod has changed.
    places: BTreeMap<Key, (Arc<str>, Timestamp)>,
    nodes: BTreeMap<Arc<str>, BTreeSet<(Timestamp, Key)>>,
    /// The nodes, by the number of Sandboxes that they have.
    order: BTreeSet<(usize, Arc<str>)>,
}

impl Warm {
    /// Adds a Sandbox, or moves it to another node.
    pub(super) fn insert(&mut self, revision: &PoolRevision, key: &Key, created: Timestamp, node: Arc<str>) {
        let pool = self.pools.entry(revision.clone()).or_default();
        if pool.places.get(key).is_some_and(|place| *place == (node.clone(), created)) {
            return;
        }
        pool.remove(key);
        pool.change(&node, |set| set.insert((created, key.clone())));
        pool.places.insert(key.clone(), (node, created));
    }

    /// Removes a Sandbox, if the index contains it.
    pub(super) fn remove(&mut self, revision: &PoolRevision, key: &Key) {
        let Some(pool) = self.pools.get_mut(revision) else { return };
        pool.remove(key);
        if pool.places.is_empty() {
            self.pools.remove(revision);
        }
    }

    /// The number of Sandboxes of one pool and template revision.
    pub(super) fn count(&self, revision: &PoolRevision) -> usize {
        self.pools.get(revision).map_or(0, |pool| pool.places.len())
    }

    /// The Sandboxes of one pool and template revision on usable nodes, best first.
    pub(super) fn of(&self, revision: &PoolRevision, usable: impl Fn(&str) -> bool) -> impl Iterator<Item = &Key> {
        self.pools.get(revision).into_iter().flat_map(move |pool| {
            let nodes: Vec<_> = pool.order.iter().rev().filter(|(_, node)| usable(node)).collect();
            let nodes = nodes.into_iter().filter_map(|(_, node)| pool.nodes.get(node));
            nodes.flatten().map(|(_, key)| key)
        })
    }

    /// The Sandboxes of the same pool that have another template revision.
    pub(super) fn stale(&self, revision: &PoolRevision) -> impl Iterator<Item = &Key> {
        let of_pool =
            self.pools.range((revision.0.clone(), "".into())..).take_while(|((pool, _), _)| *pool == revision.0);
        of_pool.filter(|((_, hash), _)| *hash != revision.1).flat_map(|(_, pool)| pool.places.keys())
    }
}

impl Pool {
    fn remove(&mut self, key: &Key) {
        if let Some((node, created)) = self.places.remove(key) {
            self.change(&node, |set| set.remove(&(created, key.clone())));
        }
    }

    fn change(&mut self, node: &Arc<str>, change: impl FnOnce(&mut BTreeSet<(Timestamp, Key)>) -> bool) {
        let set = self.nodes.entry(node.clone()).or_default();
        self.order.remove(&(set.len(), node.clone()));
        change(set);
        if set.is_empty() {
            self.nodes.remove(node);
        } else {
            self.order.insert((set.len(), node.clone()));
        }
    }
}

#[cfg(test)]
mod test {
    use paddock_api::kind::Kind;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new(Kind::Sandbox, "ns", name)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_oldest_on_the_fullest_node_goes_first() {
        let pool: PoolRevision = ("pool".into(), "hash".into());
        let mut warm = Warm::default();
        for (name, created, node) in [("a1", 3, "a"), ("a2", 2, "a"), ("a3", 4, "a"), ("b1", 1, "b"), ("b2", 5, "b")] {
            warm.insert(&pool, &key(name), at(created), node.into());
        }
        let mut taken = Vec::new();
        loop {
            let Some(next) = warm.of(&pool, |_| true).next().cloned() else { break };
            warm.remove(&pool, &next);
            taken.push(next.name.to_string());
        }
        assert_eq!(taken, ["a2", "b1", "a1", "b2", "a3"]);
        assert!(warm.pools.is_empty());
    }

    #[test]
    fn one_that_comes_again_from_another_node_is_moved() {
        let pool: PoolRevision = ("pool".into(), "hash".into());
        let mut warm = Warm::default();
        for node in ["a", "a", "b"] {
            warm.insert(&pool, &key("s"), at(1), node.into());
        }
        assert_eq!(warm.of(&pool, |_| true).count(), 1);
        warm.remove(&pool, &key("s"));
        warm.remove(&pool, &key("s"));
        assert_eq!(warm.of(&pool, |_| true).count(), 0);
    }

    #[test]
    fn what_nobody_may_take_is_not_looked_at() {
        let revision = |hash: &str| -> PoolRevision { ("pool".into(), hash.into()) };
        let mut warm = Warm::default();
        for (name, hash, node) in
            [("old", "old", "a"), ("new", "new", "b"), ("drained-1", "new", "c"), ("drained-2", "new", "c")]
        {
            warm.insert(&revision(hash), &key(name), at(1), node.into());
        }
        warm.insert(&("pool-2".into(), "old".into()), &key("other"), at(1), "a".into());
        let names = |keys: Vec<&Key>| keys.into_iter().map(|key| key.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(warm.of(&revision("new"), |node| node != "c").collect()), ["new"]);
        assert_eq!(names(warm.stale(&revision("new")).collect()), ["old"]);
    }
}
