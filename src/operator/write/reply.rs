//! Turns an HTTP response into an [`Outcome`]. The HTTP status and the machine-readable fields of `Status` decide,
//! never a text.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use kube::core::Status;
use paddock_api::document::Document;
use paddock_api::kind::Key;
use paddock_core::object::Object;
use paddock_core::plan::{Action, Op, Outcome};
use serde_json::Value;

use crate::limiter::Signal;

/// The result of an operation, for the core and for the write limiter.
#[derive(Debug)]
pub(super) struct Reply {
    /// The outcome of the operation, for the core.
    pub(super) outcome: Outcome,
    /// The information about the API server's load, for the write limiter.
    pub(super) signal: Signal,
}

impl Reply {
    /// A write without a usable reply. The API server may have stored it or not.
    #[must_use]
    pub(super) fn lost() -> Self {
        Self { outcome: Outcome::Unknown, signal: Signal::Lost }
    }

    /// A write that was not sent, so nothing was stored.
    #[must_use]
    pub(super) fn unsent() -> Self {
        Self { outcome: Outcome::Busy, signal: Signal::Lost }
    }

    /// Reads a complete response. `known` is the object in the World, which a watch may have delivered before.
    #[must_use]
    pub(super) fn read(
        op: &Op,
        code: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        known: impl FnOnce(&Key) -> Option<Arc<Object>>,
    ) -> Self {
        if code.is_success() {
            return Self { outcome: stored(op, body, known), signal: Signal::Served };
        }
        let status = serde_json::from_slice::<Status>(body).ok();
        match (code.as_u16(), status.filter(is_from_api_server)) {
            (404, Some(status)) => Self { outcome: missing(op, status), signal: Signal::Served },
            (409, Some(status)) => Self { outcome: conflict(op, &status.reason), signal: Signal::Served },
            (_, status) => Self::of_failure(code, headers, status, |message| message),
        }
    }

    /// Reads a response that is neither a success nor about the state of the object. `describe` makes the message from
    /// that of the API server.
    pub(super) fn of_failure(
        code: StatusCode,
        headers: &HeaderMap,
        status: Option<Status>,
        describe: impl FnOnce(String) -> String,
    ) -> Self {
        let (outcome, signal) = match (code.as_u16(), status.filter(is_from_api_server)) {
            (429, _) => (Outcome::Busy, Signal::Busy(retry_after(headers))),
            (503, Some(_)) => (Outcome::Busy, Signal::Busy(retry_after(headers))),
            // With 408 the API server gives up on a request that may have been executed.
            (code @ 400..=499, Some(status)) if code != 408 => {
                let by_policy = is_by_policy(code, &status);
                (Outcome::rejected(code, describe(status.message), by_policy), Signal::Served)
            }
            // A 500 may be the refusal of a webhook (not stored) or a timeout of etcd (perhaps stored).
            (_, Some(_)) => (Outcome::Unknown, Signal::Served),
            (_, None) => (Outcome::Unknown, Signal::Lost),
        };
        Self { outcome, signal }
    }
}

/// Whether a Status has content. A proxy or a load balancer in front of the API server answers without one.
fn is_from_api_server(status: &Status) -> bool {
    status.code != 0 || !status.reason.is_empty()
}

/// Whether a policy of the cluster refuses the object: a webhook, a ValidatingAdmissionPolicy, or PodSecurity. The API
/// server's own refusals (missing rights, quotas, invalid fields) have a reason and the kind of the object, and name the
/// invalid fields.
fn is_by_policy(code: u16, status: &Status) -> bool {
    /// The cause of a refused creation in a namespace that is being deleted.
    const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

    let causes = || status.details.iter().flat_map(|details| &details.causes);
    // A webhook that states no code denies with 400. Its denial has the details that it states itself, often none.
    let without_kind = status.details.as_ref().is_none_or(|details| details.kind.is_empty());
    match code {
        403 => causes().next().map_or(without_kind, |cause| cause.reason != NAMESPACE_TERMINATING),
        400 => without_kind && status.reason.is_empty(),
        // A ValidatingAdmissionPolicy adds its message as a cause without a field and without a reason.
        _ => causes().any(|cause| cause.field.is_empty() && cause.reason.is_empty()),
    }
}

fn stored(op: &Op, body: &[u8], known: impl FnOnce(&Key) -> Option<Arc<Object>>) -> Outcome {
    let Ok(text) = std::str::from_utf8(body) else { return Outcome::Unknown };
    if matches!(op.action, Action::Delete { .. }) {
        let Ok(document) = serde_json::from_str::<Value>(text) else { return Outcome::Unknown };
        if !outlives_deadline(&document) {
            return Outcome::Gone;
        }
    }
    let Ok(document) = Document::parse(text) else { return Outcome::Unknown };
    Outcome::Stored(Box::new(Object::read_unless_known(op.key.kind, document, known)))
}

/// Whether the object in the response to a delete still exists, because of a finalizer or its grace period. A `Status`
/// in place of the object, or an object without either, means that the object was removed at once.
fn outlives_deadline(document: &Value) -> bool {
    let metadata = &document["metadata"];
    metadata["deletionTimestamp"].is_string()
        && (metadata["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0)
            || metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty()))
}

/// The outcome of a 404. On a create, the namespace or the kind does not exist. Otherwise a status that names the
/// object says that the object does not exist. A status without a name comes from an API server that does not know the
/// kind, as for a moment after its start.
fn missing(op: &Op, status: Status) -> Outcome {
    let named = status.details.is_some_and(|details| details.name == *op.key.name);
    match op.action {
        Action::Create { .. } => Outcome::rejected(404, status.message, false),
        // API servers before 1.32 do not serve this subresource.
        Action::Resize { .. } if !named => Outcome::rejected(404, "it does not serve pods/resize", false),
        Action::Resize { .. } => Outcome::Gone,
        Action::Patch { .. } | Action::Adopt { .. } | Action::Deliver { .. } | Action::Delete { .. } if named => {
            Outcome::Gone
        }
        Action::Patch { .. } | Action::Adopt { .. } | Action::Deliver { .. } | Action::Delete { .. } => Outcome::Busy,
    }
}

/// The outcome of a 409. On a delete without a version, only the UID can differ, so another object has the name now. On
/// a create, a reason other than `AlreadyExists` comes from an admission plugin (ResourceQuota) that had a conflict of
/// its own.
fn conflict(op: &Op, reason: &str) -> Outcome {
    match op.action {
        Action::Create { .. } if reason == "AlreadyExists" => Outcome::Exists,
        Action::Create { .. }
        | Action::Patch { .. }
        | Action::Resize { .. }
        | Action::Adopt { .. }
        | Action::Deliver { .. }
        | Action::Delete { resource_version: Some(_), .. } => Outcome::Conflict,
        Action::Delete { resource_version: None, .. } => Outcome::Gone,
    }
}

/// The `Retry-After` of a response. The API server sends whole seconds. The other form of the header, a date, is not
/// used and is ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
