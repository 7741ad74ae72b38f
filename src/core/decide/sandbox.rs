//! Decides about a Sandbox: it has one pod while it runs, and none while it is suspended. It keeps its address and its
//! volumes all the time.
//!
//! [`questions`] and [`decide`] call the parts in order. The submodules contain the decisions of each part.

mod claim_data;
mod cpu_use;
mod draft;
mod drain;
mod idle;
mod lifecycle;
mod metadata;
mod metadata_change;
mod mode;
mod open_connections;
mod pod;
mod service;
mod situation;
mod status;
mod suspend;
mod throttle;
mod volumes;
mod wake;

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use paddock_api::names::{condition, reason};
use paddock_api::{SandboxStatus, ShutdownPolicy};
use serde_json::json;

use self::draft::PlanDraft;
use self::drain::Drain;
use self::pod::{Exposure, PodVerdict};
use self::situation::{PodState, Situation};
use self::status::{Notes, Problem};
use self::throttle::{Throttling, Wish};
use super::adopt::{Adoption, PREPARED, adopt, left_behind};
use super::ask::{ASK_AGAIN, STATE_EVERY, failure_events};
use crate::as_made;
use crate::conditions::{find_condition, status_patch};
use crate::model;
use crate::plan::{Action, Event, Op, Plan, Reason};
use crate::question::{PluginReply, PluginRequest};
use crate::snapshot::{Refusal, SandboxSnapshot};
use crate::time::{saturating_add, time_left};

/// The time after which a drain that waits for a status is looked at again.
const DRAIN_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The time that the garbage collector has to delete the pod of a Sandbox that is being deleted in the foreground.
const COLLECT: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) fn questions(snapshot: &SandboxSnapshot, replies: &[PluginReply]) -> Vec<PluginRequest> {
    let Situation::Known { model, state } = Situation::of(snapshot) else { return vec![] };
    match state {
        PodState::Missing if !snapshot.common.namespace_known || snapshot.network_policy.problem().is_some() => vec![],
        PodState::Missing => pod::questions(snapshot, model, replies),
        PodState::Running(object, pod) => {
            let of_metadata = metadata::questions(snapshot, model, object, replies);
            if of_metadata.is_empty() { idle::questions(snapshot, model, object, pod, replies) } else { of_metadata }
        }
        PodState::Blocked(other) if pod::pod_adoption(snapshot, model, other) == Adoption::Yes => {
            pod::adoption_questions(snapshot, model, replies)
        }
        PodState::Expired
        | PodState::MultiplePods
        | PodState::Suspended(_)
        | PodState::Blocked(_)
        | PodState::Terminating(_)
        | PodState::Finished(_)
        | PodState::Disrupted(_) => vec![],
    }
}

pub(super) fn decide(snapshot: &SandboxSnapshot, replies: &[PluginReply]) -> Plan {
    let situation = Situation::of(snapshot);
    match &situation {
        Situation::Terminating => terminating(snapshot),
        Situation::Known { model, state: PodState::Expired } => expired(snapshot, model),
        Situation::Invalid(_) | Situation::Known { .. } => decide_live(snapshot, &situation, replies),
    }
}

/// Decides about a Sandbox that is not being deleted and has not expired.
fn decide_live(snapshot: &SandboxSnapshot, situation: &Situation<'_>, replies: &[PluginReply]) -> Plan {
    let sandbox = &snapshot.sandbox;
    let mut draft = PlanDraft::default();
    draft.expose(snapshot, situation.model());
    match situation {
        Situation::Terminating | Situation::Known { state: PodState::Expired | PodState::MultiplePods, .. } => {}
        Situation::Invalid(problem) => {
            let message = format!("the Sandbox is not valid: {problem}");
            draft.notes.error = Some(Problem::invalid(sandbox, message));
        }
        Situation::Known { model, state } => {
            if let Some(at) = model.shutdown.at.and_then(|at| snapshot.common.wait_until(at)) {
                draft.plan.requeue_at(at, Reason::Expired);
            }
            let resumes = draft.wake(snapshot, (model, state));
            let mode = if resumes { Some(wake::resume(snapshot)) } else { mode::sync(snapshot, model) };
            draft.first.extend(mode.into_iter().chain(service::service(snapshot, model)));
            draft.first.extend(volumes::restored(snapshot, model));
            // A refused resume must not keep the pod of a Sandbox that is to be suspended.
            if !resumes || snapshot.common.refused(Kind::Sandbox).is_some() {
                draft.pod(snapshot, (model, state), replies);
            }
        }
    }
    let PlanDraft { mut first, deliver, cpu, mut plan, mut notes } = draft;
    metadata::keep_template_labels(snapshot, &mut first);
    first.extend(service::endpoints(snapshot, situation.state(), &mut plan));
    if first.iter().any(|op| op.key == sandbox.key && matches!(op.action, Action::Delete { .. })) {
        // The plan deletes the Sandbox, so its status is not written.
        plan.steps.push(first);
        return plan;
    }
    // A refusal counts only if the plan repeats the write.
    let repeats = |key: &Key| first.iter().chain(&deliver).any(|op| op.key == *key);
    let refused = snapshot.common.refusals.iter().find(|(key, _)| repeats(key));
    if notes.error.is_none() {
        notes.error = refused.map(|(key, r)| {
            let problem = match &deliver {
                Some(op) if op.key == *key => format!("the data of the claim is not delivered: {}", r.message),
                Some(_) | None => format!("{key}: the API server refused: {}", r.message),
            };
            if r.by_policy { Problem::denied(problem) } else { Problem::error(problem) }
        });
    }
    if let (Some((_, Refusal { by_policy: true, .. })), Some(problem)) = (refused, &notes.error) {
        plan.events.extend(denial_event(snapshot, problem));
    }
    let Throttling { record, restore, throttle, check_at, events, results } = throttle::decide(snapshot, cpu);
    // A client waits for the CPU. If the Sandbox ends or a resize was refused, the status comes first: it says since when
    // the CPU is being restored. The refusal of a resize does not make the Sandbox unusable.
    let ends = matches!(situation.state(), Some(PodState::Suspended(_)));
    let (restore_first, restore_last) =
        if ends || snapshot.refused_resize.is_some() { (None, restore) } else { (restore, None) };
    first.extend(restore_first);
    plan.events.extend(events);
    plan.results.extend(results);
    if let Some(at) = check_at {
        plan.requeue_at(at, Reason::IdleCheck);
    }
    notes.throttle = record;
    let (mut after_status, wait_until) = status::status(snapshot, situation, &notes);
    if refused.is_some() && first.iter().any(|op| op.reason == Reason::ModeInStep) {
        // The status is written before the mode fields. If it recorded the new mode before both fields agree, the next
        // decision would take the other field for the one that the user changed.
        after_status.mode = sandbox.sandbox().and_then(|s| s.status.mode);
    }
    plan.steps.extend(record_touch(snapshot, situation.state()).map(|op| vec![op]));
    plan.steps.push(first);
    let status = status_op(snapshot, &after_status, wait_until, &mut plan);
    if status.is_some()
        && let Some(before) = sandbox.sandbox()
    {
        let pod = situation.state().and_then(PodState::pod).and_then(|object| object.pod());
        let detail = pod.and_then(|pod| pod.message.as_deref().or(pod.reason.as_deref()));
        plan.results.extend(lifecycle::transitions(sandbox, &before.status, &after_status, detail));
    }
    if let Some((_, refusal)) = refused.filter(|(key, _)| key.kind == Kind::Pod) {
        let (reason, problem) = match &deliver {
            Some(_) => (Reason::ClaimDataNotDelivered, "The data of the claim is not delivered"),
            None => (Reason::SandboxPodCreateFailed, "The API server refused the pod"),
        };
        let note = format!("{problem}: {}", refusal.message);
        plan.events.push(Event::warning(sandbox, reason, note));
    }
    // A pod is throttled only if the status has the record of its CPU.
    let recorded = sandbox.sandbox().is_some_and(|s| s.status.throttle == after_status.throttle);
    plan.steps.extend(status.map(|op| vec![op]));
    plan.steps.extend(throttle.filter(|_| recorded).or(restore_last).map(|op| vec![op]));
    plan.steps.extend(deliver.map(|op| vec![op]));
    // A creation without a usable reply may fail again and end the plan.
    if refused.is_some() || snapshot.pod_unanswered {
        plan.status_first(0);
    }
    plan
}

/// The Event about a write that an admission policy denied. It is sent when the status begins to report the denial.
fn denial_event(snapshot: &SandboxSnapshot, problem: &Problem) -> Option<Event> {
    let status = &snapshot.sandbox.sandbox()?.status;
    let reported = find_condition(&status.conditions, condition::READY).is_some_and(|c| c.message == problem.message);
    (!reported).then(|| Event::warning(&snapshot.sandbox, Reason::AdmissionDenied, problem.message.clone()))
}

impl PlanDraft {
    /// Waits for the next time of the schedule. Returns whether that time has come, so that the Sandbox is resumed.
    fn wake(&mut self, snapshot: &SandboxSnapshot, (model, state): (&model::Sandbox, &PodState<'_>)) -> bool {
        self.notes.next_wake = wake::next(snapshot, model, state);
        let Some(at) = self.notes.next_wake else { return false };
        let due = snapshot.common.wait_until(at);
        match due {
            Some(due) => self.plan.requeue_at(due, Reason::ScheduledWake),
            None => self.plan.results.push(wake::event(snapshot, at)),
        }
        due.is_none()
    }

    /// Decides about the pod.
    fn pod(
        &mut self,
        snapshot: &SandboxSnapshot,
        (model, state): (&model::Sandbox, &PodState<'_>),
        replies: &[PluginReply],
    ) {
        let sandbox = &snapshot.sandbox;
        match state {
            PodState::Expired | PodState::MultiplePods | PodState::Finished(_) => {}
            PodState::Terminating(object) => {
                self.drain(snapshot, drain::evicted(snapshot, model, object));
            }
            PodState::Suspended(pod) => {
                self.first.extend(pod.and_then(|pod| suspend::suspend(snapshot, pod, &mut self.plan)));
            }
            // A change of the NetworkPolicy reconciles the Sandbox again. No watch reports that a lost deletion of the
            // policy was not stored.
            PodState::Blocked(_) | PodState::Missing if snapshot.network_policy.problem().is_some() => {
                let again = saturating_add(snapshot.common.now, ASK_AGAIN);
                self.plan.requeue_at(again, Reason::NetworkPolicyNotReady);
            }
            PodState::Blocked(other) => {
                if let Some(problem) = pod::not_isolated(snapshot, model, other) {
                    self.notes.error = Some(Problem::denied(problem));
                } else {
                    let foreign = format!("Pod {} exists and does not belong to this Sandbox", other.key.name);
                    match pod::pod_adoption(snapshot, model, other) {
                        Adoption::Yes => {
                            let reviewed = pod::review_adoption(snapshot, model, replies);
                            self.notes.decided_by = Some(reviewed.decided_by);
                            if self.passes(snapshot, reviewed.denial) {
                                self.first.push(adopt(sandbox, other, json!(metadata::owned_labels(sandbox))));
                            }
                        }
                        Adoption::No => self.notes.error = Some(Problem::error(foreign)),
                        Adoption::Prepared => {
                            self.notes.error = Some(Problem::error(format!("{foreign}, and {PREPARED}")));
                        }
                        Adoption::Differs(path) => {
                            let problem = format!("{foreign}, which would make it with another {path}");
                            self.notes.error = Some(Problem::error(problem));
                        }
                    }
                }
            }
            PodState::Disrupted(pod) => {
                match time_left(pod.meta.created, snapshot.replaced_from_age, snapshot.common.now) {
                    None => self.first.push(Op::delete(pod, Reason::PodFailed)),
                    Some(due) => self.plan.requeue_at(due, Reason::PodFailed),
                }
            }
            // The namespace may require isolation. The watch will deliver its labels soon.
            PodState::Missing if !snapshot.common.namespace_known => {
                self.plan.requeue_at(saturating_add(snapshot.common.now, ASK_AGAIN), Reason::Waiting);
            }
            PodState::Missing => self.create_pod(snapshot, model, replies),
            PodState::Running(object, pod) => {
                match pod::exposure(snapshot, Some(model), object) {
                    Exposure::Isolated | Exposure::Reported(_) => {}
                    Exposure::Denied(problem) => {
                        self.notes.error = Some(Problem::denied(problem));
                        return;
                    }
                }
                if self.drain(snapshot, drain::decide(snapshot, model, (object, pod))) {
                    return;
                }
                self.metadata(snapshot, model, (object, pod), replies);
                let rest = idle::decide(snapshot, model, object, pod, replies);
                self.plan.events.extend(rest.events);
                if let Some(at) = rest.next_check {
                    self.plan.requeue_at(at, Reason::IdleCheck);
                }
                self.first.extend(rest.op);
                self.cpu = rest.cpu;
                self.notes.idle = Some((rest.status, rest.decided_by, rest.state));
            }
        }
    }

    /// Suspends the Sandbox if a drain of its node requires that. Returns whether it does.
    fn drain(&mut self, snapshot: &SandboxSnapshot, drain: Drain) -> bool {
        match drain {
            Drain::Nothing => false,
            Drain::Later => {
                self.plan.requeue_at(saturating_add(snapshot.common.now, DRAIN_AGAIN), Reason::Waiting);
                false
            }
            Drain::Suspend(suspend) => {
                let (op, event) = *suspend;
                self.first.push(op);
                self.plan.results.push(event);
                true
            }
            Drain::Impossible(problem) => {
                let reported = snapshot.sandbox.sandbox().and_then(|s| s.status.drain_problem.as_ref());
                if reported != Some(&problem) {
                    let event = Event::warning(&snapshot.sandbox, Reason::DrainNotSuspended, problem.clone());
                    self.plan.events.push(event);
                }
                self.notes.drain_problem = Some(problem);
                false
            }
        }
    }

    /// Reports a running pod that is not isolated: in the status, and once by an Event.
    fn expose(&mut self, snapshot: &SandboxSnapshot, model: Option<&model::Sandbox>) {
        let Some(problem) = pod::exposed(snapshot, model) else { return };
        let reported = snapshot.sandbox.sandbox().and_then(|s| s.status.isolation.as_ref()?.problem.as_ref());
        if reported != Some(&problem) {
            self.plan.events.push(Event::warning(&snapshot.sandbox, Reason::NotIsolated, problem.clone()));
        }
        self.notes.exposed = Some(problem);
    }

    fn create_pod(&mut self, snapshot: &SandboxSnapshot, model: &model::Sandbox, replies: &[PluginReply]) {
        let decision = pod::verdict(snapshot, model, replies);
        self.notes.decided_by = Some(decision.decided_by);
        self.plan.events.extend(failure_events(&snapshot.sandbox, &decision.plugin_failures));
        match decision.verdict {
            PodVerdict::Create(ops) => self.first.extend(ops),
            PodVerdict::Wait(reason, why) => {
                self.plan.events.push(Event::warning(&snapshot.sandbox, reason, format!("The pod waits: {why}")));
                self.notes.waits_for = Some(why);
            }
            PodVerdict::Refuse(reason, problem) => {
                self.passes(snapshot, Some((reason, problem)));
            }
        }
    }
}

/// A Sandbox that is being deleted writes no status. Its pod stays behind the NetworkPolicy for as long as it exists.
fn terminating(snapshot: &SandboxSnapshot) -> Plan {
    let mut plan = delete_left_behind_pods(snapshot);
    let mut labels = plan.steps.pop().unwrap_or_default();
    metadata::keep_template_labels(snapshot, &mut labels);
    plan.steps.push(labels);
    plan.steps.retain(|step| !step.is_empty());
    plan
}

/// Deletes a pod that was created when its Sandbox was already being deleted in the foreground. If the garbage
/// collector has listed the dependents before, it does not list them again, and the Sandbox would never be deleted.
fn delete_left_behind_pods(snapshot: &SandboxSnapshot) -> Plan {
    let mut plan = Plan::default();
    let sandbox = &snapshot.sandbox;
    let Some(since) = sandbox.meta.deletion_timestamp.filter(|_| sandbox.meta.foreground) else { return plan };
    let left = snapshot.pods.iter().filter(|pod| pod.meta.deletion_timestamp.is_none());
    match time_left(since, COLLECT, snapshot.common.now) {
        None => plan.steps.push(left.map(|pod| Op::delete(pod, Reason::PodLeftBehind)).collect()),
        Some(due) if left.count() > 0 => plan.requeue_at(due, Reason::PodLeftBehind),
        Some(_) => {}
    }
    plan
}

/// Records that somebody touched a warm Sandbox, before the plan or a user undoes the change that shows it.
fn record_touch(snapshot: &SandboxSnapshot, state: Option<&PodState<'_>>) -> Option<Op> {
    let sandbox = &snapshot.sandbox;
    let detached = match state {
        // After a restart, the World does not know that the pod had an owner.
        Some(PodState::Blocked(pod)) => sandbox.meta.in_pool() && left_behind(sandbox, pod),
        Some(_) | None => false,
    };
    let touch = snapshot.touched.as_deref().or(detached.then_some(as_made::DETACHED));
    let touch = touch.filter(|_| !sandbox.meta.edited())?;
    Some(Op::patch(&snapshot.sandbox, Reason::WarmSandboxTouched, as_made::record(touch)))
}

/// The write of the status, unless the status is unchanged or the write can wait.
fn status_op(
    snapshot: &SandboxSnapshot,
    after_status: &SandboxStatus,
    wait_until: Option<Timestamp>,
    plan: &mut Plan,
) -> Option<Op> {
    let before = &snapshot.sandbox.sandbox()?.status;
    let patch = status_patch(&**before, after_status)?;
    let wait_until = wait_until.or_else(|| {
        // The state of a plugin is written together with other changes, or after a while on its own.
        let rest = SandboxStatus { policy_state: before.policy_state.clone(), ..after_status.clone() };
        let written = snapshot.common.status_written.filter(|_| rest == **before);
        written.and_then(|at| time_left(at, STATE_EVERY, snapshot.common.now))
    });
    match wait_until {
        Some(at) if at > snapshot.common.now => {
            plan.requeue_at(at, Reason::StatusChanged);
            None
        }
        Some(_) | None => Some(Op::patch_status(&snapshot.sandbox, patch)),
    }
}

fn expired(snapshot: &SandboxSnapshot, model: &model::Sandbox) -> Plan {
    let sandbox = &snapshot.sandbox;
    let mut plan = Plan::default();
    let Some(before) = sandbox.sandbox().map(|s| &s.status) else { return plan };
    let reported =
        find_condition(&before.conditions, condition::READY).is_some_and(|c| c.reason == reason::SANDBOX_EXPIRED);
    let situation = Situation::Known { model, state: PodState::Expired };
    let exposed = pod::exposed(snapshot, Some(model));
    let status_with = |throttle| {
        let notes = Notes { throttle, exposed, ..Notes::default() };
        status_patch(&**before, &status::status(snapshot, &situation, &notes).0)
    };
    if model.shutdown.policy == ShutdownPolicy::Delete {
        // The status comes first, because finalizers may keep the Sandbox for long. If it cannot be written, the Sandbox
        // is deleted all the same. A user may move the end after the write of the status, so the deletion is not in the
        // same plan. The written status reconciles the Sandbox again, and that plan names the version that it deletes.
        let silent = reported || snapshot.common.refused(Kind::Sandbox).is_some();
        plan.steps.push(vec![match status_with(before.throttle.clone()).filter(|_| !silent) {
            Some(patch) => Op { reason: Reason::Expired, ..Op::patch_status_if_unchanged(sandbox, patch) },
            None => Op::delete_if_unchanged(sandbox, Reason::Expired),
        }]);
        if !reported {
            let note = "Shutdown time reached: deleting the Sandbox";
            plan.results.push(Event::normal(sandbox, Reason::SandboxExpired, note));
        }
        return plan;
    }
    let ours = [&snapshot.service, &snapshot.endpoints].into_iter().flatten().filter(|o| o.is_child_of(sandbox));
    let live = snapshot.pods.iter().chain(ours).filter(|o| o.meta.deletion_timestamp.is_none());
    let mut deletions = Vec::new();
    for object in live {
        match throttle::holds_delete(snapshot, object) {
            Some(at) => plan.requeue_at(at, Reason::Expired),
            None => deletions.push(Op::delete(object, Reason::Expired)),
        }
    }
    plan.steps.push(deletions);
    let Throttling { record, restore, events, results, .. } = throttle::decide(snapshot, Wish::Full);
    plan.events.extend(events);
    plan.results.extend(results);
    if let Some(patch) = status_with(record) {
        plan.steps.push(vec![Op::patch_status(sandbox, patch)]);
        if !reported {
            let note = "Shutdown time reached: stopping the Sandbox";
            plan.events.push(Event::normal(sandbox, Reason::SandboxExpired, note));
        }
    }
    plan.steps.extend(restore.map(|op| vec![op]));
    plan
}
