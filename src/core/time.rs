//! Arithmetic with points in time. It never overflows, and it survives a clock that is set back.

use std::time::Duration;

use jiff::Timestamp;

/// Returns `at + by`, or [`Timestamp::MAX`] if the sum overflows.
#[must_use]
pub fn saturating_add(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Returns the end of a wait of the length `by` that began at `since`, or `None` if the wait is over.
///
/// The wait is also over if `since` is later than `now + by`. The clock was set back then, and the wait does not last
/// until the clock has caught up.
#[must_use]
pub fn time_left(since: Timestamp, by: Duration, now: Timestamp) -> Option<Timestamp> {
    let due = saturating_add(since, by);
    (due > now && since <= saturating_add(now, by)).then_some(due)
}
