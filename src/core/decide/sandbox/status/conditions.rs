//! Computes the conditions of a Sandbox from its situation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_api::names::{condition, message, reason};
use paddock_api::{OperatingMode, SandboxStatus};

use super::super::situation::{PodState, Situation, mode};
use super::facts::{Notes, ServiceState, pod_of};
use crate::conditions::{NewCondition, find_condition, set_conditions};
use crate::model::{self, ServiceIntent};
use crate::object::{ConditionStatus, Object, Pod};
use crate::snapshot::SandboxSnapshot;

/// The reason why the Sandbox is not Ready without the NetworkPolicy of its template. A missing pod waits for the
/// policy. A running pod goes on, and reports only a policy that the operator cannot write, because every other one is
/// written at once.
fn policy_problem<'a>(snapshot: &'a SandboxSnapshot, situation: &Situation<'_>) -> Option<&'a str> {
    match situation.state()? {
        PodState::Missing | PodState::Blocked(_) => snapshot.network_policy.problem(),
        PodState::Running(..) | PodState::Disrupted(_) | PodState::Terminating(_) => snapshot.network_policy.blocked(),
        PodState::Expired | PodState::MultiplePods | PodState::Suspended(_) | PodState::Finished(_) => None,
    }
}

pub(super) fn conditions(
    snapshot: &SandboxSnapshot,
    situation: &Situation<'_>,
    notes: &Notes,
    before: &SandboxStatus,
    service: ServiceState,
) -> Vec<Condition> {
    let mut new = vec![ready(snapshot, situation, notes, service), suspended(snapshot, situation, before)];
    let (_, pod) = pod_of(snapshot, situation);
    new.extend(match situation.state() {
        // No pod is certain to be that of the Sandbox.
        Some(PodState::MultiplePods | PodState::Blocked(_)) => Some(scheduling_unknown(message::POD_STATE_UNKNOWN)),
        Some(_) | None => pod.map(pod_scheduled),
    });
    new.extend(match situation.state() {
        Some(PodState::Finished(object)) => {
            let (reason, message) = ending(object);
            Some(NewCondition::new(condition::FINISHED, true, reason, message))
        }
        // The work stays done when the pod is deleted, and the claim counts the time since then.
        Some(PodState::Expired) => kept(before, condition::FINISHED),
        Some(_) | None => None,
    });
    set_conditions(&before.conditions, new, snapshot.sandbox.meta.generation, snapshot.common.now)
}

/// The condition `PodScheduled` of the pod, which the scheduler may leave without a reason.
fn pod_scheduled(pod: &Pod) -> NewCondition {
    let Some(scheduled) = pod.condition(condition::POD_SCHEDULED) else {
        return scheduling_unknown(message::POD_NOT_SCHEDULED_YET);
    };
    let (status, default) = match scheduled.status {
        ConditionStatus::True => ("True", reason::POD_SCHEDULED),
        ConditionStatus::False => ("False", reason::POD_SCHEDULING_UNKNOWN),
        ConditionStatus::Unknown => ("Unknown", reason::POD_SCHEDULING_UNKNOWN),
    };
    let reason = if scheduled.reason.is_empty() { default } else { &scheduled.reason }.to_owned();
    NewCondition { kind: condition::POD_SCHEDULED, status, reason, message: scheduled.message.to_string() }
}

fn scheduling_unknown(message: &str) -> NewCondition {
    let reason = reason::POD_SCHEDULING_UNKNOWN.to_owned();
    NewCondition { kind: condition::POD_SCHEDULED, status: "Unknown", reason, message: message.to_owned() }
}

/// A condition as the status reported it before.
fn kept(before: &SandboxStatus, kind: &'static str) -> Option<NewCondition> {
    let kept = find_condition(&before.conditions, kind)?;
    let status = match kept.status.as_str() {
        "True" => "True",
        "False" => "False",
        _ => "Unknown",
    };
    Some(NewCondition { kind, status, reason: kept.reason.clone(), message: kept.message.clone() })
}

fn ending(object: &Object) -> (&'static str, String) {
    match object.pod().map(|p| &*p.phase) {
        Some("Succeeded") => (reason::POD_SUCCEEDED, message::POD_SUCCEEDED.to_owned()),
        Some(_) | None => (reason::POD_FAILED, message::POD_FAILED.to_owned()),
    }
}

fn ready(snapshot: &SandboxSnapshot, situation: &Situation<'_>, notes: &Notes, service: ServiceState) -> NewCondition {
    let not = |reason: &str, message: String| NewCondition::new(condition::READY, false, reason, message);
    let waiting = |what: &str| {
        let suffix = if service == ServiceState::Missing { message::SERVICE_MISSING_SUFFIX } else { "" };
        not(reason::DEPENDENCIES_NOT_READY, format!("{what}{suffix}"))
    };
    if let Some(problem) = policy_problem(snapshot, situation) {
        return not(reason::NETWORK_POLICY_NOT_READY, problem.to_owned());
    }
    if let Some(error) = &notes.error {
        // An error does not change that a Sandbox is suspended, expired or finished.
        let suspended_or_ended =
            matches!(situation.state(), Some(PodState::Suspended(_) | PodState::Expired | PodState::Finished(_)));
        if !suspended_or_ended {
            return not(error.reason, error.message.clone());
        }
    }
    let (model, state) = match situation {
        Situation::Terminating => return not(reason::DEPENDENCIES_NOT_READY, "Sandbox is being deleted".to_owned()),
        Situation::Invalid(problem) => return not(reason::RECONCILER_ERROR, problem.clone()),
        Situation::Known { model, state } => (model, state),
    };
    match state {
        PodState::Expired => not(reason::SANDBOX_EXPIRED, message::EXPIRED.to_owned()),
        PodState::MultiplePods => {
            let names: Vec<&str> = snapshot.pods.iter().map(|p| &*p.key.name).collect();
            let what = match names.as_slice() {
                [stranger] => format!("Pod {stranger} names this Sandbox as its owner and is not its own: delete it"),
                _ => format!("Sandbox has more than one pod: {}", names.join(", ")),
            };
            not(reason::MULTIPLE_PODS, what)
        }
        PodState::Suspended(pod) if pod.is_some() || snapshot.other_pod.is_some() => {
            not(reason::SANDBOX_SUSPENDED, message::SUSPENDING.to_owned())
        }
        PodState::Suspended(_) => not(reason::SANDBOX_SUSPENDED, message::SUSPENDED.to_owned()),
        PodState::Missing | PodState::Blocked(_) => match &notes.waits_for {
            Some(why) => waiting(&format!("{}: {why}", message::POD_MISSING)),
            None => waiting(message::POD_MISSING),
        },
        PodState::Terminating(_) => waiting("Pod is terminating"),
        PodState::Finished(object) => {
            let (reason, message) = ending(object);
            not(reason, message)
        }
        PodState::Disrupted(object) => {
            let why = object.pod().and_then(|p| p.reason.as_deref()).unwrap_or("Failed");
            waiting(&format!("Pod was ended ({why}) and is replaced"))
        }
        PodState::Running(_, pod) if service == ServiceState::Foreign => waiting(&format!(
            "Pod exists with phase: {}; Service {} exists and does not belong to this Sandbox",
            pod.phase, snapshot.sandbox.key.name
        )),
        PodState::Running(_, pod) if pod.ready() && pod.ips.is_empty() => waiting(message::POD_WITHOUT_IPS),
        PodState::Running(_, pod) if pod.ready() && has_address(model, state) => match service {
            ServiceState::There => {
                NewCondition::new(condition::READY, true, reason::DEPENDENCIES_READY, message::POD_READY_SERVICE_EXISTS)
            }
            ServiceState::None => {
                NewCondition::new(condition::READY, true, reason::DEPENDENCIES_READY, message::POD_READY)
            }
            ServiceState::Missing | ServiceState::Foreign => waiting(message::POD_READY),
        },
        PodState::Running(_, pod) if &*pod.phase == "Running" => waiting(message::POD_NOT_READY),
        PodState::Running(_, pod) => waiting(&message::pod_phase(&pod.phase)),
    }
}

/// Whether the address of the Sandbox works. A stable address works only if the pod has an address.
fn has_address(model: &model::Sandbox, state: &PodState<'_>) -> bool {
    model.service != ServiceIntent::Stable || state.endpoint().is_some()
}

fn suspended(snapshot: &SandboxSnapshot, situation: &Situation<'_>, before: &SandboxStatus) -> NewCondition {
    let new = |holds, reason: &str, message: &str| NewCondition::new(condition::SUSPENDED, holds, reason, message);
    let unknown = |message: &str| {
        let reason = reason::POD_STATE_UNKNOWN.to_owned();
        NewCondition { kind: condition::SUSPENDED, status: "Unknown", reason, message: message.to_owned() }
    };
    match situation {
        Situation::Known { state: PodState::Suspended(Some(_)), .. } => {
            new(false, reason::POD_TERMINATING, message::POD_TERMINATING)
        }
        Situation::Known { state: PodState::Suspended(None), .. } if snapshot.other_pod.is_some() => {
            new(false, reason::POD_NOT_OWNED, message::POD_NOT_OWNED)
        }
        Situation::Known { state: PodState::Suspended(None), .. } => {
            new(true, reason::POD_TERMINATED, message::POD_TERMINATED)
        }
        Situation::Known { model, state: PodState::MultiplePods }
            if mode(snapshot, model).mode == OperatingMode::Suspended =>
        {
            unknown(message::SUSPEND_UNKNOWN)
        }
        Situation::Invalid(_) if before.mode == Some(OperatingMode::Suspended) => {
            unknown("the Sandbox is not valid, so its pod was not looked at")
        }
        Situation::Known { state: PodState::Expired, .. } => {
            let kept = kept(before, condition::SUSPENDED);
            kept.unwrap_or_else(|| new(false, reason::NOT_SUSPENDED, message::NOT_SUSPENDED))
        }
        Situation::Invalid(_) | Situation::Terminating | Situation::Known { .. } => {
            new(false, reason::NOT_SUSPENDED, message::NOT_SUSPENDED)
        }
    }
}
