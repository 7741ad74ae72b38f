//! Reservations: warm Sandboxes that are held for claims between their admission and their storage.
//!
//! A reservation is a hint that costs no write. The webhook puts the name of the Sandbox into an annotation of the
//! claim, and the reconcile of the claim tries that Sandbox first. Only the owner reference of the Sandbox commits it
//! to a claim. Other claims do not take the Sandbox until the reservation expires.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use paddock_api::names::annotation;
use serde_json::Value;

use super::choose_warm::requested;
use super::relations::pool_revision;
use super::state::World;
use crate::model::{check_claim_data, check_env};
use crate::object::Object;
use crate::time::saturating_add;

/// The largest backward step of the clock that is ignored. A caller may have read the clock a little before the last
/// caller.
const CLOCK_BACK: Duration = Duration::from_secs(5);

/// A claim that is being created, for which a warm Sandbox can be reserved.
pub struct NewClaim<'a> {
    /// The kind of the claim.
    pub kind: Kind,
    /// The namespace of the claim.
    pub namespace: &'a str,
    /// The claim as the user sent it.
    pub document: &'a Value,
    /// The first-observed stamp of the claim. It distinguishes a repeated call for the same claim from a call for
    /// another claim.
    pub stamp: String,
    /// The time of the call.
    pub now: Timestamp,
}

impl World {
    /// Reserves a warm Sandbox for a claim that is being created. Returns the name of the Sandbox.
    ///
    /// A second call for the same claim gets the same Sandbox.
    pub fn reserve(&mut self, claim: NewClaim<'_>) -> Option<Arc<str>> {
        let reserve_for = self.settings.reserve_for;
        if reserve_for.is_zero() {
            return None;
        }
        let NewClaim { kind, namespace, document, now, .. } = claim;
        self.expire_reservations(now);
        let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if self.objects.contains_key(&Key::new(kind, namespace, name)) {
            // The API server will refuse the claim, because it exists. A client that retries must not block a Sandbox
            // each time.
            return None;
        }
        if let Some(named) = reserved_sandbox(document)
            && self.reservations.is_for(&Key::new(Kind::Sandbox, namespace, named), &claim.stamp)
        {
            return Some(named.into());
        }
        let sandbox = self.best_for(&claim)?;
        let key = sandbox.key.clone();
        let pool = pool_revision(&sandbox)?;
        if !self.reservations.may_add(&key.namespace, &pool, self.warm.count(&pool), now) {
            // The claim chooses a Sandbox when it is reconciled.
            return None;
        }
        self.remove_warm(&key);
        self.reservations.add(key.clone(), pool, claim.stamp, saturating_add(now, reserve_for), now);
        Some(key.name)
    }

    /// Ends the reservation of a claim that was not admitted. Other claims may take the Sandbox at once.
    pub fn release(&mut self, namespace: &str, sandbox: &str) {
        let key = Key::new(Kind::Sandbox, namespace, sandbox);
        if self.reservations.remove(&key) {
            self.add_warm(&key);
        }
    }

    fn best_for(&self, new: &NewClaim<'_>) -> Option<Arc<Object>> {
        let claim = requested(new.kind, new.namespace, new.document)?;
        let model = claim.claim()?.spec.as_ref().ok()?;
        let (_, template) = self.pool_and_template(&claim);
        let template = self.objects.get(&template?)?;
        let of_template = template.template()?.spec.as_ref().ok()?;
        // The claim would be refused, and the reservation would count as wasted.
        let refused = of_template.lacks(&self.settings).is_some()
            || check_claim_data(model, of_template, &template.key.name).is_err()
            || check_env(model, of_template).is_err();
        if refused || !model.can_use_warm(of_template) {
            return None;
        }
        self.choose_warm(&claim, &model.source, template, new.now).0.map(|(sandbox, _)| sandbox)
    }

    /// Ends the reservations that have expired. If the clock was set back, it ends all of them, so that no reservation
    /// lasts until the clock has caught up.
    pub(super) fn expire_reservations(&mut self, now: Timestamp) {
        let set_back = saturating_add(now, CLOCK_BACK) < self.last_now;
        self.last_now = now;
        let expired = if set_back { self.reservations.drain() } else { self.reservations.expired(now) };
        for sandbox in expired {
            self.add_warm(&sandbox);
        }
    }
}

/// The name of the Sandbox that is reserved for a claim, from the claim's annotation.
#[must_use]
pub fn reserved_sandbox(claim: &Value) -> Option<&str> {
    claim.pointer("/metadata/annotations")?.get(annotation::SANDBOX_NAME)?.as_str()
}
