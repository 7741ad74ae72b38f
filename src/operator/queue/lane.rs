//! The lanes of the work queue: the number of concurrent reconciles for each kind of work, and the order of the keys.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use paddock_api::kind::{Class, Key, Kind, OwnKind};
use strum::{IntoStaticStr, VariantArray};

/// A kind of work. The lanes are searched in this order, so claims never wait behind other work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Lane {
    /// SandboxClaims of both API shapes.
    Claims,
    /// Sandboxes.
    Sandboxes,
    /// SandboxWarmPools of both API shapes.
    Pools,
    /// SandboxTemplates of both API shapes. Kinds that are not reconciled themselves belong here too.
    Templates,
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

/// The hash that identifies a flow within a lane.
pub(super) type Flow = u64;

/// The flow of a key: its kind, its namespace, and its name without the generated suffix after the last hyphen. The
/// Sandboxes of one pool (`pool-x7k2p`) are one flow, and so is a client's series of claims. Two flows with the same
/// hash share their turns, without other effects.
pub(super) fn flow(key: &Key) -> Flow {
    let family = key.name.rsplit_once('-').map_or(&*key.name, |(family, _)| family);
    let mut hasher = DefaultHasher::new();
    (key.kind, &key.namespace, family).hash(&mut hasher);
    hasher.finish()
}

/// The waiting keys of one lane.
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

    /// The number of waiting keys. A key that is in the lane twice counts once.
    pub(super) fn ready(&self) -> usize {
        (self.fresh.len + self.background.len).saturating_sub(self.stale)
    }

    pub(super) fn push(&mut self, flow: Flow, key: Key, ticket: u64, background: bool) {
        if background { &mut self.background } else { &mut self.fresh }.push(flow, key, ticket);
    }

    pub(super) fn pop(&mut self) -> Option<(Key, u64)> {
        self.fresh.pop().or_else(|| self.background.pop())
    }

    /// Drops all waiting keys.
    pub(super) fn clear(&mut self) {
        (self.fresh, self.background, self.stale) = (Turns::default(), Turns::default(), 0);
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

/// Flows that take turns, with one key a turn.
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
