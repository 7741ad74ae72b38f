//! Sends a request to its Sandbox, on an open connection or a new one, and waits for the head of the answer.
//!
//! An attempt is repeated only if no byte of the request was sent. A Sandbox therefore never gets a request twice.

use std::net::SocketAddr;
use std::pin::pin;

use http::Response;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span, debug};

use super::backend::Backend;
use super::deadline::Deadlines;
use crate::arrival::Arrival;
use crate::body::{Body, Exceeded};
use crate::forward::Forward;
use crate::limits;
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::record::Record;
use crate::refusal::{Reason, Refusal, unreachable};
use crate::requests::Running;
use crate::sandboxes::{Activity, Awake, Connected};
use crate::target::Target;
use crate::trace_context::part;
use crate::upstream::{Key, Pool, Sender};

/// The ways to Sandboxes.
pub(crate) struct Ways {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) pool: Pool,
    pub(crate) metrics: Metrics,
}

/// One request, ready to be sent.
pub(super) struct Exchange<'a> {
    pub(super) ways: &'a Ways,
    pub(super) target: &'a Target,
    pub(super) arrival: Arrival,
    pub(super) head: Forward,
    pub(super) deadlines: Deadlines,
    /// Whether the body was too large.
    pub(super) exceeded: Exceeded,
    /// The time of the last byte of the body, or of the head.
    pub(super) progress: Progress,
    /// The span of the request.
    pub(super) span: Span,
}

/// The head of the answer, and what stays in use until its end.
pub(super) struct Exchanged {
    pub(super) response: Response<Incoming>,
    pub(super) address: SocketAddr,
    pub(super) activity: Activity,
    pub(super) call: Option<Running>,
}

/// A connection for one attempt.
struct Attempt {
    key: Key,
    sender: Sender,
    activity: Activity,
}

impl Exchange<'_> {
    pub(super) async fn run(&self, mut body: Body, record: &mut Record) -> Result<Exchanged, Refusal> {
        for _ in 0..limits::ATTEMPTS {
            let mut attempt = self.attempt().await?;
            record.reached();
            let address = attempt.key.endpoint.address;
            let request = self.head.to(address, body);
            match self.in_time(attempt.sender.send(request)).instrument(part!(&self.span, "exchange")).await? {
                Ok(response) => {
                    let Attempt { key, sender, activity } = attempt;
                    let upgraded = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
                    let call = if upgraded { None } else { self.ways.pool.give_back(key, sender) };
                    return Ok(Exchanged { response, address, activity, call });
                }
                Err(mut failed) => {
                    debug!(target = %self.target, error = %failed.error(), "a request could not be sent");
                    let Some(request) = failed.take_message() else { return Err(self.lost()) };
                    record.retried();
                    body = request.into_body();
                }
            }
        }
        Err(Refusal::new(Reason::Unreachable, unreachable(self.target)))
    }

    /// An open connection, or else a new one.
    async fn attempt(&self) -> Result<Attempt, Refusal> {
        let ways = self.ways;
        if let Some(Awake { endpoint, mark }) = ways.backend.awake(self.target, &self.arrival) {
            let key = Key { target: self.target.clone(), endpoint };
            if let Some(sender) = ways.pool.take(&key, self.head.http2) {
                ways.metrics.used_connection(true);
                return Ok(Attempt { key, sender, activity: mark.begin() });
            }
        }
        let connected = ways.backend.connect(self.target, &self.arrival, self.deadlines.connect);
        let connected = connected.instrument(part!(&self.span, "connect")).await?;
        let Connected { stream, endpoint, activity } = connected;
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection to a sandbox ended at once");
        }
        let key = Key { target: self.target.clone(), endpoint };
        let begun = timeout_at(self.deadlines.connect, ways.pool.begin(&key, stream, self.head.http2)).await;
        match begun {
            Ok(Ok(sender)) => {
                ways.metrics.used_connection(false);
                Ok(Attempt { key, sender, activity })
            }
            Ok(Err(error)) => {
                debug!(target = %self.target, %error, "a connection to a sandbox could not begin");
                Err(self.lost())
            }
            Err(_elapsed) => Err(self.timed_out()),
        }
    }

    /// Waits for the head of the answer. The time that the client asked for begins again with every byte of its request.
    async fn in_time<T>(&self, sent: impl Future<Output = T>) -> Result<T, Refusal> {
        let own = self.deadlines.response_head.and_then(|limit| Instant::now().checked_add(limit));
        let cap = self.deadlines.head.into_iter().chain(own).min();
        let mut sent = pin!(sent);
        loop {
            let asked = self.deadlines.answer.map(|answer| self.progress.last() + answer);
            let Some(end) = cap.into_iter().chain(asked).min() else { return Ok(sent.await) };
            if let Ok(answer) = timeout_at(end, sent.as_mut()).await {
                return Ok(answer);
            }
            let moved = self.deadlines.answer.is_some_and(|answer| self.progress.last() + answer > end);
            if !moved || cap.is_some_and(|cap| cap <= end) {
                return Err(self.timed_out());
            }
        }
    }

    fn timed_out(&self) -> Refusal {
        let detail = format!("Timed out waiting for the backend sandbox: {}", self.target.name);
        Refusal::new(Reason::Timeout, detail)
    }

    fn lost(&self) -> Refusal {
        let reason = if self.exceeded.is_set() { Reason::BodyTooLarge } else { Reason::ConnectionLost };
        Refusal::new(reason, unreachable(self.target))
    }
}
