//! Decides about a claim: it gets one Sandbox of its own until it ends. It takes a warm Sandbox if there is one, and
//! otherwise a Sandbox is created for it.
//!
//! The only commit point is the controller reference of the Sandbox, which a compare-and-swap changes. The annotation
//! of the claim is a hint for the next attempt after a crash. `status.sandbox` is written last and is final.

mod policy;
mod report;

use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::claim_data::{NONE, delivered_by};
use paddock_api::kind::Kind;
use paddock_api::names::{annotation, condition, label, message, reason};
use paddock_api::{ClaimShutdownPolicy, DecidingPlugin, SandboxClaimStatus};
use serde_json::{Value, json};

use self::report::{Report, has_expired, write_status};
use super::adopt::adoptable;
use super::ask::{ASK_AGAIN, failure_events, report_denial};
use super::review;
use crate::conditions::{find_condition, is_true};
use crate::deciding;
use crate::manifest::{self, MetadataChange, Origin};
use crate::model::{self, FieldErrors, VolumeClaim};
use crate::object::Object;
use crate::plan::{Action, ClaimStart, Event, Op, Plan, Reason, StartKind};
use crate::question::{PluginReply, PluginRequest};
use crate::snapshot::ClaimSnapshot;
use crate::time::saturating_add;

pub(super) fn questions(snapshot: &ClaimSnapshot, replies: &[PluginReply]) -> Vec<PluginRequest> {
    let claim = &snapshot.claim;
    let live = claim.claim().filter(|_| claim.meta.deletion_timestamp.is_none());
    let Some((Ok(model), status)) = live.map(|parsed| (&parsed.spec, &parsed.status)) else { return Vec::new() };
    let has_sandbox = !snapshot.owned.is_empty() || status.sandbox.as_ref().is_some_and(|s| s.name.is_some());
    let has_ended =
        end_time(model, status).is_some_and(|(_, at)| snapshot.common.ends(at, has_expired(status)).is_none());
    if has_ended {
        return Vec::new();
    }
    if has_sandbox {
        let own = own_sandbox(snapshot, status).0.filter(|_| policy::has_plugins(snapshot));
        let change = own.and_then(|own| Some((own, metadata_change(snapshot, model, own)?.ok()?)));
        let reviews = change.map(|(own, change)| policy::change_reviews(snapshot, model, (own, &change)));
        return review::questions(&reviews.unwrap_or_default(), replies);
    }
    // A take that was sent has been reviewed.
    if snapshot.pending_take.is_some() {
        return Vec::new();
    }
    review::questions(&policy::reviews(snapshot, model, takeable(snapshot, model)), replies)
}

pub(super) fn decide(snapshot: &ClaimSnapshot, replies: &[PluginReply]) -> Plan {
    let claim = &snapshot.claim;
    let mut plan = Plan::default();
    let Some(parsed) = claim.claim().filter(|_| claim.meta.deletion_timestamp.is_none()) else { return plan };
    let model = match &parsed.spec {
        Ok(model) => &**model,
        Err(invalid) => {
            let metadata = invalid.as_slice().iter().any(|e| e.path.starts_with("spec.additionalPodMetadata"));
            let reason = if metadata { reason::INVALID_METADATA } else { reason::RECONCILER_ERROR };
            write_status(snapshot, &parsed.status, Report::problem(reason, invalid.to_string()), &mut plan);
            return plan;
        }
    };
    let (own, surplus) = own_sandbox(snapshot, &parsed.status);
    if let Some((why, at)) = end_time(model, &parsed.status) {
        match snapshot.common.ends(at, has_expired(&parsed.status)) {
            None => return expire(snapshot, model, &parsed.status, why),
            Some(at) => plan.requeue_at(at, why),
        }
    }
    let extra = surplus
        .iter()
        .filter(|s| s.meta.deletion_timestamp.is_none())
        .map(|s| Op::delete(s, Reason::ClaimSurplus))
        .collect();
    plan.steps.push(extra);
    let named = parsed.status.sandbox.as_ref().is_some_and(|s| s.name.is_some());
    match own {
        Some(sandbox) => {
            forward_bound_sandbox(snapshot, model, (&parsed.status, replies), sandbox, &mut plan);
        }
        // The claim has taken this Sandbox, so the snapshot is older than the take. The watch will deliver the new
        // version.
        None if snapshot.committed.as_ref().is_some_and(|s| s.meta.in_pool()) => {}
        None if named => {
            let report = if has_expired(&parsed.status) {
                // The end of the claim was moved to a later time, but the Sandbox of a claim is final.
                let message = "the claim has ended, and its Sandbox was deleted: create another claim".to_owned();
                Report::problem(reason::CLAIM_EXPIRED, message)
            } else {
                Report::problem(reason::SANDBOX_MISSING, message::SANDBOX_MISSING.to_owned())
            };
            write_status(snapshot, &parsed.status, report, &mut plan);
        }
        None => bind(snapshot, model, &parsed.status, replies, &mut plan),
    }
    plan
}

/// The Sandbox that the claim keeps, and the surplus ones.
fn own_sandbox<'a>(snapshot: &'a ClaimSnapshot, before: &SandboxClaimStatus) -> (Option<&'a Object>, Vec<&'a Object>) {
    let named = before.sandbox.as_ref().and_then(|s| s.name.as_deref());
    let reserved = snapshot.claim.meta.annotations.get(annotation::SANDBOX_NAME);
    let mut owned: Vec<&Object> = snapshot.owned.iter().map(|o| &**o).collect();
    owned.sort_by_key(|o| {
        let name = Some(&*o.key.name);
        (name != named, name != reserved, o.meta.created, o.key.name.clone())
    });
    let final_one_is_missing = named.is_some() && owned.first().is_some_and(|o| Some(&*o.key.name) != named);
    let mut owned = owned.into_iter();
    let own = if final_one_is_missing { None } else { owned.next() };
    (own, owned.collect())
}

/// The reason and the time of the claim's end, if it has one.
fn end_time(model: &model::Claim, before: &SandboxClaimStatus) -> Option<(Reason, Timestamp)> {
    let finished = find_condition(&before.conditions, condition::FINISHED).filter(|c| c.status == "True");
    let by_ttl = finished
        .zip(model.end.after_finished)
        .map(|(c, ttl)| (Reason::TtlPassed, saturating_add(c.last_transition_time.0, ttl)));
    let by_time = model.end.at.map(|at| (Reason::Expired, at));
    [by_time, by_ttl].into_iter().flatten().min_by_key(|(_, at)| *at)
}

/// Deletes the claim or its Sandboxes at the end of the claim, according to the shutdown policy.
fn expire(snapshot: &ClaimSnapshot, model: &model::Claim, before: &SandboxClaimStatus, why: Reason) -> Plan {
    let claim = &snapshot.claim;
    let mut plan = Plan::default();
    let mut report = Report::problem(reason::CLAIM_EXPIRED, message::CLAIM_EXPIRED.to_owned());
    report.finished = is_true(&before.conditions, condition::FINISHED);
    match model.end.policy {
        ClaimShutdownPolicy::Delete | ClaimShutdownPolicy::DeleteForeground => {
            // The status comes first, because the deletion may take long. If it cannot be written, the claim is deleted all
            // the same. A user may move the end after the write of the status, so the deletion is not in the same plan.
            // The written status reconciles the claim again, and that plan names the version that it deletes.
            if !has_expired(before) && snapshot.common.refused(claim.key.kind).is_none() {
                write_status(snapshot, before, report, &mut plan);
                plan.steps.iter_mut().flatten().for_each(|op| op.reason = why);
                return plan;
            }
            let foreground = model.end.policy == ClaimShutdownPolicy::DeleteForeground;
            let resource_version = Some(claim.meta.resource_version.to_string());
            let action = Action::Delete { uid: claim.meta.uid.to_string(), resource_version, foreground };
            plan.steps.push(vec![Op { key: claim.key.clone(), reason: why, action }]);
        }
        ClaimShutdownPolicy::Retain => {
            let deletions: Vec<Op> = snapshot
                .owned
                .iter()
                .filter(|s| s.meta.deletion_timestamp.is_none())
                .map(|s| Op::delete(s, why))
                .collect();
            plan.steps.push(deletions);
            write_status(snapshot, before, report, &mut plan);
            if snapshot.common.refused(claim.key.kind).is_none() {
                // The status is written only if nobody has moved the end, and nothing is deleted without it.
                plan.status_first(0);
            }
        }
    }
    plan
}

/// Decides about a claim that has its Sandbox: completes its annotations, propagates a change of its metadata, and
/// forwards the status of the Sandbox.
fn forward_bound_sandbox(
    snapshot: &ClaimSnapshot,
    model: &model::Claim,
    (before, replies): (&SandboxClaimStatus, &[PluginReply]),
    sandbox: &Object,
    plan: &mut Plan,
) {
    let warm = sandbox.meta.labels.get(label::LAUNCH_TYPE).is_some_and(|t| t == label::LAUNCH_WARM);
    let done = plan.steps.len();
    let mut ops: Vec<Op> = annotate(snapshot, warm.then_some(&*sandbox.key.name)).into_iter().collect();
    let refused = match metadata_change(snapshot, model, sandbox) {
        None => None,
        Some(Err(errors)) => Some(Report::problem(reason::INVALID_METADATA, errors.to_string())),
        Some(Ok(_)) if policy::awaits_namespace(snapshot) => {
            // The watch will deliver the labels of the namespace soon.
            plan.requeue_at(saturating_add(snapshot.common.now, ASK_AGAIN), Reason::Waiting);
            None
        }
        Some(Ok(change)) => {
            let reviews = policy::change_reviews(snapshot, model, (sandbox, &change));
            let reviewed = review::outcome(&reviews, replies);
            if reviewed.denial.is_none() {
                plan.events.extend(failure_events(&snapshot.claim, &reviewed.plugin_failures));
                ops.push(Op::patch(sandbox, Reason::MetadataChanged, change.patch));
            }
            reviewed.denial.map(|denial| denied(snapshot, denial, plan))
        }
    };
    plan.steps.push(ops);
    if let Some(problem) = refused {
        let Report { sandbox, plugins, .. } = Report::forwarded(sandbox, &[]);
        write_status(snapshot, before, Report { sandbox, plugins, ..problem }, plan);
        return;
    }
    forward_status(snapshot, before, sandbox, plan);
    if snapshot.common.refused(snapshot.claim.key.kind).is_some() {
        plan.status_first(done);
    }
}

/// The change of the labels and annotations that the claim adds to its Sandbox, or the errors of the additions.
fn metadata_change(
    snapshot: &ClaimSnapshot,
    model: &model::Claim,
    sandbox: &Object,
) -> Option<Result<MetadataChange, FieldErrors>> {
    let change = manifest::metadata_change(sandbox, model).filter(|_| sandbox.meta.deletion_timestamp.is_none())?;
    let checked = model::check_claim_metadata(&change.additions, &change.base, &snapshot.common.settings);
    Some(checked.map(|_| change))
}

/// Forwards the status of the claim's Sandbox to the status of the claim.
fn forward_status(snapshot: &ClaimSnapshot, before: &SandboxClaimStatus, sandbox: &Object, plan: &mut Plan) {
    let report = Report::forwarded(sandbox, &[]);
    let report = if sandbox.meta.deletion_timestamp.is_some() {
        let deleting =
            Report::problem(reason::SANDBOX_NOT_READY, "the Sandbox of this claim is being deleted".to_owned());
        Report { sandbox: report.sandbox, plugins: report.plugins, ..deleting }
    } else {
        let brought = sandbox.meta.annotations.contains_key(annotation::CLAIM_DATA_DIGEST);
        let announced = if brought { delivered_by(&snapshot.claim.meta.uid) } else { NONE.to_owned() };
        let in_pod = snapshot.pod.as_ref().and_then(|pod| pod.meta.annotations.get(annotation::CLAIM_DATA));
        if in_pod == Some(&announced) { report } else { report.before_announcement(sandbox, brought) }
    };
    write_status(snapshot, before, report, plan);
}

/// Decides about a claim without a Sandbox: takes a warm one, or starts cold.
fn bind(
    snapshot: &ClaimSnapshot,
    model: &model::Claim,
    before: &SandboxClaimStatus,
    replies: &[PluginReply],
    plan: &mut Plan,
) {
    if let Some(pending_take) = &snapshot.pending_take {
        // The Sandbox belongs to this claim, or it is unchanged. To take it again does no harm and gets a reply. To
        // take another one could give the claim two Sandboxes.
        if pending_take.outdated {
            plan.requeue_at(pending_take.until, Reason::Waiting);
        } else {
            // The first attempt has recorded the plugins.
            take(snapshot, model, before, (&pending_take.sandbox, &[]), plan);
        }
        return;
    }
    let mut fail =
        |reason: &str, message: String| write_status(snapshot, before, Report::problem(reason, message), plan);
    let template = match (model.source.named_pool(), &snapshot.named_pool, &snapshot.template) {
        (Some(pool), None, _) => Err((reason::WARM_POOL_NOT_FOUND, format!("SandboxWarmPool \"{pool}\" not found"))),
        (_, _, Some(template)) => Ok(template),
        (_, _, None) => {
            let name = snapshot.template_key.as_ref().map(|key| format!("\"{}\"", key.name));
            let name = name.unwrap_or_else(|| "of the pool".to_owned());
            Err((reason::TEMPLATE_NOT_FOUND, format!("SandboxTemplate {name} not found")))
        }
    };
    let template = match template {
        Ok(template) => template,
        Err((missing, message)) => {
            // Clients delete a claim for which something is missing. They show its user what is wrong with its metadata.
            let checked = model::check_claim_metadata(model, &model::Pod::default(), &snapshot.common.settings);
            return match checked {
                Ok(()) => fail(missing, message),
                Err(errors) => fail(reason::INVALID_METADATA, errors.to_string()),
            };
        }
    };
    let of_template = match template.template().map(|t| &t.spec) {
        Some(Ok(of_template)) => &**of_template,
        Some(Err(invalid)) => {
            return fail(
                reason::RECONCILER_ERROR,
                format!("SandboxTemplate {} is not valid: {invalid}", template.key.name),
            );
        }
        None => return,
    };
    if let Err(errors) = model::check_claim_metadata(model, &of_template.pod, &snapshot.common.settings) {
        return fail(reason::INVALID_METADATA, errors.to_string());
    }
    if let Some(why) = of_template.lacks(&snapshot.common.settings) {
        let name = &template.key.name;
        return fail(reason::RECONCILER_ERROR, format!("SandboxTemplate {name} cannot be used: {why}"));
    }
    if let Err(errors) = model::check_claim_data(model, of_template, &template.key.name) {
        return fail(reason::CLAIM_DATA_REJECTED, errors.to_string());
    }
    if let Err(problem) = model::check_env(model, of_template) {
        return fail(reason::ENV_VARS_INJECTION_REJECTED, problem);
    }
    let volume_claims = match model::merged_volume_claims(model, of_template, &snapshot.common.settings) {
        Ok(claims) => claims,
        Err(problem) => return fail(reason::VOLUME_CLAIM_TEMPLATES_ERROR, problem),
    };
    let Some(decided_by) = allowed_by_plugins(snapshot, model, (before, replies), plan) else { return };
    if let Some(sandbox) = takeable(snapshot, model) {
        return take(snapshot, model, before, (sandbox, &decided_by), plan);
    }
    let start = ColdStart { template, of_template, volume_claims, decided_by };
    start_cold(snapshot, model, before, &start, plan);
}

/// The warm Sandbox that the claim takes. If the API server refused a take for good, it may refuse the next one too, so
/// a Sandbox is created.
fn takeable<'a>(snapshot: &'a ClaimSnapshot, model: &model::Claim) -> Option<&'a Object> {
    let of_template = snapshot.template.as_ref()?.template()?.spec.as_ref().ok()?;
    let may_take = model.can_use_warm(of_template) && snapshot.refused_take.is_none();
    snapshot.candidate.as_ref().filter(|_| may_take).map(|(sandbox, _)| &**sandbox)
}

/// The plugins of users that allow that the claim gets a Sandbox, or `None` if one denies it. A denial is reported in the
/// status of the claim and by an Event. It ends when the claim, the warm Sandbox or the policy changes.
fn allowed_by_plugins(
    snapshot: &ClaimSnapshot,
    model: &model::Claim,
    (before, replies): (&SandboxClaimStatus, &[PluginReply]),
    plan: &mut Plan,
) -> Option<Vec<DecidingPlugin>> {
    let claim = &snapshot.claim;
    if policy::awaits_namespace(snapshot) {
        // The watch will deliver the labels of the namespace soon.
        plan.requeue_at(saturating_add(snapshot.common.now, ASK_AGAIN), Reason::Waiting);
        return None;
    }
    let reviewed = review::outcome(&policy::reviews(snapshot, model, takeable(snapshot, model)), replies);
    let Some(denial) = reviewed.denial else {
        plan.events.extend(failure_events(claim, &reviewed.plugin_failures));
        return Some(reviewed.decided_by);
    };
    let report = Report { plugins: Some(Arc::new(reviewed.decided_by)), ..denied(snapshot, denial, plan) };
    write_status(snapshot, before, report, plan);
    None
}

/// The report of a denial, which is also sent as an Event.
fn denied(snapshot: &ClaimSnapshot, (reason, problem): (Reason, String), plan: &mut Plan) -> Report {
    report_denial(&snapshot.common, &snapshot.claim, (reason, &problem), plan);
    Report::problem(reason::POLICY_DENIED, problem)
}

/// Takes a warm Sandbox: one step writes the reservation annotation and the commit, and the next one the status of the
/// claim.
fn take(
    snapshot: &ClaimSnapshot,
    model: &model::Claim,
    before: &SandboxClaimStatus,
    (sandbox, decided_by): (&Object, &[DecidingPlugin]),
    plan: &mut Plan,
) {
    let claim = &snapshot.claim;
    if let Some(problem) = snapshot.network_policy.problem() {
        return wait_for_policy(snapshot, before, problem, plan);
    }
    let mut ops: Vec<Op> = annotate(snapshot, Some(&sandbox.key.name)).into_iter().collect();
    let mut body = manifest::adopted_by_claim(claim, model, (sandbox, snapshot.marker), &snapshot.common);
    deciding::annotate(&mut body, annotation::CLAIM_PLUGINS, decided_by);
    ops.push(Op::patch_if_unchanged(sandbox, Reason::Claimed, body));
    plan.steps.push(ops);
    plan.start = Some(ClaimStart { kind: StartKind::Warm, pools: sandbox.owner_key().into_iter().collect() });
    let report = Report::forwarded(sandbox, decided_by);
    write_status(snapshot, before, report.before_announcement(sandbox, model.data.is_some()), plan);
}

/// A Sandbox outside of its NetworkPolicy is not handed out. A change of the policy reconciles the claim again.
fn wait_for_policy(snapshot: &ClaimSnapshot, before: &SandboxClaimStatus, problem: &str, plan: &mut Plan) {
    let again = saturating_add(snapshot.common.now, snapshot.common.settings.pool_check_every);
    plan.requeue_at(again, Reason::NetworkPolicyNotReady);
    let problem = Report::problem(reason::NETWORK_POLICY_NOT_READY, problem.to_owned());
    write_status(snapshot, before, problem, plan);
}

/// The parts of a Sandbox that is created for a claim.
struct ColdStart<'a> {
    template: &'a Object,
    of_template: &'a model::Template,
    volume_claims: Vec<VolumeClaim>,
    /// The plugins that allowed it.
    decided_by: Vec<DecidingPlugin>,
}

/// Creates a Sandbox for the claim. The creation itself is the commit.
fn start_cold(
    snapshot: &ClaimSnapshot,
    model: &model::Claim,
    before: &SandboxClaimStatus,
    start: &ColdStart<'_>,
    plan: &mut Plan,
) {
    let ColdStart { template, of_template, volume_claims, decided_by } = start;
    let claim = &snapshot.claim;
    let misnamed = of_template.service.is_made().then(|| model::names::dns_label(&claim.key.name)).flatten();
    if let Some(problem) = misnamed {
        let message = format!("a Sandbox made for the claim and its Service would have the claim's name: {problem}");
        write_status(snapshot, before, Report::problem(reason::INVALID_CONFIGURATION, message), plan);
        return;
    }
    if let Some(existing) = &snapshot.same_name {
        // Its spec does not say what its pods have run, and who has written to its volumes.
        let mut message = format!("Sandbox {} exists and does not belong to this claim", existing.key.name);
        if adoptable(existing) {
            message += ", and a claim takes over no Sandbox that it did not make: delete the Sandbox, or create a claim \
                        of another name";
        }
        write_status(snapshot, before, Report::problem(reason::ADOPTION_CONFLICT, message), plan);
        // The claim could take a warm Sandbox instead, but no event reports that there is one.
        plan.requeue_at(
            saturating_add(snapshot.common.now, snapshot.common.settings.pool_check_every),
            Reason::Waiting,
        );
        return;
    }
    let pool =
        model.source.named_pool().or_else(|| snapshot.stale.as_ref()?.meta.annotations.get(annotation::WARM_POOL));
    let done = plan.steps.len();
    let mut body = manifest::cold_sandbox(
        Origin::Claim(claim, pool, snapshot.marker),
        template,
        of_template,
        model,
        volume_claims,
    );
    deciding::annotate(&mut body, annotation::CLAIM_PLUGINS, decided_by);
    let mut ops: Vec<Op> = annotate(snapshot, None).into_iter().collect();
    ops.push(Op::create(snapshot.claim.key.sibling(Kind::Sandbox, claim.key.name.clone()), Reason::ColdStart, body));
    plan.steps.push(ops);
    plan.start = Some(ClaimStart { kind: cold_kind(snapshot, model, of_template), pools: snapshot.pools.clone() });
    let note = snapshot.refused_take.as_ref().map_or_else(
        || "No warm Sandbox is Ready: creating a Sandbox".to_owned(),
        |(key, r)| {
            format!("The API server refused the adoption of Sandbox {}: {}; creating a Sandbox", key.name, r.message)
        },
    );
    plan.events.push(Event::normal(&snapshot.claim, Reason::ColdStart, note));
    if let Some(refusal) = snapshot.common.refused(Kind::Sandbox) {
        let message = format!("the API server refused the Sandbox: {}", refusal.message);
        write_status(snapshot, before, Report::problem(reason::RECONCILER_ERROR, message), plan);
        plan.status_first(done);
        return;
    }
    let pending = Report::problem(reason::SANDBOX_CREATE_PENDING, "the Sandbox is being made".to_owned());
    write_status(snapshot, before, pending, plan);
    if let Some(stale) = &snapshot.stale {
        // The stale Sandbox occupied a place in the pool, which a fresh one can have now.
        plan.steps.push(vec![Op::delete_if_unchanged(stale, Reason::TemplateChanged)]);
    }
}

/// The reason why the claim takes no warm Sandbox.
fn cold_kind(snapshot: &ClaimSnapshot, model: &model::Claim, of_template: &model::Template) -> StartKind {
    if !model.can_use_warm(of_template) {
        StartKind::OwnEnvOrVolumes
    } else if snapshot.refused_take.is_some() {
        StartKind::TakeRefused
    } else if snapshot.stale.is_some() {
        StartKind::TemplateChanged
    } else {
        StartKind::NoneReady
    }
}

/// Writes the annotations that the claim must have before clients see it Ready, if it does not have them.
fn annotate(snapshot: &ClaimSnapshot, sandbox: Option<&str>) -> Option<Op> {
    let claim = &snapshot.claim;
    let current = &claim.meta.annotations;
    let mut annotations = serde_json::Map::new();
    if let Some(name) = sandbox.filter(|name| current.get(annotation::SANDBOX_NAME) != Some(*name)) {
        annotations.insert(annotation::SANDBOX_NAME.to_owned(), name.into());
    }
    if sandbox.is_none() && current.contains_key(annotation::SANDBOX_NAME) {
        // The annotation names a warm Sandbox that the claim did not get.
        annotations.insert(annotation::SANDBOX_NAME.to_owned(), Value::Null);
    }
    if !current.contains_key(annotation::FIRST_OBSERVED_AT) {
        annotations.insert(annotation::FIRST_OBSERVED_AT.to_owned(), snapshot.common.now.to_string().into());
    }
    (!annotations.is_empty())
        // The compare-and-swap ends the plan before the status write if another process has changed the claim.
        .then(|| Op::patch_if_unchanged(claim, Reason::Reserved, json!({ "metadata": { "annotations": annotations } })))
}

#[cfg(test)]
mod tests;
