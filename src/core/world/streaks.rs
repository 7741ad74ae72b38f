//! Counts how often pods that ended were replaced in a row, for each Sandbox and each pool. Replacements wait longer and
//! longer, as a container does in `CrashLoopBackOff`. The counts are in memory alone: a new leader begins again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::Key;

use crate::time::saturating_add;

/// The age from which the first pod in a row is replaced, which is also that of Kubernetes for containers. Otherwise pods
/// that end at once would be replaced in a tight loop. Each replacement in a row doubles the age.
pub(super) const FIRST: Duration = Duration::from_secs(10);
/// The largest age, as for containers.
const LONGEST: Duration = Duration::from_mins(5);
/// The time without a replacement after which the next one is the first again, and the age from which a pod that ends counts
/// no more: as long as a container has to run before Kubernetes forgets its restarts.
pub(super) const CALM: Duration = Duration::from_mins(10);

/// The generations of an object and of its template. Another spec may have other pods.
pub(super) type Revision = [i64; 2];

/// The replacements in a row, by the key of the Sandbox or pool.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    streaks: BTreeMap<Key, Streak>,
}

#[derive(Debug)]
struct Streak {
    times: u32,
    last: Timestamp,
    revision: Revision,
}

impl Streak {
    fn age(&self) -> Duration {
        FIRST.saturating_mul(2_u32.saturating_pow(self.times)).min(LONGEST)
    }

    fn lasts(&self, now: Timestamp) -> bool {
        now <= saturating_add(self.last, self.age() + CALM)
    }
}

impl Replaced {
    /// The streak of an object, if it still counts.
    fn streak(&self, key: &Key, revision: Revision, now: Timestamp) -> Option<&Streak> {
        self.streaks.get(key).filter(|streak| streak.revision == revision && streak.lasts(now))
    }

    pub(super) fn age(&self, key: &Key, revision: Revision, now: Timestamp) -> Duration {
        self.streak(key, revision, now).map_or(FIRST, Streak::age)
    }

    pub(super) fn count(&mut self, key: Key, revision: Revision, now: Timestamp) {
        let times = match self.streak(&key, revision, now) {
            // A pool replaces many Sandboxes at about the same time, and a replacement may be sent twice.
            Some(streak) if now < saturating_add(streak.last, streak.age() / 2) => return,
            Some(streak) => streak.times.saturating_add(1),
            None => 1,
        };
        self.streaks.insert(key, Streak { times, last: now, revision });
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.streaks.remove(key);
    }

    pub(super) fn forget_old(&mut self, now: Timestamp) {
        self.streaks.retain(|_, streak| streak.lasts(now));
    }
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        saturating_add("2030-01-01T00:00:00Z".parse().unwrap(), Duration::from_secs(seconds))
    }

    #[test]
    fn many_sandboxes_of_a_pool_that_end_together_count_once() {
        let mut replaced = Replaced::default();
        let pool = Key::new(Kind::Pool, "ns", "p");
        for second in 0..4 {
            for _ in 0..100 {
                replaced.count(pool.clone(), [1, 1], at(second));
            }
        }
        assert_eq!(replaced.age(&pool, [1, 1], at(4)), Duration::from_secs(20));
        assert_eq!(replaced.age(&pool, [1, 2], at(4)), FIRST, "another template");
        replaced.forget_old(at(4));
        assert!(!replaced.streaks.is_empty());
        replaced.forget_old(at(3600));
        assert!(replaced.streaks.is_empty());
    }
}
