//! Searches among the fixed sizes: the smallest one with a hit rate, and the curve of all of them.

use crate::conditions::Conditions;
use crate::model::simulate;
use crate::outcome::Outcome;
use crate::sizer::Contender;
use crate::trace::Trace;

/// The outcome of the smallest fixed size with this hit rate in percent, or `None` if the largest size of a pool has a lower
/// one. If the times of refills vary, a smaller size may reach the hit rate by chance.
#[must_use]
pub fn smallest_fixed(trace: &Trace, conditions: &Conditions, percent: f64) -> Option<Outcome> {
    let outcome = |size: u32| simulate(trace, conditions, &Contender::Fixed(size));
    let reaches = |outcome: &Outcome| reaches(outcome, percent);
    let most = conditions.settings.max_pool_size;
    let sizes = std::iter::successors(Some(0_u32), |size| (*size < most).then(|| (size * 2).clamp(1, most)));
    let mut too_small = None;
    let mut best = None;
    for size in sizes {
        let outcome = outcome(size);
        if reaches(&outcome) {
            best = Some((size, outcome));
            break;
        }
        too_small = Some(size);
    }
    let (mut size, mut best) = best?;
    while let Some(low) = too_small.filter(|low| low + 1 < size) {
        let middle = low + (size - low) / 2;
        let outcome = outcome(middle);
        if reaches(&outcome) {
            (size, best) = (middle, outcome);
        } else {
            too_small = Some(middle);
        }
    }
    Some(best)
}

/// Whether an outcome has a hit rate of at least this many percent. A rounded rate would be too high or too low.
fn reaches(outcome: &Outcome, percent: f64) -> bool {
    // A percentage such as 99.9 has no exact form in binary, and 20 million claims are less than the tolerance.
    outcome.misses as f64 * 100.0 <= (100.0 - percent) * outcome.claims as f64 + 1e-6
}

/// The hit rate at which a larger fixed size makes no difference that a chart shows.
const END_OF_CURVE: f64 = 0.9999;

/// The outcomes of fixed sizes, from zero to one that serves almost every claim. Each is up to twice as large as the one
/// before it.
#[must_use]
pub fn fixed_curve(trace: &Trace, conditions: &Conditions) -> Vec<Outcome> {
    let most = conditions.settings.max_pool_size;
    // 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, ...
    let steps = (0..32).flat_map(|power| [1_u32 << power, (1_u32 << power) + (1 << power) / 2]).skip(1);
    let mut sizes: Vec<u32> = [0, 1].into_iter().chain(steps).take_while(|size| *size < most).chain([most]).collect();
    sizes.dedup();
    let mut curve = Vec::new();
    for size in sizes {
        let outcome = simulate(trace, conditions, &Contender::Fixed(size));
        let ends = outcome.hit_rate.is_none_or(|rate| rate >= END_OF_CURVE);
        curve.push(outcome);
        if ends {
            break;
        }
    }
    curve
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paddock_core::settings::Settings;

    use super::*;
    use crate::conditions::Refill;
    use crate::trace::monday;

    fn conditions() -> Conditions {
        Conditions {
            min: 0,
            max: 10,
            refill: Refill::Fixed { seconds: 100.0 },
            hold: Duration::ZERO,
            gather: Duration::ZERO,
            learning: Duration::ZERO,
            seed: 1,
            cost_per_hour: None,
            settings: Settings::default(),
        }
    }

    #[test]
    fn hit_rate_is_compared_by_counts() {
        let trace = Trace::new("t", monday(), Duration::from_secs(600), vec![]).unwrap();
        let empty = simulate(&trace, &conditions(), &Contender::Fixed(0));
        let of = |hits: u64, misses: u64| Outcome { claims: hits + misses, hits, misses, ..empty.clone() };
        assert!(reaches(&of(999, 1), 99.9) && reaches(&of(9999, 1), 99.99) && reaches(&of(99, 1), 99.0));
        assert!(!reaches(&of(998, 2), 99.9) && !reaches(&of(1_999_999, 1), 100.0) && reaches(&of(5, 0), 100.0));
        assert!(!reaches(&of(19_979_999, 20_001), 99.9) && reaches(&of(19_980_000, 20_000), 99.9));
    }

    #[test]
    fn smallest_fixed_is_the_smallest_and_one_less_has_a_lower_rate() {
        // Seven claims at once, then a long pause.
        let arrivals = vec![1000, 1000, 1000, 1000, 1000, 1000, 1000, 300_000];
        let trace = Trace::new("t", monday(), Duration::from_secs(600), arrivals).unwrap();
        let size = |percent: f64| smallest_fixed(&trace, &conditions(), percent).unwrap().largest_size;
        assert_eq!([0.0, 12.5, 25.0, 75.0, 87.5, 88.0, 100.0].map(size), [0, 1, 1, 5, 6, 7, 7]);
    }
}
