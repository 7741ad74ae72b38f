//! The table of the reservations of warm Sandboxes, and their limits.
//!
//! A review may come from anybody who reaches the webhook, and a claim may be refused after its review. A reservation
//! is therefore bounded: by a share of its pool, and by the rate at which a namespace and the whole process may waste
//! reservations. A reservation that its claim uses costs nothing.

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
}

/// The reservations that may be wasted now. Each reservation takes one, and gives it back if it did not expire. Time
/// gives back the others.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Timestamp,
}

/// All reservations, by Sandbox and by the time at which they expire.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    by_sandbox: BTreeMap<Key, Reservation>,
    by_end: BTreeSet<(Timestamp, Key)>,
    by_pool: BTreeMap<PoolRevision, usize>,
    /// The buckets that are not full, by namespace.
    namespaces: BTreeMap<Arc<str>, Bucket>,
    process: Option<Bucket>,
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
        let reserved = self.by_pool.get(pool).copied().unwrap_or(0);
        let in_share = reserved < (free + reserved) / RESERVATION_SHARE;
        // Full buckets are not kept, so the table has only the namespaces that have wasted reservations lately.
        self.namespaces.retain(|_, bucket| !bucket.refill(ReservationRate::NAMESPACE, now));
        let left = |bucket: Option<&Bucket>| bucket.is_none_or(|bucket| bucket.left >= 1.0);
        if let Some(process) = &mut self.process {
            process.refill(ReservationRate::PROCESS, now);
        }
        in_share && left(self.namespaces.get(namespace)) && left(self.process.as_ref())
    }

    pub(super) fn add(&mut self, sandbox: Key, pool: PoolRevision, stamp: String, until: Timestamp, now: Timestamp) {
        let full = |rate: ReservationRate| Bucket { left: rate.burst, at: now };
        self.namespaces.entry(sandbox.namespace.clone()).or_insert_with(|| full(ReservationRate::NAMESPACE)).left -=
            1.0;
        self.process.get_or_insert_with(|| full(ReservationRate::PROCESS)).left -= 1.0;
        *self.by_pool.entry(pool.clone()).or_default() += 1;
        self.by_end.insert((until, sandbox.clone()));
        self.by_sandbox.insert(sandbox, Reservation { stamp, until, pool });
    }

    /// Ends a reservation, because a claim took the Sandbox, the claim was not admitted, or the Sandbox was deleted.
    /// Returns whether there was one.
    pub(super) fn remove(&mut self, sandbox: &Key) -> bool {
        let Some(reservation) = self.by_sandbox.remove(sandbox) else { return false };
        self.by_end.remove(&(reservation.until, sandbox.clone()));
        self.leave(&reservation.pool);
        if let Some(bucket) = self.namespaces.get_mut(&sandbox.namespace) {
            bucket.left += 1.0;
        }
        if let Some(process) = &mut self.process {
            process.left += 1.0;
        }
        true
    }

    /// Ends the reservations that have expired, and returns their Sandboxes.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<Key> {
        let mut expired = Vec::new();
        while let Some((until, _)) = self.by_end.first()
            && *until <= now
            && let Some((_, sandbox)) = self.by_end.pop_first()
        {
            if let Some(reservation) = self.by_sandbox.remove(&sandbox) {
                self.leave(&reservation.pool);
            }
            expired.push(sandbox);
        }
        expired
    }

    /// Ends all reservations, and returns their Sandboxes. The limits begin anew, because the clock was set.
    pub(super) fn drain(&mut self) -> Vec<Key> {
        std::mem::take(self).by_sandbox.into_keys().collect()
    }

    fn leave(&mut self, pool: &PoolRevision) {
        if let Some(reserved) = self.by_pool.get_mut(pool) {
            *reserved -= 1;
            if *reserved == 0 {
                self.by_pool.remove(pool);
            }
        }
    }
}

impl Bucket {
    /// Gives back what time gives. Returns whether the bucket is full.
    fn refill(&mut self, rate: ReservationRate, now: Timestamp) -> bool {
        let passed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.left = (self.left + passed * rate.per_second).min(rate.burst);
        self.at = now;
        self.left >= rate.burst
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
    fn at_most_half_of_a_pool_is_reserved() {
        for (size, reserved) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (100, 50)] {
            let mut reservations = Reservations::default();
            assert_eq!(reserve_all(&mut reservations, "ns", "p", size, NOW).len(), reserved, "of {size}");
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
        assert!(wasted as f64 <= burst + 100.0 * per_second, "{wasted}");
        assert_eq!(reserve_all(&mut reservations, "good", "q", 20, after(100)).len(), 10);
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
            assert_eq!(keys.len(), 10);
            assert!(keys.iter().all(|key| reservations.remove(key)));
        }
        assert!(reservations.by_pool.is_empty() && reservations.by_end.is_empty());
        reservations.may_add(&"ns".into(), &pool("p"), 1, after(1));
        assert!(reservations.namespaces.is_empty(), "a full bucket is not kept");
    }
}
