//! Warm Sandboxes that were promised to claims at their admission, before the claims are stored.
//!
//! A promise is a hint that costs no write: the claim is stored with the Sandbox's name, and its reconcile tries that
//! one first. It commits nothing, which only the Sandbox's owner reference does, and other claims pass the Sandbox over
//! only until the promise runs out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::World;
use crate::kind::{Key, Kind};
use crate::names::annotation;
use crate::object::Object;
use crate::time::saturating_add;

/// A step back of the clock that is none: who tells the time may have looked at the clock a little earlier than the last.
const CLOCK_BACK: Duration = Duration::from_secs(5);

/// To whom a Sandbox was promised, and for how long.
#[derive(Debug)]
pub(super) struct Reservation {
    /// The claim's first-observed stamp, which nobody else can know before it is stored.
    stamp: String,
    until: Timestamp,
}

/// A claim that is being created, for which a warm Sandbox can be reserved.
pub struct NewClaim<'a> {
    /// The kind of the claim.
    pub kind: Kind,
    /// The namespace of the claim.
    pub namespace: &'a str,
    /// The claim as the user sent it.
    pub document: &'a Value,
    /// When the claim was first observed. The stamp tells a repeated call for the same claim from another claim.
    pub stamp: String,
    /// The time of the call.
    pub now: Timestamp,
}

impl World {
    /// Reserves a warm Sandbox for a claim that is being created. Returns the name of the Sandbox.
    ///
    /// A second call for the same claim gets the same Sandbox.
    pub fn reserve(&mut self, claim: NewClaim<'_>) -> Option<Arc<str>> {
        let keep = self.settings.reserve_for;
        if keep.is_zero() {
            return None;
        }
        let NewClaim { kind, namespace, document, now, .. } = claim;
        self.expire_reservations(now);
        let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if self.objects.contains_key(&Key::new(kind, namespace, name)) {
            // It will be refused: who tries that again and again gets no Sandbox kept.
            return None;
        }
        if let Some(named) = reserved_sandbox(document)
            && self
                .reserved_sandboxes
                .get(&Key::new(Kind::Sandbox, namespace, named))
                .is_some_and(|p| p.stamp == claim.stamp)
        {
            return Some(named.into());
        }
        let sandbox = self.best_for(&claim)?;
        let key = sandbox.key.clone();
        let until = saturating_add(now, keep);
        self.remove_warm(&key);
        self.reservations_by_end.insert((until, key.clone()));
        self.reserved_sandboxes.insert(key.clone(), Reservation { stamp: claim.stamp, until });
        Some(key.name)
    }

    /// Takes a promise back: the claim was not admitted.
    pub fn release(&mut self, namespace: &str, sandbox: &str) {
        self.end_reservation(&Key::new(Kind::Sandbox, namespace, sandbox));
    }

    fn best_for(&self, new: &NewClaim<'_>) -> Option<Arc<Object>> {
        let mut document = new.document.clone();
        let metadata = document.get_mut("metadata")?.as_object_mut()?;
        metadata.insert("namespace".to_owned(), new.namespace.into());
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // The user's own word.
            annotations.remove(annotation::SANDBOX_NAME);
        }
        let claim = Object::from_json(new.kind, document)?;
        let model = claim.claim()?.spec.as_ref().ok()?;
        if !model.can_use_warm() {
            return None;
        }
        let (_, template) = self.asked_for(&claim);
        let template = self.objects.get(&template?)?;
        self.candidate(&claim, &model.source, template, new.now).0.map(|(sandbox, _)| sandbox)
    }

    /// Ends the promises that have run out; all of them, where the clock was set back: nobody waits until it has come as
    /// far again.
    pub(super) fn expire_reservations(&mut self, now: Timestamp) {
        if saturating_add(now, CLOCK_BACK) < self.last_now {
            for key in self.reserved_sandboxes.keys().cloned().collect::<Vec<_>>() {
                self.end_reservation(&key);
            }
        }
        self.last_now = now;
        while let Some((until, _)) = self.reservations_by_end.first()
            && *until <= now
            && let Some((until, key)) = self.reservations_by_end.pop_first()
        {
            if self.reserved_sandboxes.get(&key).is_some_and(|promise| promise.until == until) {
                self.end_reservation(&key);
            }
        }
    }

    fn end_reservation(&mut self, key: &Key) {
        if let Some(promise) = self.reserved_sandboxes.remove(key) {
            self.reservations_by_end.remove(&(promise.until, key.clone()));
            self.add_warm(key);
        }
    }

    /// The promise is kept, or the Sandbox is gone.
    pub(super) fn forget_reservation(&mut self, key: &Key) {
        if let Some(promise) = self.reserved_sandboxes.remove(key) {
            self.reservations_by_end.remove(&(promise.until, key.clone()));
        }
    }
}

/// The Sandbox that a claim names as reserved for it.
#[must_use]
pub fn reserved_sandbox(claim: &Value) -> Option<&str> {
    claim.pointer("/metadata/annotations")?.get(annotation::SANDBOX_NAME)?.as_str()
}
