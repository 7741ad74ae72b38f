//! Counts the demand for pools from the changes of claims and Sandboxes.

use jiff::Timestamp;
use paddock_api::names::{condition, label};

use super::relations::{origin_pool, references};
use super::state::World;
use crate::conditions::is_true;
use crate::object::Object;

impl World {
    /// Counts the demand that a change of an object shows: a new claim, a taken Sandbox, or a refill.
    pub(super) fn note_demand(&mut self, before: Option<&Object>, object: &Object, now: Timestamp) {
        if before.is_none() && object.claim().is_some() {
            let pools: Vec<_> = references(object).iter().flat_map(|target| self.pools_using(target)).collect();
            for pool in pools {
                self.demand.entry(pool).or_default().note_arrival(object.meta.created, &self.settings);
            }
        }
        if object.sandbox().is_some() {
            let newly_claimed = before.is_none_or(|b| origin_pool(b).is_none());
            if let Some(pool) = origin_pool(object).filter(|_| newly_claimed) {
                let warm = object.meta.labels.get(label::LAUNCH_TYPE).is_some_and(|t| t == label::LAUNCH_WARM);
                // After a start, most taken Sandboxes were taken long ago. A Sandbox that a claim owned when it was
                // first observed is therefore counted at its creation time.
                let at = if before.is_some() { now } else { object.meta.created };
                self.demand.entry(pool).or_default().note_claimed(at, warm, &self.settings);
            }
            if let Some(before) = before
                && object.meta.in_pool()
                && !ready(before)
                && ready(object)
                && let Some(pool) = object.owner_key()
            {
                self.demand.entry(pool).or_default().note_refill(object.meta.created, now);
            }
        }
    }
}

fn ready(object: &Object) -> bool {
    object.sandbox().is_some_and(|s| is_true(&s.status.conditions, condition::READY))
}
