//! Leader election on several Leases at once: the operator takes its own and upstream's, so that two operators never act on
//! one cluster.
//!
//! This is our own code because the crates for leader election hold one Lease, compare the wall clocks of two machines, or give no
//! deadline by which a write must have ended. Here a leader holds all Leases, and the fence closes by a monotonic clock
//! before anybody else can take them.
//!
//! The rules are client-go's: a lease has expired when it has not changed for its duration *by our own
//! monotonic clock* since we first saw it so, and every write to it is compare-and-swap on its version. Clocks
//! of different machines are never compared. Leases are taken in a fixed order, so that no two replicas
//! hold one each. The right to write ([`Fence`]) ends before the lease can be taken by anybody else.

use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::fence::Fence;
use super::lease::{Lease, Round};
use super::timing::Timing;

/// Who stands for election, and for which leases.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Namespace of the leases.
    pub namespace: &'a str,
    /// The leases, all of which the leader holds; every replica takes them in this order.
    pub leases: &'a [&'a str],
    /// This process's name, and no other's.
    pub identity: &'a str,
}

/// One replica's candidacy.
pub struct Election {
    leases: Vec<Lease>,
    timing: Timing,
    fence: Fence,
    leading: watch::Sender<bool>,
}

impl Election {
    /// A candidacy, which ends the right of `fence` to write before anybody else can lead.
    #[must_use]
    pub fn new(client: &Client, candidate: &Candidate<'_>, timing: Timing, fence: Fence) -> Self {
        let Candidate { namespace, leases, identity } = *candidate;
        let leases = leases.iter().map(|name| Lease::new(client.clone(), namespace, name, identity, timing)).collect();
        Self { leases, timing, fence, leading: watch::Sender::new(false) }
    }

    /// Says whether this replica leads.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Stands for election until stopped, then gives the leases back.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut right_ends = Instant::now();
        loop {
            let started = Instant::now();
            let end_of_right = if *self.leading.borrow() { Some(right_ends) } else { None };
            let round = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // A request that hangs must not keep a leader acting.
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
                Round::Taken => self.step_down("another holds the lease"),
                Round::Unknown if Instant::now() >= right_ends => {
                    self.step_down("the lease could not be renewed in time")
                }
                Round::Unknown => {}
            }
            // A little apart from the other replicas, so that they do not always meet.
            let next = started + self.timing.retry.mul_f64(1.0 + fastrand::f64() / 5.0);
            let wake = if *self.leading.borrow() { next.min(right_ends) } else { next };
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(wake) => {}
            }
        }
        // Whoever stops us has ended the writes; now others may begin.
        self.fence.revoke();
        self.announce(false);
        for lease in self.leases.iter_mut().rev() {
            lease.release().await;
        }
    }

    fn step_down(&self, why: &str) {
        self.fence.revoke();
        if self.announce(false) {
            warn!(why, "no longer leading");
        }
    }

    /// Tells who follows, but only of a change: they look at everything then.
    fn announce(&self, leading: bool) -> bool {
        self.leading.send_if_modified(|told| std::mem::replace(told, leading) != leading)
    }
}

/// Takes or renews every lease, in order, up to the first that is not ours. Those behind it are only looked at, so that
/// their time runs out together with the first one's.
async fn round(leases: &mut [Lease]) -> Round {
    let mut all = Round::Held;
    for lease in leases {
        match all {
            Round::Held => all = lease.take_or_renew().await,
            Round::Taken | Round::Unknown => lease.look().await,
        }
    }
    all
}

#[cfg(test)]
mod tests;
