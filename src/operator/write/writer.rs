//! Executes a plan step by step, and reports the outcome of every operation to the World.

use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use paddock_api::kind::{Key, OwnKind};
use paddock_api::names::annotation;
use paddock_core::plan::{Action, ClaimStart, Op, Outcome, Plan, Reason};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::body::read_body;
use super::calls::Calls;
use super::deliver::Deliverer;
use super::reply::Reply;
use super::request::request;
use crate::limiter::{Permit, Urgency, WriteLimiter};
use crate::limits;
use crate::metrics::Metrics;
use crate::queue::{Done, Queue, Trigger};
use crate::world::SharedWorld;
use paddock_kube::leader::Fence;

/// Executes plans. No other part sends the operations of plans.
pub struct Writer {
    client: Client,
    calls: Calls,
    deliverer: Deliverer,
    world: SharedWorld,
    queue: Queue,
    limiter: WriteLimiter,
    fence: Fence,
    metrics: Metrics,
    /// The places for large objects, of all urgencies.
    large: WriteLimiter,
}

/// The place of a reconcile that concerns a large object. The reconcile holds it from its snapshot on, because the snapshot,
/// the questions and the plan repeat the object.
pub struct LargePlace {
    _permit: Permit,
    /// The turn of one large write. A plan may have many.
    turn: Mutex<()>,
}

/// The progress of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All operations were stored.
    Stored,
    /// The plan was stale before one of its steps began. No operation of that step was sent.
    Stale,
    /// An operation was not stored, and the following steps were not sent.
    Stopped(Done),
}

impl Writer {
    /// Creates a writer. `client` must not retry by itself.
    pub fn new(
        client: Client,
        world: SharedWorld,
        queue: Queue,
        (limiter, fence): (WriteLimiter, Fence),
        metrics: Metrics,
    ) -> Self {
        let large = WriteLimiter::fixed(limits::LARGE_OBJECTS);
        let calls = Calls::new(client.clone());
        let deliverer = Deliverer::new(calls.clone());
        Self { client, calls, deliverer, world, queue, limiter, fence, metrics, large }
    }

    /// Waits for the place of a reconcile, if the object is large.
    pub async fn place(&self, key: &Key) -> Option<LargePlace> {
        if !self.world.read(|world| world.is_large(key)) {
            return None;
        }
        let urgency = match key.kind.own() {
            Some(OwnKind::Claim(_)) => Urgency::Claim,
            Some(OwnKind::Pool(_) | OwnKind::Template(_)) => Urgency::Background,
            Some(OwnKind::Sandbox) | None => Urgency::Normal,
        };
        Some(LargePlace { _permit: self.large.enter(urgency, key).await, turn: Mutex::default() })
    }

    /// Sends the steps of a plan one after the other, and the operations of a step together. If the reconcile has a place
    /// for a large object, its large writes are sent one after the other.
    pub async fn execute(&self, plan: &Plan, place: Option<&LargePlace>) -> Progress {
        let mut afterwards = Vec::new();
        let progress = self.steps(plan, place, &mut afterwards).await;
        for key in afterwards {
            self.queue.push_at(key, Instant::now() + limits::CLAIM_FOLLOW_UP_DELAY, Trigger::Related);
        }
        progress
    }

    async fn steps(&self, plan: &Plan, place: Option<&LargePlace>, afterwards: &mut Vec<Key>) -> Progress {
        for step in plan.steps.iter().filter(|step| !step.is_empty()) {
            let Ok(step) = self.world.begin(step) else { return Progress::Stale };
            let ends = join_all(step.iter().map(|op| self.send_and_resolve(op, plan.start.as_ref(), place))).await;
            let (ends, due): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
            afterwards.extend(due.into_iter().flatten());
            if let Some(done) = ends.into_iter().flatten().reduce(worse) {
                return Progress::Stopped(done);
            }
        }
        Progress::Stored
    }

    /// Sends one operation and resolves its pending write. Returns the next step of the reconcile (`None` if the
    /// operation reached its purpose), and the keys to queue after the plan has ended.
    async fn send_and_resolve(
        &self,
        op: &Op,
        start: Option<&ClaimStart>,
        place: Option<&LargePlace>,
    ) -> (Option<Done>, Vec<Key>) {
        let (reply, at_least) = self.send(op, place).await;
        self.metrics.write(op, &reply.outcome);
        if let Outcome::Stored(object) = &reply.outcome {
            self.metrics.expect_event(object);
            // A start whose reply was lost is not counted: the next plan finds the Sandbox of the claim.
            if let Some(start) = start.filter(|_| matches!(op.reason, Reason::Claimed | Reason::ColdStart)) {
                self.metrics.claim_started(start);
            }
        }
        match &reply.outcome {
            Outcome::Rejected { status, message, by_policy: _ } => {
                let namespace = &*op.key.namespace;
                warn!(%op, namespace, status, message, "the API server rejected the write");
            }
            Outcome::Stored(_)
            | Outcome::Gone
            | Outcome::Conflict
            | Outcome::Exists
            | Outcome::Busy
            | Outcome::Unknown => debug!(%op, outcome = reply.outcome.as_str(), "write"),
        }
        let keys = self.world.finish(op, &reply.outcome, self.world.now());
        // After a claim has taken a Sandbox, the next write is the claim's status, because a client waits for it. The
        // pod's labels and the refill come later, so that they do not compete with it in the API server. A claim that
        // brings data waits for the pod first.
        let taken = op.reason == Reason::Claimed && matches!(reply.outcome, Outcome::Stored(_)) && !brings_data(op);
        let (afterwards, now) = if taken { (keys, vec![]) } else { (vec![], keys) };
        self.queue.push(now, Trigger::Related);
        (verdict(op, &reply.outcome, at_least), afterwards)
    }

    async fn send(&self, op: &Op, place: Option<&LargePlace>) -> (Reply, Option<Duration>) {
        let stored_is_large = self.world.read(|world| world.get(&op.key).is_some_and(|object| object.meta.large));
        let large = stored_is_large || op.is_large();
        let _turn = match place {
            Some(place) if large => Some(place.turn.lock().await),
            Some(_) | None => None,
        };
        // A large write waits before it holds a place of the others. Namespaces take turns here too.
        let _room = match place {
            None if large => Some(self.large.enter(urgency(op), &op.key).await),
            None | Some(_) => None,
        };
        let permit = self.limiter.enter(urgency(op), &op.key).await;
        let started = Instant::now();
        let read = self.read_first(op).await;
        let Some(left) = self.fence.remaining() else {
            drop(permit);
            return (Reply::unsent(), None);
        };
        let reply = match read {
            Err(reply) => reply,
            Ok(secret) => tokio::time::timeout(limits::WRITE_TIMEOUT.min(left), self.exchange(op, &secret))
                .await
                .unwrap_or_else(|_elapsed| Reply::lost()),
        };
        self.metrics.write_duration(op, started.elapsed());
        let at_least = match reply.signal {
            crate::limiter::Signal::Busy(wait) => wait.map(|wait| wait.min(limits::RETRY_AFTER_MAX)),
            crate::limiter::Signal::Served | crate::limiter::Signal::Lost => None,
        };
        permit.done(reply.signal);
        (reply, at_least)
    }

    /// Reads what a delivery writes, or whether a new controller still exists. A new leader may be at work meanwhile, which
    /// does no harm. Other operations write nothing that the API server has to be asked for.
    async fn read_first(&self, op: &Op) -> Result<Vec<u8>, Reply> {
        match &op.action {
            Action::Deliver { uid, data, .. } => self.deliverer.read(&op.key, uid, data).await,
            Action::Adopt { owner, owner_uid, .. } => {
                self.calls.check_is_live(owner, owner_uid).await.map(|()| Vec::new())
            }
            Action::Create { .. } | Action::Patch { .. } | Action::Resize { .. } | Action::Delete { .. } => {
                Ok(Vec::new())
            }
        }
    }

    /// Sends the requests of an operation. `secret` is the body of the Secret of a delivery.
    async fn exchange(&self, op: &Op, secret: &[u8]) -> Reply {
        if let Action::Deliver { data, .. } = &op.action
            && let Err(reply) = self.deliverer.create_secret(&op.key, data, secret).await
        {
            return reply;
        }
        let request = match request(op) {
            Ok(request) => request,
            Err(error) => {
                let outcome = Outcome::rejected(400, error.to_string(), false);
                return Reply { outcome, signal: crate::limiter::Signal::Served };
            }
        };
        let response = match self.client.send(request).await {
            Ok(response) => response,
            Err(error) if never_connected(&error) => return Reply::unsent(),
            Err(error) => {
                debug!(%op, %error, "the write got no reply");
                return Reply::lost();
            }
        };
        let (parts, body) = response.into_parts();
        match read_body(&parts, body).await {
            Some(body) => {
                let known = |key: &Key| self.world.read(|world| world.get(key).cloned());
                Reply::read(op, parts.status, &parts.headers, &body, known)
            }
            None => Reply::lost(),
        }
    }
}

/// Whether an operation takes a Sandbox for a claim that brings data.
fn brings_data(op: &Op) -> bool {
    match &op.action {
        Action::Patch { body, .. } => body["metadata"]["annotations"][annotation::CLAIM_DATA_DIGEST].is_string(),
        Action::Create { .. }
        | Action::Resize { .. }
        | Action::Adopt { .. }
        | Action::Deliver { .. }
        | Action::Delete { .. } => false,
    }
}

/// `None` if an operation reached its purpose. Otherwise the next step of the reconcile.
fn verdict(op: &Op, outcome: &Outcome, at_least: Option<Duration>) -> Option<Done> {
    match outcome {
        Outcome::Stored(_) => None,
        // If an object that was to be deleted does not exist, nothing is left to do. A patch of such an object needs a
        // new decision.
        Outcome::Gone => match op.action {
            Action::Delete { .. } => None,
            Action::Create { .. }
            | Action::Patch { .. }
            | Action::Resize { .. }
            | Action::Adopt { .. }
            | Action::Deliver { .. } => Some(Done::Again),
        },
        Outcome::Conflict | Outcome::Exists => Some(Done::Again),
        Outcome::Rejected { .. } | Outcome::Busy | Outcome::Unknown => Some(Done::Failed { at_least }),
    }
}

/// The more patient of two ends. A conflict and a failure together are a failure.
fn worse(a: Done, b: Done) -> Done {
    match (a, b) {
        (Done::Failed { at_least: a }, Done::Failed { at_least: b }) => Done::Failed { at_least: a.max(b) },
        (failed @ Done::Failed { .. }, Done::Converged | Done::Again)
        | (Done::Converged | Done::Again, failed @ Done::Failed { .. }) => failed,
        (Done::Again, Done::Converged | Done::Again) | (Done::Converged, Done::Again) => Done::Again,
        (Done::Converged, Done::Converged) => Done::Converged,
    }
}

/// The urgency of an operation: whether a client waits for a claim, for a sandbox, or not at all.
fn urgency(op: &Op) -> Urgency {
    // No client waits for the end of an expired claim.
    let ends = matches!(op.action, Action::Delete { .. }) || matches!(op.reason, Reason::Expired | Reason::TtlPassed);
    let of_claim = matches!(op.key.kind.own(), Some(OwnKind::Claim(_))) && !ends;
    let of_pool = matches!(op.key.kind.own(), Some(OwnKind::Pool(_)));
    if of_claim
        || matches!(op.reason, Reason::Claimed | Reason::Reserved | Reason::ColdStart | Reason::ClaimDataDelivered)
    {
        Urgency::Claim
    } else if of_pool
        || matches!(
            op.reason,
            Reason::PoolBelowDesired
                | Reason::PoolAboveDesired
                | Reason::TemplateChanged
                | Reason::WarmSandboxUnusable
                | Reason::NetworkPolicyUnwanted
                | Reason::ClaimSurplus
                | Reason::TtlPassed
                // Thousands of Sandboxes may have the same time, and nobody waits for one of them.
                | Reason::ScheduledWake
        )
    {
        Urgency::Background
    } else {
        Urgency::Normal
    }
}

/// Whether an error says that no connection was made, so that nothing can have been stored.
fn never_connected(error: &kube::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
