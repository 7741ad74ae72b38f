//! A trace: the times at which claims arrive.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;

/// The largest number of claims in a trace. The times of so many claims take 160 MB.
pub const MAX_CLAIMS: usize = 20_000_000;

/// A trace has more claims than [`MAX_CLAIMS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the trace has more than {MAX_CLAIMS} claims: use fewer functions (--only), a part of the claims (--scale), or fewer days"
)]
pub struct TooManyClaims;

/// The claims for one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The name of the shape or of the file.
    pub name: String,
    /// The time of the beginning.
    pub start: Timestamp,
    /// The length in milliseconds.
    pub length: u64,
    /// The arrivals in milliseconds since the beginning, in order.
    arrivals: Vec<u64>,
}

impl Trace {
    /// A trace of this length. Arrivals after its end are dropped.
    ///
    /// # Errors
    /// If there are more claims than [`MAX_CLAIMS`].
    pub fn new(name: &str, start: Timestamp, length: Duration, mut arrivals: Vec<u64>) -> Result<Self, TooManyClaims> {
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        arrivals.retain(|at| *at < length);
        if arrivals.len() > MAX_CLAIMS {
            return Err(TooManyClaims);
        }
        arrivals.sort_unstable();
        Ok(Self { name: name.to_owned(), start, length, arrivals })
    }

    /// The arrivals in milliseconds since the beginning, in order.
    #[must_use]
    pub fn arrivals(&self) -> &[u64] {
        &self.arrivals
    }
}

/// The beginning of a trace that names no date: a Monday at midnight UTC.
pub(crate) fn monday() -> Timestamp {
    let midnight = date(2026, 1, 5).at(0, 0, 0, 0).to_zoned(TimeZone::UTC);
    midnight.map_or(Timestamp::UNIX_EPOCH, |midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_its_claims_in_order_and_none_after_its_end() {
        let trace = Trace::new("t", monday(), Duration::from_secs(2), vec![2000, 1999, 5]).unwrap();
        assert_eq!(trace.arrivals(), [5, 1999]);
        assert_eq!(monday().to_string(), "2026-01-05T00:00:00Z");
    }
}
