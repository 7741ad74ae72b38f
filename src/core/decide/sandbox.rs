//! A Sandbox: one pod while it runs, none while it sleeps, its address and its volumes all the time.

use jiff::Timestamp;
use serde_json::json;

use super::ask::{STATE_EVERY, failure_events};
use super::sandbox_pod::{self, PodVerdict};
use super::{adoptable, create, delete, idle, patch, patch_if_unchanged, sandbox_status as report, status};
use crate::api::{OperatingMode, SandboxStatus, ShutdownPolicy};
use crate::conditions::status_patch;
use crate::kind::Kind;
use crate::manifest;
use crate::model::{self, ModeDecision, ServiceIntent};
use crate::names::annotation;
use crate::object::{Object, Pod};
use crate::plan::{Action, Event, Op, Plan, Reason};
use crate::question::{PluginReply, PluginRequest};
use crate::settings::{saturating_add, time_left};
use crate::snapshot::SandboxSnapshot;

/// How long the pod that takes the place of a disrupted one has to have lived before it is replaced in its turn.
const REPLACE_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// How long the garbage collector has for the pod of a Sandbox that goes only when it has gone.
const COLLECT: std::time::Duration = std::time::Duration::from_secs(30);

/// How soon a plugin that did not answer is asked again.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// Where a Sandbox stands.
pub(super) enum Situation<'a> {
    /// It is going: its children go with it.
    Terminating,
    /// Its spec does not parse.
    Invalid(String),
    /// Its time is up.
    Expired(&'a model::Sandbox),
    /// It has more than one pod: nothing is touched.
    MultiplePods(&'a model::Sandbox),
    /// It sleeps, or is to.
    Suspended(&'a model::Sandbox, Option<&'a Object>),
    /// A pod of its name is not its own.
    Blocked(&'a model::Sandbox, &'a Object),
    /// Its pod is going; another follows.
    PodTerminating(&'a model::Sandbox, &'a Object),
    /// Its pod ended and is not replaced.
    Finished(&'a model::Sandbox, &'a Object),
    /// Its pod was ended by its node or the control plane.
    Disrupted(&'a model::Sandbox, &'a Object),
    /// It is to have a pod and has none.
    NoPod(&'a model::Sandbox),
    /// It has its pod.
    Running(&'a model::Sandbox, &'a Object, &'a Pod),
}

pub(super) fn mode(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> ModeDecision {
    let last = snapshot.sandbox.sandbox().and_then(|s| s.status.mode);
    model::desired_mode(model.operating_mode, model.replicas, last)
}

pub(super) fn situation(snapshot: &SandboxSnapshot) -> Situation<'_> {
    let sandbox = &snapshot.sandbox;
    let model = match sandbox.sandbox().map(|s| &s.spec) {
        _ if sandbox.meta.deletion_timestamp.is_some() => return Situation::Terminating,
        None => return Situation::Invalid("not a Sandbox".to_owned()),
        Some(Err(problem)) => return Situation::Invalid(problem.to_string()),
        Some(Ok(model)) => &**model,
    };
    if model.shutdown.at.is_some_and(|at| at <= snapshot.common.now) {
        return Situation::Expired(model);
    }
    let pod = match snapshot.pods.as_slice() {
        [] => None,
        [pod] if *pod.key.name == *manifest::pod_name(sandbox) => Some(&**pod),
        // A single one of another name is nothing that we made.
        [_, ..] => return Situation::MultiplePods(model),
    };
    match (mode(snapshot, model).mode, pod, &snapshot.other_pod) {
        (OperatingMode::Suspended, pod, _) => Situation::Suspended(model, pod),
        (OperatingMode::Running, None, Some(other)) => Situation::Blocked(model, other),
        (OperatingMode::Running, None, None) => Situation::NoPod(model),
        (OperatingMode::Running, Some(object), _) => match object.pod() {
            _ if object.meta.deletion_timestamp.is_some() => Situation::PodTerminating(model, object),
            Some(pod) if pod.disrupted() => Situation::Disrupted(model, object),
            Some(pod) if pod.ended() => Situation::Finished(model, object),
            Some(pod) => Situation::Running(model, object, pod),
            None => Situation::PodTerminating(model, object),
        },
    }
}

pub(super) fn questions(snapshot: &SandboxSnapshot, answers: &[PluginReply]) -> Vec<PluginRequest> {
    match situation(snapshot) {
        Situation::NoPod(_) if !snapshot.common.namespace_known => vec![],
        Situation::NoPod(model) => sandbox_pod::questions(snapshot, model, answers),
        Situation::Running(model, object, pod) => idle::questions(snapshot, model, object, pod, answers),
        Situation::Terminating
        | Situation::Invalid(_)
        | Situation::Expired(_)
        | Situation::MultiplePods(_)
        | Situation::Suspended(..)
        | Situation::Blocked(..)
        | Situation::PodTerminating(..)
        | Situation::Finished(..)
        | Situation::Disrupted(..) => vec![],
    }
}

pub(super) fn decide(snapshot: &SandboxSnapshot, answers: &[PluginReply]) -> Plan {
    let sandbox = &snapshot.sandbox;
    let mut plan = Plan::default();
    let situation = situation(snapshot);
    let mut first: Vec<Op> = match &situation {
        Situation::Terminating | Situation::Invalid(_) | Situation::MultiplePods(_) => vec![],
        Situation::Expired(model) => return expired(snapshot, model),
        Situation::Suspended(model, _)
        | Situation::Blocked(model, _)
        | Situation::PodTerminating(model, _)
        | Situation::Finished(model, _)
        | Situation::Disrupted(model, _)
        | Situation::NoPod(model)
        | Situation::Running(model, _, _) => {
            if let Some(at) = model.shutdown.at {
                plan.requeue_at(at, Reason::Expired);
            }
            sync_mode(snapshot, model).into_iter().chain(service(snapshot, model)).collect()
        }
    };
    let mut notes = report::Notes::default();
    match &situation {
        Situation::Terminating => {
            left_behind(snapshot, &mut plan);
            return plan;
        }
        Situation::Invalid(problem) => notes.error = Some(format!("the Sandbox is not valid: {problem}")),
        Situation::Expired(_)
        | Situation::MultiplePods(_)
        | Situation::Finished(..)
        | Situation::PodTerminating(..) => {}
        Situation::Suspended(_, pod) => first.extend(pod.and_then(|pod| suspend(snapshot, pod, &mut plan))),
        Situation::Blocked(model, other) => {
            if let Some(problem) = sandbox_pod::not_isolated(snapshot, model, other) {
                notes.error = Some(problem);
            } else if adoptable(other) {
                let labels = json!(sandbox_pod::owned_labels(sandbox));
                first.push(super::adopt(sandbox, other, labels));
            } else {
                notes.error = Some(format!("Pod {} exists and does not belong to this Sandbox", other.key.name));
            }
        }
        Situation::Disrupted(_, pod) => match time_left(pod.meta.created, REPLACE_EVERY, snapshot.common.now) {
            None => first.push(delete(pod, Reason::PodFailed)),
            Some(due) => plan.requeue_at(due, Reason::PodFailed),
        },
        // Its namespace may demand isolation: that is known in a moment.
        Situation::NoPod(_) if !snapshot.common.namespace_known => {
            plan.requeue_at(saturating_add(snapshot.common.now, ASK_AGAIN), Reason::Waiting);
        }
        Situation::NoPod(model) => {
            let judged = sandbox_pod::verdict(snapshot, model, answers);
            plan.events.extend(
                failure_events(&judged.plugin_failures).map(|(reason, note)| event(snapshot, true, reason, note)),
            );
            match judged.verdict {
                PodVerdict::PoolRevision(ops) => first.extend(ops),
                PodVerdict::Not(reason, problem) => {
                    if reason == Reason::PluginFailed {
                        // Nothing that is watched says when a plugin is well again.
                        plan.requeue_at(saturating_add(snapshot.common.now, ASK_AGAIN), reason);
                    }
                    plan.events.push(event(snapshot, true, reason, problem.clone()));
                    notes.error = Some(problem);
                }
            }
        }
        Situation::Running(model, object, _) if sandbox_pod::exposed(snapshot, model, object).is_some() => {
            notes.error = sandbox_pod::exposed(snapshot, model, object);
        }
        Situation::Running(model, object, pod) => {
            first.extend(sync_metadata(snapshot, model, object));
            let rest = idle::decide(snapshot, model, object, pod, answers);
            plan.events.extend(rest.events);
            if let Some(at) = rest.next_check {
                plan.requeue_at(at, Reason::IdleCheck);
            }
            if let Some(op) = rest.op {
                first.push(op);
            }
            notes.idle = Some((rest.status, rest.state));
        }
    }
    first.extend(endpoints(snapshot, &situation));
    if first.iter().any(|op| op.key == sandbox.key && matches!(op.action, Action::Delete { .. })) {
        // Of what goes, nobody reads the status.
        plan.steps.push(first);
        return plan;
    }
    // A refusal of something that is not tried again does not matter any more.
    let refused = snapshot.common.refusals.iter().find(|(key, _)| first.iter().any(|op| op.key == *key));
    if notes.error.is_none() {
        notes.error = refused.map(|(key, r)| format!("{key}: the API server refused: {}", r.message));
    }
    let (mut after_status, settle) = report::status(snapshot, &situation, &notes);
    if refused.is_some() && first.iter().any(|op| op.reason == Reason::ModeInStep) {
        // The status goes first, and a mode that was recorded before both fields say it would be taken for the old one.
        after_status.mode = sandbox.sandbox().and_then(|s| s.status.mode);
    }
    plan.steps.push(first);
    if let Some(op) = status_op(snapshot, &after_status, settle, &mut plan) {
        // What was refused will probably be refused again, and ends the plan: it is told before.
        let at = if refused.is_some() { 0 } else { plan.steps.len() };
        plan.steps.insert(at, vec![op]);
    }
    plan.steps.retain(|step| !step.is_empty());
    plan
}

/// A pod that was made when its Sandbox was already being deleted in the foreground: where the garbage collector had gone through
/// what there was before, nothing makes it look again, and the Sandbox would never go.
fn left_behind(snapshot: &SandboxSnapshot, plan: &mut Plan) {
    let sandbox = &snapshot.sandbox;
    let Some(since) = sandbox.meta.deletion_timestamp.filter(|_| sandbox.meta.foreground) else { return };
    let left = snapshot.pods.iter().filter(|pod| pod.meta.deletion_timestamp.is_none());
    match time_left(since, COLLECT, snapshot.common.now) {
        None => plan.steps.push(left.map(|pod| delete(pod, Reason::PodLeftBehind)).collect()),
        Some(due) if left.count() > 0 => plan.requeue_at(due, Reason::PodLeftBehind),
        Some(_) => {}
    }
    plan.steps.retain(|step| !step.is_empty());
}

/// The write of the status, unless it can wait.
fn status_op(
    snapshot: &SandboxSnapshot,
    after_status: &SandboxStatus,
    settle: Option<Timestamp>,
    plan: &mut Plan,
) -> Option<Op> {
    let before = &snapshot.sandbox.sandbox()?.status;
    let patch = status_patch(&**before, after_status)?;
    let settle = settle.or_else(|| {
        // What a plugin remembers rides on other changes, or waits.
        let rest = SandboxStatus { policy_state: before.policy_state.clone(), ..after_status.clone() };
        let written = snapshot.common.status_written.filter(|_| rest == **before);
        written.and_then(|at| time_left(at, STATE_EVERY, snapshot.common.now))
    });
    match settle {
        Some(at) if at > snapshot.common.now => {
            plan.requeue_at(at, Reason::StatusChanged);
            None
        }
        Some(_) | None => Some(status(&snapshot.sandbox, patch)),
    }
}

fn expired(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Plan {
    let sandbox = &snapshot.sandbox;
    let mut plan = Plan::default();
    if model.shutdown.policy == ShutdownPolicy::Delete {
        plan.steps.push(vec![delete(sandbox, Reason::Expired)]);
        plan.events.push(event(snapshot, false, Reason::Expired, "Shutdown time reached: deleting".to_owned()));
        return plan;
    }
    let ours =
        [&snapshot.service, &snapshot.endpoints].into_iter().flatten().filter(|o| o.controlled_by(&sandbox.meta.uid));
    let going = snapshot.pods.iter().chain(ours).filter(|o| o.meta.deletion_timestamp.is_none());
    plan.steps.push(going.map(|o| delete(o, Reason::Expired)).collect());
    let (after_status, _) = report::status(snapshot, &Situation::Expired(model), &report::Notes::default());
    if let Some(patch) = sandbox.sandbox().and_then(|s| status_patch(&*s.status, &after_status)) {
        plan.steps.push(vec![status(sandbox, patch)]);
        if !plan.is_empty() && snapshot.pods.iter().any(|p| p.meta.deletion_timestamp.is_none()) {
            plan.events.push(event(snapshot, false, Reason::Expired, "Shutdown time reached: stopping".to_owned()));
        }
    }
    plan.steps.retain(|step| !step.is_empty());
    plan
}

fn sync_mode(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Option<Op> {
    let decision = mode(snapshot, model);
    // What a pool has is as it was made, or of no use to it.
    if decision.in_step() || snapshot.sandbox.meta.in_pool() {
        return None;
    }
    let mut spec = serde_json::Map::new();
    if let Some(mode) = decision.write_operating_mode {
        spec.insert("operatingMode".to_owned(), json!(mode));
    }
    if let Some(replicas) = decision.write_replicas {
        spec.insert("replicas".to_owned(), replicas.into());
    }
    Some(patch_if_unchanged(&snapshot.sandbox, Reason::ModeInStep, json!({ "spec": spec })))
}

/// The Service that the Sandbox is to have, made, taken over or deleted.
fn service(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Option<Op> {
    let sandbox = &snapshot.sandbox;
    let wanted = match model.service {
        ServiceIntent::Keep => None,
        ServiceIntent::Absent => {
            return snapshot
                .service
                .as_deref()
                .filter(|s| s.controlled_by(&sandbox.meta.uid) && s.meta.deletion_timestamp.is_none())
                .map(|s| delete(s, Reason::ServiceUnwanted));
        }
        ServiceIntent::Headless => Some(manifest::headless_service(sandbox)),
        ServiceIntent::Stable => Some(manifest::stable_service(sandbox, model)),
    };
    match (&snapshot.service, wanted) {
        (Some(service), Some(_)) if adoptable(service) => Some(super::adopt(sandbox, service, json!({}))),
        (None, Some(body)) => {
            Some(create(sandbox.key.sibling(Kind::Service, sandbox.key.name.clone()), Reason::ServiceMissing, body))
        }
        (Some(_) | None, Some(_) | None) => None,
    }
}

/// Whether the Service in the way is somebody else's.
pub(super) fn service_is_foreign(snapshot: &SandboxSnapshot) -> bool {
    snapshot.service.as_ref().is_some_and(|s| !s.controlled_by(&snapshot.sandbox.meta.uid))
}

/// Where connections to a stable address go now.
pub(super) fn endpoint_address<'a>(situation: &Situation<'a>) -> Option<&'a str> {
    match situation {
        Situation::Running(_, object, pod) if pod.ready() && object.meta.deletion_timestamp.is_none() => {
            pod.ips.first().map(String::as_str)
        }
        Situation::Terminating
        | Situation::Invalid(_)
        | Situation::Expired(_)
        | Situation::MultiplePods(_)
        | Situation::Suspended(..)
        | Situation::Blocked(..)
        | Situation::PodTerminating(..)
        | Situation::Finished(..)
        | Situation::Disrupted(..)
        | Situation::NoPod(_)
        | Situation::Running(..) => None,
    }
}

fn endpoints(snapshot: &SandboxSnapshot, situation: &Situation<'_>) -> Option<Op> {
    let sandbox = &snapshot.sandbox;
    let model = sandbox.sandbox()?.spec.as_ref().ok()?;
    if model.service != ServiceIntent::Stable || service_is_foreign(snapshot) {
        return None;
    }
    let address = endpoint_address(situation);
    let wanted = manifest::endpoints_of(address);
    match &snapshot.endpoints {
        None => address.map(|address| {
            let key = sandbox.key.sibling(Kind::EndpointSlice, sandbox.key.name.clone());
            create(key, Reason::EndpointsChanged, manifest::endpoint_slice(sandbox, model, &wanted, address))
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
            let drained = address.is_none().then(|| snapshot.common.now.to_string());
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
fn suspend(snapshot: &SandboxSnapshot, pod: &Object, plan: &mut Plan) -> Option<Op> {
    if pod.meta.deletion_timestamp.is_some() {
        return None;
    }
    let slice = snapshot.endpoints.as_deref().filter(|s| s.controlled_by(&snapshot.sandbox.meta.uid));
    if let Some(slice) = slice {
        let drained = slice.meta.annotations.get(annotation::DRAINED_AT).and_then(|at| at.parse().ok());
        let empty = sandbox_pod::slice_endpoints(slice).and_then(|e| e.as_array()).is_none_or(Vec::is_empty);
        let (now, delay) = (snapshot.common.now, snapshot.common.settings.drain_delay);
        let due = time_left(drained.unwrap_or(now), delay, now);
        if let Some(due) = due.or_else(|| (!empty).then(|| saturating_add(now, delay))) {
            plan.requeue_at(due, Reason::Suspended);
            return None;
        }
    }
    plan.events.push(event(snapshot, false, Reason::Suspended, "Suspended: deleting the pod; volumes stay".to_owned()));
    Some(delete(pod, Reason::Suspended))
}

/// The pod's labels and annotations follow the Sandbox's; nobody else's are touched.
fn sync_metadata(snapshot: &SandboxSnapshot, model: &model::Sandbox, pod: &Object) -> Option<Op> {
    let labels = manifest::pod_labels(&snapshot.sandbox, model);
    let annotations = manifest::pod_annotations(&snapshot.sandbox, model);
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

pub(super) fn event(snapshot: &SandboxSnapshot, warning: bool, reason: Reason, note: String) -> Event {
    let sandbox = &snapshot.sandbox;
    Event { regarding: sandbox.key.clone(), uid: sandbox.meta.uid.to_string(), warning, reason, note }
}
