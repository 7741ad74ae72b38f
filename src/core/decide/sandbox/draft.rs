//! The parts of a decision about a Sandbox, until its plan is complete.

use super::status::{Notes, Problem};
use super::throttle::Wish;
use crate::decide::ask::report_denial;
use crate::plan::{Op, Plan, Reason};
use crate::snapshot::SandboxSnapshot;

/// The parts of a decision that are collected until the plan is complete.
#[derive(Default)]
pub(super) struct PlanDraft {
    /// The writes that come before the status.
    pub(super) first: Vec<Op>,
    /// The delivery of the data of a claim. It comes last, so that a refusal holds nothing else back.
    pub(super) deliver: Option<Op>,
    /// The wish for the CPU of the pod.
    pub(super) cpu: Wish,
    pub(super) plan: Plan,
    pub(super) notes: Notes,
}

impl PlanDraft {
    /// Reports the refusal of a pod or of a change to it, if there is one. Returns whether there is none.
    pub(super) fn passes(&mut self, snapshot: &SandboxSnapshot, refusal: Option<(Reason, String)>) -> bool {
        let Some((reason, problem)) = refusal else { return true };
        report_denial(&snapshot.common, &snapshot.sandbox, (reason, &problem), &mut self.plan);
        self.notes.error = Some(match reason.denies_by_policy() {
            true => Problem::denied(problem),
            false => Problem::error(problem),
        });
        false
    }
}
