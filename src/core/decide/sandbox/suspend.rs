//! Suspends a Sandbox: writes the mode, deletes its pod, and keeps its volumes and its address.

use paddock_api::SuspendedBy;
use paddock_api::names::annotation;
use serde_json::{Map, json};

use super::service::drained;
use super::situation::PodState;
use super::throttle;
use crate::model;
use crate::object::Object;
use crate::plan::{Event, Op, Plan, Reason};
use crate::snapshot::SandboxSnapshot;

/// The write by which the operator suspends a Sandbox, with the record that no user did. `other` is one more annotation
/// and its value. The compare-and-swap fails if there is activity that the snapshot does not contain.
pub(super) fn write(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    by: SuspendedBy,
    reason: Reason,
    other: Option<(&str, String)>,
) -> Op {
    let mut annotations = Map::new();
    annotations.insert(annotation::SUSPENDED_BY.to_owned(), json!(by));
    if snapshot.sandbox.meta.annotations.get(annotation::IDLE_SINCE).is_some() {
        // It was about this run. A resume may find the pod still there, which must not be idle at once.
        annotations.insert(annotation::IDLE_SINCE.to_owned(), json!(null));
    }
    annotations.extend(other.map(|(name, value)| (name.to_owned(), value.into())));
    let recorded = snapshot.sandbox.meta.annotations.get(annotation::SUSPENDED_AT).is_some();
    if model.schedule().is_some() || recorded {
        // Without a schedule, a time of an earlier suspend would be wrong for a schedule that comes later.
        let at = model.schedule().map(|_| snapshot.common.passed.to_string());
        annotations.insert(annotation::SUSPENDED_AT.to_owned(), json!(at));
    }
    let body = json!({
        "metadata": { "annotations": annotations },
        "spec": { "operatingMode": "Suspended", "replicas": 0 },
    });
    Op::patch_if_unchanged(&snapshot.sandbox, reason, body)
}

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
