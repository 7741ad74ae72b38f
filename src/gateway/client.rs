//! The connections of clients: who they are, how many there may be, and who has to make room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use paddock_kube::peer::Peer;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::eviction::{Evictable, Standing};
use crate::limits::Limits;
use crate::metrics::{ConnectionFault, Inflight, Metrics};
use crate::shares::{Share, Shares};

/// The facts about a client's connection. Clones are handles on the same connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The address of the client, or of the last proxy in front of the gateway.
    pub(crate) address: IpAddr,
    pub(crate) scheme: &'static str,
    place: Arc<Place>,
}

/// An authorized request. Its connection is not closed to make room for others until this is dropped.
#[derive(Debug)]
pub(crate) struct Authorized(Arc<Place>);

/// The place of a connection. It is free again when the connection and its tunnel have ended, or when the connection has to
/// make room.
#[derive(Debug)]
struct Place {
    table: Arc<Mutex<Table>>,
    id: u64,
    evicted: CancellationToken,
    _count: Inflight,
}

/// The connections that have a place.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    connections: HashMap<u64, Entry>,
    evictable: Evictable,
}

#[derive(Debug)]
struct Entry {
    standing: Standing,
    /// The authorized requests in flight. A TCP connection counts as one.
    authorized: usize,
    evict: CancellationToken,
    _shares: PlaceShares,
}

/// The shares of one place.
#[derive(Debug)]
struct PlaceShares {
    _of_client: Share<Peer>,
    _of_all: Share<()>,
    _of_tcp: Option<TcpShare>,
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
    table: Arc<Mutex<Table>>,
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            all: Shares::new(limits.connections),
            clients: Shares::new(limits.connections_per_client),
            tcp: Shares::new(limits.connections.div_ceil(2)),
            tcp_clients: Shares::new(limits.connections_per_client.div_ceil(2)),
            table: Arc::default(),
        }
    }

    /// A place for a connection with requests of this address. Another connection may have to make room. `None` if there
    /// are too many, and each of them is new or has an authorized request.
    pub(crate) fn admit(&self, address: IpAddr, scheme: &'static str, metrics: &Metrics) -> Option<Client> {
        self.place(address, scheme, None, metrics)
    }

    /// A place for a TCP connection to a port that stands for a Sandbox, unless there are too many. A TCP connection makes
    /// no room for others, because nothing says whether its client uses it.
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
        let (peer, now) = (Peer::of(address), Instant::now());
        let mut table = self.table.lock();
        let mut evict = |among| table.evict(among, now).then(|| metrics.connection_fault(ConnectionFault::Evicted));
        let of_client = self.clients.take(&peer);
        let of_client = of_client.or_else(|| evict(Some(peer)).and_then(|()| self.clients.take(&peer)))?;
        let of_all = self.all.take(&());
        let of_all = of_all.or_else(|| evict(None).and_then(|()| self.all.take(&())))?;
        let is_tcp = of_tcp.is_some();
        let shares = PlaceShares { _of_client: of_client, _of_all: of_all, _of_tcp: of_tcp };
        let evicted = CancellationToken::new();
        let id = table.insert((peer, now), shares, evicted.clone(), is_tcp);
        let place = Place { table: self.table.clone(), id, evicted, _count: metrics.connection() };
        Some(Client { address, scheme, place: Arc::new(place) })
    }
}

impl Client {
    /// Records that a request of the connection was authorized.
    pub(crate) fn authorized(&self) -> Authorized {
        self.place.table.lock().begin(self.place.id);
        Authorized(self.place.clone())
    }

    /// Ends when the connection has to make room for another one.
    pub(crate) async fn evicted(&self) {
        self.place.evicted.cancelled().await;
    }
}

impl Drop for Authorized {
    fn drop(&mut self) {
        self.0.table.lock().end(self.0.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().remove(self.id);
    }
}

impl Table {
    fn insert(
        &mut self,
        (peer, since): (Peer, Instant),
        shares: PlaceShares,
        evict: CancellationToken,
        stays: bool,
    ) -> u64 {
        self.next += 1;
        let standing = Standing { id: self.next, peer, is_proven: false, since };
        if !stays {
            self.evictable.insert(standing);
        }
        let entry = Entry { standing, authorized: usize::from(stays), evict, _shares: shares };
        self.connections.insert(self.next, entry);
        self.next
    }

    /// Closes the connection that has to leave first, among those of one client or all. False if there is none.
    fn evict(&mut self, among: Option<Peer>, now: Instant) -> bool {
        let entry = self.evictable.victim(among, now).and_then(|victim| self.remove(victim));
        entry.is_some_and(|entry| {
            entry.evict.cancel();
            true
        })
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.connections.remove(&id)?;
        if entry.authorized == 0 {
            self.evictable.remove(entry.standing);
        }
        Some(entry)
    }

    fn begin(&mut self, id: u64) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        if entry.authorized == 0 {
            self.evictable.remove(entry.standing);
        }
        entry.authorized += 1;
        entry.standing.is_proven = true;
    }

    fn end(&mut self, id: u64) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        entry.authorized -= 1;
        entry.standing.since = Instant::now();
        if entry.authorized == 0 {
            self.evictable.insert(entry.standing);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn places(connections: usize, connections_per_client: usize) -> Places {
        Places::new(&Limits { connections, connections_per_client, ..Limits::DEFAULT })
    }

    fn is_evicted(client: &Client) -> bool {
        client.place.evicted.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn connections_without_an_authorized_request_make_room_before_idle_ones() {
        let (places, metrics) = (places(4, 3), Metrics::new().unwrap());
        let admit = |last| places.admit(address(last), "http", &metrics);
        let busy = admit(1).unwrap();
        let request = busy.authorized();
        let idle = admit(2).unwrap();
        drop(idle.authorized());
        let (silent, other) = (admit(3).unwrap(), admit(3).unwrap());
        advance(Duration::from_secs(1)).await;
        let fourth = admit(4).unwrap();
        assert!(is_evicted(&silent) && !is_evicted(&other) && !is_evicted(&idle));
        let fifth = admit(5).unwrap();
        assert!(is_evicted(&other) && !is_evicted(&idle) && !is_evicted(&fourth));
        let of_fourth = fourth.authorized();
        let of_fifth = fifth.authorized();
        let _sixth = admit(6).unwrap();
        assert!(is_evicted(&idle), "the other connections are new or busy");
        assert!(admit(7).is_none(), "the last place is that of a new connection");
        assert!(!is_evicted(&busy) && !is_evicted(&fourth) && !is_evicted(&fifth));
        drop((request, of_fourth, of_fifth));
    }

    #[tokio::test(start_paused = true)]
    async fn client_with_too_many_connections_makes_room_itself() {
        let (places, metrics) = (places(8, 2), Metrics::new().unwrap());
        let admit = |last| places.admit(address(last), "http", &metrics);
        let other = admit(1).unwrap();
        advance(Duration::from_secs(1)).await;
        let (first, second) = (admit(2).unwrap(), admit(2).unwrap());
        advance(Duration::from_secs(1)).await;
        let third = admit(2).unwrap();
        assert!(is_evicted(&first) && !is_evicted(&second) && !is_evicted(&other));
        // The place of a connection is given back once, whether it was evicted or not.
        drop((first, second, third));
        assert_eq!(places.table.lock().connections.len(), 1);
        assert!(admit(2).is_some());
        drop(other);
        assert!(places.table.lock().connections.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn tcp_connection_makes_no_room() {
        let (places, metrics) = (places(2, 2), Metrics::new().unwrap());
        let tcp = places.admit_tcp(address(1), &metrics).unwrap();
        let http = places.admit(address(2), "http", &metrics).unwrap();
        advance(Duration::from_secs(1)).await;
        assert!(places.admit_tcp(address(2), &metrics).is_none(), "TCP connections have half of the places");
        assert!(!is_evicted(&http));
        let request = http.authorized();
        assert!(places.admit(address(3), "http", &metrics).is_none());
        assert!(!is_evicted(&tcp));
        drop(request);
    }
}
