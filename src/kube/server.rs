//! Serves HTTP/1.1 and HTTP/2, over TLS or not, with limits that no silent or slow client can exhaust for others, and
//! ends in order.

mod connections;
mod intake;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Request, Version, header};
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt, service_fn};
use tracing::{debug, warn};

pub use self::connections::Incident;
use self::connections::{Connections, Place};
pub use self::intake::{Intake, Refused};
use crate::limits;
pub use crate::limits::ServerLimits;
use crate::peer::Peer;
use crate::turns::Turns;

/// The protocol of a listener.
#[derive(Clone)]
pub enum Protocol {
    /// HTTP without TLS.
    Plain,
    /// HTTP over TLS, with the configuration at the time of the handshake.
    Tls(Arc<ArcSwap<ServerConfig>>),
}

/// The properties of a server.
#[derive(Clone)]
pub struct Server {
    /// The protocol.
    pub protocol: Protocol,
    /// The limits of this server.
    pub limits: ServerLimits,
    /// Is called for each incident.
    pub on_incident: Arc<dyn Fn(Incident) + Send + Sync>,
}

/// The address of the client of a request, which the server adds to the extensions of each request. It is that of the
/// connection, so nobody can state another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddress(pub IpAddr);

/// Serves until `stop`, and then waits for the calls in flight for a limited time.
pub async fn serve(listener: TcpListener, server: Server, router: Router, stop: CancellationToken) {
    let connections = Connections::new(server.limits);
    let tasks = TaskTracker::new();
    // The connections that wait for a place. Addresses take turns.
    let mut waiting: Turns<Peer, (), (TcpStream, IpAddr)> = Turns::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let peer = Peer::of(address.ip());
                    if waiting.len() >= server.limits.connections / 2
                        && let Some(longest) = waiting.longest().map(|(peer, _)| *peer)
                    {
                        waiting.drop_of(&longest);
                        (server.on_incident)(Incident::ConnectionRefused);
                    }
                    waiting.push(peer, (), (stream, address.ip().to_canonical()));
                }
                Err(error) => {
                    // The process is most likely out of file descriptors. Open connections will close.
                    warn!(%error, "a connection could not be accepted");
                    sleep(limits::ACCEPT_RETRY_DELAY).await;
                }
            },
            () = sleep(limits::PLACE_POLL_INTERVAL), if !waiting.is_empty() => {}
        }
        let now = Instant::now();
        while let Some((stream, address)) = waiting.pop_of(|peer| connections.has_place(*peer, now)) {
            let peer = Peer::of(address);
            let Some(place) = connections.admit(peer, now, |incident| (server.on_incident)(incident)) else { break };
            let place = Arc::new(place);
            let connection = Connection { place, address, accepted: now, server: server.clone(), stop: stop.clone() };
            tasks.spawn(connection.run(stream, router.clone()));
        }
    }
    drop(listener);
    tasks.close();
    if timeout(limits::CONNECTION_DRAIN_TIMEOUT, tasks.wait()).await.is_err() {
        warn!("the time for the shutdown ended, and open connections were closed");
    }
}

struct Connection {
    place: Arc<Place>,
    address: IpAddr,
    accepted: Instant,
    server: Server,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, router: Router) {
        // Answers are small, so they must not wait for more data to fill a segment.
        if let Err(error) = stream.set_nodelay(true) {
            return debug!(%error, "a connection ended before it was served");
        }
        match &self.server.protocol {
            Protocol::Plain => self.serve(stream, router, false).await,
            Protocol::Tls(config) => {
                let handshake = TlsAcceptor::from(config.load_full()).accept(stream);
                let accepted = tokio::select! {
                    () = self.place.evicted() => return,
                    accepted = timeout_at(self.accepted + self.server.limits.first_request, handshake) => accepted,
                };
                match accepted {
                    Ok(Ok(stream)) => {
                        // A configuration that asks for certificates has a verifier, so a certificate is a verified one.
                        let is_verified = stream.get_ref().1.peer_certificates().is_some();
                        self.serve(stream, router, is_verified).await;
                    }
                    Ok(Err(error)) => debug!(%error, "the TLS handshake of a connection failed"),
                    Err(_elapsed) => (self.server.on_incident)(Incident::ConnectionSilent),
                }
            }
        }
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        router: Router,
        is_verified: bool,
    ) {
        let limits = self.server.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle)
            .max_buf_size(usize::try_from(limits.head).unwrap_or(usize::MAX));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.head)
            .initial_stream_window_size(limits::HTTP2_WINDOW)
            .initial_connection_window_size(limits::HTTP2_WINDOW)
            .keep_alive_interval(limits.idle)
            .keep_alive_timeout(limits.first_request);
        let http2 = Arc::new(AtomicBool::new(false));
        let service = self.service(router, http2.clone(), is_verified);
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = pin!(connection);
        let old = self.accepted + limits.age;
        let mut ending = false;
        loop {
            let silent = self.place.silent_at();
            // An old HTTP/1.1 connection ends with its next answer. If it ended between two requests, it could end
            // under a request that was just sent. HTTP/2 says which requests were taken.
            let aged = http2.load(Ordering::Relaxed) && !ending;
            let next = if aged { silent.min(old) } else { silent };
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(%error, "a connection ended with an error");
                    }
                    return;
                }
                () = self.place.evicted() => return,
                () = self.stop.cancelled(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep_until(next) => {
                    let now = Instant::now();
                    if self.place.silent_at() <= now {
                        (self.server.on_incident)(Incident::ConnectionSilent);
                        return;
                    }
                    if aged && old <= now {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }

    /// The router, with an intake for each request.
    fn service(
        &self,
        router: Router,
        http2: Arc<AtomicBool>,
        is_verified: bool,
    ) -> impl Service<
        Request<hyper::body::Incoming>,
        Response = Response,
        Error = std::convert::Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let place = self.place.clone();
        let address = RemoteAddress(self.address);
        let old = self.accepted + self.server.limits.age;
        service_fn(move |request: Request<hyper::body::Incoming>| {
            let (place, router, http2) = (place.clone(), router.clone(), http2.clone());
            async move {
                let version = request.version();
                http2.store(version == Version::HTTP_2, Ordering::Relaxed);
                let pending = Arc::new(place.begin());
                if request.body().is_end_stream() {
                    pending.connections.complete(pending.id);
                }
                let intake = Intake {
                    connections: pending.connections.clone(),
                    request: pending.clone(),
                    refused: pending.refused(),
                    peer: place.peer,
                    is_verified,
                    length: request.body().size_hint().exact().and_then(|length| usize::try_from(length).ok()),
                };
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(intake);
                request.extensions_mut().insert(address);
                let mut response = router.oneshot(request).await?;
                if response.status().is_success() {
                    place.prove();
                }
                if version != Version::HTTP_2 && old <= Instant::now() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                drop(pending);
                Ok(response)
            }
        })
    }
}
