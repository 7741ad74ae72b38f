//! One Lease. It is taken, renewed and released by compare-and-swap on its version.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use paddock_api::names::FIELD_MANAGER;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::timing::Timing;
use crate::clock::Clock;
use crate::limits;

/// A candidate, and the leases that it tries to hold.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The namespace of the leases.
    pub namespace: &'a str,
    /// The names of the leases. A leader holds all of them, and every replica takes them in this order.
    pub leases: &'a [&'a str],
    /// The name of this process. No other process may use it.
    pub identity: &'a str,
    /// The clock for the times in the leases. No decision depends on them.
    pub clock: &'a Clock,
    /// The scope in which nobody else may hold a lease of these names while this process acts.
    pub scope: Scope,
}

/// The scope of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The namespace of the leases: this process serves one namespace, and other processes may serve others.
    Namespace,
    /// All namespaces, whose leases the process must be allowed to list and watch.
    Cluster,
}

/// The result of one attempt to hold the leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// This replica holds all leases, as the API server just confirmed.
    Held,
    /// Another replica or operator holds a lease.
    Taken,
    /// Somebody holds a lease in another namespace, or it is not known whether somebody does.
    Elsewhere,
    /// Somebody deleted or changed a lease that this replica held.
    Lost,
    /// The API server did not answer, or another write came first.
    Unknown,
}

pub(super) struct Lease {
    api: Api<LeaseObject>,
    name: String,
    identity: String,
    timing: Timing,
    clock: Clock,
    /// `None` if this replica has never seen the lease.
    known: Option<Known>,
    /// The time just before the last write was sent.
    sent: Option<Instant>,
    /// The time just before the last write was sent that the API server confirmed. Absent since the release.
    confirmed: Option<Instant>,
    /// Whether a lease of another holder was deleted, and this replica has sent a request to create it again.
    succeeds: bool,
    /// The end of the right of every former holder, if this replica has created the lease of another holder again.
    former_ends: Option<Instant>,
}

/// A lease as it was last read or written.
struct Known {
    lease: LeaseObject,
    /// The time at which this version was first read, or the absence was first seen.
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The lease was stored like this, as far as this replica knows.
    Stored,
    /// The lease has to be read before it is written.
    Doubtful,
    /// The lease was deleted. Its holder may not have noticed yet, and still write.
    Absent,
}

impl Lease {
    pub(super) fn new(client: &Client, candidate: &Candidate<'_>, name: &str, timing: Timing) -> Self {
        let Candidate { namespace, identity, clock, .. } = *candidate;
        let api = Api::namespaced(client.clone(), namespace);
        let (name, identity) = (name.to_owned(), identity.to_owned());
        let (clock, known, succeeds) = (clock.clone(), None, false);
        let (sent, confirmed, former_ends) = (None, None, None);
        Self { api, name, identity, timing, clock, known, sent, confirmed, succeeds, former_ends }
    }

    pub(super) async fn take_or_renew(&mut self) -> Round {
        match self.attempt().await {
            Ok(round) => round,
            Err(error) => {
                warn!(lease = self.name, %error, "the lease request failed");
                Round::Unknown
            }
        }
    }

    /// Reads the lease, so that the measured time since its last change starts.
    pub(super) async fn read(&mut self) {
        if let Err(error) = self.try_read().await {
            debug!(lease = self.name, %error, "the lease could not be read");
        }
    }

    async fn try_read(&mut self) -> Result<(), Failed> {
        match within(self.api.get_opt(&self.name)).await? {
            Some(lease) => self.note(lease),
            None => self.note_absence(),
        }
        Ok(())
    }

    /// Whether the lease could be taken. `Held` means that it is ours or free.
    pub(super) async fn look(&mut self) -> Round {
        self.read().await;
        if self.other_holder().is_some() { Round::Taken } else { Round::Held }
    }

    async fn attempt(&mut self) -> Result<Round, Failed> {
        // A lease that we hold is not read first. The write itself fails if we do not hold it any more.
        if !self.mine() {
            self.try_read().await?;
            if let Some(holder) = self.other_holder() {
                debug!(lease = self.name, holder, "another process holds the lease");
                return Ok(Round::Taken);
            }
            if self.known.as_ref().is_none_or(|known| known.state != State::Stored) {
                return self.create().await;
            }
        }
        self.write(&self.identity.clone(), self.timing.lease).await
    }

    /// Releases the lease if we hold it, so that the next leader does not have to wait for its expiry.
    pub(super) async fn release(&mut self) {
        if !self.mine() {
            return;
        }
        // As in client-go, the released lease has no holder and a duration of one second.
        match self.write("", Duration::from_secs(1)).await {
            Ok(Round::Held) => info!(lease = self.name, "the lease was released"),
            Ok(Round::Taken | Round::Elsewhere | Round::Lost | Round::Unknown) => {}
            Err(error) => warn!(lease = self.name, %error, "the lease was not released"),
        }
        self.doubt();
        self.confirmed = None;
    }

    pub(super) fn mine(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.state == State::Stored && known.holder() == Some(&self.identity))
    }

    /// The time just before the last write was sent. A write that succeeded keeps the lease from others for its duration
    /// from then on, at least.
    pub(super) fn sent(&self) -> Option<Instant> {
        self.sent
    }

    /// The last holder of the lease that we know, if the lease may be held by another process.
    fn other_holder(&self) -> Option<&str> {
        let known = self.known.as_ref()?;
        let holder = known.holder()?;
        let duration = known.lease.spec.as_ref().and_then(stated_duration).unwrap_or(self.timing.lease);
        // If we were cut off, another process may have held a deleted lease after us.
        let is_other = holder != self.identity || known.state == State::Absent;
        (is_other && known.since.elapsed() < duration).then_some(holder)
    }

    /// Whether a former holder of the lease may still write, because it has not noticed that the lease was deleted. The
    /// lease may have been created and deleted again unseen, so only the time since our own creation counts.
    pub(super) fn waits(&self) -> bool {
        self.former_ends.is_some_and(|ends| ends > Instant::now())
    }

    /// Stores a lease. The measured time starts again only if the lease changed.
    fn note(&mut self, lease: LeaseObject) {
        match &mut self.known {
            Some(had) if had.lease.metadata.resource_version == lease.metadata.resource_version => {
                had.state = State::Stored;
            }
            Some(_) | None => {
                let known = Known { lease, since: Instant::now(), state: State::Stored };
                // The reply to the creation may have been lost.
                if known.holder() == Some(&self.identity) && std::mem::take(&mut self.succeeds) {
                    self.former_ends = Some(known.since + self.timing.renew);
                    let (lease, wait) = (&self.name, self.timing.renew);
                    info!(lease, ?wait, "this replica created a deleted lease, and waits for its former holders");
                }
                self.known = Some(known);
            }
        }
    }

    /// Whether this replica holds the lease, and has had the right to write by it without interruption.
    fn is_ours(&self) -> bool {
        let holder = self.known.as_ref().and_then(Known::holder);
        holder == Some(&self.identity) && self.confirmed.is_some_and(|sent| sent.elapsed() < self.timing.renew)
    }

    /// Records that the lease does not exist. A lease that was held counts as held for its duration from now on, because
    /// its holder may have renewed it just before the deletion. If we hold it ourselves, we may create it again.
    fn note_absence(&mut self) {
        let is_ours = self.is_ours();
        let Some(known) = &mut self.known else { return };
        if known.state == State::Absent {
            return;
        }
        if is_ours {
            known.state = State::Doubtful;
        } else {
            (known.state, known.since) = (State::Absent, Instant::now());
        }
    }

    /// Makes the next attempt read the lease first.
    fn doubt(&mut self) {
        if let Some(known) = &mut self.known {
            known.state = State::Doubtful;
        }
    }

    async fn create(&mut self) -> Result<Round, Failed> {
        let lease = LeaseObject {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: Some(self.held_spec(&self.identity, self.timing.lease, None)),
        };
        self.succeeds = self.known.is_some() && !self.is_ours();
        self.sent = Some(Instant::now());
        let stored = within(self.api.create(&params(), &lease)).await;
        self.settle(stored, false)
    }

    async fn write(&mut self, holder: &str, duration: Duration) -> Result<Round, Failed> {
        let was_mine = self.mine();
        let Some(mut lease) = self.known.as_ref().map(|known| known.lease.clone()) else { return Ok(Round::Unknown) };
        lease.spec = Some(self.held_spec(holder, duration, lease.spec.take()));
        // The lease exists, so this replica takes or renews it, and does not create it.
        self.succeeds = false;
        self.sent = Some(Instant::now());
        let stored = within(self.api.replace(&self.name, &params(), &lease)).await;
        self.settle(stored, was_mine)
    }

    /// The spec that makes `holder` the holder. It keeps the fields that we do not write.
    fn held_spec(&self, holder: &str, duration: Duration, had: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        let had = had.unwrap_or_default();
        let changes = had.holder_identity.as_deref() != Some(holder);
        LeaseSpec {
            acquire_time: if changes || had.acquire_time.is_none() { Some(now.clone()) } else { had.acquire_time },
            renew_time: Some(now),
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
            lease_transitions: Some(had.lease_transitions.unwrap_or(0) + i32::from(changes && !holder.is_empty())),
            preferred_holder: had.preferred_holder,
            strategy: had.strategy,
        }
    }

    fn settle(&mut self, stored: Result<LeaseObject, Failed>, was_mine: bool) -> Result<Round, Failed> {
        match stored {
            Ok(lease) => {
                self.note(lease);
                self.confirmed = self.sent;
                Ok(Round::Held)
            }
            // Another write came first, or the lease does not exist any more. The next attempt reads it again.
            Err(Failed::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                self.doubt();
                Ok(if was_mine { Round::Lost } else { Round::Unknown })
            }
            Err(error) => Err(error),
        }
    }
}

impl Known {
    /// The holder that the lease names, if it names one.
    fn holder(&self) -> Option<&str> {
        self.lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the API server did not reply within {:?}", limits::LEASE_REQUEST_TIMEOUT)]
    Late,
    #[error(transparent)]
    Api(kube::Error),
}

async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match timeout(limits::LEASE_REQUEST_TIMEOUT, request).await {
        Ok(reply) => reply.map_err(Failed::Api),
        Err(_elapsed) => Err(Failed::Late),
    }
}

/// The time after its last change at which a lease expires, as its holder states it.
pub(super) fn stated_duration(spec: &LeaseSpec) -> Option<Duration> {
    spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
