//! `pool-by-demand`: sizes a pool for the claims that arrive while a Sandbox is being created, with headroom.
//!
//! A warm pool is a base-stock inventory. Each claim takes one Sandbox from the stock and orders a replacement, which
//! is Ready one lead time later. The stock must cover the demand of one lead time.
//!
//! - **Lead time** `L`: the median refill time, plus one second until the operator notices the claim. Before the first
//!   refill it is `refillSeconds`.
//! - **Demand** in a lead time: its mean is `λ·L` (Little's law: that many replacements are always being created), and
//!   its variance is `c·λ·L`. For Poisson arrivals `c` is 1. Agents arrive in bursts, so `c` is the measured ratio of
//!   variance to mean of the buckets, and at least 1.
//! - **Rate** `λ`: the larger of a moving average, in which the weight of a bucket halves every `halfLifeBuckets`, and
//!   the busiest of the last `peakBuckets`. The average follows a trend; the peak remembers a burst.
//! - **Size** `S = ⌈λL + z·√(cλL)⌉`. `z` is the number of standard deviations of demand to cover; 2.33 covers 99 of 100
//!   lead times (`serviceLevel`). `S` is at most one more than the largest number of claims in as many buckets as a lead
//!   time spans, since a larger stock would never be used.
//! - **Growth at once, slow decline**: the size falls by half every `releaseSeconds`, so that a pause between two bursts
//!   does not empty the pool. The plugin's state is the size at the last answer.
//!
//! Base stock with Poisson demand is textbook inventory theory (for example Zipkin, *Foundations of Inventory
//! Management*, chapter 6). The ratio of variance to mean is known as the index of dispersion.

mod demand;
mod settings;

use demand::{Demand, stock};
use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use serde::{Deserialize, Serialize};
pub use settings::Settings;

/// The plugin.
pub struct PoolByDemand;

/// The size at the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// The size before it was rounded up.
    level: f64,
    /// The time of the answer, in milliseconds since 1970.
    at: u64,
}

impl Plugin for PoolByDemand {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("settings.schema.json");

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let (min, max) = (question.min, question.max.max(question.min));
        if min == max {
            let reason = format!("the pool's bounds leave no choice: {min}");
            return Ok(Answer { desired: min, next_check: None, reason, state: None });
        }
        let demand = Demand::measure(question, settings);
        let needed = stock(&demand, settings.z());
        let held = released(question, settings);
        let level = needed.max(held).clamp(f64::from(min), f64::from(max));
        let desired = whole(level).clamp(min, max);
        let state = serde_json::to_vec(&State { level, at: question.now }).map_err(|error| error.to_string())?;
        Ok(Answer {
            desired,
            next_check: next_check(question, settings, level, &demand),
            reason: reason(&demand, needed, desired),
            state: Some(state),
        })
    }
}

/// The rest of the size at the last answer, after it has declined since then. A state that does not parse may be that
/// of another plugin, and counts as none.
fn released(question: &Question, settings: &Settings) -> f64 {
    let Ok(State { level, at }) = serde_json::from_slice(&question.state) else { return 0.0 };
    if !level.is_finite() {
        return 0.0;
    }
    let elapsed = question.now.saturating_sub(at) as f64 / 1000.0;
    level.clamp(0.0, f64::from(question.max)) * (-elapsed / settings.release_seconds).exp2()
}

/// The next check: when the size falls by one, and while there is demand once in each bucket, because the averages
/// change with it.
fn next_check(question: &Question, settings: &Settings, level: f64, demand: &Demand) -> Option<u64> {
    let in_seconds = |seconds: f64| question.now.saturating_add((seconds.max(1.0) * 1000.0).ceil() as u64);
    let bucket = (demand.rate > 0.0).then(|| in_seconds(f64::from(question.bucket_seconds)));
    let next_size = level.ceil() - 1.0;
    let falls = (level.ceil() > f64::from(question.min) && next_size >= 1.0)
        .then(|| in_seconds(settings.release_seconds * (level / next_size).log2()));
    // A size that halves never reaches zero, so the last check is one release time ahead.
    let vanishes = (level > 0.0 && next_size < 1.0 && level.ceil() > f64::from(question.min))
        .then(|| in_seconds(settings.release_seconds));
    [bucket, falls, vanishes].into_iter().flatten().min()
}

fn reason(demand: &Demand, needed: f64, desired: u32) -> String {
    let Demand { rate, lead_seconds, dispersion, .. } = *demand;
    let per_minute = rate * 60.0;
    if whole(needed) < desired && rate == 0.0 {
        return format!("no claims lately; releasing slowly to {desired}");
    }
    let words = format!("{per_minute:.1} claims/min, refill {lead_seconds:.1} s, dispersion {dispersion:.1}");
    format!("{words}: {} needed, {desired} kept", whole(needed))
}

/// Rounds up, except for the rounding errors of floating-point numbers: 3.0000000001 is 3. A level below 0.05 is 0,
/// since halving never reaches zero.
fn whole(level: f64) -> u32 {
    if level < 0.05 { 0 } else { (level - 1e-6).ceil().max(0.0) as u32 }
}

paddock_plugin_sdk::export!(PoolByDemand: pool_size);

#[cfg(test)]
mod tests;
