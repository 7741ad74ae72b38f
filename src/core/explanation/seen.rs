//! What the operator sees of an object: sentences about its snapshot and its status.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_api::OperatingMode;
use paddock_api::names::condition as types;

use super::words::{count, duration, list, when};
use crate::conditions::is_true;
use crate::model::{self, ClaimSource, FieldErrors, PoolChoice, PoolSize, desired_mode};
use crate::object::Object;
use crate::snapshot::{ClaimSnapshot, Common, PoolSnapshot, SandboxSnapshot, Snapshot, TemplateSnapshot};
use crate::text::truncate;

/// The longest message of a condition that is shown, in characters.
const MESSAGE_CHARS: usize = 1024;

/// Sentences about the snapshot of an object.
#[must_use]
pub fn seen(snapshot: &Snapshot) -> Vec<String> {
    match snapshot {
        Snapshot::Absent(_) => vec!["The operator sees no such object.".to_owned()],
        Snapshot::Terminating(_) => {
            vec!["Its namespace is terminating, so the operator decides nothing.".to_owned()]
        }
        Snapshot::Observed(_) => {
            vec!["The operator decides about such an object only together with its Sandbox.".to_owned()]
        }
        Snapshot::Sandbox(snapshot) => sandbox(snapshot),
        Snapshot::Template(snapshot) => template(snapshot),
        Snapshot::Pool(snapshot) => pool(snapshot),
        Snapshot::Claim(snapshot) => claim(snapshot),
    }
}

/// Sentences about the status of the object of a snapshot.
#[must_use]
pub fn status(snapshot: &Snapshot) -> Vec<String> {
    let conditions = match snapshot {
        Snapshot::Sandbox(snapshot) => snapshot.sandbox.sandbox().map(|parsed| &parsed.status.conditions),
        Snapshot::Pool(snapshot) => snapshot.pool.pool().map(|parsed| &parsed.status.conditions),
        Snapshot::Claim(snapshot) => snapshot.claim.claim().map(|parsed| &parsed.status.conditions),
        Snapshot::Absent(_) | Snapshot::Terminating(_) | Snapshot::Observed(_) | Snapshot::Template(_) => None,
    };
    conditions.into_iter().flatten().map(condition).collect()
}

/// A sentence about a condition.
#[must_use]
pub fn condition(condition: &Condition) -> String {
    let Condition { type_, status, reason, message, last_transition_time: since, .. } = condition;
    // The message may have the text of a plugin or of another client, and a terminal shows it.
    let message = if message.is_empty() { String::new() } else { format!(": {}", truncate(message, MESSAGE_CHARS)) };
    format!("{type_} is {status} since {} ({reason}){message}", when(since.0))
}

fn object(object: &Object, common: &Common) -> Vec<String> {
    let mut lines = vec![format!("It was created at {}.", when(object.meta.created))];
    lines.extend(object.meta.deletion_timestamp.map(|at| format!("It has been terminating since {}.", when(at))));
    if !common.namespace_known {
        lines.push("Its namespace is not known yet, so it may require isolation.".to_owned());
    } else if common.namespace_isolates {
        lines.push("Its namespace requires isolation.".to_owned());
    }
    for (key, refusal) in &common.refusals {
        let (kind, at) = (key.kind.name(), when(refusal.at));
        lines.push(format!("The API server refused a write of {kind} {} at {at}: {}", key.name, refusal.message));
    }
    lines
}

fn invalid(errors: &FieldErrors) -> String {
    format!("Its spec is not valid: {errors}")
}

fn sandbox(snapshot: &SandboxSnapshot) -> Vec<String> {
    let SandboxSnapshot { sandbox, common, .. } = snapshot;
    let mut lines = object(sandbox, common);
    if let Some(parsed) = sandbox.sandbox() {
        match &parsed.spec {
            Err(errors) => lines.push(invalid(errors)),
            Ok(model) => {
                let mode = desired_mode(model.operating_mode, model.replicas, parsed.status.mode).mode;
                lines.push(match (mode, parsed.status.suspended_by) {
                    (OperatingMode::Running, _) => "It should run.".to_owned(),
                    (OperatingMode::Suspended, None) => "It should be suspended.".to_owned(),
                    (OperatingMode::Suspended, Some(by)) => format!("It should be suspended, by {by:?}."),
                });
                let idle = model.idle_timeout.map(duration);
                lines.extend(idle.map(|idle| format!("It counts as idle after {idle} without activity.")));
            }
        }
    }
    lines.extend(snapshot.claim.iter().map(|of| format!("SandboxClaim {} has it.", of.claim.key.name)));
    if sandbox.meta.in_pool() {
        let pool = sandbox.meta.controller.as_ref().map_or("", |owner| &*owner.name);
        lines.push(format!("SandboxWarmPool {pool} keeps it warm, and no claim has taken it."));
    }
    if snapshot.pods.is_empty() {
        lines.push("It has no pod.".to_owned());
    }
    lines.extend(snapshot.pods.iter().map(|pod| self::pod(pod)));
    let other = snapshot.other_pod.iter();
    lines.extend(other.map(|pod| format!("Pod {} has its name and does not belong to it.", pod.key.name)));
    lines.extend(snapshot.touched.iter().map(|what| format!("Somebody changed it while it was warm: {what}")));
    lines.extend(snapshot.cordoned.map(|at| format!("The node of its pod was cordoned at {}.", when(at))));
    lines.extend(snapshot.network_policy.problem().map(|problem| format!("Its NetworkPolicy: {problem}")));
    lines
}

fn pod(object: &Object) -> String {
    let name = &object.key.name;
    let Some(pod) = object.pod() else { return format!("Pod {name} belongs to somebody else.") };
    let ready = if pod.ready() { "Ready" } else { "not Ready" };
    let node = pod.node.as_ref().map_or_else(|| "without a node".to_owned(), |node| format!("on node {node}"));
    let terminating = if object.meta.deletion_timestamp.is_some() { ", and terminating" } else { "" };
    let why = pod.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("Pod {name} is {}{why}, {ready}, {node}{terminating}.", pod.phase)
}

fn template(snapshot: &TemplateSnapshot) -> Vec<String> {
    let TemplateSnapshot { template, network_policy, common, .. } = snapshot;
    let Some(template) = template else {
        return vec!["It was deleted, and Sandboxes or a NetworkPolicy of it exist.".to_owned()];
    };
    let mut lines = object(template, common);
    if let Some(Err(errors)) = template.template().map(|parsed| &parsed.spec) {
        lines.push(invalid(errors));
    }
    lines.push(match network_policy {
        Some(policy) => format!("NetworkPolicy {} exists.", policy.key.name),
        None => "It has no NetworkPolicy.".to_owned(),
    });
    lines
}

fn pool(snapshot: &PoolSnapshot) -> Vec<String> {
    let PoolSnapshot { pool, members, common, .. } = snapshot;
    let mut lines = object(pool, common);
    let model = pool.pool().map(|parsed| &parsed.spec);
    match model {
        Some(Ok(model)) => {
            lines.push(match model.size {
                PoolSize::Fixed(size) => {
                    format!("It should keep {} warm.", count(size as usize, "Sandbox", "Sandboxes"))
                }
                PoolSize::Between { min, max } => {
                    format!("It should keep between {min} and {max} Sandboxes warm, and a plugin decides how many.")
                }
            });
            if snapshot.template.is_none() {
                lines.push(format!("Its SandboxTemplate {} does not exist.", model.template));
            }
        }
        Some(Err(errors)) => lines.push(invalid(errors)),
        None => {}
    }
    let is_ready = |object: &Object| object.sandbox().is_some_and(|s| is_true(&s.status.conditions, types::READY));
    let staying = members.iter().filter(|m| !m.leaving && m.sandbox.meta.deletion_timestamp.is_none());
    let ready = staying.clone().filter(|m| is_ready(&m.sandbox)).count();
    let staying = staying.count();
    let (other, leaving) = (staying - ready, members.len() - staying);
    let all = count(members.len(), "Sandbox", "Sandboxes");
    lines.push(format!(
        "It has {all}: {ready} Ready, {other} not Ready, and {leaving} that a claim takes or that are deleted."
    ));
    let touched = members.iter().filter(|member| member.touched.is_some()).map(|member| &*member.sandbox.key.name);
    let touched: Vec<&str> = touched.collect();
    if !touched.is_empty() {
        lines.push(format!("No claim gets these of its Sandboxes, because somebody changed them: {}.", list(touched)));
    }
    let claimed = count(snapshot.claimed as usize, "Sandbox", "Sandboxes");
    lines.push(format!("Claims have {claimed} that it made."));
    let (seconds, buckets) = (common.settings.arrival_bucket_seconds, common.settings.arrival_buckets);
    let arrivals: usize = snapshot.demand.arrivals(common.now, seconds, buckets).iter().map(|n| *n as usize).sum();
    let (hits, misses) = snapshot.demand.hits_and_misses(common.now, seconds, buckets);
    let window = Duration::from_secs(u64::from(seconds)).saturating_mul(u32::try_from(buckets).unwrap_or(1));
    let window = duration(window);
    lines.push(match arrivals {
        0 => format!("No claim arrived in the last {window}."),
        more => format!(
            "In the last {window}, {} arrived. {hits} found a Ready Sandbox, and {misses} did not.",
            count(more, "claim", "claims")
        ),
    });
    lines.extend(snapshot.network_policy.problem().map(|problem| format!("Its NetworkPolicy: {problem}")));
    lines
}

fn claim(snapshot: &ClaimSnapshot) -> Vec<String> {
    let ClaimSnapshot { claim, owned, common, .. } = snapshot;
    let mut lines = object(claim, common);
    match claim.claim().map(|parsed| &parsed.spec) {
        Some(Ok(model)) => {
            lines.push(source(model));
            if let Some(pool) = model.source.named_pool()
                && snapshot.named_pool.is_none()
            {
                lines.push(format!("SandboxWarmPool {pool} does not exist."));
            }
        }
        Some(Err(errors)) => lines.push(invalid(errors)),
        None => {}
    }
    if let Some(template) = &snapshot.template_key
        && snapshot.template.is_none()
    {
        lines.push(format!("SandboxTemplate {} does not exist.", template.name));
    }
    let name = |object: &Arc<Object>| object.key.name.to_string();
    match owned.as_slice() {
        [] => {
            lines.push("It has no Sandbox yet.".to_owned());
            lines.push(match &snapshot.candidate {
                Some((sandbox, _)) => format!("Sandbox {} is warm, and the claim may take it.", name(sandbox)),
                None => "It sees no warm Sandbox that it may take.".to_owned(),
            });
        }
        [sandbox] => lines.push(format!("It has Sandbox {}.", name(sandbox))),
        more => lines.push(format!("It has more than one Sandbox: {}.", list(more.iter().map(name)))),
    }
    lines.extend(snapshot.pod.iter().map(|pod| self::pod(pod)));
    let stale = snapshot.stale.iter();
    lines.extend(stale.map(|sandbox| format!("Sandbox {} is older than the template.", name(sandbox))));
    let pending = snapshot.pending_take.iter();
    lines.extend(pending.map(|take| format!("The take of Sandbox {} has no reply yet.", name(&take.sandbox))));
    let refused = snapshot.refused_take.iter();
    lines.extend(
        refused.map(|(key, refusal)| {
            format!("The API server refused the take of Sandbox {}: {}", key.name, refusal.message)
        }),
    );
    lines.extend(snapshot.network_policy.problem().map(|problem| format!("The NetworkPolicy: {problem}")));
    lines
}

fn source(claim: &model::Claim) -> String {
    match &claim.source {
        ClaimSource::Pool(pool) => format!("It asks for a Sandbox of SandboxWarmPool {pool}."),
        ClaimSource::Template { name, pools } => {
            let pools = match pools {
                PoolChoice::Any => "any pool of it".to_owned(),
                PoolChoice::NoPool => "no pool".to_owned(),
                PoolChoice::Named(pool) => format!("SandboxWarmPool {pool}"),
            };
            format!("It asks for a Sandbox of SandboxTemplate {name}, from {pools}.")
        }
    }
}
