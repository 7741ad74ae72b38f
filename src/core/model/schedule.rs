//! The schedule of a Sandbox: the grammar of the five fields, and the times that they stand for. Both are those of a
//! CronJob.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use paddock_api::WakeSchedule;

use super::error::{Errors, FieldErrors};

/// The number of years in which the next time of a schedule is searched. Every valid schedule has a time within eight
/// years: the 29th of February is missing once in eight years at most.
const SEARCHED_YEARS: i64 = 9;

/// The `wakeSchedule` of a Sandbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Wake {
    /// The times at which the Sandbox resumes, if the operator suspended it.
    Times(Schedule),
    /// The schedule is not valid, for example because a newer release admitted it. The schedule has no effect, and the
    /// rest of the spec stays in force.
    Invalid {
        /// The fields and the time zone, as the user wrote them.
        written: WakeSchedule,
        /// The errors of the fields.
        errors: FieldErrors,
    },
}

/// The times at which a suspended Sandbox resumes. They are whole minutes.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The fields and the time zone, as the user wrote them.
    pub written: WakeSchedule,
    zone: TimeZone,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

/// One of the five fields: the set of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Field {
    bits: u64,
    /// Whether an item is `*`, so that the field restricts nothing.
    any: bool,
}

/// The name, the range and the words of a field.
struct Kind {
    name: &'static str,
    min: u8,
    max: u8,
    words: &'static [&'static str],
}

const KINDS: [Kind; 5] = [
    Kind { name: "minute", min: 0, max: 59, words: &[] },
    Kind { name: "hour", min: 0, max: 23, words: &[] },
    Kind { name: "day of the month", min: 1, max: 31, words: &[] },
    Kind {
        name: "month",
        min: 1,
        max: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Kind { name: "day of the week", min: 0, max: 6, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// The descriptors that a CronJob accepts in place of the fields, and the fields that they stand for.
const DESCRIPTORS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// The number of days of each month in a leap year.
const DAYS_MAX: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Wake {
    /// Parses the schedule of a Sandbox.
    pub(super) fn parse(written: Option<&WakeSchedule>) -> Option<Arc<Self>> {
        let mut errors = Errors::default();
        let schedule = parse_schedule(written, &mut errors);
        let written = written?.clone();
        let parsed = errors.into_result(schedule);
        Some(Arc::new(parsed.map_or_else(|errors| Wake::Invalid { written, errors }, Wake::Times)))
    }

    /// The fields and the time zone, as the user wrote them.
    #[must_use]
    pub fn written(&self) -> &WakeSchedule {
        match self {
            Wake::Times(schedule) => &schedule.written,
            Wake::Invalid { written, .. } => written,
        }
    }
}

/// Parses the schedule of a template, or of a Sandbox.
pub(super) fn parse_schedule(written: Option<&WakeSchedule>, errors: &mut Errors) -> Option<Schedule> {
    let written = written?;
    let zone = match written.time_zone.as_deref() {
        None => Ok(TimeZone::UTC),
        Some(name) => time_zone(name),
    };
    let zone = zone.map_err(|problem| errors.add("spec.wakeSchedule.timeZone", problem)).ok();
    let fields = fields(&written.cron).map_err(|problem| errors.add("spec.wakeSchedule.cron", problem)).ok();
    let (zone, [minutes, hours, days, months, weekdays]) = (zone?, fields?);
    Some(Schedule { written: written.clone(), zone, minutes, hours, days, months, weekdays })
}

/// A time zone by its name. The database is part of the program, so that all replicas give the same answer, and an image
/// without files has one.
fn time_zone(name: &str) -> Result<TimeZone, String> {
    let wanted = "must be the name of a time zone in the IANA database, such as Europe/Berlin or UTC";
    let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| format!("`{name}` {wanted}"))?;
    match zone.iana_name() {
        Some(known) if known != name => Err(format!("`{name}` {wanted}; did you mean `{known}`?")),
        Some(_) | None => Ok(zone),
    }
}

fn fields(cron: &str) -> Result<[Field; 5], String> {
    let problem = |problem: String| {
        format!(
            "`{cron}` {problem}; it must have the five fields of a CronJob: minute, hour, day of the month, month, day of the week, such as 0 9 * * 1-5"
        )
    };
    let words: Vec<&str> = cron.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    if let [descriptor] = *words.as_slice()
        && descriptor.starts_with('@')
    {
        let same = DESCRIPTORS.iter().find(|(name, _)| descriptor.eq_ignore_ascii_case(name));
        let instead = same.map_or(String::new(), |(_, fields)| format!(", and `{fields}` means the same"));
        return Err(problem(format!("is a descriptor, which is not supported{instead}")));
    }
    let [minute, hour, day, month, weekday] = *words.as_slice() else {
        return Err(problem(format!("has {} fields", words.len())));
    };
    let [minutes, hours, days, months, weekdays] = KINDS;
    let fields = [
        minutes.parse(minute).map_err(problem)?,
        hours.parse(hour).map_err(problem)?,
        days.parse(day).map_err(problem)?,
        months.parse(month).map_err(problem)?,
        weekdays.parse(weekday).map_err(problem)?,
    ];
    let [.., days, months, weekdays] = fields;
    // A weekday beside the days of the month adds days, so only the days of the month can be ones that no month has.
    let exists = |month: usize, last: u8| months.has(month) && (1..=last).any(|day| days.has(usize::from(day)));
    let never = weekdays.any && !DAYS_MAX.iter().zip(1..).any(|(last, month)| exists(month, *last));
    if never { Err(problem("never comes, because none of its months has such a day".to_owned())) } else { Ok(fields) }
}

impl Kind {
    /// Parses a field: items separated by commas.
    fn parse(&self, field: &str) -> Result<Field, String> {
        let mut parsed = Field { bits: 0, any: false };
        for item in field.split(',') {
            let (range, step) = match item.split_once('/') {
                None => (item, None),
                Some((range, step)) => (range, Some(self.step(step)?)),
            };
            let (first, last) = match range.split_once('-') {
                _ if matches!(range, "*" | "?") => {
                    // `*/2` restricts the field, as in a CronJob.
                    parsed.any |= step.is_none_or(|step| step == 1);
                    (self.min, self.max)
                }
                None => {
                    let first = self.value(range)?;
                    // `5/10` means from 5 to the maximum.
                    (first, if step.is_some() { self.max } else { first })
                }
                Some((first, last)) => (self.value(first)?, self.value(last)?),
            };
            if first > last {
                return Err(format!("has the range `{range}` for the {}, which ends before it begins", self.name));
            }
            for value in (first..=last).step_by(usize::from(step.unwrap_or(1))) {
                parsed.bits |= 1 << value;
            }
        }
        Ok(parsed)
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse::<u8>().ok() } else { None };
        let word = || {
            let at = self.words.iter().position(|word| text.eq_ignore_ascii_case(word))?;
            u8::try_from(at).ok().map(|at| at + self.min)
        };
        number.or_else(word).filter(|value| (self.min..=self.max).contains(value)).ok_or_else(|| {
            let words = match self.words {
                [first, .., last] => format!(" or {first} to {last}"),
                [] | [_] => String::new(),
            };
            format!("has `{text}` for the {}, which must be {} to {}{words}", self.name, self.min, self.max)
        })
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let step = text.parse::<u8>().ok().filter(|step| digits && *step > 0);
        step.ok_or_else(|| format!("has the step `{text}` for the {}, which must be a number from 1 to 255", self.name))
    }
}

impl Field {
    fn has(self, value: usize) -> bool {
        self.bits >> value & 1 == 1
    }

    fn has_number(self, value: i8) -> bool {
        usize::try_from(value).is_ok_and(|value| self.has(value))
    }
}

impl Schedule {
    /// The first time after `after`. `None` if there is none in the range of timestamps.
    ///
    /// When clocks are put forward, the times that a clock does not show are left out. When they are put back, the times
    /// that a clock shows twice come twice. A CronJob does the same.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let until = after.checked_add(SignedDuration::from_hours(24 * 366 * SEARCHED_YEARS)).ok()?;
        let seconds = after.as_second();
        let minute = seconds - seconds.rem_euclid(60) + 60;
        let mut at = Timestamp::from_second(minute).ok()?.to_zoned(self.zone.clone());
        // Offsets of earlier centuries have seconds.
        if at.second() != 0 {
            at = at.checked_add(SignedDuration::from_secs(60 - i64::from(at.second()))).ok()?;
        }
        while at.timestamp() <= until {
            match self.step(&at) {
                None => return Some(at.timestamp()),
                Some(next) if next > at => at = next,
                // The last moment of all timestamps.
                Some(_) => return None,
            }
        }
        None
    }

    /// The last time after `after` and not after `until`.
    #[must_use]
    pub fn last(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut last = self.next(after).filter(|at| *at <= until)?;
        // The search halves the seconds in which a later time may be.
        let mut end = until;
        while let Some(left) = Some(end.as_second() - last.as_second()).filter(|left| *left > 0) {
            let middle = Timestamp::from_second(last.as_second() + left / 2).ok()?;
            match self.next(middle).filter(|at| *at <= end) {
                Some(later) => last = later,
                None => end = middle,
            }
        }
        Some(last)
    }

    /// What the schedule means, however it is written: the values of its fields, and the name of the time zone.
    #[must_use]
    pub fn meaning(&self) -> String {
        let fields = [self.minutes, self.hours, self.days, self.months, self.weekdays];
        let fields = fields.map(|field| format!("{:x}", field.bits)).join(" ");
        let both = self.days.any || self.weekdays.any;
        format!("{fields} {both} {}", self.zone.iana_name().unwrap_or_default())
    }

    /// Whether `at` is a time of the schedule.
    #[must_use]
    pub fn has(&self, at: Timestamp) -> bool {
        at.checked_sub(SignedDuration::from_secs(1)).is_ok_and(|before| self.next(before) == Some(at))
    }

    /// The next moment that may be in the schedule, or `None` if `at` is.
    fn step(&self, at: &Zoned) -> Option<Zoned> {
        let date = at.date();
        if !self.months.has_number(date.month()) {
            return Some(self.start_of(date.last_of_month().tomorrow().ok(), at));
        }
        if !self.has_day(date) {
            return Some(self.start_of(date.tomorrow().ok(), at));
        }
        if !self.hours.has_number(at.hour()) {
            return Some(self.later(at, 60 - i64::from(at.minute())));
        }
        (!self.minutes.has_number(at.minute())).then(|| self.later(at, 1))
    }

    /// A day counts if the fields for the day of the month and the day of the week both have it. If both fields restrict
    /// the days, one of them is enough.
    fn has_day(&self, date: Date) -> bool {
        let (day, weekday) =
            (self.days.has_number(date.day()), self.weekdays.has_number(date.weekday().to_sunday_zero_offset()));
        if self.days.any || self.weekdays.any { day && weekday } else { day || weekday }
    }

    /// The beginning of a day, and at least a minute after `at`.
    fn start_of(&self, date: Option<Date>, at: &Zoned) -> Zoned {
        let start = date.and_then(|date| date.to_zoned(self.zone.clone()).ok());
        start.filter(|start| start > at).unwrap_or_else(|| self.later(at, 1))
    }

    /// So many minutes after `at`, but not after the next change of the clocks.
    fn later(&self, at: &Zoned, minutes: i64) -> Zoned {
        let later = at.checked_add(minutes.minutes()).unwrap_or_else(|_| Timestamp::MAX.to_zoned(self.zone.clone()));
        if later.offset() == at.offset() {
            return later;
        }
        let change = self.zone.following(at.timestamp()).next().map(|change| change.timestamp());
        change.filter(|change| *change < later.timestamp()).map_or(later, |change| change.to_zoned(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests;
