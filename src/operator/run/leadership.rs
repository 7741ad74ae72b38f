//! Joins the leader election, and opens the queue while this replica leads and knows the cluster.

use kube::Client;
use paddock_api::names::object::UPSTREAM_LEASE;
use paddock_core::world::World;
use paddock_kube::clock::Clock;
use paddock_kube::leader::{Candidate, Election, Fence, Obstacle, Scope, Unelected};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::supervise::{Part, changed};
use crate::config::{Config, LEASES, Leadership};
use crate::endpoints::Readiness;
use crate::metrics::Metrics;
use crate::queue::{Queue, Trigger};
use crate::world::SharedWorld;

/// Starts the leader election, which reports to `obstacle` what keeps this replica from leading. Without an election,
/// this replica leads while nobody holds a Lease, or always if it serves one namespace.
pub(super) fn start_election(
    config: &Config,
    (client, clock): (&Client, &Clock),
    fence: &Fence,
    obstacle: watch::Sender<Option<Obstacle>>,
) -> (watch::Receiver<bool>, Option<Part>) {
    match &config.leadership {
        Leadership::Alone if config.namespace.is_some() => (watch::Sender::new(true).subscribe(), None),
        Leadership::Alone => {
            warn!(
                "running without an election: this process waits for operators that hold a Lease, and acts beside \
                 others without an election"
            );
            let unelected = Unelected::new(client, &LEASES, fence.clone()).reporting_to(obstacle);
            let leading = unelected.leading();
            let stop = CancellationToken::new();
            (leading, Some(Part::spawn("watch of the Leases", stop.clone(), unelected.run(stop))))
        }
        Leadership::Elected { namespace, timing } => {
            info!(namespace, also = UPSTREAM_LEASE, "joining the leader election");
            let candidate = Candidate {
                namespace,
                leases: &LEASES,
                identity: &config.identity,
                clock,
                // An operator for one namespace leaves the other namespaces to others.
                scope: if config.namespace.is_some() { Scope::Namespace } else { Scope::Cluster },
            };
            let election = Election::new(client, &candidate, *timing, fence.clone()).reporting_to(obstacle);
            let leading = election.leading();
            let stop = CancellationToken::new();
            (leading, Some(Part::spawn("leader election", stop.clone(), election.run(stop))))
        }
    }
}

/// Sets the metric of the obstacle whenever it changes.
pub(super) async fn follow_obstacle(mut obstacle: watch::Receiver<Option<Obstacle>>, metrics: Metrics) {
    loop {
        metrics.obstacle(obstacle.borrow_and_update().as_ref());
        // The election ends with the operator.
        changed(&mut obstacle).await;
    }
}

/// Opens the queue while this replica leads, every kind is listed, and no watch has failed for a while. Queues every
/// object each time that it opens the queue.
pub(super) struct LeadershipState {
    pub(super) leading: watch::Receiver<bool>,
    pub(super) readiness: Readiness,
    pub(super) world: SharedWorld,
    pub(super) queue: Queue,
    pub(super) metrics: Metrics,
}

impl LeadershipState {
    pub(super) async fn follow(mut self) {
        // Decisions need the complete World. A pool whose Sandboxes are not listed yet would be filled a second time.
        if self.readiness.unsynced.wait_for(|unsynced| unsynced.is_empty()).await.is_err() {
            return;
        }
        let mut is_open = false;
        loop {
            let leading = *self.leading.borrow_and_update();
            let unknown = self.readiness.unknown.borrow_and_update().clone();
            self.metrics.leading(leading);
            // A decision on facts of unbounded age may delete what is in use. A claim may have been extended, a Sandbox
            // used, a namespace labelled.
            let decides = leading && unknown.is_empty();
            if decides != is_open {
                is_open = decides;
                self.queue.open(decides);
                if decides {
                    // Clients may have waited for claims while there was no leader, so claims come first. Most other
                    // objects need no change.
                    self.queue.push(self.world.read(World::claims_without_sandbox), Trigger::Changed);
                    self.queue.push(self.world.read(World::everything), Trigger::Leading);
                }
            }
            tokio::select! {
                // For one namespace without an election, the value never changes.
                () = changed(&mut self.leading) => {}
                changed = self.readiness.unknown.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use paddock_api::kind::Kind;
    use paddock_core::object::Object;
    use paddock_core::settings::Settings;
    use paddock_core::world::Observed;
    use paddock_kube::guard::Guards;
    use serde_json::json;
    use tokio::time::timeout;

    use super::*;
    use crate::queue::{Done, Workers};
    use crate::sync::{UnknownKinds, UnsyncedKinds};

    #[tokio::test(start_paused = true)]
    async fn leader_decides_only_while_it_knows_every_kind() {
        let world = SharedWorld::new(World::new(Settings::default()));
        let document = json!({
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "1",
                "creationTimestamp": "2030-01-01T00:00:00Z",
            },
            "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
        });
        let sandbox = Object::from_json(Kind::Sandbox, document).unwrap();
        let _ = world.observe(Observed::Listed(Kind::Sandbox, vec![sandbox]), Timestamp::now());
        let queue = Queue::new(Workers::default(), 1);
        let leading = watch::Sender::new(false);
        let unknown = watch::Sender::new(UnknownKinds::new());
        let readiness = Readiness {
            unsynced: watch::Sender::new(UnsyncedKinds::new()).subscribe(),
            unknown: unknown.subscribe(),
            webhook: watch::Sender::new(true).subscribe(),
            plugins_awaited: watch::Sender::new(vec![]).subscribe(),
            plugins: watch::Sender::new(vec![]).subscribe(),
            obstacle: watch::Sender::new(None).subscribe(),
            registered: watch::Sender::new(Vec::new()).subscribe(),
            guards: watch::Sender::new(Guards::default()).subscribe(),
            isolation: watch::Sender::new(Guards::default()).subscribe(),
            cpu_use: watch::Sender::new(None).subscribe(),
            connections: watch::Sender::new(None).subscribe(),
            definitions: watch::Sender::new(None).subscribe(),
            outages: watch::Sender::default().subscribe(),
            clock: Clock::default(),
        };
        let metrics = Metrics::new().unwrap();
        let state = LeadershipState { leading: leading.subscribe(), readiness, world, queue: queue.clone(), metrics };
        let follow = tokio::spawn(state.follow());
        let next = async || timeout(Duration::from_secs(1), queue.next()).await.ok().flatten();
        assert!(next().await.is_none(), "another replica leads");
        leading.send_replace(true);
        next().await.expect("it decides").done(Done::Converged, None);
        unknown.send_replace(UnknownKinds::from([Kind::Pod]));
        tokio::task::yield_now().await;
        queue.push([paddock_api::kind::Key::new(Kind::Sandbox, "ns", "a")], Trigger::Changed);
        assert!(next().await.is_none(), "the pods are unknown");
        unknown.send_replace(UnknownKinds::new());
        next().await.expect("it decides about every object again").done(Done::Converged, None);
        // Without an election, the value never changes, and the rest goes on.
        drop(leading);
        unknown.send_replace(UnknownKinds::from([Kind::Node]));
        tokio::task::yield_now().await;
        queue.push([paddock_api::kind::Key::new(Kind::Sandbox, "ns", "a")], Trigger::Changed);
        assert!(next().await.is_none(), "the nodes are unknown");
        follow.abort();
    }
}
