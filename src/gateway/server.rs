//! Accepts connections of clients, with or without TLS, within limits by client.

mod connection;
mod watched;

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use self::connection::Connection;
use crate::client::{Client, Places, Turn};
use crate::drain::Stage;
use crate::metrics::ConnectionFault;
use crate::proxy::Proxy;

/// The protocol of a listener.
#[derive(Clone)]
pub enum Protocol {
    /// HTTP without TLS.
    Plain,
    /// HTTP over TLS.
    Tls(Arc<ServerConfig>),
}

impl Protocol {
    fn scheme(&self) -> &'static str {
        match self {
            Protocol::Plain => "http",
            Protocol::Tls(_) => "https",
        }
    }
}

/// Serves until the gateway drains. Open connections are tasks of the drain.
pub(crate) async fn serve(listener: TcpListener, protocol: Protocol, places: Places, proxy: Arc<Proxy>) {
    loop {
        let (stream, address) = tokio::select! {
            () = proxy.drain.reached(Stage::Draining) => return,
            accepted = accept(&listener) => accepted,
        };
        let Some((client, turn)) = places.admit(address, protocol.scheme(), &proxy.metrics) else {
            proxy.metrics.connection_fault(ConnectionFault::Refused);
            continue;
        };
        let (proxy, protocol) = (proxy.clone(), protocol.clone());
        proxy.drain.tasks.clone().spawn(run(stream, protocol, (client, turn), proxy));
    }
}

/// Accepts the next connection, and returns it with the address of its client.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address.ip().to_canonical()),
            Err(error) => {
                // The process is most likely out of file descriptors. Open connections will close.
                warn!(%error, "a connection could not be accepted");
                sleep(paddock_kube::limits::ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn run(stream: TcpStream, protocol: Protocol, (client, turn): (Client, Option<Turn>), proxy: Arc<Proxy>) {
    if let Some(turn) = turn {
        turn.comes().await;
    }
    // Answers must not wait for more data to fill a segment.
    if let Err(error) = stream.set_nodelay(true) {
        return debug!(%error, "a connection ended before it was served");
    }
    let place = client.clone();
    tokio::select! {
        biased;
        () = place.evicted() => debug!("a connection was closed, because a new one needed its place"),
        () = handshake(stream, protocol, client, proxy) => {}
    }
}

/// Serves a connection after its TLS handshake, if it has one.
async fn handshake(stream: TcpStream, protocol: Protocol, client: Client, proxy: Arc<Proxy>) {
    match protocol {
        Protocol::Plain => Connection::new(client, proxy).serve(stream).await,
        Protocol::Tls(config) => {
            let handshake = TlsAcceptor::from(config).accept(stream);
            let end = Instant::now() + proxy.config.timeouts.handshake;
            match timeout_at(end, handshake).await {
                Ok(Ok(stream)) => Connection::new(client, proxy).serve(stream).await,
                Ok(Err(error)) => {
                    proxy.metrics.connection_fault(ConnectionFault::Handshake);
                    debug!(%error, "the TLS handshake of a connection failed");
                }
                Err(_elapsed) => proxy.metrics.connection_fault(ConnectionFault::Handshake),
            }
        }
    }
}
