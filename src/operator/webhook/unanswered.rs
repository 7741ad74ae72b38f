//! The reasons why a review ends without a verdict, and the answers in its place.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use paddock_core::admission::Entry;
use paddock_kube::server::Refused;

use super::wire::{self, Malformed};
use crate::limits;

/// The reason why a call got no review.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("the path /{0}/{1} is not the path of a webhook")]
    NoSuchPath(String, String),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the operator has not listed all objects of the cluster yet")]
    NotReady,
    #[error("the review took longer than {:?}", limits::REVIEW_TIMEOUT)]
    Late,
    #[error("the review failed: {0}")]
    Broken(#[from] tokio::task::JoinError),
    #[error("the review failed: it panicked")]
    Panicked,
    #[error("the response cannot be serialized: {0}")]
    Write(#[from] serde_json::Error),
}

impl Unanswered {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Unanswered::NoSuchPath(..) => (StatusCode::NOT_FOUND, "NotFound"),
            Unanswered::Refused(Refused::TooLarge(_) | Refused::TooCostly { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge")
            }
            Unanswered::Refused(Refused::Busy) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Unanswered::Refused(Refused::Broken(_)) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Unanswered::Malformed(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Unanswered::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Unanswered::Late => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Unanswered::Broken(_) | Unanswered::Panicked | Unanswered::Write(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
            }
        }
    }

    /// Whether a request is denied for this reason, if it must not be admitted without a review. Without the list of
    /// all objects, this replica does not answer at all: it counts as one that is still down.
    pub(super) fn denies(&self) -> bool {
        match self {
            Unanswered::NoSuchPath(..) | Unanswered::NotReady => false,
            Unanswered::Refused(_)
            | Unanswered::Malformed(_)
            | Unanswered::Late
            | Unanswered::Broken(_)
            | Unanswered::Panicked
            | Unanswered::Write(_) => true,
        }
    }

    /// The denial of the request.
    pub(super) fn denial(&self, uid: String) -> Response {
        let remedy = match self {
            Unanswered::Refused(Refused::TooLarge(_) | Refused::TooCostly { .. }) => {
                "make the object smaller, for example with fewer containers, volumes or annotations, or delete it if the \
                 stored object is too large"
            }
            Unanswered::Refused(Refused::Busy | Refused::Broken(_)) | Unanswered::Late => {
                "try again; if it stays so, look for slow plugins and for the load of the operator"
            }
            Unanswered::NoSuchPath(..)
            | Unanswered::Malformed(_)
            | Unanswered::NotReady
            | Unanswered::Broken(_)
            | Unanswered::Panicked
            | Unanswered::Write(_) => "the log of the operator says more",
        };
        let (code, reason) = self.status();
        let message =
            format!("this request must not be admitted without a review, and its review failed: {self}; {remedy}");
        Json(wire::denial_without_review(uid, (code.as_u16(), reason), &message)).into_response()
    }
}

/// Whether the webhook itself denies a request of an entry if the review ends without a verdict. The failure policy is
/// for a webhook that is down. A user can cause other failures, such as that of a large object, and must not be able to
/// avoid a review. The settings of a SandboxPolicy are checked again before they take effect.
pub(super) fn denies_without_verdict(entry: Entry) -> bool {
    match entry {
        Entry::MarkedPods
        | Entry::IsolatedNamespaces
        | Entry::OwnKinds
        | Entry::OwnedSandboxes
        | Entry::OwnNamespace
        | Entry::Connect => true,
        Entry::Policies => false,
    }
}

impl IntoResponse for Unanswered {
    fn into_response(self) -> Response {
        let (code, reason) = self.status();
        (code, Json(wire::failure(code.as_u16(), reason, &self.to_string()))).into_response()
    }
}
