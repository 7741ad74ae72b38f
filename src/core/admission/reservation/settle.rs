//! Decides whether a claim may keep its reservation.

use serde_json::Value;

use super::{annotations_mut, write};
use crate::admission::review::Phase;
use crate::admission::state::{ReviewState, Subject};

/// The claim as the admission plugins get it, if a Sandbox is reserved for the claim.
pub(in crate::admission) struct ClaimBeforePlugins(Option<Value>);

impl ClaimBeforePlugins {
    /// Copies the claim. The caller calls this before it asks the admission plugins.
    pub(in crate::admission) fn of(state: &ReviewState<'_>) -> Self {
        let mutates = state.review.phase == Phase::Mutate;
        Self((mutates && state.context.reserved_sandbox.is_some()).then(|| state.object.clone()))
    }

    /// Removes the reservation from the claim, unless the validating call could have no other result. That is the case
    /// if all plugins answered and none of them would get another question. The call must also neither deny the claim
    /// nor add a warning, which `is_valid` checks.
    pub(in crate::admission) fn settle(
        self,
        state: &mut ReviewState<'_>,
        subject: &Subject,
        is_valid: impl FnOnce(&ReviewState<'_>) -> bool,
    ) {
        let Some(before) = self.0 else { return };
        // With `generateName`, plugins get the name only in the validating call. Another plugin may have to decide
        // about a change by one plugin.
        let same_question = !state.review.name.is_empty() && state.object == before;
        let settled =
            state.all_plugins_answered() && (same_question || !state.has_custom_plugins(subject)) && is_valid(state);
        if !settled && let Some(annotations) = annotations_mut(&mut state.object) {
            write(annotations, None);
        }
    }
}
