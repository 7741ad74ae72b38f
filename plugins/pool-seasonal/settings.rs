//! The settings of `pool-seasonal`.

use serde::Deserialize;

/// The settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Share of the claims of a week that are to find a Ready sandbox.
    pub hit_rate: f64,
    /// Weeks in which a quarter of an hour must have been seen before its own average counts.
    pub learn_weeks: u32,
    /// Weeks that the averages go back, about.
    pub memory_weeks: u32,
    /// Lead time before the first refill, in seconds.
    pub refill_seconds: f64,
    /// Number of buckets in which the weight of a bucket in the average of `pool-by-demand` falls by half.
    pub half_life_buckets: f64,
    /// Number of buckets whose peak counts in the rule of `pool-by-demand`.
    pub peak_buckets: u32,
    /// Seconds in which the size falls by half.
    pub release_seconds: f64,
}

impl Default for Settings {
    /// The settings of `pool-by-demand` have its defaults.
    fn default() -> Self {
        let pool_sizing::Settings { service_level, refill_seconds, half_life_buckets, peak_buckets, release_seconds } =
            pool_sizing::Settings::default();
        Self {
            hit_rate: service_level,
            learn_weeks: 1,
            memory_weeks: 4,
            refill_seconds,
            half_life_buckets,
            peak_buckets,
            release_seconds,
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(0.5..=0.9999).contains(&self.hit_rate) {
            return Err(format!("hitRate: must be from 0.5 to 0.9999, is {}", self.hit_rate));
        }
        // The averages are stored with eight bits, and a longer memory would need more.
        for (field, value) in [("learnWeeks", self.learn_weeks), ("memoryWeeks", self.memory_weeks)] {
            if !(1..=12).contains(&value) {
                return Err(format!("{field}: must be from 1 to 12, is {value}"));
            }
        }
        self.by_demand().check()
    }

    /// The settings of the rule of `pool-by-demand`.
    pub(crate) fn by_demand(&self) -> pool_sizing::Settings {
        pool_sizing::Settings {
            service_level: self.hit_rate,
            refill_seconds: self.refill_seconds,
            half_life_buckets: self.half_life_buckets,
            peak_buckets: self.peak_buckets,
            release_seconds: self.release_seconds,
        }
    }
}
