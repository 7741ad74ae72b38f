//! Reviews of the namespace in which the operator runs. It never requires isolation.
//!
//! The API server asks the webhook before it admits a Pod of such a namespace. If the namespace of the operator required
//! isolation, the operator could not start while all its replicas are down.

use paddock_api::names::label;

use super::outcome::Why;
use super::state::{Halt, ReviewState, deny_fields};
use crate::marker::requires_isolation;
use crate::model::FieldError;
use crate::object::json::string_map;

/// Denies a label that would require isolation. A label that is there already has no effect.
pub(super) fn check(state: &ReviewState<'_>) -> Result<(), Halt> {
    let before = string_map(&state.review.old_object, "/metadata/labels");
    if !requires_isolation(&state.labels()) || requires_isolation(&before) {
        return Ok(());
    }
    Err(deny_fields(
        Why::Invalid,
        vec![FieldError::new(
            format!("metadata.labels[{}]", label::ISOLATION),
            format!(
                "must be absent or {:?}: the operator runs in the namespace {}, and its Pods must start before the \
                 webhook can admit a Pod; run generated code in another namespace",
                label::ISOLATION_NONE,
                state.review.name
            ),
        )],
    ))
}
