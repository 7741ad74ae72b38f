//! The demand for a pool: claim arrivals, hits, misses, and the time that a refill takes. A pool-size plugin decides
//! from it.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use crate::settings::Settings;

/// The recent demand for one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Demand {
    /// Arrivals of claims, by bucket.
    arrivals: Buckets,
    /// Claims that got a warm Sandbox, by bucket.
    hits: Buckets,
    /// Claims with a cold start, by bucket.
    misses: Buckets,
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

    /// Counts a claim by its creation time.
    pub fn note_arrival(&mut self, created: Timestamp, settings: &Settings) {
        self.arrivals.count(created, settings);
    }

    /// Counts a claim that got its Sandbox: a warm one, or one that was created for it.
    pub fn note_claimed(&mut self, at: Timestamp, warm: bool, settings: &Settings) {
        let counts = if warm { &mut self.hits } else { &mut self.misses };
        counts.count(at, settings);
    }

    /// Records a refill: a Sandbox of the pool that is Ready now for the first time.
    pub fn note_refill(&mut self, created: Timestamp, now: Timestamp) {
        let took = now.as_millisecond() - created.as_millisecond();
        self.refills.push_back(u64::try_from(took).unwrap_or_default());
        while self.refills.len() > REFILLS {
            self.refills.pop_front();
        }
    }
}

/// Counts by time bucket, oldest first. A bucket is numbered by its start, in units of its length since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
struct Buckets(VecDeque<(i64, u32)>);

impl Buckets {
    /// Counts one claim in the bucket of `at`. The settings have the length and the number of the buckets.
    fn count(&mut self, at: Timestamp, settings: &Settings) {
        let at = bucket(at, settings.arrival_bucket_seconds);
        // A watch delivers claims almost in the order of their creation. The first list has them in any order.
        match self.0.binary_search_by_key(&at, |(b, _)| *b) {
            Ok(i) => self.0[i].1 += 1,
            Err(i) => self.0.insert(i, (at, 1)),
        }
        while self.0.len() > settings.arrival_buckets {
            self.0.pop_front();
        }
    }
}

fn bucket(at: Timestamp, seconds: u32) -> i64 {
    at.as_second().div_euclid(i64::from(seconds.max(1)))
}
