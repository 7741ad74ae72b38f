//! `pool-by-demand`: a pool as large as what is claimed while a sandbox is being made, with headroom.
//!
//! A warm pool is a base-stock inventory: each claim takes one from the shelf and orders its replacement at
//! once, which arrives a lead time later. What must lie on the shelf is the demand during one lead time.
//!
//! - **Lead time** `L`: the median refill time, plus a second for noticing the claim. Before the first
//!   refill was measured: `refillSeconds`.
//! - **Demand** in that time: mean `λ·L` (Little's law: that many replacements are always under way), and
//!   variance `c·λ·L`. For Poisson arrivals `c` is 1; the arrivals of agents come in bursts, so `c` is
//!   measured as variance through mean of the buckets, and is never below 1.
//! - **Rate** `λ`: the larger of the average that forgets by half every `halfLifeBuckets`, and the busiest
//!   of the last `peakBuckets`. The first follows a trend, the second remembers a burst.
//! - **Size** `S = ⌈λL + z·√(cλL)⌉`: `z` is how many standard deviations of demand are covered;
//!   2.33 covers 99 of 100 lead times (`serviceLevel`). No more than were ever claimed in a lead time's worth
//!   of buckets, and one, is of use: so `S` stops there.
//! - **Up at once, down slowly**: the size falls by half every `releaseSeconds`, from where it stood, so that
//!   a pause between two bursts does not empty the pool. Where it stood is the plugin's state.
//!
//! Base stock with Poisson demand is textbook inventory theory (for example Zipkin, *Foundations of Inventory
//! Management*, chapter 6); the variance-to-mean ratio is its index of dispersion.

mod demand;
mod settings;

use demand::{Demand, stock};
use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use serde::{Deserialize, Serialize};
pub use settings::Settings;

/// The plugin.
pub struct PoolByDemand;

/// Where the size stood.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// Size, before rounding up.
    level: f64,
    /// When, in milliseconds since 1970.
    at: u64,
}

impl Plugin for PoolByDemand {
    type Settings = Settings;

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

/// What is left of the size that stood at the last answer. A state that does not parse is no state: it may
/// be another plugin's.
fn released(question: &Question, settings: &Settings) -> f64 {
    let Ok(State { level, at }) = serde_json::from_slice(&question.state) else { return 0.0 };
    if !level.is_finite() {
        return 0.0;
    }
    let elapsed = question.now.saturating_sub(at) as f64 / 1000.0;
    level.clamp(0.0, f64::from(question.max)) * (-elapsed / settings.release_seconds).exp2()
}

/// Asked again when the size would fall by one, and while there is demand once a bucket, because the
/// averages move then.
fn next_check(question: &Question, settings: &Settings, level: f64, demand: &Demand) -> Option<u64> {
    let in_seconds = |seconds: f64| question.now.saturating_add((seconds.max(1.0) * 1000.0).ceil() as u64);
    let bucket = (demand.rate > 0.0).then(|| in_seconds(f64::from(question.bucket_seconds)));
    let next_size = level.ceil() - 1.0;
    let falls = (level.ceil() > f64::from(question.min) && next_size >= 1.0)
        .then(|| in_seconds(settings.release_seconds * (level / next_size).log2()));
    // Below one there is no next whole size on a curve that halves: a little later will do.
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

/// Rounded up, but not for the crumbs of binary fractions: 3.0000000001 is 3. A level below a twentieth of a
/// sandbox is none, else halving would never come to an end.
fn whole(level: f64) -> u32 {
    if level < 0.05 { 0 } else { (level - 1e-6).ceil().max(0.0) as u32 }
}

paddock_plugin_sdk::export!(PoolByDemand: pool_size);

#[cfg(test)]
mod tests;
