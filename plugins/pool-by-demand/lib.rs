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

use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
pub use pool_sizing::Settings;
use pool_sizing::{Demand, Level, reason, stock, whole};

/// The plugin.
pub struct PoolByDemand;

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
        // A state that does not parse may be that of another plugin, and counts as none.
        let held: Level = serde_json::from_slice(&question.state).unwrap_or_default();
        let level = needed.max(held.rest(question, settings)).clamp(f64::from(min), f64::from(max));
        let desired = whole(level).clamp(min, max);
        let held = Level { level, at: question.now };
        Ok(Answer {
            desired,
            next_check: held.next_check(question, settings, &demand),
            reason: reason(&demand, needed, desired),
            state: Some(serde_json::to_vec(&held).map_err(|error| error.to_string())?),
        })
    }
}

paddock_plugin_sdk::export!(PoolByDemand: pool_size);

#[cfg(test)]
mod tests;
