//! Everything that is known of the cluster: what was watched, and our own writes until the watch shows them.
//!
//! A reply to a write is taken in at once (write-through), so the next decision already counts it. An
//! operation that is on its way, or whose reply was lost, is marked on its object and counts as well.
//! Watch events that are older than what is held are dropped.

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

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum Observed {
    /// An object is there, or changed.
    Applied(Object),
    /// An object is gone.
    Deleted(Object),
    /// A list of this kind was begun: what was written before it is in it, or gone.
    Listing(Kind),
    /// A list is complete: what is not in it is gone.
    Listed(Kind, Vec<Object>),
}

/// What the watch owes us of an object that a reply showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    /// An event, unless a list comes first.
    Event,
    /// A list that was begun since shows it, or it is gone.
    List,
    /// A list that was begun before the reply came did not show it: made after that list was taken, or gone before.
    Unverified,
}

/// What speaks against a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeTrouble {
    /// It is to be emptied, and was first seen so then.
    CordonedAt(Timestamp),
    /// It is not ready.
    Silent,
}

/// The plan was made from what is no longer so: see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

/// Sandboxes of one pool, each with its pod.
type Members = BTreeMap<Key, (Arc<Object>, Option<Arc<Object>>)>;

/// The cluster as far as it is known.
#[derive(Debug)]
pub struct World {
    settings: Arc<Settings>,
    bindings: Arc<Bindings>,
    objects: BTreeMap<Key, Arc<Object>>,
    /// How many of them are reconciled.
    reconciled: usize,
    /// Objects whose newest state we know from a reply, not yet from the watch.
    awaiting_watch: BTreeMap<Key, Awaiting>,
    /// UIDs that a reply said are gone, until the watch says so too.
    deleted_uids: BTreeMap<Arc<str>, Kind>,
    /// UIDs that the watch said are gone while a reply about them was still to come.
    tombstones: BTreeMap<Key, BTreeSet<Arc<str>>>,
    pending_writes: PendingWrites,
    /// What a watch made due of a Sandbox that is being taken, before the reply to that.
    due_with_reply: BTreeMap<Key, BTreeSet<Key>>,
    /// Controlled objects by their controller's UID.
    children: BTreeMap<Arc<str>, BTreeSet<Key>>,
    /// Sandboxes of a pool, each with its pod, by the pool's key and UID: so that a look at a large pool is short.
    members: BTreeMap<(Key, Arc<str>), Members>,
    /// Sandboxes that are to run and have no pod: what they wait for may be a fact of the cluster.
    without_pod: BTreeSet<Key>,
    /// Nodes on which nothing is handed out.
    unusable_nodes: BTreeMap<Arc<str>, NodeTrouble>,
    /// Who waits for or depends on a template or pool, by its key.
    referrers: BTreeMap<Key, BTreeSet<Key>>,
    /// Sandboxes that could be claimed.
    warm: Warm,
    /// Sandboxes that are reserved for claims at their admission. They are not in `warm`.
    reservations: Reservations,
    /// The time that it was told last.
    last_now: Timestamp,
    /// Live claimed Sandboxes by the pool that they came from.
    taken: BTreeMap<Key, BTreeSet<Key>>,
    demand: BTreeMap<Key, Demand>,
    status_written: BTreeMap<Key, Timestamp>,
    classes: Arc<Vec<RuntimeClassFact>>,
    /// Counts creations, so that names differ.
    created: u64,
}

impl World {
    /// A world of which nothing is known.
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

    /// What the operator was told at its start.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The bindings in force.
    #[must_use]
    pub fn bindings(&self) -> &Arc<Bindings> {
        &self.bindings
    }

    /// The object as it is known now.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// Our own writes to an object that no watch has shown yet, in words, for `/debug/seen`.
    #[must_use]
    pub fn pending(&self, key: &Key) -> Vec<String> {
        self.pending_writes.describe(key)
    }

    /// Whether a write of ours to the object is under way.
    #[must_use]
    pub fn awaits_reply(&self, key: &Key) -> bool {
        self.pending_writes.awaits_reply(key)
    }

    /// Objects of one kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        // `Arc<str>` of nothing sorts before every namespace.
        let start = Key::new(kind, "", "");
        self.objects.range(start..).take_while(move |(k, _)| k.kind == kind).map(|(_, o)| o)
    }

    /// Whether the last list of a kind lacked what a reply had shown meanwhile, and no event has shown it since. If that
    /// stays so for long, only another list can say that it is gone.
    #[must_use]
    pub fn has_unverified(&self, kind: Kind) -> bool {
        self.awaiting_watch.iter().any(|(key, owed)| key.kind == kind && *owed == Awaiting::Unverified)
    }

    /// Puts other policies in force; answers whom that concerns.
    pub fn set_bindings(&mut self, bindings: Bindings) -> Vec<Key> {
        self.bindings = Arc::new(bindings);
        self.reconciled_kinds([Kind::Pool, Kind::SeedPool, Kind::Sandbox])
    }

    /// Every object that is reconciled: the periodic look at everything.
    #[must_use]
    pub fn everything(&self) -> Vec<Key> {
        self.reconciled_kinds(Kind::OWN)
    }

    /// Claims whose status names no Sandbox yet.
    #[must_use]
    pub fn claims_without_sandbox(&self) -> Vec<Key> {
        let claims = [Kind::Claim, Kind::SeedClaim].into_iter().flat_map(|kind| self.of_kind(kind));
        let waits = |o: &&Arc<Object>| o.claim().is_some_and(|claim| claim.status.sandbox.is_none());
        claims.filter(waits).map(|o| o.key.clone()).collect()
    }

    /// How many objects that is.
    #[must_use]
    pub fn reconciled(&self) -> usize {
        self.reconciled
    }

    /// Some of them: those that follow a key in the order of keys, or the first ones.
    #[must_use]
    pub fn everything_after(&self, key: Option<&Key>, most: usize) -> Vec<Key> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.objects.range((from, Bound::Unbounded)).map(|(key, _)| key);
        // Kinds that are reconciled stand before all others.
        keys.take_while(|key| key.kind.own().is_some()).take(most).cloned().collect()
    }

    /// The same in one namespace.
    fn reconciled_in(&self, namespace: &str) -> impl Iterator<Item = Key> {
        Kind::OWN.into_iter().flat_map(move |kind| {
            let there = self.objects.range(Key::new(kind, namespace, "")..);
            there.map(|(key, _)| key.clone()).take_while(move |key| key.kind == kind && *key.namespace == *namespace)
        })
    }

    /// Forgets what no event will clear: operations that were lost so long ago that they do not count any more,
    /// refusals that nothing repeats, the demand for pools that are not there. To be called once in a while.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.pending_writes.forget_old(now, self.settings.unknown_for);
        let objects = &self.objects;
        self.demand.retain(|pool, _| objects.contains_key(pool));
    }

    fn reconciled_kinds<const N: usize>(&self, kinds: [Kind; N]) -> Vec<Key> {
        kinds.into_iter().flat_map(|k| self.of_kind(k)).map(|o| o.key.clone()).collect()
    }

    /// Takes in what a watch delivered; answers what has to be reconciled because of it.
    pub fn observe(&mut self, observed: Observed, now: Timestamp) -> Vec<Key> {
        self.expire_reservations(now);
        let mut dirty = BTreeSet::new();
        match observed {
            Observed::Applied(object) => {
                let key = object.key.clone();
                self.applied(object, now, &mut dirty);
                if self.pending_writes.is_being_taken(&key) && !dirty.is_empty() {
                    // Most likely our own write, which the watch shows before the reply comes. What follows it waits for the reply
                    // as it would otherwise, or it would be in the claim's way.
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
                // What a list does not show any more, no watch that follows it will.
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

    /// Marks a step's operations as on their way and answers them as they are to be sent, or says that the plan is
    /// stale. Nothing is marked then.
    ///
    /// # Errors
    /// [`Stale`] if an object that an operation names is not as the plan supposed.
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

    /// A status is written for the version held. The API server looks at the UID in a patch of an object, and not in one
    /// of a custom resource's status: that would be stored for whoever has the name by now.
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

    /// The version that an operation was made for; of one that names a UID alone, the version held of that UID.
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

    /// Takes in what became of an operation; answers what has to be reconciled because of it.
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
                // Of the version that was tried, not of the one held: a newer one may have come meanwhile.
                if let Some(version) = self.tried_version(op) {
                    self.pending_writes.outdated(op.key.clone(), version);
                }
                self.add_warm(&op.key);
            }
            // If an earlier try was without a reply, this is its object, and the watch will show it.
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
