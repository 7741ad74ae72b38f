//! The state of the [`World`], and plain reads of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};

use super::cpu_samples::CpuSamples;
use super::pending_writes::PendingWrites;
use super::policies::Policies;
use super::reservation::Reservations;
use super::shared::SharedValues;
use super::streaks::Replaced;
use super::tcp_facts::TcpFacts;
use super::touch::Touch;
use super::warm::Warm;
use crate::binding::Bindings;
use crate::object::Object;
use crate::open_connections::LastRound;
use crate::question::RuntimeClassFact;
use crate::settings::Settings;
use crate::snapshot::Demand;

/// The state of an object that a reply contained and that the watch has not delivered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaiting {
    /// The watch will deliver an event, unless a list begins first.
    Event,
    /// A list began after the reply. If the list does not contain the object, the object was deleted.
    List,
    /// A list that began before the reply does not contain the object. The object was created after the list was taken,
    /// or it was deleted before.
    Unverified,
}

/// The reason why Sandboxes on a node are not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeTrouble {
    /// The node is cordoned. The World learned of it at this time.
    CordonedAt(Timestamp),
    /// The node is not Ready.
    NotReady,
}

/// The Sandboxes of one pool, each with its pod.
pub(super) type Members = BTreeMap<Key, (Arc<Object>, Option<Arc<Object>>)>;

/// The operator's picture of the cluster. Watches call [`World::observe`], and the Writer calls [`World::begin`] and
/// [`World::finish`].
#[derive(Debug, Default)]
pub struct World {
    pub(super) settings: Arc<Settings>,
    pub(super) bindings: Arc<Bindings>,
    pub(super) objects: BTreeMap<Key, Arc<Object>>,
    /// Values that several objects have, such as the model of a pool's members.
    pub(super) shared: SharedValues,
    /// The number of objects whose kind is reconciled.
    pub(super) reconciled: usize,
    /// Objects whose newest version came with a reply and not with the watch yet.
    pub(super) awaiting_watch: BTreeMap<Key, Awaiting>,
    /// UIDs of objects that do not exist any more according to a reply, until the watch delivers the deletion.
    pub(super) deleted_uids: BTreeMap<Arc<str>, Kind>,
    /// UIDs of objects whose deletion the watch delivered while a write to them was in flight. A late reply must not
    /// bring such an object back.
    pub(super) tombstones: BTreeMap<Key, BTreeSet<Arc<str>>>,
    pub(super) pending_writes: PendingWrites,
    /// Keys that watch events for a Sandbox made due while a take of the Sandbox was in flight. They wait for the
    /// reply.
    pub(super) due_with_reply: BTreeMap<Key, BTreeSet<Key>>,
    /// Controlled objects, by the UID of their controller.
    pub(super) children: BTreeSet<(Arc<str>, Key)>,
    /// The Sandboxes of each pool with their pods, by the key and UID of the pool. The index makes the snapshot of a
    /// large pool cheap.
    pub(super) members: BTreeMap<(Key, Arc<str>), Members>,
    /// The Sandboxes of pools that somebody touched, and what was done. They are not in `warm`.
    pub(super) touched: BTreeMap<Key, Touch>,
    /// Running Sandboxes without a pod. They may wait for a change of a cluster-wide object.
    pub(super) without_pod: BTreeSet<Key>,
    /// Nodes whose Sandboxes are not handed out.
    pub(super) unusable_nodes: BTreeMap<Arc<str>, NodeTrouble>,
    /// The objects that depend on a template or a pool, by the key of the template or pool.
    pub(super) referrers: BTreeMap<Key, BTreeSet<Key>>,
    /// The templates of Sandboxes, and the NetworkPolicies of templates.
    pub(super) policies: Policies,
    /// Which Sandboxes a TCP connection resumes, and by which ports.
    pub(super) tcp: TcpFacts,
    /// The CPU that the pods of Sandboxes use.
    pub(super) cpu: CpuSamples,
    /// The connections that are open through the gateways.
    pub(super) connections: LastRound,
    /// Warm Sandboxes that a claim can take.
    pub(super) warm: Warm,
    /// Warm Sandboxes that are reserved for claims which were admitted. They are not in `warm`.
    pub(super) reservations: Reservations,
    /// The last `now` that a caller passed to [`World::observe`] or to a reservation.
    pub(super) last_now: Timestamp,
    /// Live Sandboxes that claims took, by the pool that they came from.
    pub(super) taken: BTreeMap<Key, BTreeSet<Key>>,
    pub(super) demand: BTreeMap<Key, Demand>,
    pub(super) status_written: BTreeMap<Key, Timestamp>,
    /// How often pods that ended were replaced in a row.
    pub(super) replaced: Replaced,
    pub(super) classes: Arc<Vec<RuntimeClassFact>>,
    /// The number of creations so far, from which different names are made.
    pub(super) created: u64,
}

impl World {
    /// Returns an empty World.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), last_now: Timestamp::MIN, ..Self::default() }
    }

    /// The settings of the operator.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The bindings in force.
    #[must_use]
    pub fn bindings(&self) -> &Arc<Bindings> {
        &self.bindings
    }

    /// The newest version of an object, if the object exists.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// Descriptions of our pending writes to an object, for `/debug/seen`.
    #[must_use]
    pub fn pending(&self, key: &Key) -> Vec<String> {
        self.pending_writes.describe(key)
    }

    /// Whether one of our writes to the object is in flight.
    #[must_use]
    pub fn awaits_reply(&self, key: &Key) -> bool {
        self.pending_writes.awaits_reply(key)
    }

    /// All objects of one kind, in the order of their keys.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        // The empty string sorts before every namespace.
        let start = Key::new(kind, "", "");
        self.objects.range(start..).take_while(move |(k, _)| k.kind == kind).map(|(_, o)| o)
    }

    /// All objects of a kind in a namespace.
    pub(super) fn of_namespace(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &Arc<Object>> {
        let there = self.objects.range(Key::new(kind, namespace, "")..);
        there.take_while(move |(k, _)| k.kind == kind && *k.namespace == *namespace).map(|(_, o)| o)
    }

    /// Whether an object of a kind is unverified: a reply contained it, a list that began before the reply did not, and
    /// no event has delivered it since. If this lasts, only another list can show whether the object still exists.
    #[must_use]
    pub fn has_unverified(&self, kind: Kind) -> bool {
        self.awaiting_watch.iter().any(|(key, awaiting)| key.kind == kind && *awaiting == Awaiting::Unverified)
    }

    /// The keys of all objects whose kind is reconciled, for the periodic pass.
    #[must_use]
    pub fn everything(&self) -> Vec<Key> {
        self.reconciled_kinds(Kind::OWN)
    }

    /// The keys of claims whose status has no Sandbox yet.
    #[must_use]
    pub fn claims_without_sandbox(&self) -> Vec<Key> {
        let claims = [Kind::Claim, Kind::SeedClaim].into_iter().flat_map(|kind| self.of_kind(kind));
        let waits = |o: &&Arc<Object>| o.claim().is_some_and(|claim| claim.status.sandbox.is_none());
        claims.filter(waits).map(|o| o.key.clone()).collect()
    }

    /// The number of objects whose kind is reconciled.
    #[must_use]
    pub fn reconciled(&self) -> usize {
        self.reconciled
    }

    /// At most `most` keys of objects whose kind is reconciled: those that follow `key` in the order of keys, or the
    /// first ones.
    #[must_use]
    pub fn everything_after(&self, key: Option<&Key>, most: usize) -> Vec<Key> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.objects.range((from, Bound::Unbounded)).map(|(key, _)| key);
        // Kinds that are reconciled sort before all other kinds.
        keys.take_while(|key| key.kind.own().is_some()).take(most).cloned().collect()
    }

    /// The keys of all objects of a namespace whose kind is reconciled.
    pub(super) fn reconciled_in(&self, namespace: &str) -> impl Iterator<Item = Key> {
        let there = Kind::OWN.into_iter().flat_map(move |kind| self.of_namespace(kind, namespace));
        there.map(|object| object.key.clone())
    }

    pub(super) fn reconciled_kinds<const N: usize>(&self, kinds: [Kind; N]) -> Vec<Key> {
        kinds.into_iter().flat_map(|k| self.of_kind(k)).map(|o| o.key.clone()).collect()
    }
}
