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
pub(crate) use self::connection::Running;
use crate::drain::Stage;
use crate::metrics::{ConnectionFault, Inflight};
use crate::peer::Peer;
use crate::proxy::Proxy;
use crate::shares::{Share, Shares};

/// The protocol of a listener.
#[derive(Clone)]
pub enum Protocol {
    /// HTTP without TLS.
    Plain,
    /// HTTP over TLS.
    Tls(Arc<ServerConfig>),
}

/// The facts about a client's connection. Clones are handles on the same connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The address of the client, or of the last proxy in front of the gateway.
    pub(crate) address: IpAddr,
    pub(crate) scheme: &'static str,
    _place: Arc<Place>,
}

/// The place of a connection. It is free again when the connection and its tunnel have ended.
#[derive(Debug)]
struct Place {
    _of_all: Share<()>,
    _of_client: Share<Peer>,
    _count: Inflight,
}

/// The places of all listeners. Clones are handles on the same places.
#[derive(Clone)]
pub(crate) struct Places {
    all: Shares<()>,
    clients: Shares<Peer>,
}

impl Places {
    pub(crate) fn new(limits: &crate::limits::Limits) -> Self {
        Self { all: Shares::new(limits.connections), clients: Shares::new(limits.connections_per_client) }
    }
}

/// Serves until the gateway drains. Open connections are tasks of the drain.
pub(crate) async fn serve(listener: TcpListener, protocol: Protocol, places: Places, proxy: Arc<Proxy>) {
    loop {
        let accepted = tokio::select! {
            () = proxy.drain.reached(Stage::Draining) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let address = address.ip().to_canonical();
                let Some(client) = admit(&places, &protocol, address, &proxy) else {
                    proxy.metrics.connection_fault(ConnectionFault::Refused);
                    continue;
                };
                let (proxy, protocol) = (proxy.clone(), protocol.clone());
                proxy.drain.tasks.clone().spawn(run(stream, protocol, client, proxy));
            }
            Err(error) => {
                // The process is most likely out of file descriptors. Open connections will close.
                warn!(%error, "a connection could not be accepted");
                sleep(paddock_kube::limits::ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

fn admit(places: &Places, protocol: &Protocol, address: IpAddr, proxy: &Proxy) -> Option<Client> {
    let of_client = places.clients.take(&Peer::of(address))?;
    let of_all = places.all.take(&())?;
    let place = Place { _of_all: of_all, _of_client: of_client, _count: proxy.metrics.connection() };
    let scheme = match protocol {
        Protocol::Plain => "http",
        Protocol::Tls(_) => "https",
    };
    Some(Client { address, scheme, _place: Arc::new(place) })
}

async fn run(stream: TcpStream, protocol: Protocol, client: Client, proxy: Arc<Proxy>) {
    // Answers must not wait for more data to fill a segment.
    if let Err(error) = stream.set_nodelay(true) {
        return debug!(%error, "a connection ended before it was served");
    }
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
