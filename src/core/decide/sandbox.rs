//! A Sandbox: one pod while it runs, none while it sleeps, its address and its volumes all the time.

use jiff::Timestamp;
use serde_json::json;

use super::ask::{STATE_EVERY, told};
use super::sandbox_pod::{self, PodVerdict};
use super::{adoptable, create, delete, idle, patch, sandbox_status as report, status, swap};
use crate::api::{OperatingMode, SandboxStatus, ShutdownPolicy};
use crate::build;
use crate::conditions::status_patch;
use crate::kind::Kind;
use crate::model::{self, ModeDecision, ServiceIntent};
use crate::names::annotation;
use crate::object::{Object, Pod};
use crate::plan::{Action, Event, Op, Plan, Reason};
use crate::question::{Answered, Ask};
use crate::seen::SandboxSeen;
use crate::settings::{after, still};

/// How long the pod that takes the place of a disrupted one has to have lived before it is replaced in its turn.
const REPLACE_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// How long the garbage collector has for the pod of a Sandbox that goes only when it has gone.
const COLLECT: std::time::Duration = std::time::Duration::from_secs(30);

/// How soon a plugin that did not answer is asked again.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// Where a Sandbox stands.
pub(super) enum Situation<'a> {
    /// It is going: its children go with it.
    Going,
    /// Its spec does not parse.
    Unreadable(String),
    /// Its time is up.
    Expired(&'a model::Sandbox),
    /// It has more than one pod: nothing is touched.
    ManyPods(&'a model::Sandbox),
    /// It sleeps, or is to.
    Asleep(&'a model::Sandbox, Option<&'a Object>),
    /// A pod of its name is not its own.
    Blocked(&'a model::Sandbox, &'a Object),
    /// Its pod is going; another follows.
    PodGoing(&'a model::Sandbox, &'a Object),
    /// Its pod ended and is not replaced.
    Ended(&'a model::Sandbox, &'a Object),
    /// Its pod was ended by its node or the control plane.
    Disrupted(&'a model::Sandbox, &'a Object),
    /// It is to have a pod and has none.
    NoPod(&'a model::Sandbox),
    /// It has its pod.
    Running(&'a model::Sandbox, &'a Object, &'a Pod),
}

pub(super) fn mode(seen: &SandboxSeen, model: &model::Sandbox) -> ModeDecision {
    let last = seen.sandbox.sandbox().and_then(|s| s.status.mode);
    model::desired_mode(model.operating_mode, model.replicas, last)
}

pub(super) fn situation(seen: &SandboxSeen) -> Situation<'_> {
    let sandbox = &seen.sandbox;
    let model = match sandbox.sandbox().map(|s| &s.spec) {
        _ if sandbox.meta.deleting.is_some() => return Situation::Going,
        None => return Situation::Unreadable("not a Sandbox".to_owned()),
        Some(Err(problem)) => return Situation::Unreadable(problem.to_string()),
        Some(Ok(model)) => &**model,
    };
    if model.shutdown.at.is_some_and(|at| at <= seen.common.now) {
        return Situation::Expired(model);
    }
    let pod = match seen.pods.as_slice() {
        [] => None,
        [pod] if *pod.key.name == *build::pod_name(sandbox) => Some(&**pod),
        // A single one of another name is nothing that we made.
        [_, ..] => return Situation::ManyPods(model),
    };
    match (mode(seen, model).mode, pod, &seen.other_pod) {
        (OperatingMode::Suspended, pod, _) => Situation::Asleep(model, pod),
        (OperatingMode::Running, None, Some(other)) => Situation::Blocked(model, other),
        (OperatingMode::Running, None, None) => Situation::NoPod(model),
        (OperatingMode::Running, Some(object), _) => match object.pod() {
            _ if object.meta.deleting.is_some() => Situation::PodGoing(model, object),
            Some(pod) if pod.disrupted() => Situation::Disrupted(model, object),
            Some(pod) if pod.ended() => Situation::Ended(model, object),
            Some(pod) => Situation::Running(model, object, pod),
            None => Situation::PodGoing(model, object),
        },
    }
}

pub(super) fn questions(seen: &SandboxSeen, answers: &[Answered]) -> Vec<Ask> {
    match situation(seen) {
        Situation::NoPod(_) if !seen.common.namespace_known => vec![],
        Situation::NoPod(model) => sandbox_pod::questions(seen, model, answers),
        Situation::Running(model, object, pod) => idle::questions(seen, model, object, pod, answers),
        Situation::Going
        | Situation::Unreadable(_)
        | Situation::Expired(_)
        | Situation::ManyPods(_)
        | Situation::Asleep(..)
        | Situation::Blocked(..)
        | Situation::PodGoing(..)
        | Situation::Ended(..)
        | Situation::Disrupted(..) => vec![],
    }
}

pub(super) fn decide(seen: &SandboxSeen, answers: &[Answered]) -> Plan {
    let sandbox = &seen.sandbox;
    let mut plan = Plan::default();
    let situation = situation(seen);
    let mut first: Vec<Op> = match &situation {
        Situation::Going | Situation::Unreadable(_) | Situation::ManyPods(_) => vec![],
        Situation::Expired(model) => return expired(seen, model),
        Situation::Asleep(model, _)
        | Situation::Blocked(model, _)
        | Situation::PodGoing(model, _)
        | Situation::Ended(model, _)
        | Situation::Disrupted(model, _)
        | Situation::NoPod(model)
        | Situation::Running(model, _, _) => {
            if let Some(at) = model.shutdown.at {
                plan.wake_at(at, Reason::Expired);
            }
            mode_in_step(seen, model).into_iter().chain(service(seen, model)).collect()
        }
    };
    let mut notes = report::Notes::default();
    match &situation {
        Situation::Going => {
            left_behind(seen, &mut plan);
            return plan;
        }
        Situation::Unreadable(problem) => notes.error = Some(format!("the Sandbox is not valid: {problem}")),
        Situation::Expired(_) | Situation::ManyPods(_) | Situation::Ended(..) | Situation::PodGoing(..) => {}
        Situation::Asleep(_, pod) => first.extend(pod.and_then(|pod| put_to_sleep(seen, pod, &mut plan))),
        Situation::Blocked(model, other) => {
            if let Some(problem) = sandbox_pod::not_isolated(seen, model, other) {
                notes.error = Some(problem);
            } else if adoptable(other) {
                let labels = json!(sandbox_pod::owned_labels(sandbox));
                first.push(super::adopt(sandbox, other, labels));
            } else {
                notes.error = Some(format!("Pod {} exists and does not belong to this Sandbox", other.key.name));
            }
        }
        Situation::Disrupted(_, pod) => match still(pod.meta.created, REPLACE_EVERY, seen.common.now) {
            None => first.push(delete(pod, Reason::PodFailed)),
            Some(due) => plan.wake_at(due, Reason::PodFailed),
        },
        // Its namespace may demand isolation: that is known in a moment.
        Situation::NoPod(_) if !seen.common.namespace_known => {
            plan.wake_at(after(seen.common.now, ASK_AGAIN), Reason::Waiting);
        }
        Situation::NoPod(model) => {
            let judged = sandbox_pod::verdict(seen, model, answers);
            plan.events.extend(told(&judged.troubles).map(|(reason, note)| event(seen, true, reason, note)));
            match judged.verdict {
                PodVerdict::Make(ops) => first.extend(ops),
                PodVerdict::Not(reason, problem) => {
                    if reason == Reason::PluginFailed {
                        // Nothing that is watched says when a plugin is well again.
                        plan.wake_at(after(seen.common.now, ASK_AGAIN), reason);
                    }
                    plan.events.push(event(seen, true, reason, problem.clone()));
                    notes.error = Some(problem);
                }
            }
        }
        Situation::Running(model, object, _) if sandbox_pod::exposed(seen, model, object).is_some() => {
            notes.error = sandbox_pod::exposed(seen, model, object);
        }
        Situation::Running(model, object, pod) => {
            first.extend(metadata_in_step(seen, model, object));
            let rest = idle::decide(seen, model, object, pod, answers);
            plan.events.extend(rest.events);
            if let Some(at) = rest.next_check {
                plan.wake_at(at, Reason::IdleCheck);
            }
            if let Some(op) = rest.op {
                first.push(op);
            }
            notes.idle = Some((rest.status, rest.state));
        }
    }
    first.extend(endpoints(seen, &situation));
    if first.iter().any(|op| op.key == sandbox.key && matches!(op.action, Action::Delete { .. })) {
        // Of what goes, nobody reads the status.
        plan.steps.push(first);
        return plan;
    }
    // A refusal of something that is not tried again does not matter any more.
    let refused = seen.common.refusals.iter().find(|(key, _)| first.iter().any(|op| op.key == *key));
    if notes.error.is_none() {
        notes.error = refused.map(|(key, r)| format!("{key}: the API server refused: {}", r.message));
    }
    let (mut after_status, settle) = report::status(seen, &situation, &notes);
    if refused.is_some() && first.iter().any(|op| op.reason == Reason::ModeInStep) {
        // The status goes first, and a mode that was recorded before both fields say it would be taken for the old one.
        after_status.mode = sandbox.sandbox().and_then(|s| s.status.mode);
    }
    plan.steps.push(first);
    if let Some(op) = status_op(seen, &after_status, settle, &mut plan) {
        // What was refused will probably be refused again, and ends the plan: it is told before.
        let at = if refused.is_some() { 0 } else { plan.steps.len() };
        plan.steps.insert(at, vec![op]);
    }
    plan.steps.retain(|step| !step.is_empty());
    plan
}

/// A pod that was made when its Sandbox was already being deleted in the foreground: where the garbage collector had gone through
/// what there was before, nothing makes it look again, and the Sandbox would never go.
fn left_behind(seen: &SandboxSeen, plan: &mut Plan) {
    let sandbox = &seen.sandbox;
    let Some(since) = sandbox.meta.deleting.filter(|_| sandbox.meta.foreground) else { return };
    let left = seen.pods.iter().filter(|pod| pod.meta.deleting.is_none());
    match still(since, COLLECT, seen.common.now) {
        None => plan.steps.push(left.map(|pod| delete(pod, Reason::PodLeftBehind)).collect()),
        Some(due) if left.count() > 0 => plan.wake_at(due, Reason::PodLeftBehind),
        Some(_) => {}
    }
    plan.steps.retain(|step| !step.is_empty());
}

/// The write of the status, unless it can wait.
fn status_op(
    seen: &SandboxSeen,
    after_status: &SandboxStatus,
    settle: Option<Timestamp>,
    plan: &mut Plan,
) -> Option<Op> {
    let before = &seen.sandbox.sandbox()?.status;
    let patch = status_patch(&**before, after_status)?;
    let settle = settle.or_else(|| {
        // What a plugin remembers rides on other changes, or waits.
        let rest = SandboxStatus { policy_state: before.policy_state.clone(), ..after_status.clone() };
        let written = seen.common.status_written.filter(|_| rest == **before);
        written.and_then(|at| still(at, STATE_EVERY, seen.common.now))
    });
    match settle {
        Some(at) if at > seen.common.now => {
            plan.wake_at(at, Reason::StatusChanged);
            None
        }
        Some(_) | None => Some(status(&seen.sandbox, patch)),
    }
}

fn expired(seen: &SandboxSeen, model: &model::Sandbox) -> Plan {
    let sandbox = &seen.sandbox;
    let mut plan = Plan::default();
    if model.shutdown.policy == ShutdownPolicy::Delete {
        plan.steps.push(vec![delete(sandbox, Reason::Expired)]);
        plan.events.push(event(seen, false, Reason::Expired, "Shutdown time reached: deleting".to_owned()));
        return plan;
    }
    let ours = [&seen.service, &seen.endpoints].into_iter().flatten().filter(|o| o.controlled_by(&sandbox.meta.uid));
    let going = seen.pods.iter().chain(ours).filter(|o| o.meta.deleting.is_none());
    plan.steps.push(going.map(|o| delete(o, Reason::Expired)).collect());
    let (after_status, _) = report::status(seen, &Situation::Expired(model), &report::Notes::default());
    if let Some(patch) = sandbox.sandbox().and_then(|s| status_patch(&*s.status, &after_status)) {
        plan.steps.push(vec![status(sandbox, patch)]);
        if !plan.is_empty() && seen.pods.iter().any(|p| p.meta.deleting.is_none()) {
            plan.events.push(event(seen, false, Reason::Expired, "Shutdown time reached: stopping".to_owned()));
        }
    }
    plan.steps.retain(|step| !step.is_empty());
    plan
}

fn mode_in_step(seen: &SandboxSeen, model: &model::Sandbox) -> Option<Op> {
    let decision = mode(seen, model);
    // What a pool has is as it was made, or of no use to it.
    if decision.in_step() || seen.sandbox.meta.in_pool() {
        return None;
    }
    let mut spec = serde_json::Map::new();
    if let Some(mode) = decision.write_operating_mode {
        spec.insert("operatingMode".to_owned(), json!(mode));
    }
    if let Some(replicas) = decision.write_replicas {
        spec.insert("replicas".to_owned(), replicas.into());
    }
    Some(swap(&seen.sandbox, Reason::ModeInStep, json!({ "spec": spec })))
}

/// The Service that the Sandbox is to have, made, taken over or deleted.
fn service(seen: &SandboxSeen, model: &model::Sandbox) -> Option<Op> {
    let sandbox = &seen.sandbox;
    let wanted = match model.service {
        ServiceIntent::Keep => None,
        ServiceIntent::Absent => {
            return seen
                .service
                .as_deref()
                .filter(|s| s.controlled_by(&sandbox.meta.uid) && s.meta.deleting.is_none())
                .map(|s| delete(s, Reason::ServiceUnwanted));
        }
        ServiceIntent::Headless => Some(build::headless_service(sandbox)),
        ServiceIntent::Stable => Some(build::stable_service(sandbox, model)),
    };
    match (&seen.service, wanted) {
        (Some(service), Some(_)) if adoptable(service) => Some(super::adopt(sandbox, service, json!({}))),
        (None, Some(body)) => {
            Some(create(sandbox.key.sibling(Kind::Service, sandbox.key.name.clone()), Reason::ServiceMissing, body))
        }
        (Some(_) | None, Some(_) | None) => None,
    }
}

/// Whether the Service in the way is somebody else's.
pub(super) fn service_is_foreign(seen: &SandboxSeen) -> bool {
    seen.service.as_ref().is_some_and(|s| !s.controlled_by(&seen.sandbox.meta.uid))
}

/// Where connections to a stable address go now.
pub(super) fn endpoint_address<'a>(situation: &Situation<'a>) -> Option<&'a str> {
    match situation {
        Situation::Running(_, object, pod) if pod.ready() && object.meta.deleting.is_none() => {
            pod.ips.first().map(String::as_str)
        }
        Situation::Going
        | Situation::Unreadable(_)
        | Situation::Expired(_)
        | Situation::ManyPods(_)
        | Situation::Asleep(..)
        | Situation::Blocked(..)
        | Situation::PodGoing(..)
        | Situation::Ended(..)
        | Situation::Disrupted(..)
        | Situation::NoPod(_)
        | Situation::Running(..) => None,
    }
}

fn endpoints(seen: &SandboxSeen, situation: &Situation<'_>) -> Option<Op> {
    let sandbox = &seen.sandbox;
    let model = sandbox.sandbox()?.spec.as_ref().ok()?;
    if model.service != ServiceIntent::Stable || service_is_foreign(seen) {
        return None;
    }
    let address = endpoint_address(situation);
    let wanted = build::endpoints_of(address);
    match &seen.endpoints {
        None => address.map(|address| {
            let key = sandbox.key.sibling(Kind::EndpointSlice, sandbox.key.name.clone());
            create(key, Reason::EndpointsChanged, build::endpoint_slice(sandbox, model, &wanted, address))
        }),
        Some(slice) if !slice.controlled_by(&sandbox.meta.uid) => None,
        Some(slice) => {
            let has = sandbox_pod::slice_endpoints(slice)?;
            let same = match address {
                Some(address) => has.as_array().is_some_and(|e| {
                    e.len() == 1 && e[0].pointer("/addresses/0").and_then(|a| a.as_str()) == Some(address)
                }),
                None => has.as_array().is_none_or(Vec::is_empty),
            };
            let drained = address.is_none().then(|| seen.common.now.to_string());
            (!same).then(|| {
                let body = json!({
                    "metadata": { "annotations": { annotation::DRAINED_AT: drained } },
                    "endpoints": wanted,
                });
                patch(slice, Reason::EndpointsChanged, body)
            })
        }
    }
}

/// Deletes the pod of a Sandbox that is to sleep: once nothing is sent to it any more, if its address is stable.
fn put_to_sleep(seen: &SandboxSeen, pod: &Object, plan: &mut Plan) -> Option<Op> {
    if pod.meta.deleting.is_some() {
        return None;
    }
    let slice = seen.endpoints.as_deref().filter(|s| s.controlled_by(&seen.sandbox.meta.uid));
    if let Some(slice) = slice {
        let drained = slice.meta.annotations.get(annotation::DRAINED_AT).and_then(|at| at.parse().ok());
        let empty = sandbox_pod::slice_endpoints(slice).and_then(|e| e.as_array()).is_none_or(Vec::is_empty);
        let (now, delay) = (seen.common.now, seen.common.settings.drain_delay);
        let due = still(drained.unwrap_or(now), delay, now);
        if let Some(due) = due.or_else(|| (!empty).then(|| after(now, delay))) {
            plan.wake_at(due, Reason::Suspended);
            return None;
        }
    }
    plan.events.push(event(seen, false, Reason::Suspended, "Suspended: deleting the pod; volumes stay".to_owned()));
    Some(delete(pod, Reason::Suspended))
}

/// The pod's labels and annotations follow the Sandbox's; nobody else's are touched.
fn metadata_in_step(seen: &SandboxSeen, model: &model::Sandbox, pod: &Object) -> Option<Op> {
    let labels = build::pod_labels(&seen.sandbox, model);
    let annotations = build::pod_annotations(&seen.sandbox, model);
    let labels = sandbox_pod::metadata_patch(&labels, &pod.meta.labels, pod, annotation::PROPAGATED_LABELS);
    let annotations =
        sandbox_pod::metadata_patch(&annotations, &pod.meta.annotations, pod, annotation::PROPAGATED_ANNOTATIONS);
    let changed = !labels.is_empty() || !annotations.is_empty();
    changed.then(|| {
        let mut metadata = serde_json::Map::new();
        for (field, patch) in [("labels", labels), ("annotations", annotations)] {
            if !patch.is_empty() {
                metadata.insert(field.to_owned(), patch.into());
            }
        }
        patch(pod, Reason::MetadataChanged, json!({ "metadata": metadata }))
    })
}

pub(super) fn event(seen: &SandboxSeen, warning: bool, reason: Reason, note: String) -> Event {
    let sandbox = &seen.sandbox;
    Event { regarding: sandbox.key.clone(), uid: sandbox.meta.uid.to_string(), warning, reason, note }
}
