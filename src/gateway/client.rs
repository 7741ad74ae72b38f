//! The connections of clients: who they are, and how many there may be.

use std::net::IpAddr;
use std::sync::Arc;

use paddock_kube::peer::Peer;

use crate::limits::Limits;
use crate::metrics::{Inflight, Metrics};
use crate::shares::{Share, Shares};

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
    _of_tcp: Option<TcpShare>,
    _count: Inflight,
}

/// The part of a place that only TCP connections need.
#[derive(Debug)]
struct TcpShare {
    _of_all: Share<()>,
    _of_client: Share<Peer>,
}

/// The places of all listeners. Clones are handles on the same places.
#[derive(Clone)]
pub(crate) struct Places {
    all: Shares<()>,
    clients: Shares<Peer>,
    /// The places of TCP connections to ports: half of all, because these connections need no credential and stay for
    /// long. Requests always have the other half.
    tcp: Shares<()>,
    tcp_clients: Shares<Peer>,
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            all: Shares::new(limits.connections),
            clients: Shares::new(limits.connections_per_client),
            tcp: Shares::new(limits.connections.div_ceil(2)),
            tcp_clients: Shares::new(limits.connections_per_client.div_ceil(2)),
        }
    }

    /// A place for a connection with requests of this address, unless there are too many.
    pub(crate) fn admit(&self, address: IpAddr, scheme: &'static str, metrics: &Metrics) -> Option<Client> {
        self.place(address, scheme, None, metrics)
    }

    /// A place for a TCP connection to a port that stands for a Sandbox, unless there are too many.
    pub(crate) fn admit_tcp(&self, address: IpAddr, metrics: &Metrics) -> Option<Client> {
        let of_client = self.tcp_clients.take(&Peer::of(address))?;
        let of_all = self.tcp.take(&())?;
        self.place(address, "tcp", Some(TcpShare { _of_all: of_all, _of_client: of_client }), metrics)
    }

    fn place(
        &self,
        address: IpAddr,
        scheme: &'static str,
        of_tcp: Option<TcpShare>,
        metrics: &Metrics,
    ) -> Option<Client> {
        let of_client = self.clients.take(&Peer::of(address))?;
        let of_all = self.all.take(&())?;
        let place = Place { _of_all: of_all, _of_client: of_client, _of_tcp: of_tcp, _count: metrics.connection() };
        Some(Client { address, scheme, _place: Arc::new(place) })
    }
}
