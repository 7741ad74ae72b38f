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
        let (seconds, buckets) = (self.settings.arrival_bucket_seconds, self.settings.arrival_buckets);
        if before.is_none() && object.claim().is_some() {
            let pools: Vec<_> = references(object).iter().flat_map(|target| self.pools_using(target)).collect();
            for pool in pools {
                let demand = self.demand.entry(pool).or_default();
                demand.arrivals.count(object.meta.created, seconds, buckets);
            }
        }
        if object.sandbox().is_some() {
            let newly_claimed = before.is_none_or(|b| origin_pool(b).is_none());
            if let Some(pool) = origin_pool(object).filter(|_| newly_claimed) {
                let demand = self.demand.entry(pool).or_default();
                let warm = object.meta.labels.get(label::LAUNCH_TYPE).is_some_and(|t| t == label::LAUNCH_WARM);
                let counts = if warm { &mut demand.hits } else { &mut demand.misses };
                // After a start, most taken Sandboxes were taken long ago. A Sandbox that a claim owned when it was
                // first observed is therefore counted at its creation time.
                let at = if before.is_some() { now } else { object.meta.created };
                counts.count(at, seconds, buckets);
            }
            if let Some(before) = before
                && object.meta.in_pool()
                && !ready(before)
                && ready(object)
                && let Some(pool) = object.owner_key()
            {
                let demand = self.demand.entry(pool).or_default();
                let took = now.as_millisecond() - object.meta.created.as_millisecond();
                demand.note_refill(u64::try_from(took).unwrap_or_default());
            }
        }
    }
}

fn ready(object: &Object) -> bool {
    object.sandbox().is_some_and(|s| is_true(&s.status.conditions, condition::READY))
}
