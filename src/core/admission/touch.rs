//! Connections to the pods of warm Sandboxes. Nobody knows what a session leaves in a pod, so its Sandbox is replaced.
//!
//! The connection is admitted when the Sandbox has a record of it. The take of a claim is a compare-and-swap, so no
//! claim gets the Sandbox after the record, and no session begins before it.

use std::sync::Arc;

use paddock_api::kind::Key;
use serde_json::Value;

use super::activity::connects;
use super::outcome::{Denial, Why};
use super::review::{Context, Review};
use crate::as_made;
use crate::text::truncate;

/// The longest name of a user in a record, in characters.
const MAX_USER_CHARS: usize = 128;

/// A connection to the pod of a warm Sandbox, which has to be recorded before it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Touch {
    /// The key of the Sandbox.
    pub sandbox: Key,
    /// The UID of the Sandbox, which is a precondition of the write.
    pub uid: Arc<str>,
    /// The version of the Sandbox, which is a precondition of the write. A claim may have taken the Sandbox meanwhile.
    pub resource_version: Arc<str>,
    /// The patch without the preconditions.
    pub patch: Value,
}

/// Returns the record that a review needs. A Sandbox that is not in a pool, and one that was touched before, need none.
#[must_use]
pub fn touch(review: &Review, context: &Context) -> Option<Touch> {
    let sandbox = context.sandbox.as_ref().filter(|sandbox| sandbox.untouched_in_pool)?;
    if !connects(review) {
        return None;
    }
    let kind = review.subresource.as_deref().unwrap_or_default();
    let note = format!("{} used {kind}", truncate(&review.username, MAX_USER_CHARS));
    Some(Touch {
        sandbox: sandbox.key.clone(),
        uid: sandbox.uid.clone(),
        resource_version: sandbox.resource_version.clone(),
        patch: as_made::record(&note),
    })
}

/// The denial of a connection that could not be recorded.
#[must_use]
pub fn not_recorded(touch: &Touch) -> Denial {
    let message = format!(
        "the pod is a warm one of a pool, and the connection could not be recorded on Sandbox {}, so that the next claim \
         might get it; try again, or connect to the Sandbox of a claim",
        touch.sandbox.name
    );
    Denial { why: Why::NotRecorded, message, causes: Vec::new() }
}
