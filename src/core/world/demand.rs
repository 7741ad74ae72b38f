//! Counts the demand for pools from the changes of claims and Sandboxes.

use jiff::Timestamp;
use paddock_api::kind::Key;
use paddock_api::names::{condition, label};

use super::relations::origin_pool;
use super::state::World;
use crate::conditions::is_true;
use crate::object::Object;

impl World {
    /// The pools at which an observed claim arrives. There are none if the claim has arrived before, or has its Sandbox.
    #[must_use]
    pub fn arrives_at(&self, claim: &Object) -> Vec<Key> {
        if self.objects.contains_key(&claim.key) { Vec::new() } else { self.pools_of_waiting(claim) }
    }

    /// The pools in which a claim without a Sandbox looks for one.
    fn pools_of_waiting(&self, claim: &Object) -> Vec<Key> {
        let Some(parsed) = claim.claim() else { return Vec::new() };
        let has_sandbox = parsed.status.sandbox.as_ref().is_some_and(|sandbox| sandbox.name.is_some());
        match &parsed.spec {
            Ok(model) if !has_sandbox => self.pools_for(claim, &model.source),
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// Counts the demand that a change of an object shows: a new claim, a taken Sandbox, or a refill.
    pub(super) fn note_demand(&mut self, before: Option<&Object>, object: &Object, now: Timestamp) {
        if before.is_none() {
            for pool in self.pools_of_waiting(object) {
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

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::Settings;
    use crate::world::Observed;

    fn now() -> Timestamp {
        "2030-01-01T00:00:00Z".parse().unwrap()
    }

    fn object(kind: Kind, name: &str, mut document: Value) -> Object {
        document["metadata"] = json!({
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "creationTimestamp": now().to_string(),
        });
        Object::from_json(kind, document).unwrap()
    }

    #[test]
    fn claim_arrives_once_at_the_pools_in_which_it_looks_and_not_at_others_of_its_template() {
        let of_template = |pools: &str| json!({ "sandboxTemplateRef": { "name": "t" }, "warmpool": pools });
        for (spec, pools) in [
            (json!({ "warmPoolRef": { "name": "a" } }), &["a"][..]),
            (of_template("b"), &["b"]),
            (of_template("default"), &["a", "b"]),
            (of_template("none"), &[]),
        ] {
            let mut world = World::new(Settings::default());
            for pool in ["a", "b"] {
                let spec = json!({ "sandboxTemplateRef": { "name": "t" } });
                let _ = world.observe(Observed::Applied(object(Kind::Pool, pool, json!({ "spec": spec }))), now());
            }
            let claim = object(Kind::Claim, "c", json!({ "spec": spec }));
            let named = |keys: Vec<Key>| keys.into_iter().map(|key| key.name.to_string()).collect::<Vec<_>>();
            assert_eq!(named(world.arrives_at(&claim)), pools, "{spec}");
            let _ = world.observe(Observed::Applied(claim.clone()), now());
            assert_eq!(world.arrives_at(&claim), [], "{spec}: it is known");
            let arrived = ["a", "b"].into_iter().filter(|pool| {
                let demand = world.demand.get(&claim.key.sibling(Kind::Pool, *pool));
                demand.is_some_and(|demand| demand.arrivals(now(), 10, 6).iter().sum::<u32>() == 1)
            });
            assert_eq!(arrived.collect::<Vec<_>>(), pools, "{spec}: what the plugins of the pools get");
        }
    }
}
