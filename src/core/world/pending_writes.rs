//! Pending writes: our writes that are in flight or had no reply, and the writes that the API server refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};

use crate::plan::{Action, Op, Reason};
use crate::snapshot::{Refusal, RefusedResize};
use crate::time::{saturating_add, time_left};

/// The time for which a refusal is kept if the write is neither refused again nor stored. A write that is still refused
/// is retried much more often.
const REFUSAL_KEPT: Duration = Duration::from_secs(3600);

/// The time for which takes of a claim have to be refused before the refusal counts as final. An API server that has
/// just started has no roles and no policies for a moment.
const REFUSED_FOR_GOOD: Duration = Duration::from_secs(1);
/// The time for which a final refusal counts.
const REFUSED_COUNTS: Duration = Duration::from_secs(60);

/// The effect of an operation, as far as other decisions depend on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PendingWrite {
    /// The object is being created for the controller with this UID.
    Create { controller: Option<Arc<str>> },
    /// The claim with this UID takes the Sandbox.
    Take { claim: Option<Arc<str>> },
    /// The object is being deleted.
    Delete,
    /// The Pod is being resized.
    Resize,
    /// Any other patch.
    Patch { status: bool },
}

impl PendingWrite {
    pub(super) fn of(op: &Op) -> Self {
        let controller = |body: &serde_json::Value| {
            body.pointer("/metadata/ownerReferences/0/uid").and_then(|u| u.as_str()).map(Arc::from)
        };
        match &op.action {
            Action::Create { body } => PendingWrite::Create { controller: controller(body) },
            Action::Delete { .. } => PendingWrite::Delete,
            Action::Patch { body, .. } if op.reason == Reason::Claimed => {
                PendingWrite::Take { claim: controller(body) }
            }
            Action::Patch { status, .. } => PendingWrite::Patch { status: *status },
            Action::Resize { .. } => PendingWrite::Resize,
            Action::Adopt { .. } | Action::Deliver { .. } => PendingWrite::Patch { status: false },
        }
    }
}

/// All pending writes, by object. A pending write without a time is in flight. A pending write with a time had no
/// reply, and counts as lost since that time.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Creations with another attempt in flight, and the time since which an earlier attempt counts as lost.
    lost_attempts: BTreeMap<(Key, PendingWrite), Timestamp>,
    pending: BTreeMap<Key, BTreeMap<PendingWrite, Option<Timestamp>>>,
    /// Objects that are being created, by the UID of their controller.
    creating: BTreeMap<Arc<str>, BTreeMap<Key, Option<Timestamp>>>,
    /// The UIDs of controllers that were deleted while objects were being created for them.
    orphaned: BTreeSet<Arc<str>>,
    /// The Sandbox that a claim took without a reply, by the UID of the claim, and the time since which the take counts
    /// as lost.
    taking: BTreeMap<Arc<str>, (Key, Timestamp)>,
    outdated: BTreeMap<Key, u64>,
    refused: BTreeMap<Key, Refusal>,
    /// The objects whose creation was refused, by the UID of their controller. No watch delivers the deletion of an object
    /// that never existed, so such a refusal ends with the controller.
    refused_children: BTreeMap<Arc<str>, BTreeSet<Key>>,
    /// The last refused resize of a Pod. It says nothing about other writes of the Pod.
    refused_resizes: BTreeMap<Key, RefusedResize>,
    /// The last refused creation of a Sandbox, by the UID of its controller. The next attempt may use another name.
    refused_creations: BTreeMap<Arc<str>, (Key, Refusal)>,
    /// The last refusal of a take, by the UID of the claim, and the time of the first refusal.
    refused_takes: BTreeMap<Arc<str>, (Timestamp, Key, Refusal)>,
}

impl PendingWrites {
    pub(super) fn set(&mut self, key: Key, write: PendingWrite) {
        if let PendingWrite::Create { controller: Some(uid) } = &write {
            self.creating.entry(uid.clone()).or_default().insert(key.clone(), None);
        }
        let before = self.pending.entry(key.clone()).or_default().insert(write.clone(), None);
        if let (Some(Some(since)), PendingWrite::Create { .. }) = (before, &write) {
            self.lost_attempts.insert((key, write), since);
        }
    }

    /// Ends an attempt that the API server refused. An earlier attempt whose reply was lost may have been stored all
    /// the same, so it stays pending.
    pub(super) fn end_attempt(&mut self, key: &Key, write: &PendingWrite) {
        let refused = self.refused_resizes.remove(key);
        match self.lost_attempts.remove(&(key.clone(), write.clone())) {
            Some(since) => self.lost(key, write, since),
            None => self.clear(key, write),
        }
        // Refusals are counted until a resize is stored.
        self.refused_resizes.extend(refused.map(|refused| (key.clone(), refused)));
    }

    /// Describes the pending writes to an object for people.
    pub(super) fn describe(&self, key: &Key) -> Vec<String> {
        let text = |(write, lost): (&PendingWrite, Option<Timestamp>)| match lost {
            None => format!("{write:?} under way"),
            Some(since) => format!("{write:?} without a reply since {since}"),
        };
        self.writes(key).map(text).collect()
    }

    pub(super) fn clear(&mut self, key: &Key, write: &PendingWrite) {
        match write {
            PendingWrite::Resize => drop(self.refused_resizes.remove(key)),
            PendingWrite::Create { .. }
            | PendingWrite::Take { .. }
            | PendingWrite::Delete
            | PendingWrite::Patch { .. } => drop(self.refused.remove(key)),
        }
        self.lost_attempts.remove(&(key.clone(), write.clone()));
        if let PendingWrite::Create { controller: Some(uid) } = write {
            remove_entry(&mut self.creating, uid, key);
            if !self.creating.contains_key(uid) {
                self.orphaned.remove(uid);
            }
            if let Some(keys) = self.refused_children.get_mut(uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.refused_children.remove(uid);
                }
            }
        }
        remove_entry(&mut self.pending, key, write);
    }

    /// Records that an operation had no reply. It counts as possibly stored for some time from now on.
    pub(super) fn lost(&mut self, key: &Key, write: &PendingWrite, now: Timestamp) {
        self.lost_attempts.remove(&(key.clone(), write.clone()));
        if let PendingWrite::Create { controller: Some(uid) } = write
            && let Some(since) = self.creating.get_mut(uid).and_then(|keys| keys.get_mut(key))
        {
            *since = Some(now);
        }
        if let PendingWrite::Take { claim: Some(uid) } = write {
            self.taking.insert(uid.clone(), (key.clone(), now));
        }
        if let Some(since) = self.pending.get_mut(key).and_then(|writes| writes.get_mut(write)) {
            *since = Some(now);
        }
    }

    /// Removes the lost writes to an object, because a new version of the object shows their effect. Writes in flight
    /// stay.
    pub(super) fn observed(&mut self, key: &Key) {
        self.outdated.remove(key);
        // A take is for one version of the Sandbox, so another version shows whether the take was stored.
        self.taking.retain(|_, (taken, _)| taken != key);
        let Some(writes) = self.pending.get(key) else { return };
        let lost_writes: Vec<PendingWrite> =
            writes.iter().filter(|(_, lost)| lost.is_some()).map(|(m, _)| m.clone()).collect();
        for write in lost_writes {
            self.clear(key, &write);
        }
    }

    /// Removes the state of an object that was deleted.
    pub(super) fn forget(&mut self, key: &Key) {
        self.outdated.remove(key);
        self.refused.remove(key);
        self.refused_resizes.remove(key);
        self.observed(key);
    }

    /// Removes writes that were lost so long ago that they do not count any more, and old refusals.
    pub(super) fn forget_old(&mut self, now: Timestamp, unknown_timeout: Duration) {
        let counts = |since: Timestamp, most: Duration| time_left(since, most, now).is_some();
        for writes in self.pending.values_mut() {
            writes.retain(|_, lost| lost.is_none_or(|since| counts(since, unknown_timeout)));
        }
        self.pending.retain(|_, writes| !writes.is_empty());
        for keys in self.creating.values_mut() {
            keys.retain(|_, lost| lost.is_none_or(|since| counts(since, unknown_timeout)));
        }
        self.creating.retain(|_, keys| !keys.is_empty());
        let creating = &self.creating;
        self.orphaned.retain(|uid| creating.contains_key(uid));
        self.taking.retain(|_, (_, since)| counts(*since, unknown_timeout));
        self.refused.retain(|_, refusal| counts(refusal.at, REFUSAL_KEPT));
        let refused = &self.refused;
        for keys in self.refused_children.values_mut() {
            keys.retain(|key| refused.contains_key(key));
        }
        self.refused_children.retain(|_, keys| !keys.is_empty());
        self.refused_resizes.retain(|_, refused| counts(refused.refusal.at, REFUSAL_KEPT));
        self.refused_creations.retain(|_, (_, refusal)| counts(refusal.at, REFUSAL_KEPT));
        self.refused_takes.retain(|_, (_, _, refusal)| counts(refusal.at, REFUSED_COUNTS));
    }

    /// Whether a create, take or delete of the object is in flight. Another operation must not overtake it.
    pub(super) fn in_flight(&self, key: &Key) -> bool {
        let may_be_overtaken =
            |write: &PendingWrite| matches!(write, PendingWrite::Patch { .. } | PendingWrite::Resize);
        self.writes(key).any(|(write, lost)| lost.is_none() && !may_be_overtaken(write))
    }

    /// Whether a take of the Sandbox is in flight.
    pub(super) fn is_being_taken(&self, key: &Key) -> bool {
        self.writes(key).any(|(write, lost)| lost.is_none() && matches!(write, PendingWrite::Take { .. }))
    }

    /// Whether a take or delete of the object is in flight or possibly stored.
    pub(super) fn leaving(&self, key: &Key, now: Timestamp, unknown_timeout: Duration) -> bool {
        self.writes(key).any(|(write, lost)| {
            let counts = lost.is_none_or(|since| time_left(since, unknown_timeout, now).is_some());
            counts && matches!(write, PendingWrite::Take { .. } | PendingWrite::Delete)
        })
    }

    /// The pending writes of an object, each with the time since which its reply is lost.
    fn writes(&self, key: &Key) -> impl Iterator<Item = (&PendingWrite, Option<Timestamp>)> {
        self.pending.get(key).into_iter().flatten().map(|(write, lost)| (write, *lost))
    }

    /// The Sandboxes of a namespace with such a take or delete. The time is the end of the period for which a write
    /// without a reply counts.
    pub(super) fn all_leaving(
        &self,
        namespace: &str,
        now: Timestamp,
        unknown_timeout: Duration,
    ) -> BTreeMap<&Key, Option<Timestamp>> {
        let there = self.pending.range(Key::new(Kind::Sandbox, namespace, "")..);
        there
            .take_while(|(key, _)| key.kind == Kind::Sandbox && *key.namespace == *namespace)
            .filter(|(key, _)| self.leaving(key, now, unknown_timeout))
            .map(|(key, writes)| {
                (key, writes.values().flatten().filter_map(|since| time_left(*since, unknown_timeout, now)).max())
            })
            .collect()
    }

    /// The Sandbox that a claim took without a reply, and the time until which the take counts.
    pub(super) fn taking(&self, claim: &str, now: Timestamp, unknown_timeout: Duration) -> Option<(&Key, Timestamp)> {
        let (key, since) = self.taking.get(claim)?;
        time_left(*since, unknown_timeout, now).map(|until| (key, until))
    }

    /// The objects that are being created for a controller, and the time since which a creation counts as lost.
    pub(super) fn creating(
        &self,
        controller: &str,
        now: Timestamp,
        unknown_timeout: Duration,
    ) -> impl Iterator<Item = (&Key, Option<Timestamp>)> {
        self.creating
            .get(controller)
            .into_iter()
            .flatten()
            .filter(move |(_, lost)| lost.is_none_or(|since| time_left(since, unknown_timeout, now).is_some()))
            .map(|(key, lost)| (key, *lost))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let creations = self.lost_attempts.is_empty() && self.creating.is_empty() && self.refused_creations.is_empty();
        let takes = self.taking.is_empty() && self.refused_takes.is_empty() && self.orphaned.is_empty();
        let refused = !self.refused.is_empty() || !self.refused_resizes.is_empty() || !self.refused_children.is_empty();
        creations && takes && self.pending.is_empty() && self.outdated.is_empty() && !refused
    }

    pub(super) fn outdated(&mut self, key: Key, version: u64) {
        self.outdated.insert(key, version);
    }

    /// Whether a conflict has shown that the API server has a newer version than this one.
    pub(super) fn is_outdated(&self, key: &Key, version: u64) -> bool {
        self.outdated.get(key).is_some_and(|v| *v >= version)
    }

    pub(super) fn refuse(&mut self, key: Key, write: PendingWrite, refusal: Refusal) {
        match write {
            PendingWrite::Create { controller: Some(uid) } if key.kind == Kind::Sandbox => {
                self.refused_creations.insert(uid, (key, refusal));
            }
            PendingWrite::Take { claim: Some(uid) } => {
                let first = self.refused_takes.get(&uid).map_or(refusal.at, |(first, ..)| *first);
                self.refused_takes.insert(uid, (first, key, refusal));
            }
            PendingWrite::Resize => {
                let times = self.refused_resizes.get(&key).map_or(0, |refused| refused.times).saturating_add(1);
                self.refused_resizes.insert(key, RefusedResize { refusal, times });
            }
            PendingWrite::Create { controller: Some(uid) } => {
                self.refused_children.entry(uid).or_default().insert(key.clone());
                self.refused.insert(key, refusal);
            }
            PendingWrite::Create { controller: None }
            | PendingWrite::Take { claim: None }
            | PendingWrite::Delete
            | PendingWrite::Patch { .. } => {
                self.refused.insert(key, refusal);
            }
        }
    }

    /// Whether a decision may read a refusal of the write, before its attempt ends. Nobody reads the refusal of a creation
    /// whose controller was deleted meanwhile.
    pub(super) fn has_reader(&self, write: &PendingWrite) -> bool {
        match write {
            PendingWrite::Create { controller: Some(uid) } => !self.orphaned.contains(uid),
            PendingWrite::Create { controller: None }
            | PendingWrite::Take { .. }
            | PendingWrite::Delete
            | PendingWrite::Resize
            | PendingWrite::Patch { .. } => true,
        }
    }

    /// Removes the refusals that only the decisions about a controller read, because it was deleted. A creation for it that is
    /// in flight may still be refused, and nobody reads that either.
    pub(super) fn controller_deleted(&mut self, controller: &str) {
        self.not_refused(controller);
        if self.creating.contains_key(controller) {
            self.orphaned.insert(controller.into());
        }
        for key in self.refused_children.remove(controller).into_iter().flatten() {
            self.refused.remove(&key);
        }
    }

    /// The Sandbox that the API server does not let this claim take, and the refusal.
    pub(super) fn refused_take(&self, claim: &str, now: Timestamp) -> Option<(&Key, &Refusal)> {
        let (first, key, refusal) = self.refused_takes.get(claim)?;
        let for_good = saturating_add(*first, REFUSED_FOR_GOOD) <= refusal.at;
        (for_good && time_left(refusal.at, REFUSED_COUNTS, now).is_some()).then_some((key, refusal))
    }

    /// Removes the refusals of Sandboxes for a controller, because one was stored for it, or the controller was deleted.
    pub(super) fn not_refused(&mut self, controller: &str) {
        self.refused_creations.remove(controller);
        self.refused_takes.remove(controller);
    }

    pub(super) fn refused_creation(&self, controller: &str) -> Option<&(Key, Refusal)> {
        self.refused_creations.get(controller)
    }

    /// Whether a write to the object is in flight.
    pub(super) fn awaits_reply(&self, key: &Key) -> bool {
        self.writes(key).any(|(_, lost)| lost.is_none())
    }

    /// The objects of a kind in a namespace for which a write was refused.
    pub(super) fn refused_in(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &Key> {
        let there = self.refused.range(Key::new(kind, namespace, "")..).map(|(key, _)| key);
        there.take_while(move |key| key.kind == kind && *key.namespace == *namespace)
    }

    pub(super) fn refused_resize(&self, pod: &Key) -> Option<&RefusedResize> {
        self.refused_resizes.get(pod)
    }

    pub(super) fn refusal(&self, key: &Key) -> Option<&Refusal> {
        self.refused.get(key)
    }
}

/// Removes an entry from a map of maps. An empty map is removed too.
pub(super) fn remove_entry<K: Ord, I: Ord, V>(maps: &mut BTreeMap<K, BTreeMap<I, V>>, key: &K, entry: &I) {
    if let Some(map) = maps.get_mut(key) {
        map.remove(entry);
        if map.is_empty() {
            maps.remove(key);
        }
    }
}
