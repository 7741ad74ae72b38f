//! Measures the demand for a pool, and computes the stock for one lead time.

use paddock_plugin_sdk::pool_size::Question;

use crate::settings::Settings;

/// Time from a claim until the operator creates its replacement, in seconds: a generous estimate of one reconcile.
const NOTICE_SECONDS: f64 = 1.0;

/// The measured demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Claims per second.
    pub rate: f64,
    /// Seconds from a claim until its replacement is Ready.
    pub lead_seconds: f64,
    /// Ratio of variance to mean of the claims in a bucket, at least 1.
    pub dispersion: f64,
    /// The largest number of claims in as many buckets as a lead time spans.
    pub most_in_lead: f64,
}

impl Demand {
    /// Measures the demand in the buckets of a question.
    #[must_use]
    pub fn measure(question: &Question, settings: &Settings) -> Self {
        let bucket = f64::from(question.bucket_seconds.max(1));
        let counts: Vec<f64> = question.arrivals.iter().map(|count| f64::from(*count)).collect();
        let lead_seconds = lead_seconds(question, settings);
        let peak = recent(&counts, settings.peak_buckets).iter().copied().fold(0.0, f64::max);
        let rate = average(&counts, settings.half_life_buckets).max(peak) / bucket;
        let spanned = (lead_seconds / bucket).ceil().max(1.0) as usize;
        Self { rate, lead_seconds, dispersion: dispersion(&counts), most_in_lead: most_in(&counts, spanned) }
    }
}

/// Seconds from a claim until its replacement is Ready.
#[must_use]
pub fn lead_seconds(question: &Question, settings: &Settings) -> f64 {
    question.refill_ms.map_or(settings.refill_seconds, |ms| ms as f64 / 1000.0) + NOTICE_SECONDS
}

/// The stock for one lead time, which is the mean of its demand and the headroom; not rounded.
#[must_use]
pub fn stock(demand: &Demand, z: f64) -> f64 {
    let mean = demand.rate * demand.lead_seconds;
    if mean <= 0.0 {
        return 0.0;
    }
    let headroom = z * (demand.dispersion * mean).sqrt();
    (mean + headroom).min(demand.most_in_lead + 1.0).max(mean)
}

/// Claims per bucket: an average in which each bucket has less weight than the one after it. The last bucket is
/// incomplete, so it can raise the average but not lower it.
fn average(counts: &[f64], half_life: f64) -> f64 {
    let of = |counts: &[f64]| {
        let (sum, weight) = counts.iter().rev().zip(0_u32..).fold((0.0, 0.0), |(sum, weight), (count, age)| {
            let w = (-f64::from(age) / half_life).exp2();
            (sum + w * count, weight + w)
        });
        if weight > 0.0 { sum / weight } else { 0.0 }
    };
    let complete = counts.split_last().map_or(counts, |(_, complete)| complete);
    of(counts).max(of(complete))
}

fn recent(counts: &[f64], buckets: u32) -> &[f64] {
    let skip = counts.len().saturating_sub(usize::try_from(buckets).unwrap_or(usize::MAX));
    counts.get(skip..).unwrap_or_default()
}

fn dispersion(counts: &[f64]) -> f64 {
    let n = counts.len() as f64;
    let mean = counts.iter().sum::<f64>() / n.max(1.0);
    if mean <= 0.0 {
        return 1.0;
    }
    let variance = counts.iter().map(|count| (count - mean) * (count - mean)).sum::<f64>() / n;
    (variance / mean).max(1.0)
}

/// The largest sum of this number of consecutive buckets.
fn most_in(counts: &[f64], buckets: usize) -> f64 {
    let window = buckets.clamp(1, counts.len().max(1));
    counts.windows(window).map(|window| window.iter().sum()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispersion_is_one_for_an_even_stream_and_more_for_a_burst() {
        assert!((dispersion(&[4.0, 4.0, 4.0, 4.0]) - 1.0).abs() < 1e-9);
        assert!(dispersion(&[0.0, 0.0, 0.0, 16.0]) > 10.0);
        assert!((dispersion(&[]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn average_prefers_new_buckets_and_is_not_lowered_by_the_incomplete_one() {
        let old = average(&[10.0, 0.0, 0.0, 0.0, 0.0, 0.0], 2.0);
        let new = average(&[0.0, 0.0, 0.0, 0.0, 10.0, 0.0], 2.0);
        assert!(old < new);
        assert!((average(&[6.0, 6.0, 6.0, 0.0], 5.0) - 6.0).abs() < 1e-9);
        assert!(average(&[6.0, 6.0, 6.0, 60.0], 5.0) > 6.0);
    }

    #[test]
    fn largest_sum_is_of_consecutive_buckets() {
        let counts = [1.0, 5.0, 4.0, 0.0, 8.0];
        assert!((most_in(&counts, 1) - 8.0).abs() < 1e-9);
        assert!((most_in(&counts, 2) - 9.0).abs() < 1e-9);
        assert!((most_in(&counts, 99) - 18.0).abs() < 1e-9);
        assert!(most_in(&[], 3).abs() < 1e-9);
    }

    #[test]
    fn stock_is_the_demand_of_a_lead_time_with_headroom() {
        let demand = Demand { rate: 1.0, lead_seconds: 9.0, dispersion: 1.0, most_in_lead: 60.0 };
        assert!((stock(&demand, 2.0) - 15.0).abs() < 1e-9);
        let bursts = Demand { dispersion: 4.0, ..demand };
        assert!((stock(&bursts, 2.0) - 21.0).abs() < 1e-9);
        let few = Demand { most_in_lead: 11.0, ..demand };
        assert!((stock(&few, 2.0) - 12.0).abs() < 1e-9);
        let none = Demand { rate: 0.0, ..demand };
        assert!(stock(&none, 2.0).abs() < 1e-9);
    }
}
