//! Computes the status of a Sandbox from its situation.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use paddock_api::names::{annotation, condition, label, message, name_hash, reason};
use paddock_api::sandbox::{IdleStatus, IdleTier, IsolationStatus, RuntimeClassChoice};
use paddock_api::{
    DecidingPlugin, Hook, OperatingMode, PolicyState, SandboxStatus, SuspendedBy, TcpWakeStatus, ThrottleStatus,
};

use super::service::service_is_foreign;
use super::situation::{PodState, Situation, mode};
use crate::conditions::{NewCondition, find_condition, is_true, set_conditions};
use crate::deciding;
use crate::manifest::{self, PodRevision};
use crate::marker::Marker;
use crate::model::{self, HOST_NAME_MAX, ServiceIntent};
use crate::network_policy::{NetworkPolicyState, bypass};
use crate::object::{ConditionStatus, Object, Pod};
use crate::snapshot::SandboxSnapshot;
use crate::tcp_wake::{TcpWake, no_gateway};
use crate::time::time_left;

/// Facts from the decision that the status reports in addition to the situation.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The error that keeps the Sandbox from being Ready.
    pub(super) error: Option<Problem>,
    /// The reason why the running pod is not isolated although it should be.
    pub(super) exposed: Option<String>,
    /// The object for which a missing pod waits.
    pub(super) waits_for: Option<String>,
    /// The fields of the spec that a plugin keeps off the running pod.
    pub(super) withheld: Vec<String>,
    /// The plugins that decided about a missing pod, if they were asked.
    pub(super) decided_by: Option<Vec<DecidingPlugin>>,
    /// The record of the CPU that the pod had before it was throttled.
    pub(super) throttle: Option<Box<ThrottleStatus>>,
    /// The reason why a drain does not suspend the Sandbox although it should.
    pub(super) drain_problem: Option<String>,
    /// The next time at which the schedule resumes the Sandbox.
    pub(super) next_wake: Option<Timestamp>,
    /// The idle status, the plugin that decided it, and the plugin state, if the pod is running.
    pub(super) idle: Option<(Option<IdleStatus>, Option<DecidingPlugin>, Option<PolicyState>)>,
}

/// An error that keeps a Sandbox from being Ready.
#[derive(Debug)]
pub(super) struct Problem {
    reason: &'static str,
    /// The message of the condition Ready.
    pub(super) message: String,
}

impl Problem {
    /// The operator cannot do its work.
    pub(super) fn error(message: String) -> Self {
        Self { reason: reason::RECONCILER_ERROR, message }
    }

    /// The Sandbox of this name is not valid. Clients do not wait for one whose name is too long for its pod and Service.
    pub(super) fn invalid(name: &str, message: String) -> Self {
        let too_long = name.len() > HOST_NAME_MAX;
        Self { reason: if too_long { reason::INVALID_CONFIGURATION } else { reason::RECONCILER_ERROR }, message }
    }

    /// A policy refuses the pod.
    pub(super) fn denied(message: String) -> Self {
        Self { reason: reason::POLICY_DENIED, message }
    }
}

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
    if let Situation::Known { model, state: PodState::Running(object, pod) } = situation {
        let first = model.idle_timeout.and_then(|_| first_ready(&before, object, pod));
        after_status.first_ready = first.map(Time);
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

/// The time at which a pod became Ready for the first time. The status records it, because the pod's condition has only
/// the last change. Code in the sandbox can change the condition as often as it likes, and must not appear active by
/// that.
pub(super) fn first_ready(before: &SandboxStatus, object: &Object, pod: &Pod) -> Option<Timestamp> {
    // A time before the creation of the pod belongs to an earlier pod.
    let recorded = before.first_ready.as_ref().map(|at| at.0).filter(|at| *at >= object.meta.created);
    let now = || pod.condition("Ready").filter(|_| pod.ready()).map(|c| c.since);
    recorded.or_else(now)
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
/// its marker.
fn isolation(snapshot: &SandboxSnapshot, situation: &Situation<'_>, notes: &Notes) -> Option<IsolationStatus> {
    let of_sandbox = manifest::sandbox_marker(&snapshot.sandbox, situation.model());
    let pods = snapshot.pods.iter().map(|pod| Marker::of(&pod.meta.labels));
    let generated_code = Marker::strongest(pods.chain([of_sandbox])).is_generated_code();
    let status = IsolationStatus { generated_code, problem: notes.exposed.clone() };
    (status != IsolationStatus::default()).then_some(status)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ServiceState {
    /// The Service exists and belongs to the Sandbox.
    There,
    /// The Service is wanted and does not exist.
    Missing,
    /// A Service is wanted, and the one of that name does not belong to the Sandbox.
    Foreign,
    /// No Service is wanted.
    None,
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

fn pod_of<'a>(snapshot: &'a SandboxSnapshot, situation: &Situation<'a>) -> (Option<&'a Object>, Option<&'a Pod>) {
    let object = match situation {
        Situation::Terminating => None,
        // The pod of an invalid Sandbox keeps running, and its state is still reported.
        Situation::Invalid(_) => snapshot.pods.first().filter(|_| snapshot.pods.len() == 1).map(|p| &**p),
        Situation::Known { state, .. } => state.pod(),
    };
    (object, object.and_then(Object::pod))
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

fn conditions(
    snapshot: &SandboxSnapshot,
    situation: &Situation<'_>,
    notes: &Notes,
    before: &SandboxStatus,
    service: ServiceState,
) -> Vec<Condition> {
    let mut new = vec![ready(snapshot, situation, notes, service), suspended(snapshot, situation, before)];
    let (_, pod) = pod_of(snapshot, situation);
    new.extend(pod.map(pod_scheduled));
    if let Some(PodState::Finished(object)) = situation.state() {
        let (reason, message) = ending(object);
        new.push(NewCondition::new(condition::FINISHED, true, reason, message));
    }
    set_conditions(&before.conditions, new, snapshot.sandbox.meta.generation, snapshot.common.now)
}

/// The condition `PodScheduled` of the pod, which the scheduler may leave without a reason.
fn pod_scheduled(pod: &Pod) -> NewCondition {
    let unknown = || NewCondition {
        kind: condition::POD_SCHEDULED,
        status: "Unknown",
        reason: reason::POD_SCHEDULING_UNKNOWN.to_owned(),
        message: message::POD_NOT_SCHEDULED_YET.to_owned(),
    };
    let Some(scheduled) = pod.condition(condition::POD_SCHEDULED) else { return unknown() };
    let (status, default) = match scheduled.status {
        ConditionStatus::True => ("True", reason::POD_SCHEDULED),
        ConditionStatus::False => ("False", reason::POD_SCHEDULING_UNKNOWN),
        ConditionStatus::Unknown => ("Unknown", reason::POD_SCHEDULING_UNKNOWN),
    };
    let reason = if scheduled.reason.is_empty() { default } else { &scheduled.reason }.to_owned();
    NewCondition { kind: condition::POD_SCHEDULED, status, reason, message: scheduled.message.to_string() }
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
        Situation::Invalid(_) if before.mode == Some(OperatingMode::Suspended) => NewCondition {
            kind: condition::SUSPENDED,
            status: "Unknown",
            reason: reason::POD_STATE_UNKNOWN.to_owned(),
            message: "the Sandbox is not valid, so its pod was not looked at".to_owned(),
        },
        Situation::Invalid(_) | Situation::Terminating | Situation::Known { .. } => {
            new(false, reason::NOT_SUSPENDED, message::NOT_SUSPENDED)
        }
    }
}
