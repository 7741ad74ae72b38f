//! The connections that may have to make room for new ones, and their order.
//!
//! The rule is that of the server of the webhook (`paddock_kube::server`): a connection without an authorized request
//! leaves before an idle one that had such a request. Of these, the oldest connection of the client address with the most
//! leaves. The gateway has many more connections, so this table keeps them sorted.

use std::collections::{BTreeMap, BTreeSet};

use paddock_kube::limits::SILENCE_MIN;
use paddock_kube::peer::Peer;
use tokio::time::Instant;

/// The connections that may be closed. A connection with an authorized request in flight is not among them.
#[derive(Debug, Default)]
pub(crate) struct Evictable {
    /// The connections without an authorized request so far.
    unproven: Sorted,
    /// The connections that had an authorized request and are idle.
    idle: Sorted,
}

/// One connection in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    /// Whether a request was authorized.
    pub(crate) is_proven: bool,
    /// The begin of the connection, or the end of its last authorized request.
    pub(crate) since: Instant,
}

impl Evictable {
    pub(crate) fn insert(&mut self, standing: Standing) {
        self.sorted(standing).insert(standing);
    }

    pub(crate) fn remove(&mut self, standing: Standing) {
        self.sorted(standing).remove(standing);
    }

    /// The connection that has to leave, among those of one client or all. A new connection has a moment to show
    /// something.
    pub(crate) fn victim(&self, among: Option<Peer>, now: Instant) -> Option<u64> {
        self.unproven.oldest(among, |since| since + SILENCE_MIN <= now).or_else(|| self.idle.oldest(among, |_| true))
    }

    fn sorted(&mut self, standing: Standing) -> &mut Sorted {
        if standing.is_proven { &mut self.idle } else { &mut self.unproven }
    }
}

/// Connections by client address, from the oldest to the newest, and the addresses by the number of their connections.
#[derive(Debug, Default)]
struct Sorted {
    of: BTreeMap<Peer, BTreeSet<(Instant, u64)>>,
    by_count: BTreeSet<(usize, Peer)>,
}

impl Sorted {
    fn insert(&mut self, Standing { id, peer, since, .. }: Standing) {
        self.change(peer, |of_peer| of_peer.insert((since, id)));
    }

    fn remove(&mut self, Standing { id, peer, since, .. }: Standing) {
        self.change(peer, |of_peer| of_peer.remove(&(since, id)));
    }

    fn change(&mut self, peer: Peer, change: impl FnOnce(&mut BTreeSet<(Instant, u64)>) -> bool) {
        let of_peer = self.of.entry(peer).or_default();
        self.by_count.remove(&(of_peer.len(), peer));
        change(of_peer);
        if of_peer.is_empty() {
            self.of.remove(&peer);
        } else {
            self.by_count.insert((of_peer.len(), peer));
        }
    }

    fn oldest(&self, among: Option<Peer>, may_leave: impl Fn(Instant) -> bool) -> Option<u64> {
        let oldest = |peer: &Peer| {
            let (since, id) = self.of.get(peer)?.first()?;
            may_leave(*since).then_some(*id)
        };
        match among {
            Some(peer) => oldest(&peer),
            None => self.by_count.iter().rev().find_map(|(_, peer)| oldest(peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn oldest_unproven_connection_of_the_client_with_the_most_leaves_first() {
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let standing = |id, last, is_proven, milliseconds| Standing {
            id,
            peer: peer(last),
            is_proven,
            since: after(milliseconds),
        };
        let all = [
            standing(1, 1, false, 0),
            standing(2, 2, false, 1),
            standing(3, 2, false, 2),
            standing(4, 3, true, 3),
            standing(5, 3, true, 4),
            standing(6, 4, true, 0),
            standing(7, 2, false, 950),
        ];
        let mut table = Evictable::default();
        all.into_iter().for_each(|standing| table.insert(standing));
        let now = after(1000);
        for (among, expected) in [(Some(peer(1)), Some(1)), (Some(peer(3)), Some(4)), (Some(peer(9)), None)] {
            assert_eq!(table.victim(among, now), expected, "{among:?}");
        }
        assert_eq!(table.victim(None, after(50)), Some(4), "new connections have a moment");
        let mut order = Vec::new();
        while let Some(victim) = table.victim(None, now) {
            order.push(victim);
            table.remove(all.into_iter().find(|standing| standing.id == victim).unwrap());
        }
        assert_eq!(order, [2, 3, 1, 4, 6, 5], "connection 7 is too new");
        table.remove(all[6]);
        assert!(table.unproven.of.is_empty() && table.unproven.by_count.is_empty());
        assert!(table.idle.of.is_empty() && table.idle.by_count.is_empty());
    }
}
