//! The connections of clients: who they are, how many there may be, and who has to make room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use paddock_kube::peer::Peer;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::eviction::{Evictable, Standing};
use crate::limits::{self, Limits};
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

/// The turn of a connection for which another one has to leave. The other one may still write the end of an answer. The new
/// one is served after that, so there are never more of them than places. Meanwhile, it does not leave for others itself.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Is cancelled at the end of the other connection.
    other_ended: CancellationToken,
    _stays: Authorized,
}

/// The place of a connection. It is free again when the connection and its tunnel have ended. If the connection has to make
/// room, its place is that of the new one, whose [`Turn`] comes then.
#[derive(Debug)]
struct Place {
    table: Arc<Mutex<Table>>,
    id: u64,
    signals: Signals,
    _count: Inflight,
}

/// What the connections say to each other.
#[derive(Clone, Debug, Default)]
struct Signals {
    /// The connection is idle and has to make room, in order.
    leave: CancellationToken,
    /// The connection had no authorized request and has to make room, at once.
    cut: CancellationToken,
    /// The connection has ended.
    ended: CancellationToken,
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
    /// The authorized requests in flight. A TCP connection counts as one, and so does the wait for a [`Turn`].
    authorized: usize,
    signals: Signals,
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
    pub(crate) fn admit(
        &self,
        address: IpAddr,
        scheme: &'static str,
        metrics: &Metrics,
    ) -> Option<(Client, Option<Turn>)> {
        self.place(address, scheme, None, metrics)
    }

    /// A place for a TCP connection to a port that stands for a Sandbox, unless there are too many. A TCP connection makes
    /// no room for others, because nothing says whether its client uses it. No other connection makes room for it, because
    /// its client needs no credential.
    pub(crate) fn admit_tcp(&self, address: IpAddr, metrics: &Metrics) -> Option<Client> {
        let of_client = self.tcp_clients.take(&Peer::of(address))?;
        let of_all = self.tcp.take(&())?;
        let share = TcpShare { _of_all: of_all, _of_client: of_client };
        self.place(address, "tcp", Some(share), metrics).map(|(client, _)| client)
    }

    fn place(
        &self,
        address: IpAddr,
        scheme: &'static str,
        of_tcp: Option<TcpShare>,
        metrics: &Metrics,
    ) -> Option<(Client, Option<Turn>)> {
        let (peer, now, is_tcp) = (Peer::of(address), Instant::now(), of_tcp.is_some());
        let mut table = self.table.lock();
        let mut other_ended = None;
        let mut evict = |among| {
            other_ended = if is_tcp { None } else { table.evict(among, now) };
            other_ended.is_some().then(|| metrics.connection_fault(ConnectionFault::Evicted))
        };
        // A connection that leaves gives both shares, so one is enough.
        let of_client = self.clients.take(&peer);
        let of_client = of_client.or_else(|| evict(Some(peer)).and_then(|()| self.clients.take(&peer)))?;
        let of_all = self.all.take(&());
        let of_all = of_all.or_else(|| evict(None).and_then(|()| self.all.take(&())))?;
        let shares = PlaceShares { _of_client: of_client, _of_all: of_all, _of_tcp: of_tcp };
        let signals = Signals::default();
        let id = table.insert((peer, now), shares, signals.clone(), is_tcp || other_ended.is_some());
        let place = Arc::new(Place { table: self.table.clone(), id, signals, _count: metrics.connection() });
        let turn = other_ended.map(|other_ended| Turn { other_ended, _stays: Authorized(place.clone()) });
        Some((Client { address, scheme, place }, turn))
    }
}

impl Client {
    /// Records that a request of the connection was authorized. `None` if the connection has to make room for another one.
    pub(crate) fn authorized(&self) -> Option<Authorized> {
        let has_place = self.place.table.lock().begin(self.place.id);
        has_place.then(|| Authorized(self.place.clone()))
    }

    /// Ends when the connection is idle and has to make room for another one, so that it has to end in order. Its client
    /// may not have read the end of an answer yet.
    pub(crate) async fn leaves(&self) {
        self.place.signals.leave.cancelled().await;
    }

    /// Ends when the connection is closed to make room for another one.
    pub(crate) async fn evicted(&self) {
        let late = async {
            self.leaves().await;
            sleep(limits::EVICTION_GRACE).await;
        };
        tokio::select! {
            () = self.place.signals.cut.cancelled() => {}
            () = late => {}
        }
    }
}

impl Turn {
    /// Waits until the other connection has ended.
    pub(crate) async fn comes(self) {
        self.other_ended.cancelled().await;
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
        self.signals.ended.cancel();
    }
}

impl Table {
    fn insert(&mut self, (peer, since): (Peer, Instant), shares: PlaceShares, signals: Signals, stays: bool) -> u64 {
        self.next += 1;
        let standing = Standing { id: self.next, peer, is_proven: false, since };
        if !stays {
            self.evictable.insert(standing);
        }
        let entry = Entry { standing, authorized: usize::from(stays), signals, _shares: shares };
        self.connections.insert(self.next, entry);
        self.next
    }

    /// Tells the connection that has to leave first to do so, among those of one client or all. The result is cancelled at
    /// its end. `None` if no connection can leave.
    fn evict(&mut self, among: Option<Peer>, now: Instant) -> Option<CancellationToken> {
        let victim = self.evictable.victim(among, now)?;
        let Entry { standing, signals, .. } = self.remove(victim)?;
        if standing.is_proven {
            signals.leave.cancel();
        } else {
            signals.cut.cancel();
        }
        Some(signals.ended)
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.connections.remove(&id)?;
        if entry.authorized == 0 {
            self.evictable.remove(entry.standing);
        }
        Some(entry)
    }

    /// False if the connection has no place any more.
    fn begin(&mut self, id: u64) -> bool {
        let Some(entry) = self.connections.get_mut(&id) else { return false };
        if entry.authorized == 0 {
            self.evictable.remove(entry.standing);
        }
        entry.authorized += 1;
        entry.standing.is_proven = true;
        true
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
    use std::pin::pin;
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::time::advance;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn places(connections: usize, connections_per_client: usize) -> Places {
        Places::new(&Limits { connections, connections_per_client, ..Limits::DEFAULT })
    }

    fn is_evicted(client: &Client) -> bool {
        client.place.signals.leave.is_cancelled() || client.place.signals.cut.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn connections_without_an_authorized_request_make_room_before_idle_ones() {
        let (places, metrics) = (places(4, 3), Metrics::new().unwrap());
        let admit = |last| places.admit(address(last), "http", &metrics).map(|(client, _)| client);
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
        let admit = |last| places.admit(address(last), "http", &metrics).map(|(client, _)| client);
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
        let (http, _) = places.admit(address(2), "http", &metrics).unwrap();
        advance(Duration::from_secs(1)).await;
        assert!(places.admit_tcp(address(2), &metrics).is_none(), "TCP connections have half of the places");
        assert!(!is_evicted(&http));
        let request = http.authorized();
        assert!(places.admit(address(3), "http", &metrics).is_none());
        assert!(!is_evicted(&tcp));
        drop(request);
    }

    #[tokio::test(start_paused = true)]
    async fn no_connection_makes_room_for_a_tcp_connection() {
        let (places, metrics) = (places(4, 1), Metrics::new().unwrap());
        let admit = |last| places.admit(address(last), "http", &metrics).unwrap().0;
        let (unproven, idle) = ([admit(1), admit(2)], [admit(3), admit(4)]);
        idle.iter().for_each(|client| drop(client.authorized()));
        advance(Duration::from_secs(1)).await;
        for (last, full) in [(1, "the places of its address"), (3, "the places of its address"), (5, "all places")] {
            assert!(places.admit_tcp(address(last), &metrics).is_none(), "{full} are in use");
        }
        assert!(unproven.iter().chain(&idle).all(|client| !is_evicted(client)));
        assert!(places.admit(address(5), "http", &metrics).is_some(), "a connection with requests gets a place");
    }

    #[tokio::test(start_paused = true)]
    async fn new_connection_is_served_after_the_end_of_the_one_that_makes_room() {
        let (places, metrics) = (places(1, 1), Metrics::new().unwrap());
        let admit = |last| places.admit(address(last), "http", &metrics);
        let (idle, turn) = admit(1).unwrap();
        assert!(turn.is_none(), "there was a free place");
        drop(idle.authorized());
        let (next, turn) = admit(2).unwrap();
        advance(Duration::from_secs(1)).await;
        assert!(admit(3).is_none() && !is_evicted(&next), "a connection that waits for its turn stays");
        let mut comes = pin!(turn.unwrap().comes());
        assert!(comes.as_mut().now_or_never().is_none(), "the idle connection has not ended");
        assert!(idle.leaves().now_or_never().is_some() && idle.evicted().now_or_never().is_none());
        assert!(idle.authorized().is_none(), "a request would keep the connection and its place");
        drop(idle);
        comes.await;
        advance(Duration::from_secs(1)).await;
        assert!(admit(3).is_some());
        assert!(next.evicted().now_or_never().is_some(), "a connection without an authorized request has no time");
    }
}
