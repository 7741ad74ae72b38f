//! The demand for a pool: claim arrivals, hits, misses, and the time that a refill takes. A pool-size plugin decides
//! from it.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

/// The recent demand for one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Demand {
    /// Arrivals of claims, by bucket.
    pub(crate) arrivals: Buckets,
    /// Claims that got a warm Sandbox, by bucket.
    pub(crate) hits: Buckets,
    /// Claims with a cold start, by bucket.
    pub(crate) misses: Buckets,
    /// The last refills: the time from creation to Ready, in milliseconds.
    refills: VecDeque<u64>,
}

/// The number of refills from which the median is taken.
const REFILLS: usize = 15;

impl Demand {
    /// The arrivals in each of the last `buckets` buckets of `seconds` seconds, oldest first. The last bucket is still
    /// open.
    #[must_use]
    pub fn arrivals(&self, now: Timestamp, seconds: u32, buckets: usize) -> Vec<u32> {
        let last = bucket(now, seconds);
        let mut counts = vec![0; buckets];
        for (start, count) in &self.arrivals.0 {
            if let Ok(age) = usize::try_from(last - start)
                && age < buckets
            {
                counts[buckets - 1 - age] = *count;
            }
        }
        counts
    }

    /// The number of claims in the last `buckets` buckets that found a Ready Sandbox, and the number of those that
    /// found none.
    #[must_use]
    pub fn hits_and_misses(&self, now: Timestamp, seconds: u32, buckets: usize) -> (u32, u32) {
        let oldest = bucket(now, seconds) - i64::try_from(buckets).unwrap_or(i64::MAX);
        let sum = |counts: &Buckets| counts.0.iter().filter(|(b, _)| *b > oldest).map(|(_, n)| n).sum();
        (sum(&self.hits), sum(&self.misses))
    }

    /// The median time of the last refills, in milliseconds, or `None` if there was no refill yet.
    #[must_use]
    pub fn refill_ms(&self) -> Option<u64> {
        let mut times: Vec<u64> = self.refills.iter().copied().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// Records the time that a refill took, in milliseconds.
    pub(crate) fn note_refill(&mut self, took: u64) {
        self.refills.push_back(took);
        while self.refills.len() > REFILLS {
            self.refills.pop_front();
        }
    }
}

/// Counts by time bucket, oldest first. A bucket is numbered by its start, in units of its length since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Buckets(VecDeque<(i64, u32)>);

impl Buckets {
    /// Counts one claim in the bucket of `at`. At most `most` buckets of `seconds` seconds are kept.
    pub(crate) fn count(&mut self, at: Timestamp, seconds: u32, most: usize) {
        let at = bucket(at, seconds);
        // A watch delivers claims almost in the order of their creation. The first list has them in any order.
        match self.0.binary_search_by_key(&at, |(b, _)| *b) {
            Ok(i) => self.0[i].1 += 1,
            Err(i) => self.0.insert(i, (at, 1)),
        }
        while self.0.len() > most {
            self.0.pop_front();
        }
    }
}

fn bucket(at: Timestamp, seconds: u32) -> i64 {
    at.as_second().div_euclid(i64::from(seconds.max(1)))
}
