//! A drain of the node: suspends a Sandbox before its pod is evicted, if its `drainPolicy` says so.
//!
//! `kubectl drain` cordons a node before it evicts its pods, so the cordon is the first signal. Others evict pods without
//! a cordon, so an eviction by the API is a signal too.

use jiff::Timestamp;
use paddock_api::names::{annotation, condition};
use paddock_api::{DrainPolicy, SuspendedBy};

use super::idle::obstacle;
use super::suspend;
use crate::conditions::is_true;
use crate::model;
use crate::object::{ConditionStatus, Object, Pod};
use crate::plan::{Event, Op, Reason};
use crate::snapshot::SandboxSnapshot;

/// The consequence of a drain for a Sandbox.
pub(super) enum Drain {
    /// The node is not drained, or the Sandbox keeps its mode.
    Nothing,
    /// The Sandbox is suspended.
    Suspend(Box<(Op, Event)>),
    /// A client may still wait for the Sandbox, so the drain waits too.
    Later,
    /// The Sandbox cannot be suspended, for this reason. Its pod is evicted.
    Impossible(String),
}

/// The signal of a drain.
#[derive(Clone, Copy)]
enum Signal {
    /// The node is cordoned.
    Cordon,
    /// The pod is being evicted.
    Eviction,
}

/// Decides about a Sandbox whose pod runs.
pub(super) fn decide(snapshot: &SandboxSnapshot, model: &model::Sandbox, (object, pod): (&Object, &Pod)) -> Drain {
    let Some(cordoned) = snapshot.cordoned else { return Drain::Nothing };
    // A request that came after the suspend has resumed the Sandbox with this pod.
    let again = recorded(snapshot, object).is_some_and(|at| at >= cordoned);
    if again { Drain::Nothing } else { begin(snapshot, model, (object, pod), Signal::Cordon) }
}

/// Decides about a Sandbox whose pod is terminating. If the pod is being evicted, the drain was faster than the operator.
pub(super) fn evicted(snapshot: &SandboxSnapshot, model: &model::Sandbox, object: &Object) -> Drain {
    let Some(pod) = object.pod() else { return Drain::Nothing };
    let by_api = pod
        .condition("DisruptionTarget")
        .is_some_and(|target| target.status == ConditionStatus::True && &*target.reason == "EvictionByEvictionAPI");
    let again = recorded(snapshot, object).is_some();
    if by_api && !again { begin(snapshot, model, (object, pod), Signal::Eviction) } else { Drain::Nothing }
}

fn begin(snapshot: &SandboxSnapshot, model: &model::Sandbox, (object, pod): (&Object, &Pod), signal: Signal) -> Drain {
    match model.drain {
        DrainPolicy::Evict => return Drain::Nothing,
        DrainPolicy::Suspend => {}
    }
    let sandbox = &snapshot.sandbox;
    if sandbox.meta.in_pool() {
        return Drain::Nothing;
    }
    if !reported_ready(snapshot) {
        return Drain::Later;
    }
    let node = pod.node.as_deref().unwrap_or_default();
    let what = match signal {
        Signal::Cordon => format!("node {node} is cordoned"),
        Signal::Eviction => format!("the pod is evicted from node {node}"),
    };
    if let Some(why) = obstacle(snapshot, model, object, pod) {
        return Drain::Impossible(format!("{what}, and the Sandbox is not suspended: {why}"));
    }
    let drained = (annotation::DRAINED_POD, format!("{} {}", object.meta.uid, snapshot.common.now));
    let op = suspend::write(snapshot, model, SuspendedBy::Drain, Reason::DrainSuspended, Some(drained));
    let note = format!("Suspending the Sandbox, because {what}. A request resumes it on another node");
    Drain::Suspend(Box::new((op, Event::normal(sandbox, Reason::DrainSuspended, note))))
}

/// The time at which a drain suspended the Sandbox with this pod, if one did.
fn recorded(snapshot: &SandboxSnapshot, pod: &Object) -> Option<Timestamp> {
    let (uid, at) = snapshot.sandbox.meta.annotations.get(annotation::DRAINED_POD)?.split_once(' ')?;
    at.parse().ok().filter(|_| uid == &*pod.meta.uid)
}

/// Whether the status of the Sandbox, and that of its claim, say that it is Ready. Before that, a client waits for the
/// status, and would send no request that resumes the Sandbox.
fn reported_ready(snapshot: &SandboxSnapshot) -> bool {
    let claim = snapshot.claim.as_ref().and_then(|of| of.claim.claim());
    let sandbox = snapshot.sandbox.sandbox();
    sandbox.is_some_and(|s| is_true(&s.status.conditions, condition::READY))
        && claim.is_none_or(|claim| is_true(&claim.status.conditions, condition::READY))
}
