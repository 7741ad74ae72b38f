//! How leadership is timed, and which timings fit together.

use std::time::Duration;

/// How leadership is timed: client-go's three values, and its defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease stands that is not renewed.
    pub lease: Duration,
    /// How long after the last renewal the leader goes on acting.
    pub renew: Duration,
    /// How often to try.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// Why a timing is of no use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTiming {
    /// The right to act would outlast the lease.
    #[error("lease renew deadline ({renew:?}) must be shorter than the lease duration ({lease:?})")]
    Renew {
        /// The deadline.
        renew: Duration,
        /// The duration.
        lease: Duration,
    },
    /// One lost request would lose the lease.
    #[error("lease retry period ({retry:?}) must be shorter than half of the renew deadline ({renew:?})")]
    Retry {
        /// The period.
        retry: Duration,
        /// The deadline.
        renew: Duration,
    },
    /// A lease counts whole seconds.
    #[error("lease duration ({lease:?}) must be a whole number of seconds, at least 1 s")]
    WholeSeconds {
        /// The duration.
        lease: Duration,
    },
}

impl Timing {
    /// Checks that the three fit together.
    ///
    /// # Errors
    /// Says which two do not.
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
