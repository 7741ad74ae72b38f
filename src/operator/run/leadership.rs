//! Joins the leader election, and opens the queue while this replica leads.

use kube::Client;
use paddock_api::names::object::UPSTREAM_LEASE;
use paddock_core::world::World;
use paddock_kube::leader::{Candidate, Election, Fence};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::supervise::Stoppable;
use crate::config::{Config, Leadership, OWN_LEASE};
use crate::endpoints::Readiness;
use crate::metrics::Metrics;
use crate::queue::{Queue, Trigger};
use crate::world::SharedWorld;

/// Starts the leader election. Without an election this replica leads at once.
pub(super) fn start_election(
    config: &Config,
    client: &Client,
    own_namespace: &str,
    fence: &Fence,
) -> (watch::Receiver<bool>, Stoppable) {
    match &config.leadership {
        Leadership::Alone => (watch::Sender::new(true).subscribe(), None),
        Leadership::Elected { namespace, timing } => {
            let namespace = namespace.as_deref().unwrap_or(own_namespace);
            info!(namespace, also = UPSTREAM_LEASE, "joining the leader election");
            let candidate = Candidate { namespace, leases: &[OWN_LEASE, UPSTREAM_LEASE], identity: &config.identity };
            let election = Election::new(client, &candidate, *timing, fence.clone());
            let leading = election.leading();
            let stop = CancellationToken::new();
            let handle = tokio::spawn(election.run(stop.clone()));
            (leading, Some((stop, handle)))
        }
    }
}

/// Opens the queue while this replica leads and every kind is listed. Queues every object at the beginning of each
/// leadership.
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
        loop {
            let leading = *self.leading.borrow_and_update();
            self.metrics.leading(leading);
            self.queue.open(leading);
            if leading {
                // Clients may have waited for claims while there was no leader, so claims come first. Most other
                // objects need no change.
                self.queue.push(self.world.read(World::claims_without_sandbox), Trigger::Changed);
                self.queue.push(self.world.read(World::everything), Trigger::Leading);
            }
            // Without an election the value never changes.
            if self.leading.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
