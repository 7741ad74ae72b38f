//! The lanes of the work queue: the number of concurrent reconciles for each kind of work, and the order of the keys.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use paddock_api::kind::{Class, Key, Kind, OwnKind};
use paddock_kube::turns::{Held, Ranks, Turns};
use strum::{IntoStaticStr, VariantArray};

/// A kind of work, in the order of urgency. A lane that has been passed over several times for a more urgent one has a
/// turn, so claims come first and stop nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Lane {
    /// SandboxClaims of both API shapes.
    Claims,
    /// SandboxTemplates of both API shapes: there are few, and their Sandboxes wait for their NetworkPolicies. Kinds that
    /// are not reconciled themselves belong here too.
    Templates,
    /// Sandboxes.
    Sandboxes,
    /// SandboxWarmPools of both API shapes.
    Pools,
}

impl Lane {
    /// The lane of a kind.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        match kind.class() {
            Class::Own(OwnKind::Claim(_)) => Lane::Claims,
            Class::Own(OwnKind::Sandbox) => Lane::Sandboxes,
            Class::Own(OwnKind::Pool(_)) => Lane::Pools,
            Class::Own(OwnKind::Template(_)) | Class::Child(_) | Class::Cluster(_) => Lane::Templates,
        }
    }

    /// The word in the label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The number of concurrent reconciles in each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// The value of `--sandbox-claim-concurrent-workers`.
    pub claims: usize,
    /// The value of `--sandbox-concurrent-workers`.
    pub sandboxes: usize,
    /// The value of `--sandbox-warm-pool-concurrent-workers`.
    pub pools: usize,
    /// The value of `--sandbox-template-concurrent-workers`.
    pub templates: usize,
}

impl Default for Workers {
    /// A reconcile mostly waits for the API server, so these numbers limit requests rather than threads.
    fn default() -> Self {
        Self { claims: 128, sandboxes: 128, pools: 32, templates: 8 }
    }
}

impl Workers {
    pub(super) fn of(self, lane: Lane) -> usize {
        match lane {
            Lane::Claims => self.claims,
            Lane::Sandboxes => self.sandboxes,
            Lane::Pools => self.pools,
            Lane::Templates => self.templates,
        }
    }
}

/// The hash that identifies a flow within a namespace.
pub(crate) type Flow = u64;

/// The flow of a key within its namespace: its kind, and its name without the generated suffix after the last hyphen.
/// The Sandboxes of one pool (`pool-x7k2p`) are one flow, and so is a client's series of claims. Two flows with the
/// same hash share their turns, without other effects.
pub(crate) fn flow(key: &Key) -> Flow {
    let family = key.name.rsplit_once('-').map_or(&*key.name, |(family, _)| family);
    let mut hasher = DefaultHasher::new();
    (key.kind, family).hash(&mut hasher);
    hasher.finish()
}

/// The keys that wait, with their tickets. Namespaces take turns, and the flows of a namespace do.
type Waiting = Turns<Arc<str>, Flow, (Key, u64)>;

/// The waiting keys of one lane.
pub(super) struct LaneState {
    limit: usize,
    running: usize,
    /// The running reconciles of each namespace.
    held: Held<Arc<str>>,
    fresh: Waiting,
    background: Waiting,
    ranks: Ranks<2>,
    stale: usize,
}

impl LaneState {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            running: 0,
            held: Held::default(),
            fresh: Waiting::default(),
            background: Waiting::default(),
            ranks: Ranks::default(),
            stale: 0,
        }
    }

    /// Whether a key waits whose namespace may have one more reconcile.
    pub(super) fn has_turn(&self) -> bool {
        self.turns().into_iter().any(|ready| ready)
    }

    /// The same for the fresh keys, and for those of the background.
    fn turns(&self) -> [bool; 2] {
        if self.running >= self.limit {
            // A full lane is asked after every change, so it must not look at every namespace.
            return [false; 2];
        }
        let free = self.free();
        [&self.fresh, &self.background].map(|waiting| waiting.any_of(|namespace| self.held.may_take(namespace, free)))
    }

    /// The number of reconciles that may be added to the running ones.
    fn free(&self) -> usize {
        self.limit.saturating_sub(self.running)
    }

    /// The number of waiting keys. A key that is in the lane twice counts once.
    pub(super) fn ready(&self) -> usize {
        (self.fresh.len() + self.background.len()).saturating_sub(self.stale)
    }

    /// The number of running reconciles.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn push(&mut self, key: Key, ticket: u64, background: bool) {
        let waiting = if background { &mut self.background } else { &mut self.fresh };
        waiting.push(key.namespace.clone(), flow(&key), (key, ticket));
    }

    /// Takes the next key out. [`LaneState::begin`] has to follow if the key is reconciled.
    pub(super) fn pop(&mut self) -> Option<(Key, u64)> {
        let ready = self.turns();
        let rank = self.ranks.next(ready)?;
        self.ranks.served(rank, ready);
        let (free, held) = (self.free(), &self.held);
        let waiting = if rank == 0 { &mut self.fresh } else { &mut self.background };
        waiting.pop_of(|namespace| held.may_take(namespace, free))
    }

    /// Records the begin of a reconcile.
    pub(super) fn begin(&mut self, key: &Key) {
        self.running += 1;
        self.held.take(key.namespace.clone());
    }

    /// Records the end of a reconcile.
    pub(super) fn end(&mut self, key: &Key) {
        self.running = self.running.saturating_sub(1);
        self.held.give_back(&key.namespace);
    }

    /// Drops all waiting keys.
    pub(super) fn clear(&mut self) {
        self.fresh.clear();
        self.background.clear();
        self.stale = 0;
    }

    /// Records that a key is now in the lane twice.
    pub(super) fn preempt(&mut self) {
        self.stale += 1;
    }

    /// Records that the outdated ticket of a key was taken out.
    pub(super) fn skip(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }
}
