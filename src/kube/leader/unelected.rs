//! The right to write of a process that takes part in no election, while nobody else holds a Lease of its names.
//!
//! Such a process holds no Lease, so nobody waits for it. It has to wait for the others itself: watches show every Lease
//! of its names in all namespaces, and the fence is closed while somebody holds one. An operator that takes a Lease later
//! thereby takes over. Two processes without an election do not see each other.

use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::elsewhere::{Elsewhere, Obstacle};
use super::fence::Fence;
use super::send_if_different;
use crate::limits;

/// A process that acts without an election.
pub struct Unelected {
    elsewhere: Elsewhere,
    fence: Fence,
    leading: watch::Sender<bool>,
    obstacle: watch::Sender<Option<Obstacle>>,
}

impl Unelected {
    /// Creates the right to write while nobody holds a Lease of these names. The process must be allowed to list and
    /// watch them in all namespaces.
    #[must_use]
    pub fn new(client: &Client, leases: &[&str], fence: Fence) -> Self {
        let (leading, obstacle) = (watch::Sender::new(false), watch::Sender::new(None));
        Self { elsewhere: Elsewhere::new(client, None, leases), fence, leading, obstacle }
    }

    /// Whether this process acts, with every change.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// The same process, which reports to `obstacle` who holds a Lease, or why that is not known.
    #[must_use]
    pub fn reporting_to(self, obstacle: watch::Sender<Option<Obstacle>>) -> Self {
        Self { obstacle, ..self }
    }

    /// Opens and closes the fence until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            // These never end.
            () = self.act() => {}
            () = self.list_again() => {}
            () = self.elsewhere.follow() => {}
        }
        self.set(None, false);
    }

    async fn act(&self) {
        let mut changes = self.elsewhere.changes();
        // The last holder, and the end of its turn, which begins with the end of the obstacle.
        let mut last: Option<(Obstacle, Option<Instant>)> = None;
        loop {
            changes.mark_unchanged();
            let now = Instant::now();
            let obstacle = match self.elsewhere.obstacle() {
                Some(held @ Obstacle::HeldElsewhere { .. }) => {
                    last = Some((held.clone(), None));
                    Some(held)
                }
                Some(unknown @ Obstacle::Unknown(_)) => Some(unknown),
                // The replicas of the holder have the first turn, because they would stop this process again.
                None => last.as_mut().and_then(|(held, turn)| {
                    let ends = *turn.get_or_insert(now + limits::OTHER_LEASE_DURATION);
                    (now < ends).then(|| held.clone())
                }),
            };
            let acts = obstacle.is_none();
            self.set(obstacle, acts);
            tokio::select! {
                // The sender is a field of `elsewhere`.
                _ = changes.changed() => {}
                // A Lease expires without a change.
                () = sleep(limits::UNELECTED_POLL_INTERVAL) => {}
            }
        }
    }

    /// Lists the Leases after a watch failed. A watch that starts again delivers nothing until a Lease changes, so only a
    /// list shows that all is well.
    async fn list_again(&self) {
        loop {
            sleep(limits::UNELECTED_POLL_INTERVAL).await;
            if self.elsewhere.is_doubtful() {
                let _ = self.elsewhere.list().await;
            }
        }
    }

    /// Opens or closes the fence, and tells the receivers what changed.
    fn set(&self, obstacle: Option<Obstacle>, acts: bool) {
        if acts {
            self.fence.allow();
        } else {
            self.fence.revoke();
        }
        let changed = send_if_different(&self.obstacle, obstacle.clone());
        if let Some(obstacle) = obstacle.filter(|_| changed) {
            warn!(%obstacle, "this process does not act");
        }
        if send_if_different(&self.leading, acts) && acts {
            info!("nobody else holds a Lease of our names; acting without an election");
        }
    }
}
