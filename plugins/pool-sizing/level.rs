//! The size that a plugin keeps: it grows at once, and declines slowly.

use paddock_plugin_sdk::pool_size::Question;
use serde::{Deserialize, Serialize};

use crate::demand::Demand;
use crate::settings::Settings;

/// The size at an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// The size before it was rounded up.
    pub level: f64,
    /// The time of the answer, in milliseconds since 1970.
    pub at: u64,
}

impl Level {
    /// The rest of the size, after it has declined until the question.
    #[must_use]
    pub fn rest(&self, question: &Question, settings: &Settings) -> f64 {
        if !self.level.is_finite() {
            return 0.0;
        }
        let elapsed = question.now.saturating_sub(self.at) as f64 / 1000.0;
        self.level.clamp(0.0, f64::from(question.max)) * (-elapsed / settings.release_seconds).exp2()
    }

    /// The time at which the size falls by one, if nothing else happens. `None` if it is at its minimum.
    #[must_use]
    pub fn falls_at(&self, question: &Question, settings: &Settings) -> Option<u64> {
        let Self { level, .. } = *self;
        let next_size = level.ceil() - 1.0;
        let falls = (level.ceil() > f64::from(question.min) && next_size >= 1.0)
            .then(|| in_seconds(question, settings.release_seconds * (level / next_size).log2()));
        // A size that halves never reaches zero, so the last check is one release time ahead.
        let vanishes = (level > 0.0 && next_size < 1.0 && level.ceil() > f64::from(question.min))
            .then(|| in_seconds(question, settings.release_seconds));
        [falls, vanishes].into_iter().flatten().min()
    }

    /// The next check of the rule of `pool-by-demand`: when the size falls by one, and while there is demand once in each
    /// bucket, because the averages change with it.
    #[must_use]
    pub fn next_check(&self, question: &Question, settings: &Settings, demand: &Demand) -> Option<u64> {
        let bucket = (demand.rate > 0.0).then(|| in_seconds(question, f64::from(question.bucket_seconds)));
        [bucket, self.falls_at(question, settings)].into_iter().flatten().min()
    }
}

fn in_seconds(question: &Question, seconds: f64) -> u64 {
    question.now.saturating_add((seconds.max(1.0) * 1000.0).ceil() as u64)
}

/// The reason of a size by the rule of `pool-by-demand`.
#[must_use]
pub fn reason(demand: &Demand, needed: f64, desired: u32) -> String {
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
#[must_use]
pub fn whole(level: f64) -> u32 {
    if level < 0.05 { 0 } else { (level - 1e-6).ceil().max(0.0) as u32 }
}
