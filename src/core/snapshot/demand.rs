//! The demand for a pool, on which its size is decided: claim arrivals, hits and misses, and the time that a refill takes.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

/// The recent demand for one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Demand {
    /// Arrivals: start of the bucket in units of its length since the epoch, and count; oldest first.
    pub(crate) arrivals: Buckets,
    /// Claims served warm, by bucket.
    pub(crate) hits: Buckets,
    /// Claims served cold, by bucket.
    pub(crate) misses: Buckets,
    /// The last refills: create to Ready, in milliseconds.
    refills: VecDeque<u64>,
}

/// How many refills the median is taken of.
const REFILLS: usize = 15;

impl Demand {
    /// Arrivals per bucket, oldest first, the last still open; `buckets` of `seconds` each.
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

    /// Claims in the window that found a Ready Sandbox, and that found none.
    #[must_use]
    pub fn hits_and_misses(&self, now: Timestamp, seconds: u32, buckets: usize) -> (u32, u32) {
        let oldest = bucket(now, seconds) - i64::try_from(buckets).unwrap_or(i64::MAX);
        let sum = |counts: &Buckets| counts.0.iter().filter(|(b, _)| *b > oldest).map(|(_, n)| n).sum();
        (sum(&self.hits), sum(&self.misses))
    }

    /// Median time of the last refills, in milliseconds.
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

/// Counts by the time bucket in which they fell, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Buckets(VecDeque<(i64, u32)>);

impl Buckets {
    /// Counts one claim in the bucket of `at`; `keep` buckets of `seconds` are kept.
    pub(crate) fn count(&mut self, at: Timestamp, seconds: u32, keep: usize) {
        let at = bucket(at, seconds);
        // Claims come in order of their creation but for a few; a list on start comes in any order.
        match self.0.binary_search_by_key(&at, |(b, _)| *b) {
            Ok(i) => self.0[i].1 += 1,
            Err(i) => self.0.insert(i, (at, 1)),
        }
        while self.0.len() > keep {
            self.0.pop_front();
        }
    }
}

fn bucket(at: Timestamp, seconds: u32) -> i64 {
    at.as_second().div_euclid(i64::from(seconds.max(1)))
}
