//! A drain of the node: suspends a Sandbox before its pod is evicted, if its `drainPolicy` says so.
//!
//! `kubectl drain` and cluster autoscalers cordon a node before they evict its pods. So the cordon is the signal, and an
//! eviction on a cordoned node is the same signal, if it came first.

use paddock_api::names::{annotation, condition};
use paddock_api::{DrainPolicy, SuspendedBy};

use super::idle::obstacle;
use super::suspend;
use crate::conditions::is_true;
use crate::model;
use crate::object::{ConditionStatus, Object, Pod};
use crate::plan::{Action, Event, Op, Reason};
use crate::snapshot::SandboxSnapshot;

/// The consequence of a drain for a Sandbox.
pub(super) enum Drain {
    /// The node is not drained, or the Sandbox keeps its mode.
    Nothing,
    /// The Sandbox is suspended.
    Suspend(Box<(Op, Event)>),
    /// The Sandbox cannot be suspended, for this reason. Its pod is evicted.
    Impossible(String),
}

/// Decides about a Sandbox whose pod runs.
pub(super) fn decide(snapshot: &SandboxSnapshot, model: &model::Sandbox, (object, pod): (&Object, &Pod)) -> Drain {
    match model.drain {
        DrainPolicy::Evict => return Drain::Nothing,
        DrainPolicy::Suspend => {}
    }
    let (sandbox, uid) = (&snapshot.sandbox, &*object.meta.uid);
    // A request that came after the suspend has resumed the Sandbox with this pod.
    let again = sandbox.meta.annotations.get(annotation::DRAINED_POD) == Some(uid);
    // A client may still wait for a Sandbox that was never Ready, and would send no request to resume it.
    let was_ready = pod.ready() || sandbox.sandbox().is_some_and(|s| is_true(&s.status.conditions, condition::READY));
    if !snapshot.drained || sandbox.meta.in_pool() || again || !was_ready {
        return Drain::Nothing;
    }
    let node = pod.node.as_deref().unwrap_or_default();
    if let Some(why) = obstacle(snapshot, model, object, pod) {
        return Drain::Impossible(format!("node {node} is cordoned, and the Sandbox is not suspended: {why}"));
    }
    let mut op = suspend::write(snapshot, model, SuspendedBy::Drain, Reason::DrainSuspended);
    if let Action::Patch { body, .. } = &mut op.action {
        body["metadata"]["annotations"][annotation::DRAINED_POD] = uid.into();
    }
    let note = format!("Node {node} is cordoned: suspending the Sandbox. A request resumes it on another node");
    Drain::Suspend(Box::new((op, Event::normal(sandbox, Reason::DrainSuspended, note))))
}

/// Decides about a Sandbox whose pod is terminating. If the pod is being evicted, the drain was faster than the operator.
pub(super) fn evicted(snapshot: &SandboxSnapshot, model: &model::Sandbox, object: &Object) -> Drain {
    let Some(pod) = object.pod() else { return Drain::Nothing };
    let target = pod.condition("DisruptionTarget").is_some_and(|c| c.status == ConditionStatus::True);
    if target { decide(snapshot, model, (object, pod)) } else { Drain::Nothing }
}
