//! The conditions of a simulation: the bounds of the pool, the time of a refill, and the settings of the operator.

use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use paddock_core::settings::Settings;
use serde::Serialize;

/// The conditions under which all contenders serve the same claims.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The smallest size that a plugin or an HPA may choose: `minReady` of the pool.
    pub min: u32,
    /// The largest size that a plugin or an HPA may choose: `maxReady` of the pool.
    pub max: u32,
    /// The time from the creation of a Sandbox until it is Ready. A cold start takes as long.
    pub refill: Refill,
    /// The time for which a claim keeps its Sandbox. It changes only the number of claimed Sandboxes in the question.
    pub hold: Duration,
    /// The time in which the operator gathers changes of a pool before it reconciles the pool.
    pub gather: Duration,
    /// The time at the beginning in which plugins learn: it counts in no figure, except for the course over time.
    pub learning: Duration,
    /// The seed of the times of refills and cold starts.
    pub seed: u64,
    /// The price of an hour of one warm Sandbox, Ready or starting. `None` leaves the cost out.
    pub cost_per_hour: Option<f64>,
    /// The settings of the operator.
    pub settings: Settings,
}

/// The time of a refill.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Refill {
    /// Each refill takes the same time.
    Fixed {
        /// The time in seconds.
        seconds: f64,
    },
    /// The logarithm of the time has a normal distribution.
    Lognormal {
        /// The time in seconds that half of the refills exceed.
        median_seconds: f64,
        /// The time in seconds that one of a hundred refills exceeds.
        p99_seconds: f64,
    },
}

/// The 0.99 quantile of the standard normal distribution.
const Z99: f64 = 2.326_347_874;

/// The longest refill, in seconds: a day.
const LONGEST: f64 = 86_400.0;

impl Refill {
    /// The time of one refill, in milliseconds.
    pub(crate) fn sample(self, random: &mut Rng) -> u64 {
        let seconds = match self {
            Refill::Fixed { seconds } => seconds,
            Refill::Lognormal { median_seconds, p99_seconds } => {
                let sigma = (p99_seconds / median_seconds).ln() / Z99;
                (median_seconds * (sigma * normal(random)).exp()).min(LONGEST)
            }
        };
        (seconds * 1000.0).round() as u64
    }
}

/// A random number with the standard normal distribution, by the transform of Box and Muller.
fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

impl FromStr for Refill {
    type Err = String;

    /// `SECONDS`, or `lognormal:MEDIAN,P99` in seconds.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "{value:?} is no time of a refill: expected seconds such as 8.5, or lognormal:MEDIAN,P99 such as lognormal:6,20"
            )
        };
        let seconds =
            |text: &str| text.trim().parse().ok().filter(|s: &f64| (0.0..=LONGEST).contains(s)).ok_or_else(wrong);
        let Some(distribution) = value.strip_prefix("lognormal:") else {
            return Ok(Refill::Fixed { seconds: seconds(value)? });
        };
        let (median, p99) = distribution.split_once(',').ok_or_else(wrong)?;
        let (median_seconds, p99_seconds) = (seconds(median)?, seconds(p99)?);
        if median_seconds <= 0.0 || p99_seconds < median_seconds {
            return Err(format!("{value:?}: the median must be above zero, and the P99 at least the median"));
        }
        Ok(Refill::Lognormal { median_seconds, p99_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refill_is_parsed_or_refused_with_what_would_be_right() {
        assert_eq!("8.5".parse(), Ok(Refill::Fixed { seconds: 8.5 }));
        assert_eq!("lognormal:6,20".parse(), Ok(Refill::Lognormal { median_seconds: 6.0, p99_seconds: 20.0 }));
        for bad in ["", "x", "-1", "NaN", "inf", "1e9", "lognormal:6", "lognormal:6,x", "normal:6,20"] {
            let error = bad.parse::<Refill>().unwrap_err();
            assert!(error.contains("lognormal:MEDIAN,P99"), "{bad}: {error}");
        }
        for bad in ["lognormal:6,5", "lognormal:0,5"] {
            assert!(bad.parse::<Refill>().unwrap_err().contains("median"), "{bad}");
        }
    }

    #[test]
    fn lognormal_has_its_median_and_its_p99() {
        let refill = Refill::Lognormal { median_seconds: 6.0, p99_seconds: 20.0 };
        let mut random = Rng::with_seed(1);
        let mut times: Vec<u64> = (0..100_000).map(|_| refill.sample(&mut random)).collect();
        times.sort_unstable();
        assert!(times[50_000].abs_diff(6000) < 100, "{}", times[50_000]);
        assert!(times[99_000].abs_diff(20_000) < 1000, "{}", times[99_000]);
    }
}
