//! Leader election on several Leases at once. The operator takes its own Lease and upstream's, so that two operators
//! never reconcile one cluster.
//!
//! This code is our own. The crates for leader election hold only one Lease, compare the wall clocks of two machines,
//! or state no deadline by which a write must have ended. Here a leader holds all Leases, and the fence closes by a
//! monotonic clock before another replica can take them.
//!
//! The rules are client-go's. A lease has expired if it has not changed for its duration, measured by our own monotonic
//! clock since we first read this version. Every write is a compare-and-swap on the version of the lease. The clocks of
//! different machines are never compared. Leases are taken in a fixed order, so that two replicas never hold one each.
//! The right to write ([`Fence`]) ends before another replica can take the lease.
//!
//! A deleted lease counts as held for its duration, because its holder may not have noticed the deletion. A replica that
//! then creates the lease writes only when every former holder has stopped. A holder that finds its lease deleted or
//! changed stops writing until it has written the lease again.

use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::elsewhere::{Elsewhere, Obstacle};
use super::fence::Fence;
use super::lease::{Candidate, Lease, Round, Scope};
use super::send_if_different;
use super::timing::Timing;

/// The candidacy of one replica.
pub struct Election {
    leases: Vec<Lease>,
    timing: Timing,
    fence: Fence,
    leading: watch::Sender<bool>,
    elsewhere: Option<Elsewhere>,
    obstacle: watch::Sender<Option<Obstacle>>,
}

impl Election {
    /// Creates a candidacy. It ends the right of `fence` to write before another replica can lead.
    #[must_use]
    pub fn new(client: &Client, candidate: &Candidate<'_>, timing: Timing, fence: Fence) -> Self {
        let Candidate { namespace, leases, scope, .. } = *candidate;
        let elsewhere = match scope {
            Scope::Namespace => None,
            Scope::Cluster => Some(Elsewhere::new(client, Some(namespace), leases)),
        };
        let leases = leases.iter().map(|name| Lease::new(client, candidate, name, timing)).collect();
        let (leading, obstacle) = (watch::Sender::new(false), watch::Sender::new(None));
        Self { leases, timing, fence, leading, elsewhere, obstacle }
    }

    /// Whether this replica leads, with every change.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// The same candidacy, which reports to `obstacle` who holds a Lease in another namespace, or why that is not known.
    /// While there is an obstacle, this replica does not act.
    #[must_use]
    pub fn reporting_to(self, obstacle: watch::Sender<Option<Obstacle>>) -> Self {
        Self { obstacle, ..self }
    }

    /// Takes part in the election until `stop`, and then releases the leases.
    pub async fn run(mut self, stop: CancellationToken) {
        let elsewhere = self.elsewhere.clone();
        let follow = async {
            match &elsewhere {
                Some(elsewhere) => elsewhere.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.take_part(&stop) => {}
            // The watches never end.
            () = follow => {}
        }
        // The caller has ended the writes before the stop, so other replicas may begin.
        self.fence.revoke();
        self.announce(false);
        self.release().await;
    }

    async fn take_part(&mut self, stop: &CancellationToken) {
        let mut right_ends = Instant::now();
        let elsewhere = self.elsewhere.clone();
        loop {
            let started = Instant::now();
            let leading = *self.leading.borrow();
            let end_of_right = leading.then_some(right_ends);
            let round = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // A request that does not return must not extend the leadership.
                () = async { match end_of_right { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => Round::Unknown,
                // A leader stops as soon as it sees another one, whatever its own requests do.
                () = obstructed(elsewhere.as_ref()), if leading => Round::Elsewhere,
                round = self.round() => round,
            };
            self.report_obstacle();
            // Requests that were slower than the right that they give count as lost.
            let late = round == Round::Held && self.right_ends().is_some_and(|ends| ends <= Instant::now());
            let round = if late { Round::Unknown } else { round };
            match round {
                Round::Held => {
                    right_ends = self.right_ends().unwrap_or(started + self.timing.renew);
                    self.fence.extend(right_ends);
                    if self.announce(true) {
                        info!("leading");
                    }
                }
                Round::Taken => self.step_down("another process holds the lease"),
                Round::Elsewhere => {
                    self.step_down("a Lease in another namespace may be held");
                    self.release().await;
                }
                Round::Lost => self.step_down("another process deleted or changed the lease"),
                Round::Unknown if Instant::now() >= right_ends => {
                    self.step_down("the lease could not be renewed in time")
                }
                Round::Unknown => {}
            }
            // Random jitter, so that replicas do not always try at the same time.
            let jitter = match round {
                Round::Held | Round::Taken | Round::Lost | Round::Unknown => fastrand::f64() / 5.0,
                // Two operators that saw each other must not return at the same time.
                Round::Elsewhere => fastrand::f64(),
            };
            let next = started + self.timing.retry.mul_f64(1.0 + jitter);
            let leading = *self.leading.borrow();
            let wake = if leading { next.min(right_ends) } else { next };
            tokio::select! {
                () = stop.cancelled() => return,
                () = obstructed(elsewhere.as_ref()), if leading => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Takes or renews the leases, unless somebody holds a Lease in another namespace.
    async fn round(&mut self) -> Round {
        let leading = *self.leading.borrow();
        let (mut all, mut just_read) = (Round::Held, 0);
        if let Some(elsewhere) = &self.elsewhere {
            let held = matches!(elsewhere.obstacle(), Some(Obstacle::HeldElsewhere { .. }));
            if held {
                all = Round::Elsewhere;
            } else if !leading && let Some(first) = self.leases.first_mut() {
                // The watch may lag. A candidate that takes a lease would disturb a leader that it does not see yet.
                (all, just_read) = (first.look().await, 1);
                if all == Round::Held && elsewhere.list().await.is_some() {
                    all = Round::Elsewhere;
                }
            }
        }
        all = self.take(all, just_read).await;
        if let Some(elsewhere) = self.elsewhere.clone().filter(|_| all == Round::Held && !leading) {
            if elsewhere.list().await.is_some() {
                return Round::Elsewhere;
            }
            // The requests before took a part of the right. A leader begins with as much of it as it has later.
            if self.right_ends().is_some_and(|ends| ends < Instant::now() + self.timing.renew - self.timing.retry) {
                all = self.take(Round::Held, 0).await;
            }
        }
        match &self.elsewhere {
            Some(elsewhere) if all == Round::Held && elsewhere.obstacle().is_some() => Round::Elsewhere,
            Some(_) | None => all,
        }
    }

    /// Takes or renews the leases in order, up to the first that this replica does not hold. It only reads the leases
    /// after that one, so that their durations expire together. The first `just_read` leases are not read again.
    async fn take(&mut self, mut all: Round, just_read: usize) -> Round {
        for (index, lease) in self.leases.iter_mut().enumerate() {
            if all != Round::Held {
                if !lease.mine() && index >= just_read {
                    lease.read().await;
                }
                continue;
            }
            all = lease.take_or_renew().await;
            if all == Round::Lost {
                // Another process may hold the lease and write. The next attempt reads the lease.
                self.fence.revoke();
                let again = lease.take_or_renew().await;
                all = if again == Round::Unknown { Round::Lost } else { again };
            }
        }
        if all == Round::Held && self.leases.iter().any(Lease::waits) { Round::Lost } else { all }
    }

    /// The end of the right that the last writes of all leases give: no other replica can take a lease before.
    fn right_ends(&self) -> Option<Instant> {
        self.leases.iter().map(|lease| Some(lease.sent()? + self.timing.renew)).min().flatten()
    }

    /// Releases the leases, so that the next leader does not have to wait for their expiry.
    async fn release(&mut self) {
        for lease in self.leases.iter_mut().rev() {
            lease.release().await;
        }
    }

    fn step_down(&self, why: &str) {
        self.fence.revoke();
        if self.announce(false) {
            warn!(why, "this replica is no longer the leader");
        }
    }

    /// Sends the obstacle to the receivers, and logs it, if it changed.
    fn report_obstacle(&self) {
        let obstacle = self.elsewhere.as_ref().and_then(Elsewhere::obstacle);
        let changed = send_if_different(&self.obstacle, obstacle.clone());
        match obstacle.filter(|_| changed) {
            Some(obstacle) => warn!(%obstacle, "this replica does not act"),
            None if changed => info!("nobody holds a Lease of our names in another namespace"),
            None => {}
        }
    }

    /// Sends the value to the receivers only if it changed, because the start of a leadership queues every object.
    fn announce(&self, leading: bool) -> bool {
        send_if_different(&self.leading, leading)
    }
}

/// Waits until there is an obstacle.
async fn obstructed(elsewhere: Option<&Elsewhere>) {
    let Some(elsewhere) = elsewhere else { return std::future::pending().await };
    // The sender is a field of `elsewhere`.
    let _ = elsewhere.changes().wait_for(|()| elsewhere.obstacle().is_some()).await;
}

#[cfg(test)]
mod tests;
