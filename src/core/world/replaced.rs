//! The age from which pods that ended are replaced. It grows with each replacement in a row.

use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::Key;

use super::relations::{pool_of, references};
use super::state::World;
use super::streaks::{FIRST, Revision};
use crate::object::Pod;
use crate::plan::{Action, Op, Reason};

impl World {
    /// The age from which a pod of a Sandbox, or a Sandbox of a pool, is replaced after it ended.
    pub(super) fn replaced_from_age(&self, key: &Key, now: Timestamp) -> Duration {
        self.revision(key).map_or(FIRST, |revision| self.replaced.age(key, revision, now))
    }

    /// Counts the deletion of a pod that ended, or of a pool's Sandbox whose pod ended.
    pub(super) fn count_replacement(&mut self, op: &Op) {
        let Some(object) = self.objects.get(&op.key).filter(|_| matches!(op.action, Action::Delete { .. })) else {
            return;
        };
        let owner = if op.reason == Reason::PodFailed {
            object.owner_key()
        } else if op.reason == Reason::WarmSandboxUnusable {
            let ended = self.pod_of(object).is_some_and(|pod| pod.pod().is_some_and(Pod::ended));
            pool_of(object).map(|(pool, _)| pool).filter(|_| ended)
        } else {
            None
        };
        let now = self.last_now;
        if let Some(key) = owner
            && let Some(revision) = self.revision(&key)
        {
            self.replaced.count(key, revision, now);
        }
    }

    fn revision(&self, key: &Key) -> Option<Revision> {
        let object = self.objects.get(key)?;
        let template = references(object).first().and_then(|template| self.objects.get(template));
        Some([object.meta.generation, template.map_or(0, |template| template.meta.generation)])
    }
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;
    use serde_json::json;

    use super::*;
    use crate::decide::decide;
    use crate::object::Object;
    use crate::plan::Outcome;
    use crate::settings::Settings;
    use crate::time::saturating_add;
    use crate::world::Observed;

    fn at(seconds: u64) -> Timestamp {
        saturating_add("2030-01-01T00:00:00Z".parse().unwrap(), Duration::from_secs(seconds))
    }

    /// The operator and a node that evicts each pod at once.
    struct Cluster {
        world: World,
        version: u64,
    }

    impl Cluster {
        fn apply(&mut self, kind: Kind, mut document: serde_json::Value, now: u64) {
            self.version += 1;
            document["metadata"]["resourceVersion"] = self.version.to_string().into();
            document["metadata"]["namespace"] = "ns".into();
            document["metadata"]["name"] = "a".into();
            self.world.observe(Observed::Applied(Object::from_json(kind, document).unwrap()), at(now));
        }

        fn apply_sandbox(&mut self, generation: u64, now: u64) {
            let document = json!({
                "metadata": { "uid": "u", "generation": generation, "creationTimestamp": at(0).to_string() },
                "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
            });
            self.apply(Kind::Sandbox, document, now);
        }

        /// The seconds after which the pod of this time is replaced.
        fn replaces_after(&mut self, now: u64) -> u64 {
            let owner = json!([{
                "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u", "controller": true,
            }]);
            let document = json!({
                "metadata": { "uid": format!("p{now}"), "creationTimestamp": at(now).to_string(), "ownerReferences": owner },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
                "status": { "phase": "Failed", "reason": "Evicted" },
            });
            self.apply(Kind::Pod, document, now);
            let sandbox = Key::new(Kind::Sandbox, "ns", "a");
            let delete = |world: &World, after: u64| {
                let plan = decide(&world.snapshot(&sandbox, at(now + after)), &[]);
                plan.ops().find(|op| op.reason == Reason::PodFailed).cloned()
            };
            let after = (0..1000).find(|after| delete(&self.world, *after).is_some()).unwrap();
            let step = [delete(&self.world, after).unwrap()];
            self.world.observe(Observed::CpuUseListed, at(now + after));
            self.world.begin(&step).unwrap();
            self.world.finish(&step[0], &Outcome::Gone, at(now + after));
            after
        }
    }

    #[test]
    fn pods_that_end_in_a_row_are_replaced_later_and_later_until_one_stays_or_the_spec_changes() {
        let mut cluster = Cluster { world: World::new(Settings::default()), version: 0 };
        cluster.apply_sandbox(1, 0);
        let mut now = 0;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(cluster.replaces_after(now), expected, "at {now} s");
            now += expected;
        }
        cluster.apply_sandbox(2, now);
        for expected in [10, 20] {
            assert_eq!(cluster.replaces_after(now), expected, "after a change of the spec");
            now += expected;
        }
        now += 11 * 60;
        assert_eq!(cluster.replaces_after(now), 10, "after a calm time");
    }
}
