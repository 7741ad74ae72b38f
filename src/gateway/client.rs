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
    _count: Inflight,
}

/// The places of all listeners. Clones are handles on the same places.
#[derive(Clone)]
pub(crate) struct Places {
    all: Shares<()>,
    clients: Shares<Peer>,
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { all: Shares::new(limits.connections), clients: Shares::new(limits.connections_per_client) }
    }

    /// A place for a connection of this address, unless there are too many.
    pub(crate) fn admit(&self, address: IpAddr, scheme: &'static str, metrics: &Metrics) -> Option<Client> {
        let of_client = self.clients.take(&Peer::of(address))?;
        let of_all = self.all.take(&())?;
        let place = Place { _of_all: of_all, _of_client: of_client, _count: metrics.connection() };
        Some(Client { address, scheme, _place: Arc::new(place) })
    }
}
