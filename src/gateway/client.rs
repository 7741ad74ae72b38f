//! The connections of clients: who they are, how many there may be, and how many requests each of them has.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use paddock_kube::peer::Peer;
use parking_lot::Mutex;
use tokio::time::Instant;

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

/// The requests of a connection that have not ended. Clones are handles on the same count.
#[derive(Clone, Debug)]
pub(crate) struct Requests(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    running: AtomicUsize,
    ended: Mutex<Instant>,
}

/// A request that has not ended.
#[derive(Debug)]
pub(crate) struct Running(Requests);

impl Requests {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Counted { running: AtomicUsize::new(0), ended: Mutex::new(Instant::now()) }))
    }

    pub(crate) fn begin(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    /// The time since which there is no request.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.0.running.load(Ordering::Relaxed) == 0).then(|| *self.0.ended.lock())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.0.ended.lock() = Instant::now();
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
