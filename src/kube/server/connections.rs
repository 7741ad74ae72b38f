//! The connections and the requests of a server, and who has to make room when there are too many.
//!
//! A resource is never held by a client that has shown nothing. A connection counts as *unproven* until a request on it
//! was answered with success. If a new connection finds no place, the oldest unproven connection of the address with
//! the most of them is closed, and then idle ones. Each connection has a tenth of a second to show something, and a new one
//! waits meanwhile. If a body finds no room, the largest unfinished request of the
//! address that holds the most bytes is refused. So the client that takes most makes room first, and a client that
//! takes little keeps what it has.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use strum::{IntoStaticStr, VariantArray};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{self, ServerLimits};
use crate::peer::Peer;
use crate::turns::Turns;

/// An event that the limits of a server caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Incident {
    /// A silent connection was closed, because a new one needed its place.
    ConnectionEvicted,
    /// A connection that waited for a place was closed, because too many waited.
    ConnectionRefused,
    /// A connection was closed, because it sent no complete request in time.
    ConnectionSilent,
}

impl Incident {
    /// The word in the label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The table of one server. Clones are handles on the same table.
#[derive(Clone)]
pub(super) struct Connections {
    table: Arc<Mutex<Table>>,
    limits: ServerLimits,
}

#[derive(Default)]
struct Table {
    next: u64,
    connections: HashMap<u64, Connection>,
    requests: HashMap<u64, Request>,
    /// The bytes of the buffers of all bodies, complete or not.
    bytes: usize,
    small: Lane,
    large: Lane,
}

/// The requests that wait for memory, either the small ones or the large ones.
#[derive(Default)]
struct Lane {
    /// The memory of the requests that have their turn.
    working: usize,
    waiting: Turns<Peer, (), Waiter>,
    /// The request whose turn is next, as soon as enough memory is free.
    next: Option<Waiter>,
}

struct Connection {
    peer: Peer,
    /// Whether a request was answered with success.
    proven: bool,
    /// The complete requests that are being answered.
    answering: usize,
    /// The end of the last request, or the begin of the connection.
    since: Instant,
    evict: CancellationToken,
}

struct Request {
    connection: u64,
    peer: Peer,
    bytes: usize,
    stage: Stage,
    refuse: CancellationToken,
}

/// The stages of a request.
enum Stage {
    /// The body is not complete.
    Receiving,
    /// The body is complete, and the request may wait for its turn.
    Complete,
    /// The request has its turn, and may use this memory.
    Working { memory: usize },
}

struct Waiter {
    request: u64,
    memory: usize,
    turn: oneshot::Sender<()>,
}

/// The place of one connection. Dropping it frees the place.
pub(super) struct Place {
    pub(super) connections: Connections,
    pub(super) id: u64,
    pub(super) peer: Peer,
    evicted: CancellationToken,
}

/// A request in the table. Dropping it frees its bytes and its turn.
pub(super) struct Pending {
    pub(super) connections: Connections,
    pub(super) id: u64,
    refused: CancellationToken,
}

impl Connections {
    pub(super) fn new(limits: ServerLimits) -> Self {
        Self { table: Arc::default(), limits }
    }

    pub(super) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    /// Whether a new connection would get a place now.
    pub(super) fn has_place(&self, peer: Peer, now: Instant) -> bool {
        let table = self.table.lock();
        table.full_for(peer, &self.limits).is_none_or(|among| table.victim(among, now).is_some())
    }

    /// Gives a new connection a place, which another connection may have to leave. `None` if no connection can leave
    /// its place yet.
    pub(super) fn admit(&self, peer: Peer, now: Instant, incident: impl Fn(Incident)) -> Option<Place> {
        let mut table = self.table.lock();
        if let Some(among) = table.full_for(peer, &self.limits) {
            let victim = table.victim(among, now)?;
            incident(Incident::ConnectionEvicted);
            if let Some(connection) = table.connections.remove(&victim) {
                connection.evict.cancel();
            }
        }
        table.next += 1;
        let (id, evicted) = (table.next, CancellationToken::new());
        let connection = Connection { peer, proven: false, answering: 0, since: now, evict: evicted.clone() };
        table.connections.insert(id, connection);
        Some(Place { connections: self.clone(), id, peer, evicted })
    }

    /// Adds bytes to the buffer for the body of a request. Other requests may be refused to make room.
    pub(super) fn receive(&self, id: u64, more: usize) -> Result<(), OutOfBytes> {
        let mut table = self.table.lock();
        while table.bytes + more > self.limits.bytes {
            match table.largest() {
                Some(victim) if victim != id => table.refuse(victim, &self.limits),
                Some(_) | None => return Err(OutOfBytes),
            }
        }
        let request = table.requests.get_mut(&id).ok_or(OutOfBytes)?;
        request.bytes += more;
        table.bytes += more;
        Ok(())
    }

    /// Records that the body of a request is complete.
    pub(super) fn complete(&self, id: u64) {
        let mut table = self.table.lock();
        let Table { requests, connections, .. } = &mut *table;
        if let Some(request) = requests.get_mut(&id)
            && matches!(request.stage, Stage::Receiving)
        {
            request.stage = Stage::Complete;
            if let Some(connection) = connections.get_mut(&request.connection) {
                connection.answering += 1;
            }
        }
    }

    /// Waits until a complete request may use this memory. Addresses take turns.
    pub(super) async fn turn(&self, id: u64, memory: usize) {
        let (sender, turn) = oneshot::channel();
        {
            let mut table = self.table.lock();
            let Some(peer) = table.requests.get(&id).map(|request| request.peer) else { return };
            let waiter = Waiter { request: id, memory, turn: sender };
            table.lane(memory, &self.limits).waiting.push(peer, (), waiter);
            table.give_turns(&self.limits);
        }
        // The sender is dropped if the request was refused. Then its future is dropped too.
        let _ = turn.await;
    }

    #[cfg(test)]
    pub(super) fn usage(&self) -> (usize, usize, usize) {
        let table = self.table.lock();
        (table.connections.len(), table.bytes, table.small.working + table.large.working)
    }
}

/// A body does not fit into the bytes that all bodies may have together.
pub(super) struct OutOfBytes;

impl Place {
    /// Ends when the connection has to make room for another one.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// The time at which the connection has been silent for too long.
    pub(super) fn silent_at(&self) -> Instant {
        let limits = &self.connections.limits;
        let table = self.connections.table.lock();
        match table.connections.get(&self.id) {
            Some(connection) if connection.answering > 0 => Instant::now() + limits.idle,
            Some(connection) if connection.proven => connection.since + limits.idle,
            Some(connection) => connection.since + limits.first_request,
            None => Instant::now(),
        }
    }

    /// Adds a request to the table.
    pub(super) fn begin(&self) -> Pending {
        let connections = self.connections.clone();
        let mut table = connections.table.lock();
        table.next += 1;
        let (id, refused) = (table.next, CancellationToken::new());
        let (connection, refuse) = (self.id, refused.clone());
        let request = Request { connection, peer: self.peer, bytes: 0, stage: Stage::Receiving, refuse };
        table.requests.insert(id, request);
        drop(table);
        Pending { connections, id, refused }
    }

    /// Records that a request was answered with success.
    pub(super) fn prove(&self) {
        if let Some(connection) = self.connections.table.lock().connections.get_mut(&self.id) {
            connection.proven = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.table.lock().connections.remove(&self.id);
    }
}

impl Pending {
    /// A token that is cancelled when the request has to make room.
    pub(super) fn refused(&self) -> CancellationToken {
        self.refused.clone()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock();
        table.end(self.id, &self.connections.limits);
        table.give_turns(&self.connections.limits);
    }
}

impl Table {
    /// Whether there is no free place for this peer. The value is the peer whose connections may have to leave, or
    /// `None` for all peers.
    fn full_for(&self, peer: Peer, limits: &ServerLimits) -> Option<Option<Peer>> {
        let of_peer = self.connections.values().filter(|c| c.peer == peer).count();
        if of_peer >= limits.connections_per_peer {
            Some(Some(peer))
        } else {
            (self.connections.len() >= limits.connections).then_some(None)
        }
    }

    /// The connection that has to leave: unproven ones before proven ones, of the peer with the most such connections,
    /// the one that is silent for the longest time. A request that is being answered is never interrupted, and a
    /// connection keeps its place for a while after it was opened.
    fn victim(&self, among: Option<Peer>, now: Instant) -> Option<u64> {
        [false, true].into_iter().find_map(|proven| {
            let silent = || {
                self.connections.iter().filter(move |(_, c)| {
                    c.answering == 0
                        && c.proven == proven
                        && (proven || c.since + limits::SILENCE_MIN <= now)
                        && among.is_none_or(|peer| c.peer == peer)
                })
            };
            let mut counts: HashMap<Peer, usize> = HashMap::new();
            for (_, connection) in silent() {
                *counts.entry(connection.peer).or_default() += 1;
            }
            let rank = |c: &Connection| Reverse(counts.get(&c.peer).copied().unwrap_or(0));
            silent().min_by_key(|(id, c)| (rank(c), c.since, **id)).map(|(id, _)| *id)
        })
    }

    /// The request that has to make room: of the peer with the most bytes that have no turn yet, the largest.
    fn largest(&self) -> Option<u64> {
        let unfinished = || self.requests.iter().filter(|(_, r)| !matches!(r.stage, Stage::Working { .. }));
        let mut sums: HashMap<Peer, usize> = HashMap::new();
        for (_, request) in unfinished() {
            *sums.entry(request.peer).or_default() += request.bytes;
        }
        let sum = |r: &Request| sums.get(&r.peer).copied().unwrap_or(0);
        unfinished().max_by_key(|(id, r)| (sum(r), r.bytes, **id)).map(|(id, _)| *id)
    }

    fn refuse(&mut self, id: u64, limits: &ServerLimits) {
        if let Some(request) = self.requests.get(&id) {
            request.refuse.cancel();
        }
        self.end(id, limits);
    }

    /// Removes a request, with its bytes and its turn.
    fn end(&mut self, id: u64, limits: &ServerLimits) {
        let Some(request) = self.requests.remove(&id) else { return };
        self.bytes -= request.bytes;
        for lane in [&mut self.small, &mut self.large] {
            lane.waiting.retain_of(&request.peer, |waiter| waiter.request != id);
            lane.next.take_if(|waiter| waiter.request == id);
        }
        let complete = match request.stage {
            Stage::Receiving => false,
            Stage::Complete => true,
            Stage::Working { memory } => {
                self.lane(memory, limits).working -= memory;
                true
            }
        };
        if let Some(connection) = self.connections.get_mut(&request.connection) {
            connection.answering -= usize::from(complete);
            connection.since = Instant::now();
        }
    }

    /// Large requests wait for each other, and never use the memory of the small ones.
    fn lane(&mut self, memory: usize, limits: &ServerLimits) -> &mut Lane {
        if memory > limits.small() { &mut self.large } else { &mut self.small }
    }

    fn give_turns(&mut self, limits: &ServerLimits) {
        self.small.give_turns(&mut self.requests, limits.memory - limits.largest());
        self.large.give_turns(&mut self.requests, limits.largest());
    }
}

impl Lane {
    /// Gives turns as far as the memory allows. The next request in line is never overtaken, so a larger one gets its
    /// turn too.
    fn give_turns(&mut self, requests: &mut HashMap<u64, Request>, memory: usize) {
        while let Some(waiter) = self.next.take().or_else(|| self.waiting.pop()) {
            if self.working + waiter.memory > memory {
                self.next = Some(waiter);
                return;
            }
            if let Some(request) = requests.get_mut(&waiter.request)
                && waiter.turn.send(()).is_ok()
            {
                request.stage = Stage::Working { memory: waiter.memory };
                self.working += waiter.memory;
            }
        }
    }
}

#[cfg(test)]
mod tests;
