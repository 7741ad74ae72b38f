//! Takes one request from its head to the end of its answer: route, credential, authorization, limits, connection.

pub(crate) mod backend;
mod deadline;
mod exchange;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use self::tests::config as tests_config;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use paddock_kube::budget::{Budget, Bytes};
use paddock_kube::peer::Peer;
use tracing::{Instrument, debug};

use self::backend::Backend;
use self::deadline::Deadlines;
use self::exchange::{Exchange, Exchanged, Ways};
use crate::answer;
use crate::arrival::Arrival;
use crate::authorize::Caller;
use crate::body::{Body, BodyError, BodyGuard, Exceeded, Guarded, Limited, Moving, full};
use crate::client::{Authorized, Client};
use crate::config::ProxyConfig;
use crate::drain::Drain;
use crate::forward::{Inbound, client_host, remove_hop_by_hop, request_head};
use crate::kind::{Kind, is_upgrade};
use crate::limits;
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::record::Record;
use crate::refusal::{Reason, Refusal};
use crate::requests::Running;
use crate::route::{Route, Routed, RoutedBy};
use crate::sandboxes::Activity;
use crate::shares::{Share, Shares};
use crate::target::Target;
use crate::tunnel::{Protocol, Tunnel};
use crate::upstream::Pool;
use crate::{grpc, rewrite, trace_context};

/// The proxy of one gateway.
pub(crate) struct Proxy {
    pub(crate) config: ProxyConfig,
    pub(crate) ways: Ways,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
    /// The bytes of large heads that are not complete.
    pub(crate) large_heads: Budget<()>,
    clients: Shares<Peer>,
    targets: Shares<(Arc<str>, Arc<str>)>,
    unauthorized: Budget<Peer>,
    forwarded: Budget<Arc<str>>,
}

/// Everything that a request keeps until its answer has ended.
struct Holds {
    _activity: Activity,
    _authorized: Authorized,
    _call: Option<Running>,
    _client: Share<Peer>,
    _target: Share<(Arc<str>, Arc<str>)>,
    _bytes: Bytes<Arc<str>>,
}

/// The shares of a TCP connection that is forwarded, until it is dropped.
pub(crate) struct StreamShares {
    _client: Share<Peer>,
    _target: Share<(Arc<str>, Arc<str>)>,
    _bytes: Bytes<Arc<str>>,
}

/// The outcome of a request that was not refused.
enum Outcome {
    /// An answer of the gateway itself.
    Own(Response<Body>),
    /// The answer of the Sandbox.
    Sandbox(Response<Body>, Holds),
    /// The Sandbox agreed to another protocol.
    Upgraded(Response<Body>, Tunnel, Holds),
}

struct Guards {
    record: Record,
    _holds: Holds,
    _running: Running,
}

impl BodyGuard for Guards {
    fn passed(&mut self, bytes: u64) {
        self.record.passed(bytes);
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.record.trailers(trailers);
    }

    fn failed(&mut self, error: &BodyError) {
        self.record.failed(error);
    }
}

impl Proxy {
    pub(crate) fn new(config: ProxyConfig, backend: impl Backend, metrics: Metrics) -> Self {
        Self {
            ways: Ways { backend: Box::new(backend), pool: Pool::new(config.timeouts), metrics: metrics.clone() },
            clients: Shares::new(config.limits.requests_per_client),
            targets: Shares::new(config.limits.requests_per_sandbox),
            large_heads: Budget::new(config.limits.large_heads),
            unauthorized: Budget::new(config.limits.unauthorized),
            forwarded: Budget::new(config.limits.forwarded),
            drain: Drain::new(),
            config,
            metrics,
        }
    }

    /// Answers one request.
    pub(crate) async fn handle(&self, request: Request<Incoming>, client: &Client, running: Running) -> Response<Body> {
        let kind = Kind::of(&request);
        let browser = answer::is_browser(request.method(), request.headers());
        let routed = match self.config.router.route(&request) {
            Ok(Route::Health) => return health(),
            Ok(Route::Sandbox(routed)) => Ok(routed),
            Err(refusal) => Err(refusal),
        };
        let mut record = Record::new(&self.metrics, self.config.access_log, request.method(), client.address);
        if !request.body().is_end_stream() {
            // Nothing of it is read before the request is sent.
            record.body(Progress::new());
        }
        let outcome = match routed {
            Ok(routed) => self.attempt(request, &routed, kind, client, &mut record).await,
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(Outcome::Own(response)) => {
                record.answered(response.status(), response.headers());
                own(response, record)
            }
            Ok(Outcome::Sandbox(response, holds)) => {
                record.answered(response.status(), response.headers());
                let guards = Guards { record, _holds: holds, _running: running };
                response.map(|body| Guarded::new(body, guards).boxed_unsync())
            }
            Ok(Outcome::Upgraded(response, tunnel, holds)) => {
                record.answered(response.status(), response.headers());
                let (timeouts, drain, client) = (self.config.timeouts, self.drain.clone(), client.clone());
                self.drain.tasks.spawn(async move {
                    let ended = tunnel.run(&timeouts, &drain).await;
                    record.streamed(ended.bytes, ended.from_client);
                    if ended.cut {
                        record.cut();
                    }
                    drop((record, holds, client));
                });
                response
            }
            Err(refusal) => {
                debug!(reason = refusal.reason.as_str(), detail = refusal.detail, "a request was refused");
                record.refused(&refusal);
                let response = answer::refuse(&refusal, kind, browser);
                record.answered(response.status(), response.headers());
                own(response, record)
            }
        }
    }

    /// The shares of a TCP connection. It has the limits of a request.
    ///
    /// # Errors
    /// If the client, the Sandbox or the namespace has used its share.
    pub(crate) fn stream_shares(&self, client: IpAddr, target: &Target) -> Result<StreamShares, Refusal> {
        let of_client = self.clients.take(&Peer::of(client)).ok_or_else(client_busy)?;
        let of_target = self.targets.take(&(target.namespace.clone(), target.name.clone())).ok_or_else(sandbox_busy)?;
        let bytes = self.forwarded.take(&target.namespace, limits::FORWARDED_REQUEST).ok_or_else(namespace_busy)?;
        Ok(StreamShares { _client: of_client, _target: of_target, _bytes: bytes })
    }

    async fn attempt(
        &self,
        mut request: Request<Incoming>,
        routed: &Routed,
        kind: Kind,
        client: &Client,
        record: &mut Record,
    ) -> Result<Outcome, Refusal> {
        record.target(&routed.target);
        self.check_headers(&request, &routed.target)?;
        let upgrade = kind == Kind::Http && is_upgrade(request.version(), request.headers());
        let on_upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        let span = trace_context::begin(&parts.method, &routed.target, &mut parts.headers);
        record.traced(span.clone(), &parts.headers);
        let scheme = self.config.sessions.scheme(&parts, client.scheme);
        let found = self.config.sessions.take(&mut parts, routed, scheme).inspect_err(|_| record.decided(false))?;
        let of_client = self.clients.take(&Peer::of(client.address));
        let of_client = of_client.ok_or_else(client_busy)?;
        let held_bytes = held_bytes(&parts, &body);
        let waits = self.unauthorized.take(&Peer::of(client.address), held_bytes);
        let waits = waits.ok_or_else(|| busy(Reason::ClientBusy, "Too many bytes of requests of this client wait."))?;
        let check = self.ways.backend.check(&found.credential, client.address, &routed.target);
        let admitted = check.instrument(trace_context::part!(&span, "authorize")).await;
        record.decided(admitted.is_ok());
        if let Ok(Caller { name: user, .. }) | Err(Refusal { user: Some(user), .. }) = &admitted {
            record.user(user.clone());
        }
        let Caller { only, .. } = admitted?;
        let authorized = client.authorized().ok_or_else(no_place)?;
        drop(waits);
        if let Some(response) = self.config.sessions.begin(&found, routed, &parts.method, upgrade) {
            return Ok(Outcome::Own(response));
        }
        let sandbox = (routed.target.namespace.clone(), routed.target.name.clone());
        let of_target = self.targets.take(&sandbox);
        let of_target = of_target.ok_or_else(sandbox_busy)?;

        let bytes = self.forwarded.take(&routed.target.namespace, limits::FORWARDED_REQUEST + held_bytes);
        let bytes = bytes.ok_or_else(namespace_busy)?;

        let deadlines = Deadlines::of(&parts.headers, kind, upgrade, &self.config.timeouts)?;
        let inbound = Inbound {
            client: client.address,
            scheme,
            kind,
            upgrade,
            by: &routed.by,
            keep_host: self.config.preserve_host,
            call: deadlines.call,
        };
        // Only the answers to requests by path name a host that is rewritten.
        let client_host = matches!(routed.by, RoutedBy::Path(_)).then(|| client_host(&parts)).flatten();
        let exceeded = Exceeded::default();
        let exchange = Exchange {
            ways: &self.ways,
            target: &routed.target,
            arrival: Arrival {
                client: client.address,
                purpose: self.config.probes.purpose(&parts.headers, found.path.path()),
                held_bytes,
                only,
            },
            head: request_head(parts, found.path, &inbound),
            deadlines,
            exceeded: exceeded.clone(),
            progress: Progress::new(),
            span,
        };
        if !body.is_end_stream() {
            record.body(exchange.progress.clone());
        }
        let body = self.request_body(Moving::new(body, exchange.progress.clone()), kind, exceeded.clone());
        let Exchanged { response, address, activity, call } = exchange.run(body, record).await?;
        let holds = Holds {
            _activity: activity,
            _authorized: authorized,
            _call: call,
            _client: of_client,
            _target: of_target,
            _bytes: bytes,
        };
        let answered = Answered { routed, kind, deadlines, exceeded, address, client_host };
        self.outcome(response, &answered, on_upgrade, holds)
    }

    fn check_headers(&self, request: &Request<Incoming>, target: &Target) -> Result<(), Refusal> {
        if request.headers().len() > self.config.limits.headers {
            return Err(Refusal::new(Reason::HeadersTooLarge, "The request has too many headers."));
        }
        let length = request.headers().get(http::header::CONTENT_LENGTH);
        let length: Option<u64> = length.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        match (length, self.config.limits.body_bytes) {
            (Some(length), Some(limit)) if length > limit => {
                Err(Refusal::new(Reason::BodyTooLarge, crate::refusal::unreachable(target)))
            }
            (_, _) => Ok(()),
        }
    }

    fn request_body(&self, body: Moving<Incoming>, kind: Kind, exceeded: Exceeded) -> Body {
        let body = match self.config.limits.body_bytes {
            Some(limit) => Limited::new(body, limit, exceeded).boxed_unsync(),
            None => body.map_err(Into::into).boxed_unsync(),
        };
        match kind {
            Kind::GrpcWeb(encoding) => grpc::web::request_body(body, encoding),
            Kind::Http | Kind::Grpc => body,
        }
    }

    /// The answer of the Sandbox as the client gets it.
    fn outcome(
        &self,
        mut response: Response<Incoming>,
        answered: &Answered<'_>,
        on_upgrade: Option<OnUpgrade>,
        holds: Holds,
    ) -> Result<Outcome, Refusal> {
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let sandbox = hyper::upgrade::on(&mut response);
        let (mut parts, body) = response.into_parts();
        let protocol = parts.headers.get(UPGRADE).cloned();
        remove_hop_by_hop(&mut parts.headers);
        parts.version = Version::default();
        parts.extensions = http::Extensions::default();
        rewrite::confine(&mut parts.headers, self.config.sessions.cookie.as_deref());
        if let RoutedBy::Path(front) = &answered.routed.by {
            rewrite::isolate(&mut parts.headers);
            if self.config.rewrite_responses {
                let address = answered.address.to_string();
                let client_host = answered.client_host.as_ref().and_then(|host| host.to_str().ok());
                let client_host = client_host.filter(|host| !host.is_empty());
                let hosts: Vec<&str> = std::iter::once(address.as_str()).chain(client_host).collect();
                rewrite::under(&mut parts.headers, front, &hosts);
            }
        }
        if switched {
            let (Some(client), Some(protocol)) = (on_upgrade, protocol) else {
                let detail = crate::refusal::unreachable(&answered.routed.target);
                return Err(Refusal::new(Reason::ConnectionLost, detail));
            };
            let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
            parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            parts.headers.insert(UPGRADE, protocol);
            let protocol = if websocket { Protocol::WebSocket } else { Protocol::Other };
            let tunnel = Tunnel { client, sandbox, protocol };
            return Ok(Outcome::Upgraded(Response::from_parts(parts, crate::body::empty()), tunnel, holds));
        }
        let of_call = |body| grpc::Answer::new(body, answered.deadlines.call, answered.exceeded.clone()).boxed_unsync();
        let body = match answered.kind {
            Kind::Http => body.map_err(Into::into).boxed_unsync(),
            Kind::Grpc => of_call(body),
            Kind::GrpcWeb(encoding) => {
                let content_type = grpc::web::content_type(encoding, parts.headers.get(CONTENT_TYPE));
                parts.headers.insert(CONTENT_TYPE, content_type);
                parts.headers.remove(http::header::CONTENT_LENGTH);
                grpc::web::response_body(of_call(body), encoding)
            }
        };
        Ok(Outcome::Sandbox(Response::from_parts(parts, body), holds))
    }
}

/// The facts about a request that its answer depends on.
struct Answered<'a> {
    routed: &'a Routed,
    kind: Kind,
    deadlines: Deadlines,
    exceeded: Exceeded,
    address: SocketAddr,
    client_host: Option<HeaderValue>,
}

/// The most bytes of a request that are in memory while it is held. Its body is not read before the Sandbox answers, so
/// only the window of HTTP/2 or the first read of HTTP/1.1 counts.
fn held_bytes(parts: &http::request::Parts, body: &Incoming) -> usize {
    let window =
        if parts.version == Version::HTTP_2 { limits::HTTP2_STREAM_WINDOW as usize } else { limits::HTTP1_READ };
    let length = body.size_hint().upper().map_or(window, |length| usize::try_from(length).unwrap_or(window));
    let head: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    head + length.min(window)
}

fn busy(reason: Reason, detail: &'static str) -> Refusal {
    Refusal::new(reason, detail).retry_after(limits::BUSY_RETRY_AFTER)
}

fn client_busy() -> Refusal {
    busy(Reason::ClientBusy, "Too many concurrent requests of this client.")
}

/// The refusal of a request on a connection that has to end in order. A stream could otherwise outlast its place.
fn no_place() -> Refusal {
    busy(Reason::ClientBusy, "The connection has to make room for another one.")
}

fn sandbox_busy() -> Refusal {
    busy(Reason::SandboxBusy, "Too many concurrent requests to this sandbox.")
}

fn namespace_busy() -> Refusal {
    busy(Reason::SandboxBusy, "Too many concurrent requests to the sandboxes of this namespace.")
}

/// An answer of the gateway itself, whose body is counted too.
fn own(response: Response<Body>, record: Record) -> Response<Body> {
    response.map(|body| Guarded::new(body, record).boxed_unsync())
}

fn health() -> Response<Body> {
    let mut response = Response::new(full("{\"status\":\"ok\"}\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
