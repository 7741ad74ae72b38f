//! The World: the operator's picture of the cluster, from watches and from the replies to our own writes.
//!
//! The object in a reply is put into the World at once (write-through), so the next decision already takes it into
//! account.
//! An operation in flight, or one whose reply was lost, leaves a pending write on its object, which decisions take
//! into account too. A watch event that is older than the object in the World is dropped.

mod demand;
mod index;
mod pending_writes;
mod reservation;
mod snapshot;
mod warm;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;

use crate::binding::Bindings;
use crate::kind::{Key, Kind};
use crate::object::Object;
use crate::plan::{Action, Op, Outcome};
use crate::question::RuntimeClassFact;
use crate::settings::Settings;
use crate::snapshot::{Demand, Refusal};
use pending_writes::{PendingWrite, PendingWrites};
use reservation::Reservations;
pub use reservation::{NewClaim, reserved_sandbox};
use warm::Warm;

/// A delivery of a watch.
#[derive(Clone, Debug)]
pub enum Observed {
    /// An object exists, or it has changed.
    Applied(Object),
    /// An object was deleted.
    Deleted(Object),
    /// A list of this kind has begun. An object that was written before is in the list, or it was deleted.
    Listing(Kind),
    /// A list of this kind is complete. An object that is not in the list was deleted.
    Listed(Kind, Vec<Object>),
}

/// The state of an object that a reply contained and that the watch has not delivered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    /// The watch will deliver an event, unless a list begins first.
    Event,
    /// A list began after the reply. If the list does not contain the object, the object was deleted.
    List,
    /// A list that began before the reply does not contain the object. The object was created after the list was taken,
    /// or
    /// it was deleted before.
    Unverified,
}

/// The reason why Sandboxes on a node are not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeTrouble {
    /// The node is cordoned. The World learned of it at this time.
    CordonedAt(Timestamp),
    /// The node is not Ready.
    Silent,
}

/// The plan is out of date, because an object has changed since the snapshot. A new snapshot and a new decision are
/// needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

/// The Sandboxes of one pool, each with its pod.
type Members = BTreeMap<Key, (Arc<Object>, Option<Arc<Object>>)>;

/// The operator's picture of the cluster. Watches call [`World::observe`], and the Writer calls [`World::begin`] and
/// [`World::finish`].
#[derive(Debug)]
pub struct World {
    settings: Arc<Settings>,
    bindings: Arc<Bindings>,
    objects: BTreeMap<Key, Arc<Object>>,
    /// The number of objects whose kind is reconciled.
    reconciled: usize,
    /// Objects whose newest version came with a reply and not with the watch yet.
    awaiting_watch: BTreeMap<Key, Awaiting>,
    /// UIDs of objects that do not exist any more according to a reply, until the watch delivers the deletion.
    deleted_uids: BTreeMap<Arc<str>, Kind>,
    /// UIDs of objects whose deletion the watch delivered while a write to them was in flight. A late reply must not
    /// bring such an object back.
    tombstones: BTreeMap<Key, BTreeSet<Arc<str>>>,
    pending_writes: PendingWrites,
    /// Keys that watch events for a Sandbox made due while a take of the Sandbox was in flight. They wait for the
    /// reply.
    due_with_reply: BTreeMap<Key, BTreeSet<Key>>,
    /// Controlled objects, by the UID of their controller.
    children: BTreeMap<Arc<str>, BTreeSet<Key>>,
    /// The Sandboxes of each pool with their pods, by the key and UID of the pool. The index makes the snapshot of a
    /// large
    /// pool cheap.
    members: BTreeMap<(Key, Arc<str>), Members>,
    /// Running Sandboxes without a pod. They may wait for a change of a cluster-wide object.
    without_pod: BTreeSet<Key>,
    /// Nodes whose Sandboxes are not handed out.
    unusable_nodes: BTreeMap<Arc<str>, NodeTrouble>,
    /// The objects that depend on a template or a pool, by the key of the template or pool.
    referrers: BTreeMap<Key, BTreeSet<Key>>,
    /// Warm Sandboxes that a claim can take.
    warm: Warm,
    /// Warm Sandboxes that are reserved for claims which were admitted. They are not in `warm`.
    reservations: Reservations,
    /// The last `now` that a caller passed to [`World::observe`] or to a reservation.
    last_now: Timestamp,
    /// Live Sandboxes that claims took, by the pool that they came from.
    taken: BTreeMap<Key, BTreeSet<Key>>,
    demand: BTreeMap<Key, Demand>,
    status_written: BTreeMap<Key, Timestamp>,
    classes: Arc<Vec<RuntimeClassFact>>,
    /// The number of creations so far, from which different names are made.
    created: u64,
}

impl World {
    /// Returns an empty World.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            bindings: Arc::default(),
            objects: BTreeMap::new(),
            reconciled: 0,
            awaiting_watch: BTreeMap::new(),
            deleted_uids: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            pending_writes: PendingWrites::default(),
            due_with_reply: BTreeMap::new(),
            children: BTreeMap::new(),
            members: BTreeMap::new(),
            without_pod: BTreeSet::new(),
            unusable_nodes: BTreeMap::new(),
            referrers: BTreeMap::new(),
            warm: Warm::default(),
            reservations: Reservations::default(),
            last_now: Timestamp::MIN,
            taken: BTreeMap::new(),
            demand: BTreeMap::new(),
            status_written: BTreeMap::new(),
            classes: Arc::default(),
            created: 0,
        }
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

    /// Whether an object of a kind is unverified: a reply contained it, a list that began before the reply did not, and
    /// no
    /// event has delivered it since. If this lasts, only another list can show whether the object still exists.
    #[must_use]
    pub fn has_unverified(&self, kind: Kind) -> bool {
        self.awaiting_watch.iter().any(|(key, owed)| key.kind == kind && *owed == Awaiting::Unverified)
    }

    /// Replaces the bindings. Returns the keys to reconcile: all pools and Sandboxes.
    pub fn set_bindings(&mut self, bindings: Bindings) -> Vec<Key> {
        self.bindings = Arc::new(bindings);
        self.reconciled_kinds([Kind::Pool, Kind::SeedPool, Kind::Sandbox])
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
    /// first
    /// ones.
    #[must_use]
    pub fn everything_after(&self, key: Option<&Key>, most: usize) -> Vec<Key> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.objects.range((from, Bound::Unbounded)).map(|(key, _)| key);
        // Kinds that are reconciled sort before all other kinds.
        keys.take_while(|key| key.kind.own().is_some()).take(most).cloned().collect()
    }

    /// The keys of all objects of a namespace whose kind is reconciled.
    fn reconciled_in(&self, namespace: &str) -> impl Iterator<Item = Key> {
        Kind::OWN.into_iter().flat_map(move |kind| {
            let there = self.objects.range(Key::new(kind, namespace, "")..);
            there.map(|(key, _)| key.clone()).take_while(move |key| key.kind == kind && *key.namespace == *namespace)
        })
    }

    /// Removes state that no event will remove: pending writes whose reply was lost so long ago that they do not count
    /// any
    /// more, old refusals, and the demand for pools that do not exist. The operator calls this periodically.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.pending_writes.forget_old(now, self.settings.unknown_for);
        let objects = &self.objects;
        self.demand.retain(|pool, _| objects.contains_key(pool));
    }

    fn reconciled_kinds<const N: usize>(&self, kinds: [Kind; N]) -> Vec<Key> {
        kinds.into_iter().flat_map(|k| self.of_kind(k)).map(|o| o.key.clone()).collect()
    }

    /// Puts a delivery of a watch into the World. Returns the keys to reconcile because of it.
    pub fn observe(&mut self, observed: Observed, now: Timestamp) -> Vec<Key> {
        self.expire_reservations(now);
        let mut dirty = BTreeSet::new();
        match observed {
            Observed::Applied(object) => {
                let key = object.key.clone();
                self.applied(object, now, &mut dirty);
                if self.pending_writes.is_being_taken(&key) && !dirty.is_empty() {
                    // This event most likely shows our own take before its reply has arrived. The keys wait for the
                    // reply.
                    // Otherwise their reconciles would delay the rest of the claim's plan.
                    self.due_with_reply.entry(key).or_default().append(&mut dirty);
                }
            }
            Observed::Deleted(object) => {
                self.deleted_uids.remove(&object.meta.uid);
                self.removed(&object.key, &object.meta.uid, &mut dirty);
            }
            Observed::Listing(kind) => {
                for (_, owed) in self.awaiting_watch.iter_mut().filter(|(key, _)| key.kind == kind) {
                    *owed = Awaiting::List;
                }
            }
            Observed::Listed(kind, objects) => {
                let listed: BTreeSet<Key> = objects.iter().map(|o| o.key.clone()).collect();
                let uids: BTreeSet<&str> = objects.iter().map(|o| &*o.meta.uid).collect();
                // A watch that follows a list delivers nothing about objects that the list does not contain.
                self.deleted_uids.retain(|uid, gone_kind| *gone_kind != kind || uids.contains(&**uid));
                for object in objects {
                    self.applied(object, now, &mut dirty);
                }
                let missing: Vec<_> = self
                    .of_kind(kind)
                    .filter(|o| !listed.contains(&o.key))
                    .map(|o| (o.key.clone(), o.meta.uid.clone()))
                    .collect();
                for (key, uid) in missing {
                    if let Some(owed @ (Awaiting::Event | Awaiting::Unverified)) = self.awaiting_watch.get_mut(&key) {
                        *owed = Awaiting::Unverified;
                        continue;
                    }
                    self.deleted_uids.remove(&uid);
                    self.removed(&key, &uid, &mut dirty);
                }
            }
        }
        dirty.into_iter().collect()
    }

    fn applied(&mut self, object: Object, now: Timestamp, dirty: &mut BTreeSet<Key>) {
        if self.deleted_uids.contains_key(&object.meta.uid) {
            return;
        }
        if let Some(held) = self.objects.get(&object.key) {
            if object.meta.version >= held.meta.version {
                self.awaiting_watch.remove(&object.key);
            }
            if object.meta.version <= held.meta.version {
                return;
            }
        }
        self.put(object, now, dirty);
    }

    fn removed(&mut self, key: &Key, uid: &str, dirty: &mut BTreeSet<Key>) {
        if self.objects.get(key).is_some_and(|held| &*held.meta.uid == uid) {
            if self.pending_writes.awaits_reply(key) {
                self.tombstones.entry(key.clone()).or_default().insert(uid.into());
            }
            self.awaiting_watch.remove(key);
            self.pending_writes.forget(key);
            self.pending_writes.not_refused(uid);
            self.status_written.remove(key);
            self.take_out(key, dirty);
        }
    }

    /// Begins a step: records a pending write for each operation, and returns the operations as they are to be sent.
    ///
    /// # Errors
    /// [`Stale`] if an object is not in the state that the plan was made for. No pending write is recorded in that
    /// case.
    pub fn begin(&mut self, step: &[Op]) -> Result<Vec<Op>, Stale> {
        if !step.iter().all(|op| self.still_holds(op)) {
            return Err(Stale);
        }
        for op in step {
            if matches!(op.action, Action::Create { .. }) {
                self.created += 1;
            }
            let mark = PendingWrite::of(op);
            if matches!(mark, PendingWrite::Take { .. } | PendingWrite::Delete) {
                self.reservations.remove(&op.key);
                self.remove_warm(&op.key);
            }
            self.pending_writes.set(op.key.clone(), mark);
        }
        Ok(step.iter().map(|op| self.addressed(op)).collect())
    }

    /// Adds the version in the World to a status write. The API server checks the UID in a patch of an object, but not
    /// in a
    /// patch of a custom resource's status. Without the version, the patch could change a new object of the same name.
    fn addressed(&self, op: &Op) -> Op {
        let mut op = op.clone();
        if let Action::Patch { uid, resource_version: version @ None, status: true, .. } = &mut op.action
            && let Some(held) = self.objects.get(&op.key).filter(|held| *held.meta.uid == **uid)
        {
            *version = Some(held.meta.resource_version.to_string());
        }
        op
    }

    fn still_holds(&self, op: &Op) -> bool {
        let held = self.objects.get(&op.key);
        let busy = self.pending_writes.in_flight(&op.key);
        match &op.action {
            Action::Create { .. } => held.is_none() && !busy,
            Action::Patch { uid, resource_version, .. } => held.is_some_and(|o| {
                *o.meta.uid == **uid
                    && resource_version.as_ref().is_none_or(|v| *o.meta.resource_version == **v && !busy)
            }),
            Action::Delete { uid, resource_version, .. } => held.is_some_and(|o| {
                *o.meta.uid == **uid
                    && resource_version.as_ref().is_none_or(|v| *o.meta.resource_version == **v)
                    && !busy
            }),
        }
    }

    /// The version that an operation was planned for. If the operation names only a UID, this is the version of that
    /// object in
    /// the World.
    fn tried_version(&self, op: &Op) -> Option<u64> {
        let (Action::Patch { uid, resource_version, .. } | Action::Delete { uid, resource_version, .. }) = &op.action
        else {
            return None;
        };
        match resource_version {
            Some(version) => version.parse().ok(),
            None => self.objects.get(&op.key).filter(|o| *o.meta.uid == **uid).map(|o| o.meta.version),
        }
    }

    /// Ends an operation with its outcome. Returns the keys to reconcile because of it.
    pub fn finish(&mut self, op: &Op, outcome: &Outcome, now: Timestamp) -> Vec<Key> {
        let mut dirty = BTreeSet::new();
        match outcome {
            Outcome::Stored(object) => {
                self.pending_writes.clear(&op.key, &PendingWrite::of(op));
                if let PendingWrite::Create { controller: Some(uid) } | PendingWrite::Take { claim: Some(uid) } =
                    PendingWrite::of(op)
                {
                    self.pending_writes.not_refused(&uid);
                }
                if matches!(op.action, Action::Patch { status: true, .. }) {
                    self.status_written.insert(op.key.clone(), now);
                }
                let newer = self.objects.get(&op.key).is_none_or(|held| held.meta.version < object.meta.version);
                let tombstones = self.tombstones.get(&op.key).is_some_and(|uids| uids.contains(&object.meta.uid));
                if newer && !tombstones && !self.deleted_uids.contains_key(&object.meta.uid) {
                    self.awaiting_watch.insert(op.key.clone(), Awaiting::Event);
                    self.put(Object::clone(object), now, &mut dirty);
                } else {
                    self.add_warm(&op.key);
                }
            }
            Outcome::Gone => {
                self.pending_writes.clear(&op.key, &PendingWrite::of(op));
                if let Some(uid) = self.objects.get(&op.key).map(|o| o.meta.uid.clone()) {
                    let named = match &op.action {
                        Action::Patch { uid, .. } | Action::Delete { uid, .. } => Some(uid.as_str()),
                        Action::Create { .. } => None,
                    };
                    if named == Some(&*uid) {
                        self.deleted_uids.insert(uid.clone(), op.key.kind);
                        self.removed(&op.key, &uid, &mut dirty);
                    }
                }
            }
            Outcome::Conflict => {
                self.pending_writes.clear(&op.key, &PendingWrite::of(op));
                // The version of the attempt is out of date. The World may have a newer version by now.
                if let Some(version) = self.tried_version(op) {
                    self.pending_writes.outdated(op.key.clone(), version);
                }
                self.add_warm(&op.key);
            }
            // If an earlier attempt had no reply, it created this object, and the watch will deliver it.
            Outcome::Exists => self.pending_writes.lost(&op.key, &PendingWrite::of(op), now),
            Outcome::Rejected { status, message } => {
                self.pending_writes.not_done(&op.key, &PendingWrite::of(op));
                self.pending_writes.refuse(
                    op.key.clone(),
                    PendingWrite::of(op),
                    Refusal { status: *status, message: message.as_str().into(), at: now },
                );
                self.add_warm(&op.key);
            }
            Outcome::Busy => {
                self.pending_writes.not_done(&op.key, &PendingWrite::of(op));
                self.add_warm(&op.key);
            }
            Outcome::Unknown => {
                self.pending_writes.lost(&op.key, &PendingWrite::of(op), now);
                self.add_warm(&op.key);
            }
        }
        if !self.pending_writes.awaits_reply(&op.key) {
            self.tombstones.remove(&op.key);
        }
        if !self.pending_writes.is_being_taken(&op.key) {
            dirty.extend(self.due_with_reply.remove(&op.key).into_iter().flatten());
        }
        dirty.into_iter().collect()
    }
}
