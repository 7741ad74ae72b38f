//! The settings of the rule of `pool-by-demand`.

use serde::Deserialize;

/// The settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Share of lead times in which every claim finds a Ready sandbox.
    pub service_level: f64,
    /// Lead time before the first refill, in seconds.
    pub refill_seconds: f64,
    /// Number of buckets in which the weight of a bucket in the average falls by half.
    pub half_life_buckets: f64,
    /// Number of buckets whose peak counts.
    pub peak_buckets: u32,
    /// Seconds in which the size falls by half.
    pub release_seconds: f64,
}

impl Default for Settings {
    /// A Sandbox is Ready within seconds if its image is on the node. Bursts that are a few minutes apart count as one
    /// busy period.
    fn default() -> Self {
        Self {
            service_level: 0.99,
            refill_seconds: 10.0,
            half_life_buckets: 5.0,
            peak_buckets: 10,
            release_seconds: 300.0,
        }
    }
}

impl Settings {
    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// The field that is out of its range, and the range.
    pub fn check(&self) -> Result<(), String> {
        if !(0.5..=0.9999).contains(&self.service_level) {
            return Err(format!("serviceLevel: must be from 0.5 to 0.9999, is {}", self.service_level));
        }
        let day = 86_400.0;
        for (field, value, least) in [
            ("refillSeconds", self.refill_seconds, 0.1),
            ("halfLifeBuckets", self.half_life_buckets, 0.1),
            ("releaseSeconds", self.release_seconds, 1.0),
        ] {
            if !(least..=day).contains(&value) {
                return Err(format!("{field}: must be from {least} to {day}, is {value}"));
            }
        }
        if self.peak_buckets == 0 {
            return Err("peakBuckets: must be at least 1".into());
        }
        Ok(())
    }

    /// Number of standard deviations for the service level: the quantile of the normal distribution.
    #[must_use]
    pub fn z(&self) -> f64 {
        normal_quantile(self.service_level)
    }
}

/// The normal quantile for 0.5 <= p < 1, by the rational approximation 26.2.23 of Abramowitz and Stegun
/// (its error is below 4.5e-4, which does not change a whole number of Sandboxes).
fn normal_quantile(p: f64) -> f64 {
    let t = (-2.0 * (1.0 - p).ln()).sqrt();
    let numerator = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let denominator = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    (t - numerator / denominator).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_is_that_of_the_normal_distribution() {
        for (p, z) in [(0.5, 0.0), (0.9, 1.2816), (0.975, 1.9600), (0.99, 2.3263), (0.9999, 3.7190)] {
            assert!((normal_quantile(p) - z).abs() < 5e-4, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn check_names_the_field_that_is_out_of_range() {
        let check = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check()
        };
        assert_eq!(check(|_| {}), Ok(()));
        for (error, field) in [
            (check(|s| s.service_level = 1.0), "serviceLevel: "),
            (check(|s| s.service_level = f64::NAN), "serviceLevel: "),
            (check(|s| s.refill_seconds = 0.0), "refillSeconds: "),
            (check(|s| s.half_life_buckets = -1.0), "halfLifeBuckets: "),
            (check(|s| s.release_seconds = 1e9), "releaseSeconds: "),
            (check(|s| s.peak_buckets = 0), "peakBuckets: "),
        ] {
            assert!(error.as_ref().is_err_and(|error| error.starts_with(field)), "{field} {error:?}");
        }
    }
}
