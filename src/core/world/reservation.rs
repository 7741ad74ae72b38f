//! The table of the reservations of warm Sandboxes, and their limits.
//!
//! A review may come from anybody who reaches the webhook, and a claim may be refused after its review. A reservation is
//! wasted if it expires before the World has seen its claim. The limits bound what a namespace and the whole process
//! may waste, and after a waste they leave a share of each pool free. A reservation whose claim is stored costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use paddock_api::kind::Key;

use super::warm::PoolRevision;
use crate::settings::{RESERVATION_SHARE, ReservationRate};

/// One reservation.
#[derive(Debug)]
struct Reservation {
    /// The first-observed stamp of the claim. No other client can know it before the claim is stored.
    stamp: String,
    /// The time at which the reservation expires.
    until: Timestamp,
    /// The pool of the Sandbox.
    pool: PoolRevision,
    /// Whether the World has seen the claim. Such a reservation is not wasted.
    stored: bool,
}

/// What a namespace, or the whole process, holds of its limit.
#[derive(Debug, Default)]
struct Account {
    /// The number of reservations whose claim the World has not seen.
    open: u32,
    /// The number of reservations that were wasted, less what time forgave since then.
    wasted: f64,
    /// The time up to which waste is forgiven.
    at: Timestamp,
}

/// All reservations, by Sandbox and by the time at which they expire.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    by_sandbox: BTreeMap<Key, Reservation>,
    by_end: BTreeSet<(Timestamp, Key)>,
    /// The number of reservations of each pool whose claim the World has not seen.
    open: BTreeMap<PoolRevision, usize>,
    /// The accounts that are not empty, by namespace.
    namespaces: BTreeMap<Arc<str>, Account>,
    process: Account,
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

    /// Whether one more Sandbox may be reserved, of a pool with so many Sandboxes that are free.
    pub(super) fn may_add(&mut self, namespace: &Arc<str>, pool: &PoolRevision, free: usize, now: Timestamp) -> bool {
        // Empty accounts are not kept, so the table has only the namespaces with something open or wasted.
        self.namespaces.retain(|_, account| {
            account.forgive(ReservationRate::NAMESPACE, now);
            !account.is_empty()
        });
        self.process.forgive(ReservationRate::PROCESS, now);
        let open = self.open.get(pool).copied().unwrap_or(0);
        let wasteful = |account: &Account| account.wasted > 0.0;
        let account = self.namespaces.get(namespace);
        let in_share = !account.is_some_and(wasteful) || open < (free + open) / RESERVATION_SHARE;
        in_share
            && account.is_none_or(|account| account.has_room(ReservationRate::NAMESPACE))
            && self.process.has_room(ReservationRate::PROCESS)
    }

    pub(super) fn add(&mut self, sandbox: Key, pool: PoolRevision, stamp: String, until: Timestamp, now: Timestamp) {
        let empty = || Account { at: now, ..Account::default() };
        self.namespaces.entry(sandbox.namespace.clone()).or_insert_with(empty).open += 1;
        self.process.open += 1;
        *self.open.entry(pool.clone()).or_default() += 1;
        self.by_end.insert((until, sandbox.clone()));
        self.by_sandbox.insert(sandbox, Reservation { stamp, until, pool, stored: false });
    }

    /// Notes that the World has seen the claim of a reservation.
    pub(super) fn claim_stored(&mut self, sandbox: &Key, stamp: &str) {
        if let Some(reservation) = self.by_sandbox.get_mut(sandbox)
            && reservation.stamp == stamp
            && !std::mem::replace(&mut reservation.stored, true)
        {
            let pool = reservation.pool.clone();
            self.close(sandbox, &pool);
        }
    }

    /// Ends a reservation, because a claim took the Sandbox, the claim was not admitted, or the Sandbox was deleted.
    /// Returns whether there was one.
    pub(super) fn remove(&mut self, sandbox: &Key) -> bool {
        let Some(reservation) = self.by_sandbox.remove(sandbox) else { return false };
        self.by_end.remove(&(reservation.until, sandbox.clone()));
        if !reservation.stored {
            self.close(sandbox, &reservation.pool);
        }
        true
    }

    /// Ends the reservations that have expired, and returns their Sandboxes.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<Key> {
        let mut expired = Vec::new();
        while let Some((until, _)) = self.by_end.first()
            && *until <= now
            && let Some((until, sandbox)) = self.by_end.pop_first()
        {
            if let Some(reservation) = self.by_sandbox.remove(&sandbox)
                && !reservation.stored
            {
                self.close(&sandbox, &reservation.pool);
                if let Some(account) = self.namespaces.get_mut(&sandbox.namespace) {
                    account.waste(ReservationRate::NAMESPACE, until);
                }
                self.process.waste(ReservationRate::PROCESS, until);
            }
            expired.push(sandbox);
        }
        expired
    }

    /// Ends all reservations, and returns their Sandboxes. The limits begin anew, because the clock was set.
    pub(super) fn drain(&mut self) -> Vec<Key> {
        std::mem::take(self).by_sandbox.into_keys().collect()
    }

    /// Takes an open reservation off the accounts.
    fn close(&mut self, sandbox: &Key, pool: &PoolRevision) {
        for account in self.namespaces.get_mut(&sandbox.namespace).into_iter().chain([&mut self.process]) {
            account.open = account.open.saturating_sub(1);
        }
        if let Some(open) = self.open.get_mut(pool) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(pool);
            }
        }
    }
}

impl Account {
    /// Forgives the waste that time forgives.
    fn forgive(&mut self, rate: ReservationRate, now: Timestamp) {
        let passed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.wasted = (self.wasted - passed * rate.per_second).max(0.0);
        self.at = self.at.max(now);
    }

    /// Adds a reservation that was wasted at this time.
    fn waste(&mut self, rate: ReservationRate, at: Timestamp) {
        self.forgive(rate, at);
        self.wasted += 1.0;
    }

    fn is_empty(&self) -> bool {
        self.open == 0 && self.wasted <= 0.0
    }

    /// Whether one more reservation may be wasted.
    fn has_room(&self, rate: ReservationRate) -> bool {
        f64::from(self.open) + self.wasted + 1.0 <= rate.burst
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paddock_api::kind::Kind;

    use super::*;
    use crate::time::saturating_add;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn after(seconds: u64) -> Timestamp {
        saturating_add(NOW, Duration::from_secs(seconds))
    }

    fn pool(name: &str) -> PoolRevision {
        (name.into(), "hash".into())
    }

    /// Reserves Sandboxes of a pool that has so many, until a limit is reached. Returns their keys.
    fn reserve_all(of: &mut Reservations, namespace: &str, name: &str, size: usize, now: Timestamp) -> Vec<Key> {
        let mut keys = Vec::new();
        while keys.len() < size && of.may_add(&namespace.into(), &pool(name), size - keys.len(), now) {
            let key = Key::new(Kind::Sandbox, namespace, format!("{name}-{}", keys.len()));
            of.add(key.clone(), pool(name), String::new(), saturating_add(now, Duration::from_secs(2)), now);
            keys.push(key);
        }
        keys
    }

    #[test]
    fn half_of_a_pool_stays_free_after_a_waste() {
        for (size, after_waste) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (100, 50)] {
            let mut reservations = Reservations::default();
            assert_eq!(reserve_all(&mut reservations, "ns", "p", size, NOW).len(), size, "nothing is wasted yet");
            let wasted = reservations.expired(after(2)).len();
            assert_eq!(wasted, size);
            let again = reserve_all(&mut reservations, "ns", "p", size, after(2)).len();
            assert!(again <= after_waste, "{again} of {size}");
            assert_eq!(again, after_waste.min(ReservationRate::NAMESPACE.burst as usize - wasted), "of {size}");
            assert_eq!(reserve_all(&mut reservations, "other", "q", size, after(2)).len(), size, "another namespace");
        }
    }

    #[test]
    fn a_waste_is_forgiven_by_time() {
        let mut reservations = Reservations::default();
        let wasted = reserve_all(&mut reservations, "ns", "p", 20, NOW).len() as f64;
        reservations.expired(after(2));
        let forgiven = 2 + (wasted / ReservationRate::NAMESPACE.per_second).ceil() as u64;
        assert_eq!(reserve_all(&mut reservations, "ns", "p", 20, after(forgiven + 1)).len(), 20);
    }

    #[test]
    fn a_reservation_whose_claim_is_stored_is_never_a_waste() {
        let mut reservations = Reservations::default();
        for round in 0..100 {
            let keys = reserve_all(&mut reservations, "ns", "p", 128, after(3 * round));
            assert_eq!(keys.len(), 128);
            for key in &keys {
                reservations.claim_stored(key, "another stamp");
                assert_eq!(reservations.open.len(), 1, "another claim does not count");
            }
            keys.iter().for_each(|key| reservations.claim_stored(key, ""));
            keys.iter().for_each(|key| reservations.claim_stored(key, ""));
            assert!(reservations.open.is_empty());
            assert_eq!(reserve_all(&mut reservations, "ns", "q", 128, after(3 * round)).len(), 128, "beside them");
            let second: Vec<_> = (0..128).map(|n| Key::new(Kind::Sandbox, "ns", format!("q-{n}"))).collect();
            assert!(second.iter().all(|key| reservations.remove(key)));
            assert_eq!(reservations.expired(after(3 * round + 2)).len(), 128);
        }
    }

    #[test]
    fn a_namespace_that_wastes_reservations_gets_them_at_a_rate_and_another_one_as_ever() {
        let mut reservations = Reservations::default();
        let mut wasted = 0;
        for second in 0..100 {
            reservations.expired(after(second));
            wasted += reserve_all(&mut reservations, "hostile", "p", 1000, after(second)).len();
        }
        let ReservationRate { burst, per_second } = ReservationRate::NAMESPACE;
        assert!(wasted as f64 > burst, "the rate goes on after the burst");
        assert!(wasted as f64 <= burst + 100.0 * per_second, "{wasted}");
        assert_eq!(reserve_all(&mut reservations, "good", "q", 20, after(100)).len(), 20);
    }

    #[test]
    fn all_namespaces_together_have_a_limit() {
        let mut reservations = Reservations::default();
        let reserve = |n: i32| reserve_all(&mut reservations, &format!("ns{n}"), &format!("p{n}"), 10, NOW).len();
        let all: usize = (0..1000).map(reserve).sum();
        assert_eq!(all as f64, ReservationRate::PROCESS.burst);
    }

    #[test]
    fn a_reservation_that_is_used_costs_nothing() {
        let mut reservations = Reservations::default();
        for _ in 0..1000 {
            let keys = reserve_all(&mut reservations, "ns", "p", 20, NOW);
            assert_eq!(keys.len(), 20);
            assert!(keys.iter().all(|key| reservations.remove(key)));
        }
        assert!(reservations.open.is_empty() && reservations.by_end.is_empty());
        reservations.may_add(&"ns".into(), &pool("p"), 1, after(1));
        assert!(reservations.namespaces.is_empty(), "an empty account is not kept");
    }
}
