//! The last decisions, in memory. Their number and their bytes are limited, and the namespaces share both.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use paddock_core::record::Decision;
use parking_lot::Mutex;

/// The last decisions. If there is no room for a new decision, the namespace with the most loses its oldest one, as in
/// [`FairQueue`](paddock_kube::fair_queue::FairQueue). A busy namespace thus displaces its own decisions alone.
pub(super) struct Recent {
    count: usize,
    bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The decisions about the objects of each namespace. A namespace without a decision is not kept.
    namespaces: HashMap<String, Share>,
    /// The number of all decisions so far, which gives their order.
    pushed: u64,
    count: usize,
    bytes: usize,
}

/// The decisions about the objects of one namespace, the oldest first, each with its number.
#[derive(Default)]
struct Share {
    decisions: VecDeque<(u64, Arc<Decision>)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn new(count: usize, bytes: usize) -> Self {
        Self { count, bytes, kept: Mutex::default() }
    }

    /// Whether a decision with this number of bytes is kept. A single large one must not displace all others.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        self.count > 0 && bytes <= self.bytes / 4
    }

    pub(super) fn push(&self, decision: Arc<Decision>) {
        if !self.takes(decision.bytes()) {
            return;
        }
        // Dropped after the lock is released: an object may be large.
        let mut dropped = Vec::new();
        let mut kept = self.kept.lock();
        kept.push(decision);
        while kept.count > self.count {
            dropped.extend(kept.pop_of_largest(|share| share.decisions.len()));
        }
        while kept.bytes > self.bytes {
            dropped.extend(kept.pop_of_largest(|share| share.bytes));
        }
        drop(kept);
    }

    /// The decisions, the oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Decision>> {
        let shares = |kept: &Kept| kept.namespaces.values().flat_map(|share| share.decisions.iter().cloned()).collect();
        let mut decisions: Vec<_> = shares(&self.kept.lock());
        decisions.sort_unstable_by_key(|(number, _)| *number);
        decisions.into_iter().map(|(_, decision)| decision).collect()
    }
}

impl Kept {
    fn push(&mut self, decision: Arc<Decision>) {
        let bytes = decision.bytes();
        let share = self.namespaces.entry(decision.subject.object.namespace.clone()).or_default();
        share.decisions.push_back((self.pushed, decision));
        share.bytes = share.bytes.saturating_add(bytes);
        self.pushed += 1;
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Removes the oldest decision of the namespace with the largest share, and of several such namespaces the oldest
    /// decision of all.
    fn pop_of_largest(&mut self, size: impl Fn(&Share) -> usize) -> Option<Arc<Decision>> {
        let oldest = |share: &Share| share.decisions.front().map(|(number, _)| *number);
        let (namespace, _) = self.namespaces.iter().max_by_key(|(_, share)| (size(share), Reverse(oldest(share))))?;
        let namespace = namespace.clone();
        let share = self.namespaces.get_mut(&namespace)?;
        let (_, decision) = share.decisions.pop_front()?;
        let bytes = decision.bytes();
        share.bytes = share.bytes.saturating_sub(bytes);
        if share.decisions.is_empty() {
            self.namespaces.remove(&namespace);
        }
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(decision)
    }
}
