//! Computes the status of a Sandbox from its situation.

mod conditions;
mod facts;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use paddock_api::names::{annotation, condition, label, name_hash};
use paddock_api::sandbox::{IdleTier, IsolationStatus, RuntimeClassChoice};
use paddock_api::{DecidingPlugin, Hook, SandboxStatus, SuspendedBy, TcpWakeStatus};

use self::conditions::conditions;
pub(super) use self::facts::{Notes, Problem};
use self::facts::{ServiceState, pod_of};
use super::service::service_is_foreign;
use super::situation::{PodState, Situation, mode};
use crate::conditions::{find_condition, is_true};
use crate::deciding;
use crate::manifest::{self, PodRevision};
use crate::marker::Marker;
use crate::model::ServiceIntent;
use crate::network_policy::{NetworkPolicyState, bypass};
use crate::object::{Object, Pod};
use crate::snapshot::SandboxSnapshot;
use crate::tcp_wake::{TcpWake, no_gateway};
use crate::time::time_left;

/// Returns the status, and the time until which the write may wait because more changes are expected.
pub(super) fn status(
    snapshot: &SandboxSnapshot,
    situation: &Situation<'_>,
    notes: &Notes,
) -> (SandboxStatus, Option<Timestamp>) {
    let sandbox = &snapshot.sandbox;
    let before = sandbox.sandbox().map(|s| s.status.clone()).unwrap_or_default();
    let (pod_object, pod) = pod_of(snapshot, situation);
    let service = wanted_service(snapshot, situation);
    let mut after_status = SandboxStatus::clone(&before);
    after_status.conditions = conditions(snapshot, situation, notes, &before, service);
    after_status.pending = pending(snapshot, situation, (&before, notes), &mut after_status.conditions);
    after_status.service = matches!(service, ServiceState::There).then(|| sandbox.key.name.to_string());
    after_status.service_fqdn =
        after_status.service.is_some().then(|| manifest::fqdn(&sandbox.key, &snapshot.common.settings.cluster_domain));
    // Clients compare the selector. It is there from the first pod until the Sandbox expires. The selector of the Service
    // has the UID too.
    let expired = matches!(situation.state(), Some(PodState::Expired));
    let had_pod = pod_object.is_some() || before.selector.is_some();
    after_status.selector =
        (had_pod && !expired).then(|| format!("{}={}", label::SANDBOX_NAME_HASH, name_hash(&sandbox.key.name)));
    // While the Sandbox is being suspended, its pod counts until it is deleted, so that the suspend needs one status
    // write.
    let suspended = matches!(situation.state(), Some(PodState::Suspended(_)));
    after_status.replicas =
        Some(i32::from(pod_object.is_some_and(|o| suspended || o.meta.deletion_timestamp.is_none())));
    after_status.pod_ips = pod.iter().flat_map(|p| p.ips.iter().map(ToString::to_string)).collect();
    after_status.node_name = pod.and_then(|p| p.node.as_deref().map(str::to_owned));
    if snapshot.template.is_some() {
        after_status.template.clone_from(&snapshot.template);
    }
    after_status.network_policy_bypass = match (situation, &snapshot.network_policy) {
        (_, NetworkPolicyState::NotNeeded) | (Situation::Terminating, _) => None,
        (Situation::Invalid(_), _) => before.network_policy_bypass.clone(),
        (Situation::Known { model, .. }, _) => bypass(&model.pod.spec).map(str::to_owned),
    };
    if let Some(object) = pod_object {
        after_status.runtime_class = class_of(object);
    }
    if let Situation::Known { model, state } = situation
        && !matches!(state, PodState::Expired | PodState::MultiplePods)
    {
        after_status.mode = Some(mode(snapshot, model).mode);
    }
    after_status.tcp_wake = tcp_wake(snapshot, situation, &before);
    after_status.suspended_by = suspended_by(snapshot, situation, &before);
    after_status.next_wake = match situation {
        Situation::Known { state: PodState::MultiplePods, .. } | Situation::Invalid(_) => before.next_wake.clone(),
        Situation::Terminating | Situation::Known { .. } => notes.next_wake.map(Time),
    };
    after_status.drain_problem.clone_from(&notes.drain_problem);
    after_status.wake_problem = match situation {
        Situation::Known { model, .. } => model.schedule_errors().map(ToString::to_string),
        // The condition Ready reports all errors of the spec.
        Situation::Terminating | Situation::Invalid(_) => None,
    };
    after_status.isolation = isolation(snapshot, situation, notes);
    if let Situation::Known { model, state } = situation {
        after_status.first_ready = model.idle_timeout.and_then(|_| recorded_readiness(&before, state)).map(Time);
    }
    after_status.plugins = plugins(pod, notes, &before);
    if let Some((idle, _, state)) = &notes.idle {
        after_status.idle.clone_from(idle);
        after_status.policy_state.clone_from(state);
    } else if matches!(situation.state(), Some(PodState::Suspended(_) | PodState::Finished(_) | PodState::Expired)) {
        // These tiers are about a pod that runs. The reason of an idle suspend stays.
        after_status.idle.take_if(|idle| matches!(idle.tier, Some(IdleTier::Awake | IdleTier::Throttle)));
    }
    after_status.throttle.clone_from(&notes.throttle);
    let wait_until = may_wait(snapshot, situation, notes, &before);
    (after_status, wait_until)
}

/// The time at which a pod became Ready for the first time since the Sandbox was created or resumed. The status records it,
/// because the pod's condition has only the last change. Code in the sandbox can change the condition as often as it likes,
/// and can get its pod evicted. It must not appear active by that, so the time outlasts the pod.
pub(super) fn first_ready(before: &SandboxStatus, pod: &Pod) -> Option<Timestamp> {
    let recorded = before.first_ready.as_ref().map(|at| at.0);
    recorded.or_else(|| pod.condition("Ready").filter(|_| pod.ready()).map(|c| c.since))
}

/// The time of the first readiness that the status records. A suspend ends the record, because the user of the Sandbox
/// waits for its next pod.
fn recorded_readiness(before: &SandboxStatus, state: &PodState<'_>) -> Option<Timestamp> {
    let recorded = || before.first_ready.as_ref().map(|at| at.0);
    match state {
        PodState::Suspended(_) => None,
        PodState::Running(_, pod) => first_ready(before, pod),
        // Without a record, the next pod would have all of its time again, however often its code gets it evicted.
        PodState::Disrupted(object) => recorded().or(Some(object.meta.created)),
        PodState::Expired
        | PodState::MultiplePods
        | PodState::Blocked(_)
        | PodState::Terminating(_)
        | PodState::Finished(_)
        | PodState::Missing => recorded(),
    }
}

/// The time until which the status of a new Sandbox may wait while its pod starts. Most Sandboxes become Ready before a
/// client reads the status.
fn may_wait(
    snapshot: &SandboxSnapshot,
    situation: &Situation<'_>,
    notes: &Notes,
    before: &SandboxStatus,
) -> Option<Timestamp> {
    let starting = match situation.state() {
        Some(PodState::Missing) => true,
        Some(PodState::Running(_, pod)) => !pod.ready(),
        Some(_) | None => false,
    };
    let ready_before = is_true(&before.conditions, condition::READY);
    // A Sandbox of a pool may wait for longer: no client uses it before a claim takes it, and then it is not in the
    // pool.
    let (delay, unreported) = if snapshot.sandbox.meta.in_pool() {
        (snapshot.common.settings.warm_status_delay, !ready_before)
    } else {
        (snapshot.common.settings.first_status_delay, before.conditions.is_empty())
    };
    // Creation times have whole seconds. Without one more second, a delay of 1 s could already be over.
    let delay = delay + std::time::Duration::from_secs(1);
    (starting && unreported && notes.error.is_none() && snapshot.network_policy.blocked().is_none())
        .then(|| time_left(snapshot.sandbox.meta.created, delay, snapshot.common.now))
        .flatten()
}

/// Who suspended the Sandbox. The record is written together with the mode, so it is never about an earlier suspend.
fn suspended_by(snapshot: &SandboxSnapshot, situation: &Situation<'_>, before: &SandboxStatus) -> Option<SuspendedBy> {
    match situation {
        Situation::Known { state: PodState::MultiplePods, .. } | Situation::Invalid(_) => before.suspended_by,
        Situation::Known { state: PodState::Suspended(_), .. } => {
            let record = snapshot.sandbox.meta.annotations.get(annotation::SUSPENDED_BY);
            Some(SuspendedBy::of_annotation(record))
        }
        Situation::Terminating | Situation::Known { .. } => None,
    }
}

/// Whether a TCP connection resumes the Sandbox. Without a gateway, its ports stay.
fn tcp_wake(snapshot: &SandboxSnapshot, situation: &Situation<'_>, before: &SandboxStatus) -> Option<TcpWakeStatus> {
    match situation {
        // The gateways close the ports of a Sandbox that is terminating.
        Situation::Terminating => before.tcp_wake.clone(),
        // Nothing says which NetworkPolicies select its pods.
        Situation::Invalid(_) => {
            let before = before.tcp_wake.as_ref().filter(|_| snapshot.common.settings.tcp_wake.is_some());
            before.map(|_| TcpWakeStatus { ports: vec![], reason: Some("The Sandbox is not valid".to_owned()) })
        }
        Situation::Known { state: PodState::Expired, .. } => None,
        Situation::Known { .. } => match &snapshot.tcp_wake {
            TcpWake::Off | TcpWake::Undecided => None,
            TcpWake::Unavailable(why) => Some(TcpWakeStatus { ports: vec![], reason: Some(why.clone()) }),
            TcpWake::Available { ports, gateways } => {
                let settings = snapshot.common.settings.tcp_wake.as_ref().filter(|_| gateways.is_empty());
                let name = &snapshot.sandbox.key.name;
                let foreign = || format!("Service {name} exists and does not belong to this Sandbox");
                let reason = service_is_foreign(snapshot).then(foreign).or_else(|| settings.map(no_gateway));
                Some(TcpWakeStatus { ports: ports.to_vec(), reason })
            }
        },
    }
}

/// The isolation of the Sandbox. Once it was generated code, it stays generated code, because its status is a source of
/// its marker. Users may remove the label from its claim, its pool and its template, so the status records that one too.
fn isolation(snapshot: &SandboxSnapshot, situation: &Situation<'_>, notes: &Notes) -> Option<IsolationStatus> {
    let of_sandbox = manifest::sandbox_marker(&snapshot.sandbox, situation.model());
    let pods = snapshot.pods.iter().map(|pod| Marker::of(&pod.meta.labels));
    let sources = pods.chain([of_sandbox, snapshot.inherited_marker]);
    let generated_code = Marker::strongest(sources).is_generated_code();
    let status = IsolationStatus { generated_code, problem: notes.exposed.clone() };
    (status != IsolationStatus::default()).then_some(status)
}

fn wanted_service(snapshot: &SandboxSnapshot, situation: &Situation<'_>) -> ServiceState {
    let intent = match situation {
        Situation::Terminating | Situation::Known { state: PodState::Expired, .. } => ServiceIntent::Absent,
        Situation::Invalid(_) => ServiceIntent::Keep,
        Situation::Known { model, .. } => model.service,
    };
    let there = snapshot.service.as_ref().is_some_and(|s| s.meta.deletion_timestamp.is_none());
    match intent {
        ServiceIntent::Absent => ServiceState::None,
        ServiceIntent::Keep if there && !service_is_foreign(snapshot) => ServiceState::There,
        ServiceIntent::Keep => ServiceState::None,
        ServiceIntent::Headless | ServiceIntent::Stable => match (there, service_is_foreign(snapshot)) {
            (true, false) => ServiceState::There,
            (true, true) => ServiceState::Foreign,
            // This plan creates the Service in a step before the status write.
            (false, _) if snapshot.common.refused(paddock_api::kind::Kind::Service).is_none() => ServiceState::There,
            (false, _) => ServiceState::Missing,
        },
    }
}

/// The fields of the spec that wait for a new pod, and those that a plugin keeps off the running one. While there are any of
/// the first kind, the condition Ready describes an older generation.
fn pending(
    snapshot: &SandboxSnapshot,
    situation: &Situation<'_>,
    (before, notes): (&SandboxStatus, &Notes),
    conditions: &mut [Condition],
) -> Vec<String> {
    /// The maximum number of fields in the status.
    const LISTED_MAX: usize = 20;

    let Situation::Known { model, state: PodState::Running(pod, _) | PodState::Finished(pod) } = situation else {
        return vec![];
    };
    let generation = snapshot.sandbox.meta.generation;
    let made = PodRevision::of_another_generation(pod, generation);
    let of_spec = |made: &PodRevision| made.pending(&PodRevision::of(&snapshot.sandbox, model), model);
    let mut fields = made.as_ref().map(of_spec).unwrap_or_default();
    if let Some(ready) = conditions.iter_mut().find(|c| c.type_ == condition::READY)
        && let Some(made) = made.filter(|_| !fields.is_empty())
    {
        let observed = find_condition(&before.conditions, condition::READY).and_then(|c| c.observed_generation);
        ready.observed_generation = observed.filter(|observed| *observed < generation).or(Some(made.generation));
    }
    fields.extend(notes.withheld.iter().cloned());
    if fields.len() > LISTED_MAX {
        let more = fields.split_off(LISTED_MAX).len();
        fields.push(format!("and {more} more"));
    }
    fields
}

/// The plugins that decided: those of the pod, or those that were asked about a missing one, and the idle plugin. Without
/// both, the last ones stay.
fn plugins(pod: Option<&Pod>, notes: &Notes, before: &SandboxStatus) -> Arc<Vec<DecidingPlugin>> {
    let idle = before.plugins.iter().find(|plugin| plugin.hook == Hook::Idle);
    let idle = notes.idle.as_ref().map_or(idle, |(_, decided_by, _)| decided_by.as_ref());
    // A pod that was adopted has no record.
    let of_pod = match (pod.filter(|pod| !pod.plugins.is_empty()), &notes.decided_by) {
        (Some(pod), _) => pod.plugins.clone(),
        (None, Some(asked)) if !asked.is_empty() => Arc::new(asked.clone()),
        (None, Some(_) | None) => before.plugins.clone(),
    };
    deciding::with_hook(&of_pod, Hook::Idle, idle)
}

fn class_of(pod: &Object) -> Option<RuntimeClassChoice> {
    let annotation = |name: &str| pod.meta.annotations.get(name).map(str::to_owned);
    let choice = RuntimeClassChoice {
        name: pod.pod().and_then(|p| p.runtime_class.as_deref().map(str::to_owned)),
        reason: annotation(annotation::CLASS_REASON),
        plugin: annotation(annotation::CLASS_PLUGIN),
    };
    (choice != RuntimeClassChoice::default()).then_some(choice)
}
