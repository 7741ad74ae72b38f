//! What a pool's size is decided by: claim arrivals, hits and misses, and how long a refill takes.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use super::World;
use super::index::{origin_pool, references};
use crate::names::{condition, label};
use crate::object::Object;

/// The recent demand for one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Demand {
    /// Arrivals: start of the bucket in units of its length since the epoch, and count; oldest first.
    arrivals: VecDeque<(i64, u32)>,
    /// Claims served warm, by bucket.
    hits: VecDeque<(i64, u32)>,
    /// Claims served cold, by bucket.
    misses: VecDeque<(i64, u32)>,
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
        for (start, count) in &self.arrivals {
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
        let sum = |counts: &VecDeque<(i64, u32)>| counts.iter().filter(|(b, _)| *b > oldest).map(|(_, n)| n).sum();
        (sum(&self.hits), sum(&self.misses))
    }

    /// Median time of the last refills, in milliseconds.
    #[must_use]
    pub fn refill_ms(&self) -> Option<u64> {
        let mut times: Vec<u64> = self.refills.iter().copied().collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }
}

fn bucket(at: Timestamp, seconds: u32) -> i64 {
    at.as_second().div_euclid(i64::from(seconds.max(1)))
}

fn count(counts: &mut VecDeque<(i64, u32)>, at: i64, keep: usize) {
    // Claims come in order of their creation but for a few; a list on start comes in any order.
    match counts.binary_search_by_key(&at, |(b, _)| *b) {
        Ok(i) => counts[i].1 += 1,
        Err(i) => counts.insert(i, (at, 1)),
    }
    while counts.len() > keep {
        counts.pop_front();
    }
}

impl World {
    /// Counts what a change of an object says about demand.
    pub(super) fn note_demand(&mut self, before: Option<&Object>, object: &Object, now: Timestamp) {
        let (seconds, keep) = (self.settings.arrival_bucket_seconds, self.settings.arrival_buckets);
        if before.is_none() && object.claim().is_some() {
            let pools: Vec<_> = references(object).iter().flat_map(|target| self.pools_using(target)).collect();
            for pool in pools {
                let demand = self.demand.entry(pool).or_default();
                count(&mut demand.arrivals, bucket(object.meta.created, seconds), keep);
            }
        }
        if object.sandbox().is_some() {
            let newly_claimed = before.is_none_or(|b| origin_pool(b).is_none());
            if let Some(pool) = origin_pool(object).filter(|_| newly_claimed) {
                let demand = self.demand.entry(pool).or_default();
                let warm = object.meta.labels.get(label::LAUNCH_TYPE).is_some_and(|t| t == label::LAUNCH_WARM);
                let counts = if warm { &mut demand.hits } else { &mut demand.misses };
                // What was a claim's when it was first seen, as after a start, counts by its creation: most was claimed long ago.
                let at = if before.is_some() { now } else { object.meta.created };
                count(counts, bucket(at, seconds), keep);
            }
            if let Some(before) = before
                && object.meta.in_pool()
                && !ready(before)
                && ready(object)
                && let Some(pool) = super::index::owner_key(&object.key, object.meta.controller.as_ref())
            {
                let demand = self.demand.entry(pool).or_default();
                let took = now.as_millisecond() - object.meta.created.as_millisecond();
                demand.refills.push_back(u64::try_from(took).unwrap_or_default());
                while demand.refills.len() > REFILLS {
                    demand.refills.pop_front();
                }
            }
        }
    }
}

fn ready(object: &Object) -> bool {
    object
        .sandbox()
        .is_some_and(|s| s.status.conditions.iter().any(|c| c.type_ == condition::READY && c.status == "True"))
}
