//! The answers that the gateway gives itself, in one table: status code, `detail`, gRPC code and headers.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use strum::{IntoStaticStr, VariantArray};

/// The reason why a request does not reach its Sandbox. The word is in the header `X-Paddock-Reason`, in the access log
/// and in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
pub enum Reason {
    /// The header X-Sandbox-ID is missing.
    SandboxIdRequired,
    /// The name of the Sandbox is not a DNS label.
    InvalidSandboxId,
    /// The namespace is not a DNS label.
    InvalidNamespace,
    /// The port is not a number from 1 to 65535.
    InvalidPort,
    /// A path under the prefix does not have the form `<prefix>/<namespace>/<id>/<port>/...`.
    InvalidPath,
    /// A path under the prefix has a percent sign that begins no escape.
    InvalidPathEncoding,
    /// The host is under the routing domain and does not have the form `NAME--PORT.NAMESPACE.DOMAIN`.
    InvalidHost,
    /// The framing of the request is ambiguous, or a header of its framing or routing is repeated.
    AmbiguousRequest,
    /// The gateway does not forward this method.
    UnsupportedMethod,
    /// The header `grpc-timeout` is not valid.
    InvalidTimeout,
    /// The request has too many headers, or they are too large.
    HeadersTooLarge,
    /// The request has no credential that the gateway or the API server accepts.
    Unauthenticated,
    /// The user may not use this Sandbox.
    Forbidden,
    /// The credential is a cookie, and the Origin of the request is not allowed.
    OriginNotAllowed,
    /// The API server could not be asked about the credential.
    AuthorizerFailed,
    /// As many questions about credentials as allowed wait for the API server already.
    AuthorizerBusy,
    /// There is no such Sandbox.
    SandboxNotFound,
    /// The Sandbox runs, and no connection to its port could be opened in time.
    Unreachable,
    /// The connection to the Sandbox ended before its answer was complete.
    ConnectionLost,
    /// The body of the request is larger than `--max-request-body-bytes`.
    BodyTooLarge,
    /// The Sandbox did not answer in time.
    Timeout,
    /// Somebody suspended the Sandbox, or its resumePolicy is Manual. Requests do not wake it.
    Suspended,
    /// The Sandbox is suspended, and probes do not wake it.
    SuspendedForProbes,
    /// The Sandbox has expired or finished, and cannot be woken.
    Ended,
    /// Waking the Sandbox took longer than the request may be held.
    WakeTimeout,
    /// As many requests as allowed are held already: for this Sandbox, its namespace, or in all.
    HoldLimit,
    /// The Sandbox could not be woken: the API server refused the write or could not be asked.
    WakeFailed,
    /// As many requests as allowed are being forwarded to this Sandbox.
    SandboxBusy,
    /// As many requests as allowed of this client are being forwarded, or its connection has to make room for another one.
    ClientBusy,
    /// The gateway is shutting down, or has not read the Sandboxes yet.
    NotReady,
    /// A fault of the gateway.
    Internal,
}

/// An answer of the gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The text for the client, in the field `detail`.
    pub detail: String,
    /// The time after which the client may try again, in the header `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The state of the Sandbox, in the header `X-Sandbox-State`.
    pub state: Option<SandboxState>,
    /// The user of the credential, for the access log. `None` if it is not known.
    pub user: Option<Arc<str>>,
}

/// The state of a Sandbox, as clients of the gateway see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum SandboxState {
    /// The Sandbox runs.
    Running,
    /// The Sandbox was suspended and is being woken.
    Waking,
    /// The Sandbox is suspended.
    Suspended,
    /// The Sandbox has expired or finished.
    Ended,
    /// There is no such Sandbox.
    NotFound,
}

impl Refusal {
    /// A refusal with the usual text and without Retry-After.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None, state: None, user: None }
    }

    /// Adds the header `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds the user of the credential for the access log. The client does not get it.
    #[must_use]
    pub fn of(mut self, user: Arc<str>) -> Self {
        self.user = Some(user);
        self
    }

    /// Adds the header `X-Sandbox-State`.
    #[must_use]
    pub fn state(mut self, state: SandboxState) -> Self {
        self.state = Some(state);
        self
    }
}

impl Reason {
    /// The word in headers, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The status code of the answer to an HTTP request.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Reason::SandboxIdRequired
            | Reason::InvalidSandboxId
            | Reason::InvalidNamespace
            | Reason::InvalidPort
            | Reason::InvalidPath
            | Reason::InvalidPathEncoding
            | Reason::InvalidHost
            | Reason::AmbiguousRequest
            | Reason::UnsupportedMethod
            | Reason::InvalidTimeout => StatusCode::BAD_REQUEST,
            Reason::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Reason::Unauthenticated => StatusCode::UNAUTHORIZED,
            Reason::Forbidden | Reason::OriginNotAllowed => StatusCode::FORBIDDEN,
            Reason::AuthorizerFailed | Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Reason::SandboxNotFound | Reason::Unreachable | Reason::ConnectionLost | Reason::BodyTooLarge => {
                StatusCode::BAD_GATEWAY
            }
            Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Reason::Suspended
            | Reason::SuspendedForProbes
            | Reason::Ended
            | Reason::WakeTimeout
            | Reason::HoldLimit
            | Reason::WakeFailed
            | Reason::SandboxBusy
            | Reason::ClientBusy
            | Reason::AuthorizerBusy
            | Reason::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The detail of every failure to reach a Sandbox. Clients compare it.
#[must_use]
pub fn unreachable(target: &crate::target::Target) -> String {
    format!("Could not connect to the backend sandbox: {}", target.name)
}
