//! Exec, attach and port-forward: signs that a Sandbox is used. They are noted on the Sandbox and never stand in the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::review::{Context, Review, Verb};
use crate::kind::Key;
use crate::names::annotation;

/// The least that a note moves by: one write in five seconds, whatever the idle timeout.
const MIN_STEP: Duration = Duration::from_secs(5);
/// A note moves by at least this part of the idle timeout.
const STEP_DIVISOR: u32 = 10;

/// A sign that a Sandbox is used, to be written by the shell as annotations of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The Sandbox.
    pub sandbox: Key,
    /// Its UID, a precondition of the write.
    pub uid: Arc<str>,
    /// What to write.
    pub annotations: BTreeMap<String, String>,
}

/// The sign that a review gives, if it gives one and the last is old enough to be replaced. A dry run gives none.
#[must_use]
pub fn activity(review: &Review, context: &Context) -> Option<Activity> {
    if review.dry_run || review.operation != Verb::Connect || review.resource != "pods" {
        return None;
    }
    if !matches!(review.subresource.as_deref(), Some("exec" | "attach" | "portforward")) {
        return None;
    }
    let sandbox = context.sandbox.as_ref()?;
    let idle_timeout = sandbox.idle_timeout?;
    let hold = SignedDuration::try_from(context.settings.exec_hold).ok()?;
    let held_until = review.now.checked_add(hold).ok()?;
    let step = SignedDuration::try_from(MIN_STEP.max(idle_timeout / STEP_DIVISOR)).ok()?;
    let moves = |name: &str, to: Timestamp| {
        let noted = sandbox.annotations.get(name).and_then(|text| text.parse::<Timestamp>().ok());
        noted.is_none_or(|noted| to.duration_since(noted) >= step)
    };
    if !moves(annotation::LAST_ACTIVITY, review.now) && !moves(annotation::HELD_UNTIL, held_until) {
        return None;
    }
    let annotations = BTreeMap::from([
        (annotation::LAST_ACTIVITY.to_owned(), format!("{:.3}", review.now)),
        (annotation::HELD_UNTIL.to_owned(), format!("{held_until:.3}")),
    ]);
    Some(Activity { sandbox: sandbox.key.clone(), uid: sandbox.uid.clone(), annotations })
}
