//! Lanes of the work queue: what may be worked on side by side, and in which turn.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use paddock_core::kind::{Class, Key, Kind, OwnKind};

/// Kinds of work, in the order in which they are looked through: claims never wait behind the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Claims of both groups.
    Claims,
    /// Sandboxes.
    Sandboxes,
    /// Pools of both groups.
    Pools,
    /// Templates, and everything that is not reconciled by itself.
    Templates,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Lane; 4] = [Lane::Claims, Lane::Sandboxes, Lane::Pools, Lane::Templates];

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

    /// The label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Claims => "claims",
            Lane::Sandboxes => "sandboxes",
            Lane::Pools => "pools",
            Lane::Templates => "templates",
        }
    }
}

/// How many keys of each lane are worked on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// `--sandbox-claim-concurrent-workers`.
    pub claims: usize,
    /// `--sandbox-concurrent-workers`.
    pub sandboxes: usize,
    /// `--sandbox-warm-pool-concurrent-workers`.
    pub pools: usize,
    /// `--sandbox-template-concurrent-workers`.
    pub templates: usize,
}

impl Default for Workers {
    /// A reconcile mostly waits for the API server, so these bound requests rather than threads.
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

/// Names a flow within a lane.
pub(super) type Flow = u64;

/// The flow of a key: its namespace, and its name without what a generator put behind the last hyphen. So the
/// sandboxes of one pool (`pool-x7k2p`) are one flow, and so is one client's series of claims. Two flows whose
/// hashes meet share their turns, and nothing else.
pub(super) fn flow(key: &Key) -> Flow {
    let family = key.name.rsplit_once('-').map_or(&*key.name, |(family, _)| family);
    let mut hasher = DefaultHasher::new();
    (key.kind, &key.namespace, family).hash(&mut hasher);
    hasher.finish()
}

/// One lane's waiting keys.
pub(super) struct LaneState {
    limit: usize,
    pub(super) running: usize,
    fresh: Turns,
    background: Turns,
    stale: usize,
}

impl LaneState {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), running: 0, fresh: Turns::default(), background: Turns::default(), stale: 0 }
    }

    pub(super) fn has_room(&self) -> bool {
        self.running < self.limit
    }

    /// Keys that wait here, those that stand twice counted once.
    pub(super) fn ready(&self) -> usize {
        (self.fresh.len + self.background.len).saturating_sub(self.stale)
    }

    pub(super) fn push(&mut self, flow: Flow, key: Key, ticket: u64, background: bool) {
        if background { &mut self.background } else { &mut self.fresh }.push(flow, key, ticket);
    }

    pub(super) fn pop(&mut self) -> Option<(Key, u64)> {
        self.fresh.pop().or_else(|| self.background.pop())
    }

    /// Forgets what waits here.
    pub(super) fn clear(&mut self) {
        (self.fresh, self.background, self.stale) = (Turns::default(), Turns::default(), 0);
    }

    /// Notes that a key now stands twice.
    pub(super) fn preempt(&mut self) {
        self.stale += 1;
    }

    /// Notes that a key taken out had been overtaken.
    pub(super) fn skip(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }
}

/// Flows taking turns, one key a turn.
#[derive(Default)]
struct Turns {
    ring: VecDeque<Flow>,
    flows: HashMap<Flow, VecDeque<(Key, u64)>>,
    len: usize,
}

impl Turns {
    fn push(&mut self, flow: Flow, key: Key, ticket: u64) {
        let waiting = self.flows.entry(flow).or_default();
        if waiting.is_empty() {
            self.ring.push_back(flow);
        }
        waiting.push_back((key, ticket));
        self.len += 1;
    }

    fn pop(&mut self) -> Option<(Key, u64)> {
        let flow = self.ring.pop_front()?;
        let waiting = self.flows.get_mut(&flow)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.flows.remove(&flow);
        } else {
            self.ring.push_back(flow);
        }
        self.len -= usize::from(next.is_some());
        next
    }
}
