//! One connection of a client: HTTP/1.1 or HTTP/2, its timeouts, and its end.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::watched::{Version, Watched, version};
use crate::answer;
use crate::body::Body;
use crate::client::Client;
use crate::drain::Stage;
use crate::framing::{Scanner, Verdict, Verdicts};
use crate::kind::Kind;
use crate::limits;
use crate::metrics::ConnectionFault;
use crate::progress::Progress;
use crate::proxy::Proxy;
use crate::refusal::{Reason, Refusal};
use crate::requests::{Requests, Running};

/// One connection.
pub(super) struct Connection {
    client: Client,
    proxy: Arc<Proxy>,
    requests: Requests,
}

/// What the watchdog of a connection decides.
enum Watch {
    /// Nothing is wrong before this time.
    Until(Instant),
    /// The connection has been idle for long, and ends in order.
    Finish,
    /// The connection is cut.
    Cut(ConnectionFault),
}

impl Connection {
    pub(super) fn new(client: Client, proxy: Arc<Proxy>) -> Self {
        Self { client, proxy, requests: Requests::new() }
    }

    pub(super) async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (version, first) = match timeout(self.proxy.config.timeouts.request_head, version(&mut stream)).await {
            Ok(Ok(found)) => found,
            Ok(Err(_ended)) => return,
            Err(_elapsed) => return self.fault(ConnectionFault::SlowHead),
        };
        let progress = Progress::new();
        match version {
            Version::Http1 => self.http1(stream, first, progress).await,
            Version::Http2 => self.http2(stream, first, progress).await,
        }
    }

    async fn http1(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        first: Vec<u8>,
        progress: Progress,
    ) {
        let limits = &self.proxy.config.limits;
        let head = usize::try_from(limits.head_bytes).unwrap_or(usize::MAX);
        let verdicts = Verdicts::default();
        let scanner = Scanner::new(head, verdicts.clone(), self.proxy.large_heads.clone());
        let stream = Watched::http1(stream, first, scanner, progress.clone());
        let mut builder = http1::Builder::new();
        // The library's own timeouts do not tell a slow head from an idle connection. The watchdog below does.
        builder.timer(TokioTimer::new()).header_read_timeout(None).max_headers(limits.headers);
        builder.max_buf_size(head.max(limits::HTTP1_BUFFER));
        let service = service_fn({
            let (proxy, client, requests, verdicts) =
                (self.proxy.clone(), self.client.clone(), self.requests.clone(), verdicts.clone());
            move |request: Request<Incoming>| {
                let (proxy, client, verdicts) = (proxy.clone(), client.clone(), verdicts.clone());
                let running = requests.begin();
                async move {
                    let response = match verdicts.next() {
                        Verdict::Clear => over_http1(&proxy, request, &client, running, &verdicts).await,
                        Verdict::Ambiguous(detail) => closed(refuse(&proxy, detail)),
                    };
                    Ok::<_, Infallible>(response)
                }
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = pin!(connection);
        self.watch(connection.as_mut(), |connection| connection.graceful_shutdown(), &progress, Some(&verdicts)).await;
    }

    async fn http2(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        first: Vec<u8>,
        progress: Progress,
    ) {
        let limits = &self.proxy.config.limits;
        let stream = Watched::http2(stream, first, progress.clone());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.http2_streams)
            .max_header_list_size(limits.head_bytes)
            .max_frame_size(limits::HTTP2_FRAME)
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
            .max_send_buf_size(limits::HTTP2_SEND)
            .keep_alive_interval(limits::HTTP2_PING)
            .keep_alive_timeout(limits::HTTP2_PING);
        let service = service_fn({
            let (proxy, client, requests) = (self.proxy.clone(), self.client.clone(), self.requests.clone());
            move |request: Request<Incoming>| {
                let (proxy, client) = (proxy.clone(), client.clone());
                let running = requests.begin();
                async move { Ok::<_, Infallible>(proxy.handle(request, &client, running).await) }
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        self.watch(connection.as_mut(), |connection| connection.graceful_shutdown(), &progress, None).await;
    }

    /// Drives a connection until its end, and ends it in order or at once when a time has passed.
    async fn watch<C: Future<Output = hyper::Result<()>>>(
        &self,
        mut connection: Pin<&mut C>,
        finish: impl Fn(Pin<&mut C>),
        progress: &Progress,
        verdicts: Option<&Verdicts>,
    ) {
        let drain = &self.proxy.drain;
        // HTTP/2 tells the client which requests were taken, so its connections end at once. A connection of HTTP/1.1 may
        // be about to get a request, so it ends with its next answer, and at last with the drain.
        let end_at = if verdicts.is_some() { Stage::Draining } else { Stage::Announced };
        let mut finishing = false;
        loop {
            let next = match self.state(progress, verdicts, finishing) {
                Watch::Until(next) => next,
                Watch::Cut(fault) => return self.fault(fault),
                Watch::Finish => {
                    finishing = true;
                    finish(connection.as_mut());
                    continue;
                }
            };
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        if error.is_parse() || error.is_parse_too_large() {
                            self.fault(ConnectionFault::Protocol);
                        } else if verdicts.is_some_and(Verdicts::too_many_large_heads) {
                            self.fault(ConnectionFault::Refused);
                        }
                        debug!(%error, "a connection ended with an error");
                    }
                    return;
                }
                () = drain.reached(end_at), if !finishing => {
                    finishing = true;
                    finish(connection.as_mut());
                }
                () = self.client.leaves(), if !finishing => {
                    finishing = true;
                    finish(connection.as_mut());
                }
                () = drain.reached(Stage::Closing) => return,
                () = sleep_until(next) => {}
            }
        }
    }

    fn state(&self, progress: &Progress, verdicts: Option<&Verdicts>, finishing: bool) -> Watch {
        let timeouts = &self.proxy.config.timeouts;
        let now = Instant::now();
        if let Some(since) = verdicts.and_then(Verdicts::head_since) {
            let end = since + timeouts.request_head;
            if end <= now {
                return Watch::Cut(ConnectionFault::SlowHead);
            }
        }
        // A head may begin at any time, so the watchdog looks at least this often.
        let soon = now + timeouts.request_head / 2;
        let end = match self.requests.idle_since() {
            Some(since) if finishing => {
                // The client has been told to leave, and has no request.
                let end = since.max(progress.last()) + timeouts.request_head;
                if end <= now {
                    return Watch::Cut(ConnectionFault::Stalled);
                }
                end
            }
            Some(since) => {
                let end = since + timeouts.client_idle;
                if end <= now {
                    return Watch::Finish;
                }
                end
            }
            None if timeouts.stream_idle.is_zero() => now + Duration::from_secs(3600),
            None => {
                let end = progress.last() + timeouts.stream_idle;
                if end <= now {
                    return Watch::Cut(ConnectionFault::Stalled);
                }
                end
            }
        };
        Watch::Until(end.min(soon))
    }

    fn fault(&self, fault: ConnectionFault) {
        self.proxy.metrics.connection_fault(fault);
    }
}

async fn over_http1(
    proxy: &Arc<Proxy>,
    request: Request<Incoming>,
    client: &Client,
    running: Running,
    verdicts: &Verdicts,
) -> Response<Body> {
    let upgrade = request.headers().contains_key(UPGRADE);
    let response = proxy.handle(request, client, running).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        verdicts.upgraded();
        return response;
    }
    // The bytes behind a request for an upgrade were not judged.
    if upgrade || proxy.drain.stage() >= Stage::Announced { closed(response) } else { response }
}

fn closed(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refuse(proxy: &Proxy, detail: &'static str) -> Response<Body> {
    let refusal = Refusal::new(Reason::AmbiguousRequest, detail);
    proxy.metrics.refused(refusal.reason, crate::metrics::NO_NAMESPACE);
    answer::refuse(&refusal, Kind::Http, false)
}
