//! Idle: what may be done with a running Sandbox that nobody uses, asked of the idle policy, and what follows.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::admission::{Chain, PluginFailure};
use crate::api::sandbox::{self as api, IdleStatus};
use crate::api::{PolicyState, ShutdownPolicy};
use crate::decide::ask::{failure_events, first_reply_or_built_in, load_state, save_state};
use crate::model;
use crate::names::annotation;
use crate::object::{Object, Pod, allows_volume_loss};
use crate::plan::{Event, Op, Reason};
use crate::question::{Answer, Hook, IdleAnswer, IdleQuestion, IdleTier, PluginReply, PluginRequest, Question};
use crate::snapshot::SandboxSnapshot;
use crate::time::saturating_add;

/// What idleness comes to.
#[derive(Debug, Default)]
pub(super) struct Idle {
    pub(super) op: Option<Op>,
    pub(super) status: Option<IdleStatus>,
    pub(super) state: Option<PolicyState>,
    pub(super) next_check: Option<Timestamp>,
    pub(super) events: Vec<Event>,
}

/// Which tiers are possible, and why suspending is not if it is not.
struct Tiers {
    possible: Vec<IdleTier>,
    obstacle: Option<String>,
}

pub(super) fn questions(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    object: &Object,
    pod: &Pod,
    answers: &[PluginReply],
) -> Vec<PluginRequest> {
    match ask(snapshot, model, object, pod, answers) {
        Some((Chain::Request(ask), ..)) => vec![*ask],
        Some((Chain::Reply(..) | Chain::Failed(..) | Chain::NoBinding, ..)) | None => vec![],
    }
}

pub(super) fn decide(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    object: &Object,
    pod: &Pod,
    answers: &[PluginReply],
) -> Idle {
    let Some((chain, plugin_failures, tiers)) = ask(snapshot, model, object, pod, answers) else {
        return Idle::default();
    };
    let failures: Vec<Event> = failure_events(&plugin_failures)
        .map(|(reason, note)| Event::about(&snapshot.sandbox, true, reason, note))
        .collect();
    let now = snapshot.common.now;
    let latest = saturating_add(now, snapshot.common.settings.idle_check_at_most);
    let before = snapshot.sandbox.sandbox().map(|s| &s.status);
    let (binding, answer) = match chain {
        Chain::Reply(binding, answer) => (binding, answer),
        Chain::Request(_) | Chain::Failed(..) | Chain::NoBinding => {
            // Nobody can say: it stays awake, and is asked about again.
            let status = IdleStatus {
                tier: Some(api::IdleTier::Awake),
                reason: Some("no idle policy answered: stays awake".to_owned()),
                next_check: None,
            };
            return Idle { status: Some(status), next_check: Some(latest), events: failures, ..Idle::default() };
        }
    };
    let mut idle = Idle {
        state: save_state(binding, answer.state.as_deref(), before.and_then(|s| s.policy_state.as_ref())),
        ..Idle::default()
    };
    let mut reason = answer.reason.clone();
    let mut tier = api::IdleTier::Awake;
    match answer.action {
        None => {
            let asked = answer.next_check.filter(|at| *at > now).unwrap_or(latest).min(latest);
            idle.next_check = Some(asked);
            // Said before it is due, while its user can still do something about it.
            if let Some(why) = tiers.obstacle {
                reason = format!("{reason}; {why}");
            }
        }
        Some(action) if !tiers.possible.contains(&action) => {
            let why = tiers.obstacle.unwrap_or_else(|| "it is not possible for this Sandbox".to_owned());
            reason = format!("{reason}; not put to rest: {why}");
            idle.next_check = Some(latest);
            if before.and_then(|s| s.idle.as_ref()).and_then(|i| i.reason.as_deref()) != Some(reason.as_str()) {
                idle.events.push(Event::about(&snapshot.sandbox, true, Reason::PluginOverruled, reason.clone()));
            }
        }
        Some(IdleTier::Delete) => {
            idle.events.push(Event::about(&snapshot.sandbox, false, Reason::IdleDeleted, format!("Idle: {reason}")));
            idle.op = Some(Op::delete(&snapshot.sandbox, Reason::IdleDeleted));
        }
        // Throttling and hibernating are not offered yet, so they end above; suspending is what is left.
        Some(IdleTier::Suspend | IdleTier::Throttle | IdleTier::Hibernate) => {
            tier = api::IdleTier::Suspend;
            idle.events.push(Event::about(&snapshot.sandbox, false, Reason::IdleSuspended, format!("Idle: {reason}")));
            // Compare-and-swap: a sign of activity that we have not seen yet makes it fail.
            let body = json!({ "spec": { "operatingMode": "Suspended", "replicas": 0 } });
            idle.op = Some(Op::patch_if_unchanged(&snapshot.sandbox, Reason::IdleSuspended, body));
        }
    }
    let next_check = idle.next_check.map(|at| Time(Timestamp::from_second(at.as_second()).unwrap_or(at)));
    let status = IdleStatus { tier: Some(tier), reason: Some(reason), next_check };
    match before.and_then(|s| s.idle.as_ref()).filter(|failure_events| still_holds(failure_events, &status, now)) {
        // Times and numbers in an answer move with every question; what was told holds until it is due.
        Some(failure_events) => {
            if failure_events.next_check != status.next_check {
                idle.next_check = failure_events.next_check.as_ref().map(|at| at.0);
            }
            idle.status = Some(failure_events.clone());
            idle.events.clear();
        }
        None => idle.status = Some(status),
    }
    idle.events.extend(failures);
    idle
}

/// Whether what was told before needs no change yet: as much at rest, and to be asked about no later.
fn still_holds(failure_events: &IdleStatus, now_told: &IdleStatus, now: Timestamp) -> bool {
    let (Some(before), Some(after)) = (&failure_events.next_check, &now_told.next_check) else { return false };
    failure_events.tier == now_told.tier && before.0 > now && before.0 <= after.0
}

type Asked<'a> = (Chain<'a, IdleAnswer>, Vec<PluginFailure>, Tiers);

/// Asks about a Sandbox that has an idle policy, is nobody's warm one, and whose pod is Ready.
fn ask<'a>(
    snapshot: &'a SandboxSnapshot,
    model: &model::Sandbox,
    object: &Object,
    pod: &Pod,
    answers: &[PluginReply],
) -> Option<Asked<'a>> {
    let timeout = model.idle_timeout?;
    if snapshot.sandbox.meta.in_pool() || !pod.ready() {
        return None;
    }
    let tiers = tiers(snapshot, model, pod);
    let (sandbox, common) = (&snapshot.sandbox, &snapshot.common);
    let question = |bindings: &crate::binding::Bindings| {
        let time = |name: &str| sandbox.meta.annotations.get(name).and_then(|at| at.parse::<Timestamp>().ok());
        Question::Idle(Box::new(IdleQuestion {
            namespace: sandbox.key.namespace.to_string(),
            name: sandbox.key.name.to_string(),
            labels: sandbox.meta.labels.clone(),
            idle_timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            created: sandbox.meta.created,
            ready_since: pod.conditions.get("Ready").map(|c| c.last_transition_time.0).or(Some(object.meta.created)),
            // A time ahead of ours counts as now until it has come: awake for too long is better than asleep in use.
            last_activity: time(annotation::LAST_ACTIVITY).map(|at| at.min(common.now)),
            held_until: time(annotation::HELD_UNTIL),
            connections: None,
            cpu_millicores: None,
            tiers: tiers.possible.clone(),
            state: load_state(bindings, sandbox.sandbox().and_then(|s| s.status.policy_state.as_ref())),
            now: common.now,
        }))
    };
    let accept = |answer: &Answer| match answer {
        Answer::Idle(answer) => Ok(answer.clone()),
        Answer::Admission(_) | Answer::RuntimeClass(_) | Answer::PoolSize(_) => Err("not an idle answer".to_owned()),
    };
    let (chain, plugin_failures) =
        first_reply_or_built_in(common, &sandbox.meta.labels, Hook::Idle, answers, question, accept);
    Some((chain, plugin_failures, tiers))
}

/// Suspending is possible where it loses no file; deleting where the user chose it as the end of the Sandbox.
fn tiers(snapshot: &SandboxSnapshot, model: &model::Sandbox, pod: &Pod) -> Tiers {
    let mut possible = Vec::new();
    let lost = &pod.empty_dirs;
    let obstacle = if lost.is_empty() || allows_volume_loss(&snapshot.sandbox.meta.annotations) {
        possible.push(IdleTier::Suspend);
        None
    } else {
        Some(format!(
            "volume {} is an emptyDir, whose files a suspend would lose; give it a volume claim, or set annotation {} to \"true\"",
            lost.join(", "),
            annotation::EPHEMERAL_VOLUMES,
        ))
    };
    if model.shutdown.policy == ShutdownPolicy::Delete {
        possible.push(IdleTier::Delete);
    }
    Tiers { possible, obstacle }
}
