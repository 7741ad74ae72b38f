//! Shapes of demand, generated from a seed.

use std::f64::consts::TAU;
use std::time::Duration;

use fastrand::Rng;

use crate::random::{Purpose, stream};
use crate::trace::{MAX_CLAIMS, TooManyClaims, Trace, monday};

/// A shape of demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Shape {
    /// Claims that are independent of each other, at a rate that never changes.
    Poisson,
    /// A wave with a period of a day: the peak at noon has ten times the rate of midnight.
    Diurnal,
    /// Office hours from Monday to Friday, with two percent of the peak outside of them.
    WorkingWeek,
    /// Busy times of five minutes on average, and pauses of 25 minutes on average without a claim.
    Bursts,
    /// A steady rate, and once a day a crowd: 20 times the rate at once, which decays within half an hour.
    FlashCrowd,
    /// All claims of half an hour at one moment, every half hour.
    RlBurst,
    /// A claim every 40 seconds, for Sandboxes that take 150 seconds to start.
    SlowPool,
}

const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;

impl Shape {
    /// All shapes.
    pub const ALL: &'static [Shape] = <Shape as strum::VariantArray>::VARIANTS;

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The time of a refill that belongs to the shape, in seconds.
    #[must_use]
    pub fn refill_seconds(self) -> f64 {
        match self {
            Shape::SlowPool => 150.0,
            Shape::Poisson
            | Shape::Diurnal
            | Shape::WorkingWeek
            | Shape::Bursts
            | Shape::FlashCrowd
            | Shape::RlBurst => 10.0,
        }
    }

    /// The number of days that shows the whole shape.
    #[must_use]
    pub fn days(self) -> u32 {
        match self {
            Shape::WorkingWeek => 7,
            Shape::Poisson | Shape::Diurnal | Shape::Bursts | Shape::FlashCrowd | Shape::RlBurst | Shape::SlowPool => 1,
        }
    }
}

/// Generates claims: `per_minute` on average over the whole time, except that a flash crowd comes on top and that a slow
/// pool has a rate of its own. The same seed gives the same claims.
///
/// # Errors
/// If there would be more claims than [`MAX_CLAIMS`].
pub fn generate(shape: Shape, per_minute: f64, days: u32, seed: u64) -> Result<Trace, TooManyClaims> {
    let random = &mut stream(seed, Purpose::Claims);
    let seconds = f64::from(days) * DAY;
    let rate = per_minute / 60.0;
    if shape != Shape::SlowPool && rate * seconds > MAX_CLAIMS as f64 {
        return Err(TooManyClaims);
    }
    let arrivals = match shape {
        Shape::Poisson => thinned(random, seconds, rate, |_| 1.0),
        Shape::Diurnal => wave(random, seconds, rate, |at| 1.0 - 9.0 / 11.0 * (TAU * at / DAY).cos()),
        Shape::WorkingWeek => wave(random, seconds, rate, office_hours),
        Shape::Bursts => bursts(random, seconds, rate),
        Shape::FlashCrowd => flash_crowd(random, days, seconds, rate),
        Shape::RlBurst => {
            // The rest of a claim is carried to the next burst.
            let until = |half: u32| (f64::from(half) * rate * HOUR / 2.0).round() as usize;
            let burst = |half: u32| {
                let at = (f64::from(half) + 0.5) * HOUR / 2.0;
                std::iter::repeat_n(at, until(half + 1) - until(half))
            };
            (0..days * 48).flat_map(burst).collect()
        }
        Shape::SlowPool => (1..).map(|n| 40.0 * f64::from(n)).take_while(|at| *at < seconds).collect(),
    };
    let arrivals = arrivals.into_iter().map(|at| (at * 1000.0) as u64).collect();
    Trace::new(shape.name(), monday(), Duration::from_secs(u64::from(days) * 86_400), arrivals)
}

/// A time until the next event of a Poisson process, in the unit of `mean`.
fn exponential(random: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

/// A Poisson process whose rate is `peak` times a share between zero and one (Lewis and Shedler's thinning).
fn thinned(random: &mut Rng, seconds: f64, peak: f64, share: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut arrivals = Vec::new();
    let mut at = 0.0;
    loop {
        at += exponential(random, 1.0 / peak);
        // A rate of zero has no next event.
        if !at.is_finite() || at >= seconds {
            return arrivals;
        }
        if random.f64() < share(at) {
            arrivals.push(at);
        }
    }
}

/// A Poisson process whose rate follows a profile and is `mean` on average.
fn wave(random: &mut Rng, seconds: f64, mean: f64, profile: impl Fn(f64) -> f64) -> Vec<f64> {
    let minutes: Vec<f64> = (0..(seconds / 60.0) as u32).map(|minute| profile(f64::from(minute) * 60.0)).collect();
    let highest = minutes.iter().copied().fold(0.0, f64::max);
    let average = minutes.iter().sum::<f64>() / minutes.len().max(1) as f64;
    thinned(random, seconds, mean * highest / average, |at| profile(at) / highest)
}

/// The share of the peak at this time of a week that begins on Monday.
fn office_hours(at: f64) -> f64 {
    const QUIET: f64 = 0.02;
    let (day, hour) = ((at / DAY) as u32 % 7, at % DAY / HOUR);
    if day >= 5 {
        return QUIET;
    }
    QUIET + (1.0 - QUIET) * (hour - 8.0).min(18.0 - hour).clamp(0.0, 1.0)
}

fn bursts(random: &mut Rng, seconds: f64, mean: f64) -> Vec<f64> {
    const BUSY: f64 = 5.0 * 60.0;
    const PAUSE: f64 = 25.0 * 60.0;
    let rate = mean * (BUSY + PAUSE) / BUSY;
    let mut arrivals = Vec::new();
    let mut at = exponential(random, PAUSE);
    while at < seconds {
        let busy = exponential(random, BUSY);
        arrivals.extend(thinned(random, busy, rate, |_| 1.0).into_iter().map(|since| at + since));
        at += busy + exponential(random, PAUSE);
    }
    arrivals
}

fn flash_crowd(random: &mut Rng, days: u32, seconds: f64, rate: f64) -> Vec<f64> {
    const CROWD: f64 = 20.0;
    const DECAY: f64 = 600.0;
    let starts: Vec<f64> = (0..days).map(|day| (f64::from(day) + 0.1 + 0.8 * random.f64()) * DAY).collect();
    let crowd = |at: f64| {
        let since =
            starts.iter().filter(|start| **start <= at).fold(f64::INFINITY, |least, start| least.min(at - start));
        1.0 + (CROWD - 1.0) * (-since / DECAY).exp()
    };
    thinned(random, seconds, rate * CROWD, |at| crowd(at) / CROWD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(shape: Shape, days: u32, seed: u64) -> Trace {
        generate(shape, 6.0, days, seed).unwrap()
    }

    #[test]
    fn shapes_have_their_rate_on_average_and_depend_on_the_seed_alone() {
        for shape in [Shape::Poisson, Shape::Diurnal, Shape::WorkingWeek, Shape::Bursts, Shape::RlBurst] {
            let per_day: f64 = (1..=20).map(|seed| claims(shape, 7, seed).arrivals().len() as f64 / 140.0).sum();
            assert!((per_day / 8640.0 - 1.0).abs() < 0.05, "{}: {per_day}", shape.name());
        }
        for shape in Shape::ALL {
            assert_eq!(claims(*shape, 1, 3), claims(*shape, 1, 3), "{}", shape.name());
        }
        assert_ne!(claims(Shape::Poisson, 1, 3), claims(Shape::Poisson, 1, 4));
    }

    #[test]
    fn diurnal_peak_is_ten_times_the_trough() {
        let arrivals = generate(Shape::Diurnal, 600.0, 1, 1).unwrap();
        let between = |from: f64, to: f64| {
            let inside = |at: &&u64| (from..to).contains(&(**at as f64 / 3_600_000.0));
            arrivals.arrivals().iter().filter(inside).count() as f64 / (to - from)
        };
        let ratio = between(11.5, 12.5) / ((between(0.0, 0.5) + between(23.5, 24.0)) / 2.0);
        assert!((9.0..11.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn office_is_busy_in_office_hours() {
        for (day, hour, share) in
            [(0.0, 12.0, 1.0), (0.0, 8.5, 0.51), (4.0, 17.0, 1.0), (0.0, 3.0, 0.02), (5.0, 12.0, 0.02)]
        {
            assert!((office_hours(day * DAY + hour * HOUR) - share).abs() < 1e-9, "{day} {hour}");
        }
    }

    #[test]
    fn bursts_and_crowds_are_what_their_names_say() {
        let rl = claims(Shape::RlBurst, 1, 1);
        assert_eq!(rl.arrivals().len(), 48 * 180);
        assert_eq!(rl.arrivals().chunks(180).filter(|c| c[0] == c[179]).count(), 48);
        let slow = claims(Shape::SlowPool, 1, 1);
        assert!(slow.arrivals().windows(2).all(|w| w[1] - w[0] == 40_000));
        let minute = |trace: &Trace, at: u64| trace.arrivals().iter().filter(|a| **a / 60_000 == at).count();
        let crowd = claims(Shape::FlashCrowd, 1, 1);
        assert!((0..1440).map(|at| minute(&crowd, at)).max().unwrap() > 60);
        let bursts = claims(Shape::Bursts, 1, 1);
        assert!((0..1440).filter(|at| minute(&bursts, *at) == 0).count() > 900);
    }

    #[test]
    fn too_many_claims_are_refused() {
        assert_eq!(generate(Shape::Poisson, 1e9, 1, 1), Err(TooManyClaims));
        assert!(generate(Shape::Poisson, 0.0, 1, 1).unwrap().arrivals().is_empty());
    }
}
