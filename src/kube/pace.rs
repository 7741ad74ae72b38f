//! Rates: how often something may happen for each key, such as a namespace.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The number of keys that a pace knows. Further keys share one rate, so that keys which strangers choose use no
/// memory.
const KEYS_MAX: usize = 4096;

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    tolerance: Duration,
}

impl Rate {
    /// One event in each interval, and so many at once. A burst of zero counts as one.
    #[must_use]
    pub const fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, tolerance: interval.saturating_mul(burst.saturating_sub(1)) }
    }
}

/// The times at which the next events of each key are due, as in the generic cell rate algorithm (GCRA).
#[derive(Debug)]
pub struct Pace<K> {
    rate: Rate,
    next: HashMap<K, Instant>,
    /// The time of all keys that have no place in the table.
    others: Option<Instant>,
}

impl<K: Eq + Hash> Pace<K> {
    /// A pace at which nothing has happened yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, next: HashMap::new(), others: None }
    }

    /// Whether an event of this key may happen now.
    #[must_use]
    pub fn allows(&self, key: &K, now: Instant) -> bool {
        self.opens(key).is_none_or(|at| at <= now)
    }

    /// The time from which an event of this key may happen, or `None` if it always may.
    #[must_use]
    pub fn opens(&self, key: &K) -> Option<Instant> {
        let next = self.next.get(key).copied();
        let next = next.or(if self.next.len() < KEYS_MAX { None } else { self.others });
        next.and_then(|next| next.checked_sub(self.rate.tolerance))
    }

    /// Records an event of this key.
    pub fn record(&mut self, key: K, now: Instant) {
        if self.next.len() >= KEYS_MAX && !self.next.contains_key(&key) {
            self.next.retain(|_, next| *next > now);
        }
        let later = |next: Option<Instant>| next.map_or(now, |next| next.max(now)) + self.rate.interval;
        if self.next.len() < KEYS_MAX || self.next.contains_key(&key) {
            let next = later(self.next.get(&key).copied());
            self.next.insert(key, next);
        } else {
            self.others = Some(later(self.others));
        }
    }

    /// Records an event of this key if it may happen now. Returns whether it may.
    pub fn take(&mut self, key: K, now: Instant) -> bool {
        let allows = self.allows(&key, now);
        if allows {
            self.record(key, now);
        }
        allows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate::new(Duration::from_secs(1), 5);

    #[tokio::test(start_paused = true)]
    async fn a_key_has_its_burst_and_then_its_rate_and_no_other_key_notices() {
        let mut pace = Pace::new(RATE);
        let taken = |pace: &mut Pace<&str>, key| (0..100).filter(|_| pace.take(key, Instant::now())).count();
        assert_eq!(taken(&mut pace, "a"), 5);
        assert_eq!(taken(&mut pace, "b"), 5);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(taken(&mut pace, "a"), 3);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(taken(&mut pace, "a"), 5, "an idle key saves no more than its burst");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_strangers_choose_use_bounded_memory_and_share_one_rate() {
        let mut pace = Pace::new(RATE);
        let now = Instant::now();
        let taken = (0..3 * KEYS_MAX).filter(|n| pace.take(*n, now)).count();
        assert_eq!((pace.next.len(), taken), (KEYS_MAX, KEYS_MAX + 5));
        assert!(pace.take(0, now), "a known key keeps its own");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(pace.take(usize::MAX, Instant::now()));
        assert!(pace.next.len() < 10, "the keys of the past are dropped");
    }
}
