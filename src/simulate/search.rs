//! Searches for the contender to compare with: the smallest fixed size for a hit rate, or the HPA for a number of hours.

use crate::conditions::Conditions;
use crate::model::simulate;
use crate::outcome::Outcome;
use crate::sizer::Contender;
use crate::trace::Trace;

/// The outcome of the smallest fixed size with this hit rate, or `None` if the largest size of a pool has a lower one.
#[must_use]
pub fn smallest_fixed(trace: &Trace, conditions: &Conditions, hit_rate: f64) -> Option<Outcome> {
    let outcome = |size: u32| simulate(trace, conditions, &Contender::Fixed(size));
    let reaches = |outcome: &Outcome| outcome.hit_rate.is_none_or(|rate| rate >= hit_rate);
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

/// The outcome of the HPA whose idle hours are closest to this number, among the targets from a thousandth to a thousand
/// claims in a minute for each Sandbox.
#[must_use]
pub fn hpa_of_idle_hours(trace: &Trace, conditions: &Conditions, idle_hours: f64) -> Outcome {
    let outcome = |target: f64| simulate(trace, conditions, &Contender::Hpa(target));
    let (mut low, mut high) = (1e-3_f64, 1e3_f64);
    let mut best = outcome(high);
    // The target is on a logarithmic scale: 20 halvings determine it to a hundred thousandth.
    for _ in 0..20 {
        let middle = (low * high).sqrt();
        let tried = outcome(middle);
        // A higher target needs fewer Sandboxes.
        if tried.idle_hours > idle_hours {
            low = middle;
        } else {
            high = middle;
        }
        if (tried.idle_hours - idle_hours).abs() < (best.idle_hours - idle_hours).abs() {
            best = tried;
        }
    }
    best
}
