//! Exec, attach, port-forward and proxy as signs that a Sandbox is in use. Annotations of the Sandbox record them. A
//! missing record denies no connection, unlike an unknown pod or a warm pod whose touch cannot be recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use paddock_api::activity;
use paddock_api::kind::Key;
use paddock_api::names::annotation;

use super::review::{Context, Review, Verb};

/// The connections through the API server that are signs of activity, as resources and subresources. The last two are
/// those of `kubectl proxy`, dashboards and `kubectl get --raw`.
pub const CONNECTIONS: [(&str, &str); 5] =
    [("pods", "attach"), ("pods", "exec"), ("pods", "portforward"), ("pods", "proxy"), ("services", "proxy")];

/// A sign that a Sandbox is in use, which the operator writes as annotations of the Sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The key of the Sandbox.
    pub sandbox: Key,
    /// The UID of the Sandbox, which is a precondition of the write.
    pub uid: Arc<str>,
    /// The annotations to write.
    pub annotations: BTreeMap<String, String>,
}

/// Whether a review is about a connection to a pod, other than a dry run.
pub(super) fn connects(review: &Review) -> bool {
    let subresource = review.subresource.as_deref().unwrap_or_default();
    !review.dry_run
        && review.operation == Verb::Connect
        && CONNECTIONS.contains(&(review.resource.as_str(), subresource))
}

/// Returns the sign of activity in a review, if the recorded one is old enough to be replaced. A dry run is not a sign.
#[must_use]
pub fn activity(review: &Review, context: &Context) -> Option<Activity> {
    if !connects(review) {
        return None;
    }
    // A warm Sandbox is never idle, and an annotation would be a change of it.
    let sandbox = context.sandbox.as_ref().filter(|sandbox| !sandbox.in_pool)?;
    let idle_timeout = sandbox.idle_timeout?;
    let hold = SignedDuration::try_from(context.settings.exec_hold).ok()?;
    let held_until = review.now.checked_add(hold).ok()?;
    let time = |name: &str| sandbox.annotations.get(name).and_then(|text| text.parse().ok());
    let idle_since = time(annotation::IDLE_SINCE);
    let moves = |name: &str, to: Timestamp| {
        let idle_since = idle_since.filter(|_| name == annotation::LAST_ACTIVITY);
        activity::moves(time(name), to, idle_timeout, sandbox.throttled, idle_since)
    };
    if !moves(annotation::LAST_ACTIVITY, review.now) && !moves(annotation::HELD_UNTIL, held_until) {
        return None;
    }
    let annotations = BTreeMap::from([
        (annotation::LAST_ACTIVITY.to_owned(), activity::text(review.now)),
        (annotation::HELD_UNTIL.to_owned(), activity::text(held_until)),
    ]);
    Some(Activity { sandbox: sandbox.key.clone(), uid: sandbox.uid.clone(), annotations })
}
