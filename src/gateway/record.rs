//! The record of one request: its line in the access log, and its metrics. It is written when the request, its answer
//! and its streams have ended, however they ended.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use paddock_kube::logs::ACCESS_LOG;
use tokio::time::Instant;
use tracing::{Span, info};

use crate::body::{BodyError, BodyGuard};
use crate::metrics::{CLIENT_CLOSED_REQUEST, Inflight, Metrics, NO_NAMESPACE};
use crate::progress::Progress;
use crate::refusal::{Reason, Refusal, SandboxState};
use crate::target::Target;
use crate::{grpc, trace_context};

/// The most characters in the log of a word that a client or a Sandbox chooses.
const WORD: usize = 32;

/// The record of one request.
pub(crate) struct Record {
    metrics: Metrics,
    log: bool,
    begin: Instant,
    method: Method,
    client: IpAddr,
    target: Option<Target>,
    /// Whether the Sandbox exists, so that its namespace may be a label value.
    known: bool,
    /// Whether the request was sent to the Sandbox.
    reached: bool,
    user: Option<Arc<str>>,
    /// The decision about the credential.
    admitted: Option<bool>,
    trace: Option<String>,
    span: Span,
    status: Option<StatusCode>,
    grpc_status: Option<String>,
    reason: Option<Reason>,
    /// The body of the request, if it has one.
    body: Option<Progress>,
    /// The bytes of an upgraded connection from the client.
    received: Option<u64>,
    bytes: u64,
    cut: bool,
    _inflight: Inflight,
}

impl Record {
    pub(crate) fn new(metrics: &Metrics, log: bool, method: &Method, client: IpAddr) -> Self {
        Self {
            metrics: metrics.clone(),
            log,
            begin: Instant::now(),
            method: method.clone(),
            client,
            target: None,
            known: false,
            reached: false,
            user: None,
            admitted: None,
            trace: None,
            span: Span::none(),
            status: None,
            grpc_status: None,
            reason: None,
            body: None,
            received: None,
            bytes: 0,
            cut: false,
            _inflight: metrics.begin(),
        }
    }

    pub(crate) fn target(&mut self, target: &Target) {
        self.target = Some(target.clone());
    }

    /// The gateway has a connection to the Sandbox and sends the request on it.
    pub(crate) fn reached(&mut self) {
        self.known = true;
        self.reached = true;
    }

    pub(crate) fn user(&mut self, user: Arc<str>) {
        self.user = Some(user);
    }

    pub(crate) fn decided(&mut self, admitted: bool) {
        self.admitted = Some(admitted);
    }

    /// The span of the request, and the headers with its trace context.
    pub(crate) fn traced(&mut self, span: Span, headers: &HeaderMap) {
        self.trace = trace_context::trace_id(headers).map(str::to_owned);
        self.span = span;
    }

    /// The head of the answer. gRPC puts the status of a call without messages there.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.metrics.head(self.begin.elapsed());
        self.trailers(headers);
    }

    /// The request was refused. A Sandbox whose state the refusal names exists. While the gateway has not read the Sandboxes,
    /// a refusal may say `waking` of any name.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.known |= match refusal.state {
            Some(SandboxState::Running | SandboxState::Suspended | SandboxState::Ended) => true,
            Some(SandboxState::Waking | SandboxState::NotFound) | None => false,
        };
        self.reason = Some(refusal.reason);
        self.metrics.refused(refusal.reason, self.namespace());
    }

    /// The request has a body.
    pub(crate) fn body(&mut self, body: Progress) {
        self.body = Some(body);
    }

    /// The request is sent once more.
    pub(crate) fn retried(&self) {
        self.metrics.retried(self.namespace());
    }

    /// Bytes of a stream went to the client and came from it.
    pub(crate) fn streamed(&mut self, sent: u64, received: u64) {
        self.bytes += sent;
        self.received = Some(received);
    }

    /// The stream of an upgraded connection was cut.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
    }

    fn namespace(&self) -> &str {
        self.target.as_ref().filter(|_| self.known).map_or(NO_NAMESPACE, |target| &target.namespace)
    }
}

impl BodyGuard for Record {
    fn passed(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = trailers.get(grpc::STATUS) {
            self.grpc_status = status.to_str().ok().map(|status| word(status).to_owned());
        }
    }

    fn failed(&mut self, _: &BodyError) {
        self.cut = true;
        self.metrics.cut(self.namespace());
    }
}

/// The begin of a text. Methods and the values of headers as text are ASCII.
fn word(text: &str) -> &str {
    text.get(..WORD).unwrap_or(text)
}

impl Drop for Record {
    fn drop(&mut self) {
        let time = self.begin.elapsed();
        let closed = StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST);
        let status = self.status.unwrap_or(closed);
        self.metrics.answered(&self.method, status, self.namespace(), time);
        trace_context::end(&self.span, status, self.reason, self.cut);
        if let Some(admitted) = self.admitted {
            self.metrics.authorized(admitted, self.namespace());
        }
        let received = self.received.or_else(|| self.body.as_ref().map(Progress::bytes));
        self.metrics.client_traffic(self.namespace(), received, self.bytes);
        if self.reached {
            // The body of a refusal is the gateway's own.
            let answer = if self.reason.is_none() { self.bytes } else { 0 };
            self.metrics.sandbox_traffic(self.namespace(), received.unwrap_or_default(), answer);
        }
        if !self.log {
            return;
        }
        // The path and the headers may contain secrets, so neither is in the log.
        info!(
            target: ACCESS_LOG,
            method = word(self.method.as_str()),
            status = status.as_u16(),
            grpc_status = self.grpc_status.as_deref(),
            namespace = self.target.as_ref().map(|target| &*target.namespace),
            sandbox = self.target.as_ref().map(|target| &*target.name),
            port = self.target.as_ref().map(|target| target.port),
            client = %self.client,
            user = self.user.as_deref(),
            reason = self.reason.map(Reason::as_str),
            bytes = self.bytes,
            cut = self.cut,
            milliseconds = time.as_secs_f64() * 1000.0,
            trace_id = self.trace.as_deref(),
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_the_log_are_short() {
        assert_eq!((word("GET"), word(&"x".repeat(60_000)).len()), ("GET", WORD));
        let mut record = Record::new(&Metrics::new().unwrap(), true, &Method::GET, IpAddr::from([127, 0, 0, 1]));
        let mut trailers = HeaderMap::new();
        trailers.insert(grpc::STATUS, "7".repeat(60_000).parse().unwrap());
        record.trailers(&trailers);
        assert_eq!(record.grpc_status.as_ref().map(String::len), Some(WORD));
    }
}
