//! Suspends a Sandbox: deletes its pod, and keeps its volumes and its address.

use super::service::drained;
use super::situation::PodState;
use super::throttle;
use crate::object::Object;
use crate::plan::{Event, Op, Plan, Reason};
use crate::snapshot::SandboxSnapshot;

/// Deletes the pod of a Sandbox that is to be suspended. If the Sandbox has a stable address, the pod is first removed
/// from the endpoints, and the delete waits for [`drain_delay`](crate::settings::Settings::drain_delay), or for
/// [`gateway_drain_delay`](crate::settings::Settings::gateway_drain_delay) if gateways take its place. A connection that
/// reaches a gateway meanwhile resumes the Sandbox, which keeps its pod. A throttled pod gets its CPU back first.
pub(super) fn suspend(snapshot: &SandboxSnapshot, pod: &Object, plan: &mut Plan) -> Option<Op> {
    if pod.meta.deletion_timestamp.is_some() {
        return None;
    }
    if let Some(due) = drained(snapshot, &PodState::Suspended(Some(pod))) {
        plan.requeue_at(due, Reason::Suspended);
        return None;
    }
    if let Some(due) = throttle::holds_delete(snapshot, pod) {
        plan.requeue_at(due, Reason::Suspended);
        return None;
    }
    plan.events.push(Event::normal(
        &snapshot.sandbox,
        Reason::Suspended,
        "Suspended: deleting the pod and keeping the volumes",
    ));
    Some(Op::delete(pod, Reason::Suspended))
}
