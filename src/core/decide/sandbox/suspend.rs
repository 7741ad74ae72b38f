//! Suspends a Sandbox: deletes its pod, and keeps its volumes and its address.

use paddock_api::names::annotation;

use super::service::slice_endpoints;
use crate::object::Object;
use crate::plan::{Event, Op, Plan, Reason};
use crate::snapshot::SandboxSnapshot;
use crate::time::{saturating_add, time_left};

/// Deletes the pod of a Sandbox that is to be suspended. If the Sandbox has a stable address, the pod is first removed
/// from the endpoints, and the delete waits for [`drain_delay`](crate::settings::Settings::drain_delay).
pub(super) fn suspend(snapshot: &SandboxSnapshot, pod: &Object, plan: &mut Plan) -> Option<Op> {
    if pod.meta.deletion_timestamp.is_some() {
        return None;
    }
    let slice = snapshot.endpoints.as_deref().filter(|s| s.controlled_by(&snapshot.sandbox.meta.uid));
    if let Some(slice) = slice {
        let drained = slice.meta.annotations.get(annotation::DRAINED_AT).and_then(|at| at.parse().ok());
        let empty = slice_endpoints(slice).is_none_or(|e| e.as_array().is_none_or(Vec::is_empty));
        let (now, delay) = (snapshot.common.now, snapshot.common.settings.drain_delay);
        let due = time_left(drained.unwrap_or(now), delay, now);
        if let Some(due) = due.or_else(|| (!empty).then(|| saturating_add(now, delay))) {
            plan.requeue_at(due, Reason::Suspended);
            return None;
        }
    }
    plan.events.push(Event::normal(
        &snapshot.sandbox,
        Reason::Suspended,
        "Suspended: deleting the pod and keeping the volumes",
    ));
    Some(Op::delete(pod, Reason::Suspended))
}
