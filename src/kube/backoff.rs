//! Exponential backoff, which spaces the retries of all parts.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The first and the longest wait between two attempts. Each wait is twice the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The upper limit of all waits.
    pub longest: Duration,
}

impl Backoff {
    /// A backoff that doubles from `first` to `longest`, without an end and without jitter.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// All waits in order. The iterator never ends.
    pub fn delays(self) -> impl Iterator<Item = Duration> + Send {
        let builder = ExponentialBuilder::new().with_factor(2.0).with_min_delay(self.first);
        builder.with_max_delay(self.longest).without_max_times().build()
    }

    /// The wait after a failure that followed this many earlier failures.
    #[must_use]
    pub fn delay(self, failures: u32) -> Duration {
        let failures = usize::try_from(failures).unwrap_or(usize::MAX).min(LONGEST_REACHED);
        self.delays().nth(failures).unwrap_or_default()
    }
}

/// The number of doublings after which every wait is the longest. A nanosecond becomes an hour after 42 doublings.
const LONGEST_REACHED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(3));
        let waits: Vec<u128> = backoff.delays().take(5).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 3000, 3000]);
        assert_eq!(backoff.delay(0), Duration::from_millis(500));
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(3));
    }
}
