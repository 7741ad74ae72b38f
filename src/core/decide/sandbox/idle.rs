//! The hook `idle`: asks the idle policy about a running Sandbox, and applies the answer.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use paddock_api::names::annotation;
use paddock_api::sandbox::{self as api, IdleStatus};
use paddock_api::{DecidingPlugin, PolicyState, ShutdownPolicy};

use super::cpu_use;
use super::open_connections;
use super::status::first_ready;
use super::suspend;
use super::throttle::{self, Wish};
use crate::admission::{Chain, PluginFailure, idle_check};
use crate::awake::Wishes;
use crate::binding::Binding;
use crate::decide::ask::{failure_events, first_reply_or_built_in, load_state, save_state};
use crate::deciding;
use crate::manifest::PodRevision;
use crate::model;
use crate::object::{LostSource, LostVolume, Object, Pod, VolumeLoss};
use crate::plan::{Event, Op, Reason};
use crate::question::{Answer, Hook, IdleAnswer, IdleQuestion, IdleTier, PluginReply, PluginRequest, Question};
use crate::snapshot::{SandboxSnapshot, StorageClasses};
use crate::time::saturating_add;

/// The result of the hook: an operation, the wish for the CPU of the pod, the status, the plugin that decided it, the
/// plugin state, the next check, and Events.
#[derive(Debug, Default)]
pub(super) struct Idle {
    pub(super) op: Option<Op>,
    pub(super) cpu: Wish,
    pub(super) status: Option<IdleStatus>,
    pub(super) decided_by: Option<DecidingPlugin>,
    pub(super) state: Option<PolicyState>,
    pub(super) next_check: Option<Timestamp>,
    pub(super) events: Vec<Event>,
}

/// The policy's answer about a Sandbox, or the question that is to be asked, and the facts about the Sandbox.
struct Asked<'a> {
    chain: Chain<'a, IdleAnswer>,
    failures: Vec<PluginFailure>,
    tiers: Tiers,
    wishes: Counting,
}

/// The wishes of the Sandbox that count now. At most one of the first two does: the Sandbox keeps running if both could.
struct Counting {
    keep_awake_until: Option<Timestamp>,
    idle_since: Option<Timestamp>,
    /// The time until which a connection through the API server counts as activity.
    held_until: Option<Timestamp>,
    /// The time at which that changes.
    next: Option<Timestamp>,
    problem: Option<String>,
}

impl Counting {
    /// `activity` is the time of the last activity of any kind.
    fn of(wishes: Wishes, snapshot: &SandboxSnapshot, activity: Timestamp) -> Self {
        let common = &snapshot.common;
        let Wishes { keep_awake_until, idle_since, held_until, last_activity: _, errors } = wishes;
        let kept = keep_awake_until.and_then(|until| common.wait_until(until));
        let starts = idle_since.and_then(|since| common.wait_until(since));
        let later = |since: &Timestamp| kept.is_none() && starts.is_none() && *since > activity;
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Self {
            keep_awake_until: keep_awake_until.filter(|_| kept.is_some()),
            idle_since: idle_since.filter(later),
            held_until,
            next: kept.into_iter().chain(starts).min(),
            problem: (!errors.is_empty()).then(|| errors.join("; ")),
        }
    }

    /// The action and the reason of an answer, after the wishes were applied to it.
    fn apply(&self, answer: &IdleAnswer) -> (Option<IdleTier>, String) {
        match (self.keep_awake_until, self.idle_since) {
            (Some(until), _) => {
                (None, format!("the annotation {} keeps it running until {until:.0}", annotation::KEEP_AWAKE_UNTIL))
            }
            (None, Some(since)) => {
                let wish = format!("the annotation {} allows a suspend since {since:.0}", annotation::IDLE_SINCE);
                (answer.action, format!("{wish}; {}", answer.reason))
            }
            (None, None) => (answer.action, answer.reason.clone()),
        }
    }

    /// The fields of the status about the wishes.
    fn status(&self) -> IdleStatus {
        IdleStatus {
            keep_awake_until: self.keep_awake_until.map(in_seconds),
            idle_since: self.idle_since.map(in_seconds),
            problem: self.problem.clone(),
            ..IdleStatus::default()
        }
    }
}

/// The idle tiers that are possible, and the reasons if the Sandbox cannot be suspended or throttled.
struct Tiers {
    possible: Vec<IdleTier>,
    suspend_obstacle: Option<String>,
    throttle_obstacle: Option<String>,
}

pub(super) fn questions(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    object: &Object,
    pod: &Pod,
    replies: &[PluginReply],
) -> Vec<PluginRequest> {
    match ask(snapshot, model, object, pod, replies).map(|asked| asked.chain) {
        Some(Chain::Request(request)) => vec![*request],
        Some(Chain::Reply(..) | Chain::Failed(..) | Chain::NoBinding) | None => vec![],
    }
}

pub(super) fn decide(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    object: &Object,
    pod: &Pod,
    replies: &[PluginReply],
) -> Idle {
    let Some(Asked { chain, failures, tiers, wishes }) = ask(snapshot, model, object, pod, replies) else {
        return Idle::default();
    };
    let failures: Vec<Event> = failure_events(&snapshot.sandbox, &failures).collect();
    let now = snapshot.common.now;
    let latest = saturating_add(now, snapshot.common.settings.idle_check_at_most);
    let latest = wishes.next.map_or(latest, |next| next.min(latest));
    let before = snapshot.sandbox.sandbox().map(|s| &s.status);
    let (binding, answer) = match chain {
        Chain::Reply(binding, answer) => (binding, answer),
        Chain::Request(_) | Chain::Failed(..) | Chain::NoBinding => {
            // No plugin answered, so the Sandbox keeps running, and the policy is asked again later.
            let status = IdleStatus {
                tier: Some(api::IdleTier::Awake),
                reason: Some("no idle policy answered; the Sandbox keeps running".to_owned()),
                ..wishes.status()
            };
            return Idle { status: Some(status), next_check: Some(latest), events: failures, ..Idle::default() };
        }
    };
    let decided_by = deciding::decided_by(binding);
    let decided_before = before.is_some_and(|status| status.plugins.contains(&decided_by));
    let mut idle = Idle {
        decided_by: Some(decided_by),
        state: save_state(binding, answer.state.as_deref(), before.and_then(|s| s.policy_state.as_ref())),
        ..Idle::default()
    };
    let mut asked = idle_check(answer.next_check.and_then(|at| snapshot.common.wait_until(at)), latest);
    let (mut action, mut reason) = wishes.apply(&answer);
    let is_throttled = before.and_then(|s| s.idle.as_ref()?.tier) == Some(api::IdleTier::Throttle);
    // A throttled pod has no CPU to be busy with, and the built-in has no threshold.
    if ends_the_pod(action) && !is_throttled && !binding.built_in && cpu_use::is_awaited(snapshot, object) {
        reason = format!("{reason}; the CPU that it uses is not known yet");
        (action, asked) = (None, saturating_add(now, cpu_use::LOOK_AGAIN));
    }
    // The built-in relies on the records of activity, which the gateways write for open connections.
    if ends_the_pod(action) && !binding.built_in && open_connections::is_awaited(snapshot) {
        reason = format!("{reason}; the number of its open connections is not known yet");
        (action, asked) = (None, saturating_add(now, cpu_use::LOOK_AGAIN));
    }
    let mut tier = api::IdleTier::Awake;
    match action {
        None => {
            idle.next_check = Some(asked);
            // The obstacle is reported before the Sandbox is idle, so that the user has time to remove it.
            if let Some(why) = tiers.suspend_obstacle {
                reason = format!("{reason}; {why}");
            }
        }
        Some(action) if !tiers.possible.contains(&action) => {
            let (not, why) = match action {
                IdleTier::Throttle => ("throttled", tiers.throttle_obstacle),
                IdleTier::Suspend | IdleTier::Hibernate | IdleTier::Delete => ("suspended", tiers.suspend_obstacle),
            };
            let why = why.unwrap_or_else(|| "the action is not possible for this Sandbox".to_owned());
            reason = format!("{reason}; not {not}: {why}");
            idle.next_check = Some(asked);
            if before.and_then(|s| s.idle.as_ref()).and_then(|i| i.reason.as_deref()) != Some(reason.as_str()) {
                idle.events.push(Event::warning(&snapshot.sandbox, Reason::PluginOverruled, reason.clone()));
            }
        }
        Some(IdleTier::Delete) => {
            idle.events.push(Event::normal(&snapshot.sandbox, Reason::IdleDeleted, format!("Idle: {reason}")));
            idle.op = Some(Op::delete_if_unchanged(&snapshot.sandbox, Reason::IdleDeleted));
        }
        Some(IdleTier::Throttle) => {
            tier = api::IdleTier::Throttle;
            idle.cpu = Wish::Throttled;
            // The next time of the schedule is activity, which ends the throttle.
            let scheduled = model.schedule().and_then(|schedule| schedule.next(snapshot.common.passed));
            let ends = scheduled.and_then(|at| snapshot.common.wait_until(at));
            idle.next_check = Some(ends.map_or(asked, |at| at.min(asked)));
            if !is_throttled {
                let note = format!("Idle: {reason}");
                idle.events.push(Event::normal(&snapshot.sandbox, Reason::IdleThrottled, note));
            }
        }
        // The tier Hibernate is not offered yet, so an earlier arm handles it.
        Some(IdleTier::Suspend | IdleTier::Hibernate) => {
            tier = api::IdleTier::Suspend;
            idle.events.push(Event::normal(&snapshot.sandbox, Reason::IdleSuspended, format!("Idle: {reason}")));
            idle.op = Some(suspend::write(snapshot, model, api::SuspendedBy::Idle, Reason::IdleSuspended, None));
        }
    }
    let next_check = idle.next_check.map(in_seconds);
    let status = IdleStatus { tier: Some(tier), reason: Some(reason), next_check, ..wishes.status() };
    let reported = before.and_then(|s| s.idle.as_ref()).filter(|_| decided_before);
    match reported.filter(|reported| still_holds(reported, &status, now)) {
        // Times and numbers in an answer change with every question, so the reported status stays until its check is
        // due.
        Some(reported) => {
            if reported.next_check != status.next_check {
                idle.next_check = reported.next_check.as_ref().map(|at| at.0);
            }
            idle.status = Some(reported.clone());
            idle.events.clear();
        }
        None => idle.status = Some(status),
    }
    idle.events.extend(failures);
    idle
}

/// Whether an action deletes the pod.
fn ends_the_pod(action: Option<IdleTier>) -> bool {
    match action {
        Some(IdleTier::Suspend | IdleTier::Hibernate | IdleTier::Delete) => true,
        Some(IdleTier::Throttle) | None => false,
    }
}

/// A time in a status, which has no fractions of a second when it is read.
fn in_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Whether the reported status needs no update yet: the tier and the wishes are the same, and its next check is not over and
/// not later than the new one.
fn still_holds(reported: &IdleStatus, new: &IdleStatus, now: Timestamp) -> bool {
    let (Some(due), Some(new_due)) = (&reported.next_check, &new.next_check) else { return false };
    fn facts(status: &IdleStatus) -> impl PartialEq {
        (status.tier, status.keep_awake_until.clone(), status.idle_since.clone(), status.problem.clone())
    }
    facts(reported) == facts(new) && due.0 > now && due.0 <= new_due.0
}

/// Asks the idle policy about a Sandbox. The Sandbox must have an `idleTimeout` and a running pod, and it must not be in
/// a pool. The pod need not be Ready, because code in the sandbox can stop its own readiness probe.
fn ask<'a>(
    snapshot: &'a SandboxSnapshot,
    model: &model::Sandbox,
    object: &Object,
    pod: &Pod,
    replies: &[PluginReply],
) -> Option<Asked<'a>> {
    let timeout = model.idle_timeout?;
    if snapshot.sandbox.meta.in_pool() || &*pod.phase != "Running" {
        return None;
    }
    let tiers = tiers(snapshot, model, object, pod);
    let (sandbox, common) = (&snapshot.sandbox, &snapshot.common);
    // A clock that was wrong may have written a time in the future. The pod exists since a time of the API server.
    let first_ready = sandbox.sandbox().and_then(|s| first_ready(&s.status, pod)).filter(|at| *at <= common.now);
    // A user who wants the Sandbox to run at a time does not want it to be suspended just after that time.
    let scheduled = model.schedule().and_then(|schedule| {
        schedule.last(common.passed.checked_sub(timeout).unwrap_or(Timestamp::MIN), common.passed)
    });
    // The two clocks may differ.
    let ready_since = first_ready.unwrap_or(object.meta.created).min(common.passed);
    let wishes = Wishes::of(&sandbox.meta.annotations, &common.settings, common.now);
    let last_activity = wishes.last_activity.map(|at| at.min(common.passed)).max(scheduled);
    let created = sandbox.meta.created;
    let wishes = Counting::of(wishes, snapshot, last_activity.unwrap_or(created).max(ready_since).max(created));
    // The question of plugins has no field for such a wish, so it states an activity that is long enough ago.
    let idle_from = wishes.idle_since.map(|since| since.checked_sub(timeout).unwrap_or(Timestamp::MIN));
    let stated = |at: Timestamp| idle_from.map_or(at, |idle_from| at.min(idle_from));
    let question = |binding: &Binding| {
        Question::Idle(Box::new(IdleQuestion {
            namespace: sandbox.key.namespace.to_string(),
            name: sandbox.key.name.to_string(),
            labels: sandbox.meta.labels.to_map(),
            idle_timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            created: stated(created),
            ready_since: Some(stated(ready_since)),
            last_activity: last_activity.map(stated),
            // The webhook sees the beginning of a session alone, and the wish is later than that.
            held_until: wishes.held_until.filter(|_| idle_from.is_none()),
            // The number may be older than the wish. A connection that is still open is activity, which ends the wish.
            connections: open_connections::open(snapshot, object).filter(|_| idle_from.is_none()),
            cpu_millicores: cpu_use::millicores(snapshot, object),
            tiers: tiers.possible.clone(),
            state: load_state(binding, sandbox.sandbox().and_then(|s| s.status.policy_state.as_ref())),
            now: common.passed,
        }))
    };
    let accept = |answer: &Answer| {
        let Answer::Idle(answer) = answer else { return Err("the answer is not an idle answer".to_owned()) };
        Ok(answer.clone())
    };
    let (chain, failures) =
        first_reply_or_built_in(common, &sandbox.meta.labels, Hook::Idle, replies, question, accept);
    Some(Asked { chain, failures, tiers, wishes })
}

/// A throttle is possible if the CPU of the pod can be changed in place. A suspend is possible if it loses no files. A
/// delete is possible if the shutdown policy of the Sandbox is `Delete`.
fn tiers(snapshot: &SandboxSnapshot, model: &model::Sandbox, object: &Object, pod: &Pod) -> Tiers {
    let mut possible = Vec::new();
    let throttle_obstacle = throttle::obstacle(snapshot, object, pod);
    if throttle_obstacle.is_none() {
        possible.push(IdleTier::Throttle);
    }
    let suspend_obstacle = obstacle(snapshot, model, object, pod);
    if suspend_obstacle.is_none() {
        possible.push(IdleTier::Suspend);
    }
    if model.shutdown.policy == ShutdownPolicy::Delete {
        possible.push(IdleTier::Delete);
    }
    Tiers { possible, suspend_obstacle, throttle_obstacle }
}

/// The volumes whose files a suspend would lose, as a sentence. Volumes that the pod template does not name are not the
/// user's. Another component added them at admission, and makes them again for each pod.
pub(super) fn obstacle(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    object: &Object,
    pod: &Pod,
) -> Option<String> {
    if pod.lost_volumes.is_empty() {
        return None;
    }
    let made_from = PodRevision::of_pod(object);
    let of_template = LazyCell::new(|| -> BTreeSet<String> {
        model.pod.spec.parse().volumes.into_iter().flatten().map(|volume| volume.name).collect()
    });
    let declared = |name: &str| {
        // The template may have changed since the pod was made.
        let when_made = made_from.as_ref().and_then(|revision| revision.declares(name));
        when_made.unwrap_or_else(|| of_template.contains(name))
    };
    let allowed = VolumeLoss::of(&snapshot.sandbox.meta.annotations);
    let may_be_lost = |volume: &LostVolume| !declared(&volume.name) || allowed.allows(&volume.name);
    let lost: Vec<_> = pod.lost_volumes.iter().filter(|volume| !may_be_lost(volume)).collect();
    if lost.is_empty() {
        return None;
    }
    let volumes: Vec<String> =
        lost.iter().map(|volume| format!("volume {} is {}", volume.name, volume.source.described())).collect();
    let dirs = lost.iter().any(|volume| volume.source == LostSource::EmptyDir);
    let why = match snapshot.storage_classes {
        StorageClasses::None if dirs => " (the operator sees no StorageClass that could provide a volume claim)",
        StorageClasses::None | StorageClasses::WithoutDefault | StorageClasses::WithDefault => "",
    };
    Some(format!(
        "{}{why}, and a suspend would lose its files; use a volume claim, or list the volume in the annotation {}",
        volumes.join(", "),
        annotation::EPHEMERAL_VOLUMES,
    ))
}
