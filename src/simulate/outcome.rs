//! The outcome of a simulation: what a contender served, and what it cost.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::conditions::Conditions;
use crate::trace::Trace;

/// What a contender served, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The name of the contender.
    pub name: String,
    /// `plugin`, `fixed` or `hpa`.
    pub kind: &'static str,
    /// The number of claims.
    pub claims: u64,
    /// The claims that got a Ready Sandbox at once.
    pub hits: u64,
    /// The claims that started cold.
    pub misses: u64,
    /// The share of hits, from 0 to 1. `None` without a claim.
    pub hit_rate: Option<f64>,
    /// The time in seconds that half of the claims waited at most.
    pub wait_p50_seconds: f64,
    /// The time in seconds that 99 of 100 claims waited at most.
    pub wait_p99_seconds: f64,
    /// The hours of Sandboxes that were Ready and that no claim had.
    pub idle_hours: f64,
    /// The hours of Sandboxes of the pool that were not Ready yet.
    pub warming_hours: f64,
    /// The Sandboxes that the pool created.
    pub created: u64,
    /// The Sandboxes that the pool deleted because it had too many.
    pub deleted: u64,
    /// The price of the idle and the warming hours, if an hour has a price.
    pub cost: Option<f64>,
    /// The number of times that the size changed.
    pub size_changes: u64,
    /// The largest size.
    pub largest_size: u32,
    /// The questions that plugins were asked.
    pub questions: u64,
    /// The calls of plugins that failed. The size was that of the built-in plugin, or the minimum.
    pub failures: Option<Failures>,
    /// Whether the simulation stopped early, because the plugin wanted to be asked too often.
    #[serde(skip)]
    pub stopped: bool,
    /// The course over time.
    pub series: Series,
}

/// The calls of plugins that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// The number of failures of each kind.
    pub by_kind: BTreeMap<String, u64>,
    /// The first failure, with the name of the plugin.
    pub first: String,
}

/// The course over time, in intervals of equal length.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// The hits of each interval.
    pub hits: Vec<u64>,
    /// The misses of each interval.
    pub misses: Vec<u64>,
    /// The average number of Ready Sandboxes in each interval.
    pub ready: Vec<f64>,
    /// The average size that was decided in each interval.
    pub size: Vec<f64>,
}

/// The largest number of intervals in a [`Series`].
const INTERVALS: u64 = 240;

/// The length of the intervals of a trace, in milliseconds.
pub(crate) fn interval(trace: &Trace) -> u64 {
    trace.length.div_ceil(INTERVALS).max(1)
}

/// What happened in one interval. Times are sums over members, in milliseconds.
#[derive(Clone, Copy, Default)]
struct Interval {
    hits: u64,
    misses: u64,
    ready: u64,
    size: u64,
}

/// What has happened so far.
pub(crate) struct Tally {
    at: u64,
    /// The time from which claims and members count, in milliseconds.
    since: u64,
    length: u64,
    intervals: Vec<Interval>,
    idle: u64,
    warming: u64,
    hits: u64,
    /// The waits of the claims that started cold, in milliseconds.
    waits: Vec<u64>,
    created: u64,
    deleted: u64,
    size: u32,
    largest: u32,
    changes: u64,
}

impl Tally {
    pub(crate) fn new(trace: &Trace, size: u32, learning: Duration) -> Self {
        let length = interval(trace);
        let count = usize::try_from(trace.length.div_ceil(length)).unwrap_or_default();
        Self {
            at: 0,
            since: u64::try_from(learning.as_millis()).unwrap_or(u64::MAX),
            length,
            intervals: vec![Interval::default(); count],
            idle: 0,
            warming: 0,
            hits: 0,
            waits: Vec::new(),
            created: 0,
            deleted: 0,
            size,
            largest: if learning.is_zero() { size } else { 0 },
            changes: 0,
        }
    }

    /// The time passes, with so many members.
    pub(crate) fn pass(&mut self, until: u64, ready: usize, creating: usize) {
        let (ready, creating) = (u64::try_from(ready).unwrap_or(u64::MAX), u64::try_from(creating).unwrap_or(u64::MAX));
        let counted = until.saturating_sub(self.at.max(self.since));
        self.idle += ready * counted;
        self.warming += creating * counted;
        while self.at < until {
            let end = ((self.at / self.length + 1) * self.length).min(until);
            let (time, size) = (end - self.at, u64::from(self.size));
            if let Some(interval) = self.interval() {
                interval.ready += ready * time;
                interval.size += size * time;
            }
            self.at = end;
        }
    }

    /// Whether the present counts.
    fn counts(&self) -> bool {
        self.at >= self.since
    }

    fn interval(&mut self) -> Option<&mut Interval> {
        let index = usize::try_from(self.at / self.length).ok()?;
        self.intervals.get_mut(index)
    }

    pub(crate) fn hit(&mut self) {
        self.hits += u64::from(self.counts());
        if let Some(interval) = self.interval() {
            interval.hits += 1;
        }
    }

    pub(crate) fn miss(&mut self, wait: u64) {
        if self.counts() {
            self.waits.push(wait);
        }
        if let Some(interval) = self.interval() {
            interval.misses += 1;
        }
    }

    pub(crate) fn created(&mut self, count: usize) {
        if self.counts() {
            self.created += u64::try_from(count).unwrap_or(u64::MAX);
        }
    }

    pub(crate) fn deleted(&mut self, count: usize) {
        if self.counts() {
            self.deleted += u64::try_from(count).unwrap_or(u64::MAX);
        }
    }

    pub(crate) fn sized(&mut self, size: u32) {
        self.changes += u64::from(size != self.size && self.counts());
        self.size = size;
        // A size that was decided earlier may still be in force when the figures begin.
        if self.counts() {
            self.largest = self.largest.max(size);
        }
    }

    /// The outcome of the contender with this name and of this kind.
    pub(crate) fn outcome(mut self, conditions: &Conditions, (name, kind): (String, &'static str)) -> Outcome {
        self.waits.sort_unstable();
        let misses = u64::try_from(self.waits.len()).unwrap_or(u64::MAX);
        let claims = self.hits + misses;
        let hours = |milliseconds: u64| milliseconds as f64 / 3_600_000.0;
        let (idle, warming) = (hours(self.idle), hours(self.warming));
        let average = |sum: u64| rounded(sum as f64 / self.length as f64, 3);
        let of = |value: fn(&Interval) -> u64| self.intervals.iter().map(value).collect::<Vec<u64>>();
        Outcome {
            name,
            kind,
            claims,
            hits: self.hits,
            misses,
            hit_rate: (claims > 0).then(|| rounded(self.hits as f64 / claims as f64, 6)),
            wait_p50_seconds: self.wait(claims, 50),
            wait_p99_seconds: self.wait(claims, 99),
            idle_hours: rounded(idle, 3),
            warming_hours: rounded(warming, 3),
            created: self.created,
            deleted: self.deleted,
            cost: conditions.cost_per_hour.map(|price| rounded((idle + warming) * price, 4)),
            size_changes: self.changes,
            largest_size: self.largest,
            questions: 0,
            failures: None,
            stopped: false,
            series: Series {
                hits: of(|interval| interval.hits),
                misses: of(|interval| interval.misses),
                ready: self.intervals.iter().map(|interval| average(interval.ready)).collect(),
                size: self.intervals.iter().map(|interval| average(interval.size)).collect(),
            },
        }
    }

    /// The wait in seconds that this many percent of the claims had at most. Hits do not wait.
    fn wait(&self, claims: u64, percent: u64) -> f64 {
        // The rank of the claim among all claims, counted from 1 (the nearest-rank method).
        let rank = (claims * percent).div_ceil(100);
        let among_misses = rank.checked_sub(self.hits + 1).and_then(|index| usize::try_from(index).ok());
        among_misses.and_then(|index| self.waits.get(index)).map_or(0.0, |wait| *wait as f64 / 1000.0)
    }
}

/// A number with this many digits behind the point.
pub(crate) fn rounded(number: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (number * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::monday;

    #[test]
    fn time_is_counted_in_the_intervals_in_which_it_passes() {
        let trace = Trace::new("t", monday(), Duration::from_secs(240), vec![]).unwrap();
        let mut tally = Tally::new(&trace, 3, Duration::ZERO);
        tally.pass(2500, 2, 1);
        tally.sized(5);
        tally.pass(4000, 0, 0);
        let average = |index: usize| (tally.intervals[index].ready, tally.intervals[index].size);
        assert_eq!([0, 1, 2, 3, 4].map(average), [(2000, 3000), (2000, 3000), (1000, 4000), (0, 5000), (0, 0)]);
        assert_eq!((tally.idle, tally.warming, tally.changes, tally.largest), (5000, 2500, 1, 5));
    }

    #[test]
    fn time_in_which_plugins_learn_counts_in_the_course_alone() {
        let trace = Trace::new("t", monday(), Duration::from_secs(240), vec![]).unwrap();
        let mut tally = Tally::new(&trace, 3, Duration::from_secs(2));
        tally.sized(9);
        tally.hit();
        tally.miss(7000);
        tally.created(4);
        tally.pass(2500, 2, 1);
        tally.hit();
        tally.sized(5);
        assert_eq!((tally.idle, tally.warming, tally.hits, tally.waits.len()), (1000, 500, 1, 0));
        assert_eq!((tally.created, tally.changes, tally.largest), (0, 1, 5));
        assert_eq!((tally.intervals[0].hits, tally.intervals[0].misses, tally.intervals[0].ready), (1, 1, 2000));
    }

    #[test]
    fn wait_is_that_of_the_claim_with_the_rank() {
        let trace = Trace::new("t", monday(), Duration::from_secs(240), vec![]).unwrap();
        let mut tally = Tally::new(&trace, 0, Duration::ZERO);
        (0..98).for_each(|_| tally.hit());
        tally.waits = vec![4000, 9000];
        assert_eq!((tally.wait(100, 50), tally.wait(100, 99)), (0.0, 4.0));
        tally.hits = 99;
        assert!(tally.wait(101, 98) < 1e-9);
        tally.hits = 0;
        assert_eq!((tally.wait(2, 50), tally.wait(2, 99)), (4.0, 9.0));
        assert!(tally.wait(0, 99) < 1e-9);
    }
}
