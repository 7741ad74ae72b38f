//! Statistics of latencies: percentiles and distributions.

use serde_json::{Value, json};

/// The percentiles of some latencies, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// 50 % of the latencies are at most this long.
    pub(crate) p50: f64,
    /// 95 % of the latencies are at most this long.
    pub(crate) p95: f64,
    /// 99 % of the latencies are at most this long.
    pub(crate) p99: f64,
    /// The longest latency.
    pub(crate) max: f64,
}

impl Summary {
    /// The summary of latencies in any order, or `None` if there are none.
    pub(crate) fn of(mut latencies: Vec<f64>) -> Option<Self> {
        latencies.sort_by(f64::total_cmp);
        let at = |share| percentile(&latencies, share);
        Some(Self { p50: at(0.50)?, p95: at(0.95)?, p99: at(0.99)?, max: *latencies.last()? })
    }

    /// The summary as it is printed.
    pub(crate) fn json(self) -> Value {
        json!({ "p50": round(self.p50), "p95": round(self.p95), "p99": round(self.p99), "max": round(self.max) })
    }
}

/// The smallest value such that this share of all values is at most as large (nearest rank). It is always a measured
/// value, and never one between two.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The percentage of latencies up to each latency, reduced to a few hundred points for a chart.
pub(crate) fn distribution(mut latencies: Vec<f64>) -> Vec<(f64, f64)> {
    const POINTS: usize = 400;
    latencies.sort_by(f64::total_cmp);
    let all = latencies.len();
    let step = all.div_ceil(POINTS).max(1);
    let shown = latencies.iter().enumerate().filter(|(n, _)| n % step == 0 || *n + 1 == all);
    shown.map(|(n, latency)| (*latency, (n + 1) as f64 / all as f64 * 100.0)).collect()
}

/// Rounds to a hundredth, which is the useful precision of a millisecond.
pub(crate) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values_by_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let summary = Summary::of(hundred).unwrap();
        assert_eq!(summary, Summary { p50: 50.0, p95: 95.0, p99: 99.0, max: 100.0 });
        let one = Summary::of(vec![7.0]).unwrap();
        assert_eq!(one, Summary { p50: 7.0, p95: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Summary::of(vec![]), None);
        // The median of three values is the second, and every high percentile is the third.
        assert_eq!(Summary::of(vec![3.0, 1.0, 2.0]).unwrap(), Summary { p50: 2.0, p95: 3.0, p99: 3.0, max: 3.0 });
    }

    #[test]
    fn a_distribution_ends_with_the_longest_at_a_hundred_percent() {
        let points = distribution((0..1000).map(f64::from).collect());
        assert!(points.len() <= 401);
        assert_eq!(points.last(), Some(&(999.0, 100.0)));
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
    }
}
