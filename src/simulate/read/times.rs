//! Layouts with a line for each claim.

use std::io::BufRead;

use jiff::Timestamp;

use super::rows::{Claims, LONGEST, Lines, ReadError, Row};
use crate::trace::{TooManyClaims, Trace, monday};

/// Numbers from this one on are seconds since 1970, and not since the beginning of the trace.
const SECONDS_SINCE_1970: f64 = 1e9;
const MINUTE: i64 = 60_000;

/// A time of a file, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Time {
    /// Since the beginning of the trace.
    Offset(i64),
    /// Since 1970.
    Date(i64),
}

impl Time {
    fn parse(text: &str) -> Option<Self> {
        match text.parse::<f64>() {
            Ok(seconds) if (0.0..SECONDS_SINCE_1970).contains(&seconds) => {
                Some(Time::Offset((seconds * 1000.0) as i64))
            }
            Ok(seconds) if (SECONDS_SINCE_1970..1e11).contains(&seconds) => Some(Time::Date((seconds * 1000.0) as i64)),
            Ok(_) => None,
            Err(_) => text.parse::<Timestamp>().ok().map(|at| Time::Date(at.as_millisecond())),
        }
    }
}

/// A time on each line.
pub(super) fn arrivals(
    lines: &mut Lines<impl BufRead>,
    first: &Row<String>,
    mut claims: Claims<'_>,
) -> Result<Trace, ReadError> {
    const EXPECTED: &str = "a time: expected seconds such as 12.5, or RFC 3339 such as 2026-01-05T08:00:00Z";
    if !claims.options.only.is_empty() {
        return Err(ReadError::Empty(
            "--only needs a file that names functions, and this one has only times".to_owned(),
        ));
    }
    // The times of the claims that are kept, and the first and the last time of all.
    let mut times: Vec<i64> = Vec::new();
    let mut ends: Option<(i64, i64)> = None;
    let mut dates = None;
    let mut take = |line: usize, cells: &[&str]| {
        let row = Row { line, cells: cells.to_vec() };
        row.has_width(1).map_err(|_| {
            let message = format!("it has {} columns: expected one time, or one of the layouts in --help", cells.len());
            ReadError::Line { line, message }
        })?;
        let (at, date) = match Time::parse(row.cell(0)) {
            Some(Time::Offset(at)) => (at, false),
            Some(Time::Date(at)) => (at, true),
            None => return Err(row.wrong(0, EXPECTED)),
        };
        if *dates.get_or_insert(date) != date {
            let form = if date { "seconds since the beginning" } else { "a date" };
            return Err(row.wrong(0, &format!("like the lines before it: expected {form}")));
        }
        let (earliest, latest) = ends.map_or((at, at), |(first, last)| (first.min(at), last.max(at)));
        ends = Some((earliest, latest));
        // A claim that is too late for the days that are read, now that this much of the file is known.
        let late = u64::try_from(at - if date { earliest } else { 0 }).is_ok_and(|since| since >= claims.limit());
        if !late && claims.keeps() {
            if times.len() >= claims.most {
                return Err(TooManyClaims.into());
            }
            times.push(at);
        }
        Ok(())
    };
    let heading = ["time", "timestamp", "arrival", "arrived", "created", "creationtimestamp"];
    let is_heading = matches!(first.cells.as_slice(), [cell] if heading.contains(&cell.to_ascii_lowercase().as_str()));
    if !is_heading {
        let cells: Vec<&str> = first.cells.iter().map(String::as_str).collect();
        take(first.line, &cells)?;
    }
    while let Some(row) = lines.next()? {
        take(row.line, &row.cells)?;
    }
    let Some((earliest, latest)) = ends else {
        return Err(ReadError::Empty("there is no line after the heading".to_owned()));
    };
    // A trace of dates begins with the minute of its first claim.
    let (start, from) = if dates == Some(true) {
        let from = earliest.div_euclid(MINUTE) * MINUTE;
        (Timestamp::from_millisecond(from).unwrap_or(Timestamp::UNIX_EPOCH), from)
    } else {
        (monday(), 0)
    };
    if (latest - from) as f64 > LONGEST * 1000.0 {
        return Err(ReadError::Empty("the times are more than ten years apart".to_owned()));
    }
    let since = |at: i64| u64::try_from(at - from).unwrap_or_default();
    claims.times = times.into_iter().map(since).collect();
    finish(latest - from, start, claims)
}

/// Azure Functions 2021: an invocation on each line, with its end and its duration.
pub(super) fn azure_2021(lines: &mut Lines<impl BufRead>, mut claims: Claims<'_>) -> Result<Trace, ReadError> {
    let mut found = false;
    let mut latest = 0.0_f64;
    while let Some(row) = lines.next()? {
        row.has_width(4)?;
        let end = row.number(2, "a time: expected seconds since the beginning of the trace")?;
        let duration = row.number(3, "a duration: expected seconds of at least 0")?;
        if end > LONGEST {
            return Err(row.wrong(2, "within ten years: expected seconds since the beginning of the trace"));
        }
        latest = latest.max(end);
        if claims.reads(&[row.cell(0), row.cell(1)]) {
            found = true;
            // An invocation that began before the trace counts at its beginning.
            claims.add(((end - duration).max(0.0) * 1000.0) as u64)?;
        }
    }
    claims.check_only(found)?;
    finish((latest * 1000.0) as i64, monday(), claims)
}

/// A trace that ends with the minute of its last claim.
fn finish(latest: i64, start: Timestamp, claims: Claims<'_>) -> Result<Trace, ReadError> {
    claims.trace(start, u64::try_from((latest.div_euclid(MINUTE) + 1) * MINUTE).unwrap_or_default())
}
