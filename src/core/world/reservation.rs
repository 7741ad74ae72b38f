//! The table of the reservations of warm Sandboxes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use paddock_api::kind::Key;

/// One reservation.
#[derive(Debug)]
struct Reservation {
    /// The first-observed stamp of the claim. No other client can know it before the claim is stored.
    stamp: String,
    /// The time at which the reservation expires.
    until: Timestamp,
}

/// All reservations, by Sandbox and by the time at which they expire.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    by_sandbox: BTreeMap<Key, Reservation>,
    by_end: BTreeSet<(Timestamp, Key)>,
}

impl Reservations {
    /// Whether the Sandbox is reserved.
    pub(super) fn contains(&self, sandbox: &Key) -> bool {
        self.by_sandbox.contains_key(sandbox)
    }

    /// Whether the Sandbox is reserved for the claim with this stamp.
    pub(super) fn is_for(&self, sandbox: &Key, stamp: &str) -> bool {
        self.by_sandbox.get(sandbox).is_some_and(|reservation| reservation.stamp == stamp)
    }

    pub(super) fn add(&mut self, sandbox: Key, stamp: String, until: Timestamp) {
        self.by_end.insert((until, sandbox.clone()));
        self.by_sandbox.insert(sandbox, Reservation { stamp, until });
    }

    /// Ends a reservation, because a claim took the Sandbox or the Sandbox was deleted. Returns whether there was one.
    pub(super) fn remove(&mut self, sandbox: &Key) -> bool {
        let Some(reservation) = self.by_sandbox.remove(sandbox) else { return false };
        self.by_end.remove(&(reservation.until, sandbox.clone()));
        true
    }

    /// Ends the reservations that have expired, and returns their Sandboxes.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<Key> {
        let mut expired = Vec::new();
        while let Some((until, _)) = self.by_end.first()
            && *until <= now
            && let Some((_, sandbox)) = self.by_end.pop_first()
        {
            self.by_sandbox.remove(&sandbox);
            expired.push(sandbox);
        }
        expired
    }

    /// Ends all reservations, and returns their Sandboxes.
    pub(super) fn drain(&mut self) -> Vec<Key> {
        self.by_end.clear();
        std::mem::take(&mut self.by_sandbox).into_keys().collect()
    }
}
