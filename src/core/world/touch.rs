//! What somebody did to a Sandbox of a pool.

use std::sync::Arc;

/// What somebody did to a Sandbox of a pool, or to its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Touch {
    /// The change, as a clause for people.
    pub(super) what: Arc<str>,
    /// Whether the last comparison showed the change. Nothing else remembers a change that somebody undid.
    pub(super) shown: bool,
}
