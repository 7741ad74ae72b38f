//! The rules for records of activity: when the annotation [`LAST_ACTIVITY`](crate::names::annotation::LAST_ACTIVITY) of a
//! Sandbox is written. The webhook and the gateway follow the same rules.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::duration::parse_go_duration;

/// The field manager of the records of activity.
pub const FIELD_MANAGER: &str = "paddock-activity";

/// A new record must be later than the last one by at least the idle timeout divided by this number.
const STEP_DIVISOR: u32 = 10;
/// The shortest time between two records, if the idle timeout is twice as long: at most one write in five seconds.
const STEP_MIN: Duration = Duration::from_secs(5);
/// The shortest time between two records, whatever the idle timeout is.
const STEP_LEAST: Duration = Duration::from_secs(1);

/// The longest `idleTimeout`: ten years, as in the CEL rule of the schema. CEL cannot compute with durations of any
/// length.
pub const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(87_600 * 3600);

/// The idle timeout in `spec.idleTimeout`, if it is valid: above zero, and at most [`IDLE_TIMEOUT_MAX`].
#[must_use]
pub fn idle_timeout(text: &str) -> Option<Duration> {
    let nanos = u64::try_from(parse_go_duration(text).ok()?).ok()?;
    Some(Duration::from_nanos(nanos)).filter(|timeout| !timeout.is_zero() && *timeout <= IDLE_TIMEOUT_MAX)
}

/// The time by which a record has to move before it is written again: a tenth of the idle timeout, and five seconds. A
/// Sandbox with a short idle timeout that is in use all the time must not be idle between two records.
#[must_use]
pub fn step(idle_timeout: Duration) -> Duration {
    STEP_MIN.min(idle_timeout / 2).max(idle_timeout / STEP_DIVISOR).max(STEP_LEAST)
}

/// Whether a record moves by at least one step. A clock that was wrong may have recorded a time in the future, so the
/// record may move back too.
///
/// `throttled` is the time since which the Sandbox is throttled, if it is. A use after that time needs no longer step than
/// five seconds, because the record gives the Sandbox its CPU back. The clocks of two processes may differ by as much.
///
/// `idle_since` is the value of the annotation [`IDLE_SINCE`](crate::names::annotation::IDLE_SINCE), if the Sandbox has one.
/// The first use after that time is recorded at once, because it ends the permission to suspend the Sandbox.
#[must_use]
pub fn moves(
    recorded: Option<Timestamp>,
    to: Timestamp,
    idle_timeout: Duration,
    throttled: Option<Timestamp>,
    idle_since: Option<Timestamp>,
) -> bool {
    let revokes = |since: Timestamp| {
        recorded.is_none_or(|recorded| recorded <= since) && to.duration_since(since) >= TEXT_PRECISION
    };
    if idle_since.is_some_and(revokes) {
        return true;
    }
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    let least = signed(STEP_MIN);
    let step = signed(step(idle_timeout));
    let step = if throttled.is_some_and(|since| since.duration_since(to) <= least) { step.min(least) } else { step };
    recorded.is_none_or(|recorded| to.duration_since(recorded).abs() >= step)
}

/// The precision of [`text`]. The record of a use that is later by less would not be later.
const TEXT_PRECISION: SignedDuration = SignedDuration::from_millis(1);

/// The value of a record: RFC 3339 with milliseconds.
#[must_use]
pub fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_moves_by_a_tenth_of_the_idle_timeout_and_five_seconds() {
        let recorded: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        for (timeout, after, moved) in [
            ("30m", 179, false),
            ("30m", 180, true),
            ("30m", -180, true),
            ("30m", -179, false),
            ("20s", 4, false),
            ("20s", 5, true),
            ("10s", 4, false),
            ("6s", 2, false),
            ("6s", 3, true),
            ("1ms", 0, false),
            ("1ms", 1, true),
        ] {
            let timeout = idle_timeout(timeout).unwrap();
            let to = recorded + SignedDuration::from_secs(after);
            assert_eq!(moves(Some(recorded), to, timeout, None, None), moved, "{timeout:?} {after}");
            assert!(moves(None, to, timeout, None, None));
        }
        assert_eq!(text(recorded), "2026-01-01T12:00:00.000Z");
    }

    #[test]
    fn a_use_of_a_throttled_sandbox_is_recorded_at_once() {
        let recorded: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let at = |after| recorded + SignedDuration::from_secs(after);
        let timeout = idle_timeout("30m").unwrap();
        for (throttled, to, moved) in [
            (Some(60), 61, true),
            (Some(60), 60, true),
            // The clock of the process that saw the use is a little behind.
            (Some(60), 56, true),
            // A use before the throttle, which was not worth a record.
            (Some(60), 50, false),
            (Some(60), 4, false),
            (None, 61, false),
        ] {
            let result = moves(Some(recorded), at(to), timeout, throttled.map(at), None);
            assert_eq!(result, moved, "{throttled:?} {to}");
        }
    }

    #[test]
    fn the_first_use_after_idle_since_is_recorded_at_once() {
        let base: Timestamp = "2026-01-01T12:00:00.0009Z".parse().unwrap();
        let at = |after| base + SignedDuration::from_millis(after);
        let timeout = idle_timeout("30m").unwrap();
        for (what, recorded, since, to, moved) in [
            ("a use after it", Some(0), 60_000, 61_000, true),
            ("a use before it", Some(0), 60_000, 59_000, false),
            ("a use at it", Some(0), 60_000, 60_000, false),
            ("a later use that is recorded", Some(60_001), 60_000, 61_000, false),
            ("a use that the record could not express", Some(0), 60_000, 60_000, false),
            ("the first use that the record can express", Some(0), 60_000, 60_001, true),
        ] {
            assert_eq!(moves(recorded.map(at), at(to), timeout, None, Some(at(since))), moved, "{what}");
        }
        // A record of such a use ends the permission, so it is not written again and again.
        let (since, to) = (at(0), at(1));
        let record: Timestamp = text(to).parse().unwrap();
        assert!(record > since && !moves(Some(record), to, timeout, None, Some(since)));
    }

    #[test]
    fn an_idle_timeout_is_above_zero_and_at_most_ten_years() {
        assert_eq!(idle_timeout("87600h"), Some(IDLE_TIMEOUT_MAX));
        for bad in ["", "0s", "-1s", "87601h", "soon", "30"] {
            assert_eq!(idle_timeout(bad), None, "{bad}");
        }
    }
}
