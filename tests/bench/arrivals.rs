//! The times at which claims are created. They are fixed before the run and do not depend on the replies (open loop).

use std::time::Duration;

/// The time of each arrival since the start, in order.
pub(crate) type Schedule = Vec<Duration>;

/// All arrivals at once.
pub(crate) fn burst(count: usize) -> Schedule {
    vec![Duration::ZERO; count]
}

/// A Poisson process with this rate under the condition that it has `count` arrivals: `count` points in time, uniformly
/// distributed over the average duration. Because the count is fixed, a pool of this size is enough, and the rate is
/// exactly the requested one.
pub(crate) fn poisson(rate: f64, count: usize, seed: u64) -> Schedule {
    let mut random = fastrand::Rng::with_seed(seed);
    let all = count as f64 / rate;
    let mut schedule: Schedule = (0..count).map(|_| Duration::from_secs_f64(random.f64() * all)).collect();
    schedule.sort();
    schedule
}

/// The average number of arrivals at this rate in this time.
pub(crate) fn count(rate: f64, seconds: u32) -> usize {
    (rate * f64::from(seconds)).round().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential_with_the_mean_of_the_rate() {
        const COUNT: usize = 20_000;
        let schedule = poisson(50.0, COUNT, 1);
        assert_eq!(schedule.len(), COUNT);
        assert!(schedule.is_sorted());
        assert!(schedule.last().unwrap().as_secs_f64() <= COUNT as f64 / 50.0);
        let at: Vec<f64> = schedule.iter().map(Duration::as_secs_f64).collect();
        let gaps: Vec<f64> = std::iter::once(at[0]).chain(at.windows(2).map(|w| w[1] - w[0])).collect();
        let mean = gaps.iter().sum::<f64>() / COUNT as f64;
        assert!((mean - 0.02).abs() < 0.001, "mean gap {mean}");
        // In an exponential distribution, the standard deviation is the mean, and 1/e of all gaps are longer than the
        // mean. Evenly spaced arrivals would have neither property.
        let deviation = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / COUNT as f64).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.05, "deviation {deviation}");
        let longer = gaps.iter().filter(|g| **g > mean).count() as f64 / COUNT as f64;
        assert!((longer - 0.368).abs() < 0.02, "{longer} are longer than the mean");
    }

    #[test]
    fn same_seed_gives_the_same_schedule() {
        assert_eq!(poisson(10.0, 50, 7), poisson(10.0, 50, 7));
        assert_ne!(poisson(10.0, 50, 7), poisson(10.0, 50, 8));
    }

    #[test]
    fn a_burst_is_at_once_and_a_rate_is_a_count() {
        assert_eq!(burst(3), [Duration::ZERO; 3]);
        assert_eq!(count(7.5, 4), 30);
        assert_eq!(count(0.1, 1), 1);
    }
}
