//! The age from which pods that ended are replaced. It grows with each replacement in a row.

use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::Key;

use super::relations::{pool_of, references};
use super::state::World;
use super::streaks::{CALM, FIRST, Revision};
use crate::object::{Object, Pod};
use crate::plan::{Action, Op, Reason};
use crate::time::time_left;

impl World {
    /// The age from which a pod of a Sandbox, or a Sandbox of a pool, is replaced after it ended.
    pub(super) fn replaced_from_age(&self, key: &Key, now: Timestamp) -> Duration {
        self.revision(key).map_or(FIRST, |revision| self.replaced.age(key, revision, now))
    }

    /// Counts the deletion of a pod that ended soon, or of a pool's Sandbox with such a pod.
    pub(super) fn count_replacement(&mut self, op: &Op) {
        let Some(object) = self.objects.get(&op.key).filter(|_| matches!(op.action, Action::Delete { .. })) else {
            return;
        };
        let (owner, pod) = if op.reason == Reason::PodFailed {
            (object.owner_key(), Some(object.clone()))
        } else if op.reason == Reason::WarmSandboxUnusable {
            (pool_of(object).map(|(pool, _)| pool), self.pod_of(object))
        } else {
            return;
        };
        let now = self.last_now;
        if let Some(key) = owner.filter(|_| pod.is_some_and(|pod| ended_soon(&pod, now)))
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

/// Whether a pod ended so soon after its creation that the next one may end as soon. A pod that is being deleted, as in a
/// drain, did not end by itself.
fn ended_soon(pod: &Object, now: Timestamp) -> bool {
    pod.meta.deletion_timestamp.is_none()
        && pod.pod().is_some_and(Pod::ended)
        && time_left(pod.meta.created, CALM, now).is_some()
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;
    use serde_json::json;

    use super::*;
    use crate::decide::decide;
    use crate::plan::Outcome;
    use crate::settings::Settings;
    use crate::time::saturating_add;
    use crate::world::Observed;

    fn at(seconds: u64) -> Timestamp {
        saturating_add("2030-01-01T00:00:00Z".parse().unwrap(), Duration::from_secs(seconds))
    }

    /// The operator and a node that evicts the pods. Each object has the name `a`.
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

        /// The seconds after which the pod that was created at this time is replaced. The node evicts it after `ran` seconds.
        fn replaces_after(&mut self, now: u64, ran: u64) -> u64 {
            let owner = json!([{
                "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u", "controller": true,
            }]);
            let document = json!({
                "metadata": { "uid": format!("p{now}"), "creationTimestamp": at(now).to_string(), "ownerReferences": owner },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
                "status": { "phase": "Failed", "reason": "Evicted" },
            });
            self.apply(Kind::Pod, document, now + ran);
            let sandbox = Key::new(Kind::Sandbox, "ns", "a");
            let delete = |world: &World, after: u64| {
                let plan = decide(&world.snapshot(&sandbox, at(now + after)), &[]);
                plan.ops().find(|op| op.reason == Reason::PodFailed).cloned()
            };
            let after = (ran..ran + 1000).find(|after| delete(&self.world, *after).is_some()).unwrap();
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
            assert_eq!(cluster.replaces_after(now, 0), expected, "at {now} s");
            now += expected;
        }
        cluster.apply_sandbox(2, now);
        for expected in [10, 20] {
            assert_eq!(cluster.replaces_after(now, 0), expected, "after a change of the spec");
            now += expected;
        }
        now += 11 * 60;
        assert_eq!(cluster.replaces_after(now, 0), 10, "after a calm time");
    }

    /// Kubernetes forgets the restarts of a container that has run for ten minutes.
    #[test]
    fn pods_that_ran_for_ten_minutes_are_replaced_at_once_and_do_not_count() {
        let mut cluster = Cluster { world: World::new(Settings::default()), version: 0 };
        cluster.apply_sandbox(1, 0);
        let mut now = 0;
        for (ran, expected) in [(7200, 7200), (600, 600), (0, 10), (540, 540), (0, 40)] {
            assert_eq!(cluster.replaces_after(now, ran), expected, "ran for {ran} s from {now} s");
            now += expected;
        }
    }

    #[test]
    fn pool_counts_a_pod_that_ended_by_itself_soon_after_its_creation() {
        let owner = |api_version: &str, kind: &str, uid: &str| {
            let owner = json!({ "apiVersion": api_version, "kind": kind, "name": "a", "uid": uid, "controller": true });
            json!([owner])
        };
        let of_pool = owner("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", "pool");
        let of_sandbox = owner("agents.x-k8s.io/v1beta1", "Sandbox", "sandbox");
        let pod_spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
        for (what, ends, phase, deleted, expected) in [
            ("soon", 60, "Failed", false, 20),
            ("after hours", 7200, "Failed", false, 10),
            ("in a drain", 60, "Succeeded", true, 10),
            ("not", 60, "Running", false, 10),
        ] {
            let mut cluster = Cluster { world: World::new(Settings::default()), version: 0 };
            let pool = json!({
                "metadata": { "uid": "pool", "generation": 1 },
                "spec": { "replicas": 1, "sandboxTemplateRef": { "name": "t" } },
            });
            let created = at(0).to_string();
            let sandbox = json!({
                "metadata": { "uid": "sandbox", "creationTimestamp": created, "ownerReferences": of_pool },
                "spec": { "podTemplate": { "spec": pod_spec } },
            });
            let pod = json!({
                "metadata": {
                    "uid": "pod", "creationTimestamp": created, "ownerReferences": of_sandbox,
                    "deletionTimestamp": deleted.then(|| at(ends).to_string()),
                },
                "spec": pod_spec,
                "status": { "phase": phase },
            });
            cluster.apply(Kind::Pool, pool, 0);
            cluster.apply(Kind::Sandbox, sandbox, 0);
            cluster.apply(Kind::Pod, pod, ends);
            let world = &mut cluster.world;
            let member = world.get(&Key::new(Kind::Sandbox, "ns", "a")).unwrap();
            let step = [Op::delete_if_unchanged(member, Reason::WarmSandboxUnusable)];
            world.begin(&step).unwrap();
            let age = world.replaced_from_age(&Key::new(Kind::Pool, "ns", "a"), at(ends));
            assert_eq!(age, Duration::from_secs(expected), "ended {what}");
        }
    }
}
