//! The status of a claim: what it reports, and the write.

use std::sync::Arc;

use paddock_api::names::{annotation, condition, message, reason};
use paddock_api::{ClaimedSandbox, DecidingPlugin, Hook, SandboxClaimStatus};

use crate::conditions::{NewCondition, find_condition, set_conditions, status_patch};
use crate::deciding;
use crate::manifest;
use crate::object::Object;
use crate::plan::{Event, Op, Plan, Reason};
use crate::snapshot::ClaimSnapshot;
use crate::time::time_left;

/// The contents of the claim's new status.
pub(super) struct Report {
    pub(super) ready: NewCondition,
    /// Whether the reported condition `Finished` stays.
    pub(super) finished: bool,
    /// The condition `Finished` of the Sandbox.
    pub(super) forwarded_finished: Option<NewCondition>,
    pub(super) sandbox: Option<ClaimedSandbox>,
    /// The plugins that decided, or `None` if the last ones stay.
    pub(super) plugins: Option<Arc<Vec<DecidingPlugin>>>,
}

impl Report {
    pub(super) fn problem(reason: &str, message: String) -> Self {
        let ready = NewCondition::new(condition::READY, false, reason, message);
        Self { ready, finished: false, forwarded_finished: None, sandbox: None, plugins: None }
    }

    /// The same report for a claim whose pod was not told yet what the claim brings. The claim is not Ready if its pod has
    /// to get data, or if the containers are held until the pod is told that there is none.
    pub(super) fn before_announcement(self, sandbox: &Object, brings_data: bool) -> Self {
        let message = if self.ready.status != "True" {
            return self;
        } else if brings_data && manifest::takes_claim_data(sandbox) {
            "the files and variables of this claim are not delivered to the pod of its Sandbox yet"
        } else if manifest::is_held(sandbox) {
            "the pod of the Sandbox was not told yet that this claim brings no files and variables, so its containers wait"
        } else {
            return self;
        };
        Self { ready: NewCondition::new(condition::READY, false, reason::CLAIM_DATA_PENDING, message), ..self }
    }

    /// The status of the Sandbox of a claim. `decided_by` are the plugins that allow this claim just now, if the Sandbox
    /// does not have their record yet.
    pub(super) fn forwarded(sandbox: &Object, decided_by: &[DecidingPlugin]) -> Self {
        let status = sandbox.sandbox().map(|s| &s.status);
        let forward = |kind: &'static str| {
            let condition = status.and_then(|s| find_condition(&s.conditions, kind))?;
            Some(NewCondition::new(
                kind,
                condition.status == "True",
                condition.reason.clone(),
                condition.message.clone(),
            ))
        };
        let mut ready = forward(condition::READY).unwrap_or_else(|| {
            NewCondition::new(condition::READY, false, reason::SANDBOX_NOT_READY, message::SANDBOX_NOT_READY)
        });
        if ready.reason == reason::SANDBOX_EXPIRED {
            message::SANDBOX_OF_CLAIM_EXPIRED.clone_into(&mut ready.message);
        }
        Self {
            ready,
            finished: false,
            forwarded_finished: forward(condition::FINISHED),
            sandbox: Some(ClaimedSandbox {
                name: Some(sandbox.key.name.to_string()),
                pod_ips: status.map(|s| s.pod_ips.clone()).unwrap_or_default(),
            }),
            plugins: Some(plugins(sandbox, decided_by)),
        }
    }
}

/// The plugins that decided about a claim and the pod of its Sandbox. A change of the idle plugin alone would cost a
/// write of every claim, so only the status of the Sandbox names it.
fn plugins(sandbox: &Object, decided_by: &[DecidingPlugin]) -> Arc<Vec<DecidingPlugin>> {
    let mut record = deciding::parse(sandbox.meta.annotations.get(annotation::CLAIM_PLUGINS));
    deciding::add(&mut record, decided_by.iter().cloned());
    let of_sandbox = sandbox.sandbox().into_iter().flat_map(|s| s.status.plugins.iter());
    deciding::add(&mut record, of_sandbox.filter(|plugin| plugin.hook != Hook::Idle).cloned());
    Arc::new(record)
}

/// Writes the status of the claim, unless it is unchanged or the write can wait.
pub(super) fn write_status(snapshot: &ClaimSnapshot, before: &SandboxClaimStatus, report: Report, plan: &mut Plan) {
    let claim = &snapshot.claim;
    let ready = report.ready.status == "True";
    let mut conditions = vec![report.ready];
    conditions.extend(report.forwarded_finished);
    // The status keeps the name of the Sandbox, even if the Sandbox does not exist any more.
    let named = before.sandbox.as_ref().and_then(|s| s.name.clone());
    let mut after_status = SandboxClaimStatus {
        conditions: set_conditions(&before.conditions, conditions, claim.meta.generation, snapshot.common.now),
        sandbox: report.sandbox.or_else(|| named.map(|name| ClaimedSandbox { name: Some(name), pod_ips: Vec::new() })),
        plugins: report.plugins.unwrap_or_else(|| before.plugins.clone()),
    };
    if report.finished {
        after_status.conditions.extend(find_condition(&before.conditions, condition::FINISHED).cloned());
    }
    let Some(patch) = status_patch(before, &after_status) else { return };
    // A wait that ends at once is not worth a write. Clients also take "not found" for final, although the watch of the
    // pool or template may only be behind the watch of the claim.
    let delay = snapshot.common.settings.first_status_delay + std::time::Duration::from_secs(1);
    if let Some(due) = time_left(claim.meta.created, delay, snapshot.common.now)
        && !ready
        && before.conditions.is_empty()
    {
        plan.requeue_at(due, Reason::StatusChanged);
        return;
    }
    plan.results.extend(lifecycle_event(snapshot, before, &after_status));
    // The end of the claim may have been moved a moment ago.
    let ends = has_expired(&after_status) && !has_expired(before);
    let op = if ends { Op::patch_status_if_unchanged(claim, patch) } else { Op::patch_status(claim, patch) };
    plan.steps.push(vec![op]);
}

pub(super) fn has_expired(status: &SandboxClaimStatus) -> bool {
    find_condition(&status.conditions, condition::READY).is_some_and(|c| c.reason == reason::CLAIM_EXPIRED)
}

/// The Event about a transition of the claim, with the reasons of upstream.
fn lifecycle_event(snapshot: &ClaimSnapshot, before: &SandboxClaimStatus, after: &SandboxClaimStatus) -> Option<Event> {
    let claim = &snapshot.claim;
    if has_expired(after) && !has_expired(before) {
        let note = "The claim has expired".to_owned();
        return Some(Event::normal(claim, Reason::ClaimExpired, note));
    }
    let name = |status: &SandboxClaimStatus| status.sandbox.as_ref().and_then(|sandbox| sandbox.name.clone());
    let sandbox = name(after).filter(|_| name(before).is_none())?;
    // A Sandbox that was created for the claim has the name of the claim.
    Some(if *sandbox == *claim.key.name {
        Event::normal(claim, Reason::SandboxProvisioned, format!("Sandbox {sandbox} was created for the claim"))
    } else {
        Event::normal(claim, Reason::SandboxAdopted, format!("Warm Sandbox {sandbox} belongs to the claim"))
    })
}
