//! Connections to Sandboxes, and their reuse. A connection is reused only for the same Sandbox, port, pod and address,
//! so a request never reaches a pod that took over the address of another one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::body::Body;
use crate::limits;
use crate::requests::{Requests, Running};
use crate::sandboxes::Endpoint;
use crate::target::Target;
use crate::timeouts::Timeouts;

/// The only use of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) target: Target,
    pub(crate) endpoint: Endpoint,
}

/// The open connections. Clones are handles on the same connections.
#[derive(Clone)]
pub(crate) struct Pool {
    table: Arc<Mutex<Table>>,
    timeouts: Timeouts,
}

#[derive(Default)]
struct Table {
    http1: HashMap<Key, Vec<Idle>>,
    http2: HashMap<Key, Vec<Shared>>,
    idle: usize,
}

struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
}

#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Body>,
    calls: Requests,
}

/// A connection that one request may use.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Body>),
    /// The call keeps the connection open until it is dropped.
    Http2(http2::SendRequest<Body>, Running),
}

impl Sender {
    /// Sends a request. The error contains the request if no byte of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match self {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender, _) => sender.try_send_request(request).await,
        }
    }
}

impl Pool {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        Self { table: Arc::default(), timeouts }
    }

    /// An open connection, if there is one that can take a request.
    pub(crate) fn take(&self, key: &Key, http2: bool) -> Option<Sender> {
        let mut table = self.table.lock();
        if http2 {
            let shared = table.http2.get_mut(key)?;
            shared.retain(|shared| !shared.sender.is_closed());
            return shared.iter().find_map(Shared::call);
        }
        let now = Instant::now();
        loop {
            let idle = table.http1.get_mut(key)?.pop();
            let Some(idle) = idle else {
                table.http1.remove(key);
                return None;
            };
            table.idle -= 1;
            if idle.sender.is_ready() && now.duration_since(idle.since) < self.timeouts.sandbox_idle {
                return Some(Sender::Http1(idle.sender));
            }
        }
    }

    /// Begins HTTP on an open connection.
    pub(crate) async fn begin(&self, key: &Key, stream: TcpStream, http2: bool) -> hyper::Result<Sender> {
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
                .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW);
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "an HTTP/2 connection to a sandbox ended with an error");
                }
            });
            let shared = Shared { sender, calls: Requests::new() };
            let (sender, call) = (shared.sender.clone(), shared.calls.begin());
            self.table.lock().http2.entry(key.clone()).or_default().push(shared);
            return Ok(Sender::Http2(sender, call));
        }
        let mut builder = http1::Builder::new();
        builder.max_buf_size(limits::UPSTREAM_BUFFER);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "a connection to a sandbox ended with an error");
            }
        });
        Ok(Sender::Http1(sender))
    }

    /// Keeps the connection for the next request, as soon as this one and its answer are complete.
    pub(crate) fn give_back(&self, key: Key, sender: Sender) -> Option<Running> {
        match sender {
            Sender::Http2(_, call) => Some(call),
            Sender::Http1(mut sender) => {
                let table = self.table.clone();
                tokio::spawn(async move {
                    if sender.ready().await.is_err() {
                        return;
                    }
                    let mut table = table.lock();
                    if table.idle >= limits::IDLE {
                        return;
                    }
                    let idle = table.http1.entry(key).or_default();
                    if idle.len() < limits::IDLE_PER_ENDPOINT {
                        idle.push(Idle { sender, since: Instant::now() });
                        table.idle += 1;
                    }
                });
                None
            }
        }
    }

    /// Closes connections that nobody uses, until the future is dropped.
    pub(crate) async fn sweep(&self) {
        loop {
            sleep(limits::SWEEP_INTERVAL).await;
            self.close_unused(Instant::now());
        }
    }

    /// The connections that wait for their next request.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.table.lock().idle
    }

    fn close_unused(&self, now: Instant) {
        let mut table = self.table.lock();
        let mut left = 0;
        table.http1.retain(|_, idle| {
            idle.retain(|idle| idle.sender.is_ready() && now.duration_since(idle.since) < self.timeouts.sandbox_idle);
            left += idle.len();
            !idle.is_empty()
        });
        table.idle = left;
        table.http2.retain(|_, shared| {
            shared.retain(|shared| !shared.sender.is_closed() && !shared.unused(now, self.timeouts.sandbox_idle_http2));
            !shared.is_empty()
        });
    }
}

impl Shared {
    /// A call, if the other side takes one more.
    fn call(&self) -> Option<Sender> {
        let room = self.calls.running() < limits::CALLS_PER_CONNECTION;
        (room && self.sender.is_ready()).then(|| Sender::Http2(self.sender.clone(), self.calls.begin()))
    }

    fn unused(&self, now: Instant, idle: Duration) -> bool {
        self.calls.idle_since().is_some_and(|since| now.duration_since(since) >= idle)
    }
}
