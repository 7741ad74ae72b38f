//! The World: the operator's picture of the cluster, from watches and from the replies to our own writes.
//!
//! The object in a reply is put into the World at once (write-through), so the next decision already takes it into
//! account. An operation in flight, or one whose reply was lost, leaves a pending write on its object, which decisions
//! take into account too. A watch event that is older than the object in the World is dropped.

mod choose_warm;
mod cpu_samples;
mod cpu_use;
mod demand;
mod forget;
mod index;
mod lookup;
mod network_policy;
mod open_connections;
mod pending_writes;
mod policies;
mod policy_users;
mod ports;
mod relations;
mod replaced;
mod reservation;
mod reserve;
mod shared;
mod snapshot;
mod state;
mod streaks;
mod tcp_facts;
mod tcp_wake;
mod touch;
mod touched;
mod warm;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use lookup::Connected;
pub use reserve::{NewClaim, reserved_sandbox};
pub use state::World;

use crate::cpu_use::PodCpuUse;
use crate::object::Object;
use crate::open_connections::OpenConnections;
use crate::plan::{Action, Op, Outcome};
use crate::snapshot::Refusal;
use paddock_api::kind::{Key, Kind};
use pending_writes::PendingWrite;
use state::Awaiting;

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
    /// The CPU that some pods use, which is in a list of the resource metrics API and in no watch.
    CpuUse(Vec<PodCpuUse>),
    /// A list of the CPU use of pods has ended. It may have failed.
    CpuUseListed,
    /// Every gateway was asked for its open connections. There is no sum if one of them did not answer.
    GatewaysAsked(Option<OpenConnections>),
}

/// The plan is out of date, because an object has changed since the snapshot. A new snapshot and a new decision are
/// needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

impl World {
    /// Puts a delivery of a watch into the World. Returns the keys to reconcile because of it.
    pub fn observe(&mut self, observed: Observed, now: Timestamp) -> Vec<Key> {
        self.expire_reservations(now);
        let mut to_reconcile = BTreeSet::new();
        match observed {
            Observed::Applied(object) => {
                let key = object.key.clone();
                self.applied(object, now, &mut to_reconcile);
                if self.pending_writes.is_being_taken(&key) && !to_reconcile.is_empty() {
                    // This event most likely shows our own take before its reply has arrived. The keys wait for the
                    // reply. Otherwise their reconciles would delay the rest of the claim's plan.
                    self.due_with_reply.entry(key).or_default().append(&mut to_reconcile);
                }
            }
            Observed::Deleted(object) => {
                self.deleted_uids.remove(&object.meta.uid);
                self.removed(&object.key, &object.meta.uid, &mut to_reconcile);
            }
            Observed::Listing(kind) => {
                for (_, awaiting) in self.awaiting_watch.iter_mut().filter(|(key, _)| key.kind == kind) {
                    *awaiting = Awaiting::List;
                }
            }
            Observed::Listed(kind, objects) => {
                let listed: BTreeSet<Key> = objects.iter().map(|o| o.key.clone()).collect();
                let uids: BTreeSet<&str> = objects.iter().map(|o| &*o.meta.uid).collect();
                // A watch that follows a list delivers nothing about objects that the list does not contain.
                self.deleted_uids.retain(|uid, deleted_kind| *deleted_kind != kind || uids.contains(&**uid));
                for object in objects {
                    self.applied(object, now, &mut to_reconcile);
                }
                let missing: Vec<_> = self
                    .of_kind(kind)
                    .filter(|o| !listed.contains(&o.key))
                    .map(|o| (o.key.clone(), o.meta.uid.clone()))
                    .collect();
                for (key, uid) in missing {
                    if let Some(awaiting @ (Awaiting::Event | Awaiting::Unverified)) = self.awaiting_watch.get_mut(&key)
                    {
                        *awaiting = Awaiting::Unverified;
                        continue;
                    }
                    self.deleted_uids.remove(&uid);
                    self.removed(&key, &uid, &mut to_reconcile);
                }
            }
            // No key is reconciled because of a sample: the idle policy has said when it wants to look again.
            Observed::CpuUse(uses) => self.cpu_used(uses, now),
            Observed::CpuUseListed => self.cpu_use_listed(now),
            Observed::GatewaysAsked(sum) => self.gateways_asked(sum, now),
        }
        to_reconcile.into_iter().collect()
    }

    fn applied(&mut self, object: Object, now: Timestamp, to_reconcile: &mut BTreeSet<Key>) {
        if self.deleted_uids.contains_key(&object.meta.uid) {
            return;
        }
        if let Some(known) = self.objects.get(&object.key) {
            if object.meta.version >= known.meta.version {
                self.awaiting_watch.remove(&object.key);
            }
            if object.meta.version <= known.meta.version {
                return;
            }
            if known.meta.uid != object.meta.uid {
                // A list shows the deletion of an object only by the next object of the same name.
                self.pending_writes.controller_deleted(&known.meta.uid);
            }
        }
        self.put(object, now, to_reconcile);
    }

    fn removed(&mut self, key: &Key, uid: &str, to_reconcile: &mut BTreeSet<Key>) {
        if self.objects.get(key).is_some_and(|known| &*known.meta.uid == uid) {
            if self.pending_writes.awaits_reply(key) {
                self.tombstones.entry(key.clone()).or_default().insert(uid.into());
            }
            self.awaiting_watch.remove(key);
            self.pending_writes.forget(key);
            self.pending_writes.controller_deleted(uid);
            self.status_written.remove(key);
            self.replaced.forget(key);
            self.remove(key, to_reconcile);
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
            self.count_replacement(op);
            let write = PendingWrite::of(op);
            if matches!(write, PendingWrite::Take { .. } | PendingWrite::Delete) {
                self.reservations.remove(&op.key);
                self.remove_warm(&op.key);
            }
            self.pending_writes.set(op.key.clone(), write);
        }
        Ok(step.iter().map(|op| self.addressed(op)).collect())
    }

    /// Adds the version in the World to a status write. The API server checks the UID in a patch of an object, but not
    /// in a patch of a custom resource's status. Without the version, the patch could change a new object of the same
    /// name.
    fn addressed(&self, op: &Op) -> Op {
        let mut op = op.clone();
        if let Action::Patch { uid, resource_version: version @ None, status: true, .. } = &mut op.action
            && let Some(known) = self.objects.get(&op.key).filter(|known| *known.meta.uid == **uid)
        {
            *version = Some(known.meta.resource_version.to_string());
        }
        op
    }

    fn still_holds(&self, op: &Op) -> bool {
        let known = self.objects.get(&op.key);
        let busy = self.pending_writes.in_flight(&op.key);
        let holds = |uid: &str, version: Option<&str>| {
            known.is_some_and(|o| *o.meta.uid == *uid && version.is_none_or(|v| *o.meta.resource_version == *v))
        };
        match &op.action {
            Action::Create { body } => known.is_none() && !busy && self.has_controller(&op.key, body),
            Action::Patch { uid, resource_version: version, .. } => {
                holds(uid, version.as_deref()) && (version.is_none() || !busy)
            }
            Action::Resize { uid, resource_version, .. } | Action::Adopt { uid, resource_version, .. } => {
                holds(uid, Some(resource_version)) && !busy
            }
            Action::Deliver { uid, .. } => holds(uid, None),
            Action::Delete { uid, resource_version: version, .. } => holds(uid, version.as_deref()) && !busy,
        }
    }

    /// Whether the controller of an object that is to be created still exists. Otherwise the API server may refuse the
    /// creation, and the refusal would be kept although its controller was deleted before.
    fn has_controller(&self, created: &Key, body: &serde_json::Value) -> bool {
        let Some(owner) = body.pointer("/metadata/ownerReferences/0") else { return true };
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let Some(kind) = Kind::of_reference(text("apiVersion"), text("kind")) else { return true };
        self.objects.get(&created.sibling(kind, text("name"))).is_some_and(|known| *known.meta.uid == *text("uid"))
    }

    /// The version that an operation was planned for. If the operation names only a UID, this is the version of that
    /// object in the World.
    fn tried_version(&self, op: &Op) -> Option<u64> {
        let (uid, resource_version) = match &op.action {
            Action::Create { .. } => return None,
            Action::Patch { uid, resource_version, .. } | Action::Delete { uid, resource_version, .. } => {
                (uid, resource_version.as_ref())
            }
            Action::Resize { uid, resource_version, .. } | Action::Adopt { uid, resource_version, .. } => {
                (uid, Some(resource_version))
            }
            Action::Deliver { uid, .. } => (uid, None),
        };
        match resource_version {
            Some(version) => version.parse().ok(),
            None => self.objects.get(&op.key).filter(|o| *o.meta.uid == **uid).map(|o| o.meta.version),
        }
    }

    /// Ends an operation with its outcome. Returns the keys to reconcile because of it.
    pub fn finish(&mut self, op: &Op, outcome: &Outcome, now: Timestamp) -> Vec<Key> {
        let mut to_reconcile = BTreeSet::new();
        match outcome {
            Outcome::Stored(object) => {
                self.pending_writes.clear(&op.key, &PendingWrite::of(op));
                if let PendingWrite::Create { controller: Some(uid) } | PendingWrite::Take { claim: Some(uid) } =
                    PendingWrite::of(op)
                {
                    self.pending_writes.not_refused(&uid);
                }
                let newer = self.objects.get(&op.key).is_none_or(|known| known.meta.version < object.meta.version);
                let deleted = self.tombstones.get(&op.key).is_some_and(|uids| uids.contains(&object.meta.uid));
                if newer && !deleted && !self.deleted_uids.contains_key(&object.meta.uid) {
                    self.awaiting_watch.insert(op.key.clone(), Awaiting::Event);
                    self.put(Object::clone(object), now, &mut to_reconcile);
                } else {
                    self.add_warm(&op.key);
                }
                // If the watch has shown the deletion before this reply, nothing would remove the entry.
                if matches!(op.action, Action::Patch { status: true, .. }) && self.objects.contains_key(&op.key) {
                    self.status_written.insert(op.key.clone(), now);
                }
            }
            Outcome::Gone => {
                self.pending_writes.clear(&op.key, &PendingWrite::of(op));
                if let Some(uid) = self.objects.get(&op.key).map(|o| o.meta.uid.clone()) {
                    let named = match &op.action {
                        Action::Patch { uid, .. }
                        | Action::Resize { uid, .. }
                        | Action::Adopt { uid, .. }
                        | Action::Deliver { uid, .. }
                        | Action::Delete { uid, .. } => Some(uid.as_str()),
                        Action::Create { .. } => None,
                    };
                    if named == Some(&*uid) {
                        self.deleted_uids.insert(uid.clone(), op.key.kind);
                        self.removed(&op.key, &uid, &mut to_reconcile);
                    }
                }
            }
            Outcome::Conflict => {
                self.pending_writes.clear(&op.key, &PendingWrite::of(op));
                // The version of the attempt is out of date. The World may have a newer version by now.
                if let Some(version) = self.tried_version(op).filter(|_| self.objects.contains_key(&op.key)) {
                    self.pending_writes.outdated(op.key.clone(), version);
                }
                self.add_warm(&op.key);
            }
            // If an earlier attempt had no reply, it created this object, and the watch will deliver it.
            Outcome::Exists => self.pending_writes.lost(&op.key, &PendingWrite::of(op), now),
            Outcome::Rejected { status, message, by_policy } => {
                let write = PendingWrite::of(op);
                // The deletion of the object or of its controller has removed the refusals, and nothing would remove this one.
                let exists = matches!(op.action, Action::Create { .. }) || self.objects.contains_key(&op.key);
                let has_reader = exists && self.pending_writes.has_reader(&write);
                let known = self.pending_writes.refusal(&op.key).is_some_and(|r| *r.message == **message);
                self.pending_writes.end_attempt(&op.key, &write);
                if has_reader {
                    let message = message.as_str().into();
                    let refusal = Refusal { status: *status, message, by_policy: *by_policy, at: now };
                    self.pending_writes.refuse(op.key.clone(), write, refusal);
                }
                if op.key.kind == Kind::NetworkPolicy && !known {
                    self.policy_refused(&op.key, &mut to_reconcile);
                }
                self.add_warm(&op.key);
            }
            Outcome::Busy => {
                self.pending_writes.end_attempt(&op.key, &PendingWrite::of(op));
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
            to_reconcile.extend(self.due_with_reply.remove(&op.key).into_iter().flatten());
        }
        to_reconcile.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
