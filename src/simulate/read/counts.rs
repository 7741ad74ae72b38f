//! Layouts with the requests of each function in each minute or second.

use std::io::BufRead;

use super::rows::{Claims, LONGEST, Lines, ReadError, Row};
use crate::trace::{Trace, monday};

const MINUTE: u64 = 60_000;

/// Azure Functions 2019: a line for each function, with a column for each minute of a day.
pub(super) fn azure_2019(
    lines: &mut Lines<impl BufRead>,
    head: &Row<String>,
    mut claims: Claims<'_>,
) -> Result<Trace, ReadError> {
    const NAMES: usize = 4;
    let minutes = head.cells.len() - NAMES;
    for (minute, index) in (NAMES..head.cells.len()).enumerate() {
        if head.cell(index) != (minute + 1).to_string() {
            return Err(head.wrong(index, &format!("the minute {}: expected the minutes of a day from 1", minute + 1)));
        }
    }
    if minutes == 0 {
        return Err(head.wrong(NAMES, "a minute: expected the minutes of a day from 1"));
    }
    let mut found = false;
    while let Some(row) = lines.next()? {
        row.has_width(head.cells.len())?;
        if !claims.reads(&[row.cell(1), row.cell(2)]) {
            continue;
        }
        found = true;
        let mut from = 0;
        for index in NAMES..row.cells.len() {
            claims.spread(row.count(index)?, from, MINUTE)?;
            from += MINUTE;
        }
    }
    claims.check_only(found)?;
    claims.trace(monday(), u64::try_from(minutes).unwrap_or(u64::MAX).saturating_mul(MINUTE))
}

/// Huawei 2023: a line for each minute or second, with a column for each function.
pub(super) fn huawei(
    lines: &mut Lines<impl BufRead>,
    head: &Row<String>,
    mut claims: Claims<'_>,
) -> Result<Trace, ReadError> {
    const NAMES: usize = 2;
    let read: Vec<usize> = (NAMES..head.cells.len()).filter(|index| claims.reads(&[head.cell(*index)])).collect();
    claims.check_only(!read.is_empty())?;
    // The requests of each line, with the time of the line in seconds.
    let mut counts: Vec<(u64, u64)> = Vec::new();
    let mut step: Option<u64> = None;
    while let Some(row) = lines.next()? {
        row.has_width(head.cells.len())?;
        let at = row.number(1, "a time: expected seconds since the beginning of the trace")?;
        if at > LONGEST {
            return Err(row.wrong(1, "within ten years: expected seconds since the beginning of the trace"));
        }
        let at = at as u64;
        if let Some((last, _)) = counts.last() {
            let Some(passed) = at.checked_sub(*last).filter(|passed| *passed > 0) else {
                return Err(row.wrong(1, "later than the line before: expected the lines in the order of time"));
            };
            // A part of a day may be missing, so the shortest step is the length of an interval.
            step = Some(step.map_or(passed, |step| step.min(passed)));
        }
        let mut requests = 0;
        for index in &read {
            requests += row.count(*index)?;
        }
        counts.push((at, requests));
    }
    let (Some((first, _)), Some((last, _))) = (counts.first().copied(), counts.last().copied()) else {
        return Err(ReadError::Empty("there is no line after the heading".to_owned()));
    };
    let step = match step {
        None => 60,
        Some(step @ (1 | 60)) => step,
        Some(step) => {
            let message = format!("the lines are {step} s apart, and must be 1 s or 60 s apart");
            return Err(ReadError::Empty(message));
        }
    };
    let length = (last - first + step) * 1000;
    for (at, requests) in counts {
        claims.spread(requests, (at - first) * 1000, step * 1000)?;
    }
    claims.trace(monday(), length)
}
