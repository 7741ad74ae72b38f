//! The annotations of a Sandbox about its idle policy: the wishes [`KEEP_AWAKE_UNTIL`] and [`IDLE_SINCE`], and the records
//! of its use, [`LAST_ACTIVITY`] and [`HELD_UNTIL`].
//!
//! Anybody who may write the Sandbox may set them, so a time that is not allowed counts as absent: it must neither keep a
//! Sandbox running forever nor suspend one that is in use. The webhook refuses such a time, and the reconcile reports it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use paddock_api::names::annotation::{HELD_UNTIL, IDLE_SINCE, KEEP_AWAKE_UNTIL, LAST_ACTIVITY};

use crate::model::FieldError;
use crate::object::Texts;
use crate::settings::Settings;
use crate::text::truncate;
use crate::time::saturating_add;

/// The time by which the clock of a client may be ahead. The clocks of machines that synchronize their time differ much
/// less.
pub(crate) const CLOCK_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// The time by which a record of activity may always be ahead. The operator, the gateway and the webhook learn the time
/// from API servers, of which one may be wrong, and a Sandbox in use must not be suspended for that.
const RECORD_AHEAD: Duration = Duration::from_hours(1);

/// The longest value that a message repeats, in characters. A time in RFC 3339 format is shorter.
const MAX_VALUE_CHARS: usize = 40;

/// The wishes that may have an effect, and the errors of those that have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// The time until which the idle policy does nothing. It may have passed.
    pub(crate) keep_awake_until: Option<Timestamp>,
    /// The time since which the Sandbox may be suspended. It may lie ahead by a few minutes, and counts from then on.
    pub(crate) idle_since: Option<Timestamp>,
    /// The time until which an exec, attach or port-forward counts as activity. The webhook writes it, and whoever may
    /// write annotations could write another one.
    pub(crate) held_until: Option<Timestamp>,
    /// The time of the last use that a client recorded, and not later than now. A record that is ahead counts as now, by
    /// at most the time for which `keep-awake-until` could keep the Sandbox running too.
    pub(crate) last_activity: Option<Timestamp>,
    /// The errors. A message depends on no clock, so that two messages about the same value are equal.
    pub(crate) errors: Vec<FieldError>,
}

impl Wishes {
    /// Reads the wishes from the annotations of a Sandbox.
    pub(crate) fn of(annotations: &impl Texts, settings: &Settings, now: Timestamp) -> Self {
        let mut wishes = Self::default();
        let at_most = settings.keep_awake_at_most;
        wishes.keep_awake_until = wishes.read(annotations, KEEP_AWAKE_UNTIL, |value| until(value, at_most, now));
        wishes.idle_since = wishes.read(annotations, IDLE_SINCE, |value| since(value, now));
        wishes.held_until = wishes.read(annotations, HELD_UNTIL, |value| held(value, settings.exec_hold, now));
        wishes.last_activity =
            wishes.read(annotations, LAST_ACTIVITY, |value| recorded(value, at_most, now)).map(|at| at.min(now));
        wishes
    }

    fn read(
        &mut self,
        annotations: &impl Texts,
        name: &str,
        parse: impl FnOnce(&str) -> Result<Timestamp, String>,
    ) -> Option<Timestamp> {
        let value = annotations.text(name)?;
        let problem = match parse(value) {
            Ok(at) => return Some(at),
            Err(problem) => problem,
        };
        let value = truncate(value, MAX_VALUE_CHARS);
        self.errors.push(FieldError::new(format!("metadata.annotations[{name}]"), format!("{value:?} {problem}")));
        None
    }
}

fn until(value: &str, at_most: Duration, now: Timestamp) -> Result<Timestamp, String> {
    if at_most.is_zero() {
        return Err("has no effect, because the operator runs with --keep-awake-at-most=0; remove it".to_owned());
    }
    not_after(value, saturating_add(now, at_most)).ok_or_else(|| {
        format!(
            "must be a time in RFC 3339 format, at most {} after the present time, such as {EXAMPLE}; renew it to keep \
             the Sandbox running for longer",
            text(at_most)
        )
    })
}

fn held(value: &str, hold: Duration, now: Timestamp) -> Result<Timestamp, String> {
    not_after(value, saturating_add(now, hold)).ok_or_else(|| {
        format!(
            "must be a time in RFC 3339 format, at most {} after the present time (--exec-hold of the operator), such as \
             {EXAMPLE}; use {KEEP_AWAKE_UNTIL} to keep the Sandbox running for longer",
            text(hold)
        )
    })
}

fn recorded(value: &str, at_most: Duration, now: Timestamp) -> Result<Timestamp, String> {
    let ahead = at_most.max(RECORD_AHEAD);
    not_after(value, saturating_add(now, ahead)).ok_or_else(|| {
        format!(
            "must be a time in RFC 3339 format, at most {} after the present time, such as {EXAMPLE}; use \
             {KEEP_AWAKE_UNTIL} to keep the Sandbox running until a time",
            text(ahead)
        )
    })
}

fn since(value: &str, now: Timestamp) -> Result<Timestamp, String> {
    not_after(value, now).ok_or_else(|| {
        format!("must be a time in RFC 3339 format, and not later than the present time, such as {EXAMPLE}")
    })
}

/// The time, if it is not after `latest` by the clock of a client.
fn not_after(value: &str, latest: Timestamp) -> Option<Timestamp> {
    let latest = saturating_add(latest, CLOCK_AHEAD.unsigned_abs());
    value.parse().ok().filter(|at| *at <= latest)
}

/// A time of the right form, for messages.
const EXAMPLE: &str = "2026-12-01T18:00:00Z";

/// A duration in hours, if that is exact, and in seconds otherwise.
fn text(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: &str = "2026-11-23T12:00:00Z";

    #[test]
    fn activity_that_is_ahead_counts_as_now_within_a_bound() {
        let off = Settings { keep_awake_at_most: Duration::ZERO, ..Settings::default() };
        for (value, settings, counts) in [
            ("2026-11-23T11:59:59Z", &Settings::default(), Some("2026-11-23T11:59:59Z")),
            ("2026-11-24T12:04:59Z", &Settings::default(), Some(NOW)),
            ("2026-11-24T12:05:01Z", &Settings::default(), None),
            ("2026-11-23T13:04:59Z", &off, Some(NOW)),
            ("2026-11-23T13:05:01Z", &off, None),
            ("9999-01-01T00:00:00Z", &Settings::default(), None),
            ("yesterday", &Settings::default(), None),
        ] {
            let wishes = read(LAST_ACTIVITY, value, settings);
            assert_eq!(wishes.last_activity, counts.map(|at| at.parse().unwrap()), "{value}");
            let errors: Vec<&str> = wishes.errors.iter().map(|error| error.path.as_str()).collect();
            let field = "metadata.annotations[policy.paddock.dev/last-activity]";
            assert_eq!(errors, if counts.is_some() { vec![] } else { vec![field] }, "{value}");
        }
    }

    fn read(name: &str, value: &str, settings: &Settings) -> Wishes {
        let annotations = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Wishes::of(&annotations, settings, NOW.parse().unwrap())
    }

    #[test]
    fn a_time_within_its_bounds_counts_and_each_other_value_is_an_error() {
        let (day, off) = (Settings::default(), Settings { keep_awake_at_most: Duration::ZERO, ..Settings::default() });
        let short = Settings { keep_awake_at_most: Duration::from_secs(90), ..Settings::default() };
        for (name, value, settings, problem) in [
            (KEEP_AWAKE_UNTIL, "2026-11-23T13:00:00Z", &day, None),
            (KEEP_AWAKE_UNTIL, "2026-11-23T14:00:00+01:00", &day, None),
            (KEEP_AWAKE_UNTIL, "2026-11-24T12:04:59Z", &day, None),
            (KEEP_AWAKE_UNTIL, "2020-01-01T00:00:00Z", &day, None),
            (KEEP_AWAKE_UNTIL, "2026-11-24T12:05:01Z", &day, Some("at most 24h after the present time")),
            (KEEP_AWAKE_UNTIL, "9999-01-01T00:00:00Z", &day, Some("at most 24h after the present time")),
            (KEEP_AWAKE_UNTIL, "2026-11-23T13:00:00Z", &short, Some("at most 90s after the present time")),
            (KEEP_AWAKE_UNTIL, "2026-11-23T12:01:00Z", &off, Some("--keep-awake-at-most=0")),
            (KEEP_AWAKE_UNTIL, "in two hours", &day, Some("\"in two hours\" must be a time in RFC 3339 format")),
            (KEEP_AWAKE_UNTIL, "", &day, Some("must be a time in RFC 3339 format")),
            (KEEP_AWAKE_UNTIL, "2026-11-23T13:00:00", &day, Some("such as 2026-12-01T18:00:00Z")),
            (HELD_UNTIL, "2026-11-23T13:04:59Z", &day, None),
            (HELD_UNTIL, "2026-11-23T13:05:01Z", &day, Some("at most 1h after the present time (--exec-hold")),
            (HELD_UNTIL, "9999-01-01T00:00:00Z", &day, Some("use policy.paddock.dev/keep-awake-until")),
            (HELD_UNTIL, "always", &day, Some("\"always\" must be a time in RFC 3339 format")),
            (IDLE_SINCE, "2026-11-23T12:00:00Z", &day, None),
            (IDLE_SINCE, "2026-11-23T12:04:59Z", &day, None),
            (IDLE_SINCE, "2026-11-23T12:05:01Z", &day, Some("not later than the present time")),
            (IDLE_SINCE, "true", &day, Some("must be a time in RFC 3339 format")),
        ] {
            let wishes = read(name, value, settings);
            let times = [wishes.keep_awake_until, wishes.idle_since, wishes.held_until];
            match problem {
                None => {
                    assert_eq!(times.into_iter().flatten().collect::<Vec<_>>(), [value.parse().unwrap()], "{value}");
                    assert_eq!(wishes.errors, [], "{value}");
                }
                Some(problem) => {
                    assert_eq!(times, [None, None, None], "{value}");
                    let [error] = &*wishes.errors else { panic!("{:?}", wishes.errors) };
                    assert_eq!(error.path, format!("metadata.annotations[{name}]"));
                    assert!(error.message.contains(problem), "{error}");
                }
            }
        }
        assert_eq!(Wishes::of(&BTreeMap::<String, String>::new(), &day, NOW.parse().unwrap()), Wishes::default());
    }
}
