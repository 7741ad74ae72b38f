//! Whether a claim may keep the reservation that it was given.

use serde_json::Value;

use super::{annotations_mut, write};
use crate::admission::review::Phase;
use crate::admission::state::{ReviewState, Subject};

/// The claim as it was before the admission plugins changed it, where a Sandbox is reserved for it.
pub(in crate::admission) struct Asked(Option<Value>);

impl Asked {
    /// To be called before the admission plugins are asked.
    pub(in crate::admission) fn about(state: &ReviewState<'_>) -> Self {
        let mutates = state.review.phase == Phase::Mutate;
        Self((mutates && state.context.reserved_sandbox.is_some()).then(|| state.object.clone()))
    }

    /// Removes the reservation from the claim unless validation would ask the plugins the same question again, neither
    /// deny the claim nor add a warning. `is_valid` answers the last two.
    pub(in crate::admission) fn settle(
        self,
        state: &mut ReviewState<'_>,
        subject: &Subject,
        is_valid: impl FnOnce(&ReviewState<'_>) -> bool,
    ) {
        let Some(before) = self.0 else { return };
        // With `generateName` the name is not known before validation. A change by one plugin may be judged by another.
        let asked_in_full = !state.review.name.is_empty() && state.object == before;
        let settled = state.untroubled() && (asked_in_full || !state.judged_by_others(subject)) && is_valid(state);
        if !settled && let Some(annotations) = annotations_mut(&mut state.object) {
            write(annotations, None);
        }
    }
}
