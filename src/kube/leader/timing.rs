//! The durations of leader election, and the rules for their combination.

use std::time::Duration;

/// The durations of leader election: client-go's three values and its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The time after which a lease expires if it is not renewed.
    pub lease: Duration,
    /// The time after the last renewal for which the leader continues to write.
    pub renew: Duration,
    /// The interval of the attempts to take or renew the lease.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// The reason why a combination of durations is not allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTiming {
    /// The right to write would last longer than the lease.
    #[error("lease renew deadline ({renew:?}) must be shorter than the lease duration ({lease:?})")]
    Renew {
        /// The renew deadline.
        renew: Duration,
        /// The lease duration.
        lease: Duration,
    },
    /// One lost request would lose the lease.
    #[error("lease retry period ({retry:?}) must be shorter than half of the renew deadline ({renew:?})")]
    Retry {
        /// The retry period.
        retry: Duration,
        /// The renew deadline.
        renew: Duration,
    },
    /// The API counts the duration of a lease in whole seconds.
    #[error("lease duration ({lease:?}) must be a whole number of seconds, at least 1 s")]
    WholeSeconds {
        /// The lease duration.
        lease: Duration,
    },
}

impl Timing {
    /// Checks the combination of the three durations.
    ///
    /// # Errors
    /// The rule that is broken, with the durations.
    pub fn checked(self) -> Result<Self, BadTiming> {
        let Self { lease, renew, retry } = self;
        if lease.as_secs() < 1 || lease.subsec_nanos() != 0 {
            return Err(BadTiming::WholeSeconds { lease });
        }
        if renew >= lease {
            return Err(BadTiming::Renew { renew, lease });
        }
        if retry * 2 >= renew {
            return Err(BadTiming::Retry { retry, renew });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_that_do_not_fit_are_refused() {
        let seconds = Duration::from_secs;
        assert_eq!(Timing::default().checked(), Ok(Timing::default()));
        assert_eq!(
            Timing { renew: seconds(15), ..Timing::default() }.checked(),
            Err(BadTiming::Renew { renew: seconds(15), lease: seconds(15) })
        );
        assert_eq!(
            Timing { retry: seconds(5), ..Timing::default() }.checked(),
            Err(BadTiming::Retry { retry: seconds(5), renew: seconds(10) })
        );
        let lease = Duration::from_millis(15_500);
        assert_eq!(Timing { lease, ..Timing::default() }.checked(), Err(BadTiming::WholeSeconds { lease }));
    }
}
