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

use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::fence::Fence;
use super::lease::{Lease, Round};
use super::timing::Timing;

/// A candidate, and the leases that it tries to hold.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The namespace of the leases.
    pub namespace: &'a str,
    /// The names of the leases. A leader holds all of them, and every replica takes them in this order.
    pub leases: &'a [&'a str],
    /// The name of this process. No other process may use it.
    pub identity: &'a str,
}

/// The candidacy of one replica.
pub struct Election {
    leases: Vec<Lease>,
    timing: Timing,
    fence: Fence,
    leading: watch::Sender<bool>,
}

impl Election {
    /// Creates a candidacy. It ends the right of `fence` to write before another replica can lead.
    #[must_use]
    pub fn new(client: &Client, candidate: &Candidate<'_>, timing: Timing, fence: Fence) -> Self {
        let Candidate { namespace, leases, identity } = *candidate;
        let leases = leases.iter().map(|name| Lease::new(client.clone(), namespace, name, identity, timing)).collect();
        Self { leases, timing, fence, leading: watch::Sender::new(false) }
    }

    /// Whether this replica leads, with every change.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Takes part in the election until `stop`, and then releases the leases.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut right_ends = Instant::now();
        loop {
            let started = Instant::now();
            let end_of_right = if *self.leading.borrow() { Some(right_ends) } else { None };
            let round = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // A request that does not return must not extend the leadership.
                () = async { match end_of_right { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => Round::Unknown,
                round = round(&mut self.leases) => round,
            };
            match round {
                Round::Held => {
                    right_ends = started + self.timing.renew;
                    self.fence.extend(right_ends);
                    if self.announce(true) {
                        info!("leading");
                    }
                }
                Round::Taken => self.step_down("another process holds the lease"),
                Round::Unknown if Instant::now() >= right_ends => {
                    self.step_down("the lease could not be renewed in time")
                }
                Round::Unknown => {}
            }
            // Random jitter, so that replicas do not always try at the same time.
            let next = started + self.timing.retry.mul_f64(1.0 + fastrand::f64() / 5.0);
            let wake = if *self.leading.borrow() { next.min(right_ends) } else { next };
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(wake) => {}
            }
        }
        // The caller has ended the writes before the stop, so other replicas may begin.
        self.fence.revoke();
        self.announce(false);
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

    /// Sends the value to the receivers only if it changed, because the start of a leadership queues every object.
    fn announce(&self, leading: bool) -> bool {
        self.leading.send_if_modified(|announced| std::mem::replace(announced, leading) != leading)
    }
}

/// Takes or renews the leases in order, up to the first that this replica does not hold. It only reads the leases after
/// that one, so that their durations expire together.
async fn round(leases: &mut [Lease]) -> Round {
    let mut all = Round::Held;
    for lease in leases {
        match all {
            Round::Held => all = lease.take_or_renew().await,
            Round::Taken | Round::Unknown => lease.read().await,
        }
    }
    all
}

#[cfg(test)]
mod tests;
