//! A reply as an [`Outcome`]: by HTTP status and the machine-readable fields of `Status`, never by text.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use kube::core::Status;
use paddock_core::object::Object;
use paddock_core::plan::{Action, Op, Outcome};
use serde_json::Value;

use crate::limiter::Signal;

/// What became of an operation, and what that says about the API server.
#[derive(Debug)]
pub(super) struct Reply {
    /// For the core.
    pub(super) outcome: Outcome,
    /// For back-pressure.
    pub(super) signal: Signal,
}

impl Reply {
    /// No usable reply: the write may have been stored or not.
    #[must_use]
    pub(super) fn lost() -> Self {
        Self { outcome: Outcome::Unknown, signal: Signal::Lost }
    }

    /// Never sent: nothing was stored.
    #[must_use]
    pub(super) fn unsent() -> Self {
        Self { outcome: Outcome::Busy, signal: Signal::Lost }
    }

    /// Reads a whole reply.
    #[must_use]
    pub(super) fn read(op: &Op, code: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if code.is_success() {
            return Self { outcome: stored(op, body), signal: Signal::Served };
        }
        // Something between us and the API server (a proxy, a load balancer) answers without a Status.
        let status = serde_json::from_slice::<Status>(body).ok().filter(|s| s.code != 0 || !s.reason.is_empty());
        let (outcome, signal) = match (code.as_u16(), status) {
            (429, _) => (Outcome::Busy, Signal::Busy(retry_after(headers))),
            (503, Some(_)) => (Outcome::Busy, Signal::Busy(retry_after(headers))),
            (404, Some(status)) => (missing(op, status), Signal::Served),
            (409, Some(status)) => (conflict(op, &status.reason), Signal::Served),
            // 408 is the API server giving up on a request that it may have passed on.
            (code @ 400..=499, Some(status)) if code != 408 => {
                (Outcome::Rejected { status: code, message: status.message }, Signal::Served)
            }
            // Among the 500s are a webhook's refusal (not stored) and etcd's time-out (perhaps stored).
            (_, Some(_)) => (Outcome::Unknown, Signal::Served),
            (_, None) => (Outcome::Unknown, Signal::Lost),
        };
        Self { outcome, signal }
    }
}

fn stored(op: &Op, body: &[u8]) -> Outcome {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return Outcome::Unknown };
    if matches!(op.action, Action::Delete { .. }) && !outlives_deadline(&document) {
        return Outcome::Gone;
    }
    Object::from_json(op.key.kind, document).map_or(Outcome::Unknown, |object| Outcome::Stored(Box::new(object)))
}

/// Whether a deleted object, as the API server answers it, is still there: it waits for a finalizer or for its grace
/// period. A `Status` in its place, or an object without either, says that it was removed at once.
fn outlives_deadline(document: &Value) -> bool {
    let metadata = &document["metadata"];
    metadata["deletionTimestamp"].is_string()
        && (metadata["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0)
            || metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty()))
}

/// 404 on a create is about the namespace or the kind, not about the object. One that names the object says that it is gone;
/// one that names nothing comes from an API server that does not know the kind, as for a moment after its start.
fn missing(op: &Op, status: Status) -> Outcome {
    let named = status.details.is_some_and(|details| details.name == *op.key.name);
    match op.action {
        Action::Create { .. } => Outcome::Rejected { status: 404, message: status.message },
        Action::Patch { .. } | Action::Delete { .. } if named => Outcome::Gone,
        Action::Patch { .. } | Action::Delete { .. } => Outcome::Busy,
    }
}

/// 409 on a delete that names no version can only be its UID: another object has the name now. 409 on a create other than
/// `AlreadyExists` comes from an admission plugin that lost a race of its own (ResourceQuota).
fn conflict(op: &Op, reason: &str) -> Outcome {
    match op.action {
        Action::Create { .. } if reason == "AlreadyExists" => Outcome::Exists,
        Action::Create { .. } | Action::Patch { .. } | Action::Delete { resource_version: Some(_), .. } => {
            Outcome::Conflict
        }
        Action::Delete { resource_version: None, .. } => Outcome::Gone,
    }
}

/// The API server writes whole seconds; the header's other form, a date, is nobody's practice here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
