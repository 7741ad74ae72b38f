//! The report: the outcomes of all contenders under the same conditions, as a table, as JSON or as a page of HTML.

mod html;
mod svg;

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::conditions::{Conditions, Refill};
use crate::outcome::{Outcome, interval, rounded};
use crate::trace::Trace;

pub use html::html;

/// The outcomes of all contenders under the same conditions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The claims.
    pub trace: TraceFacts,
    /// The conditions.
    pub conditions: ConditionFacts,
    /// The length of the intervals of every series, in seconds.
    pub interval_seconds: f64,
    /// The claims that arrived in each interval.
    pub demand: Vec<u64>,
    /// The outcomes, in the order of the command line.
    pub contenders: Vec<Outcome>,
}

/// The claims that were replayed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceFacts {
    /// The name of the shape or of the file.
    pub name: String,
    /// The time of the beginning.
    pub start: Timestamp,
    /// The length in hours.
    pub hours: f64,
    /// The number of claims.
    pub claims: usize,
}

/// The conditions of all contenders.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionFacts {
    /// The smallest size for plugins and HPAs.
    pub min_ready: u32,
    /// The largest size for plugins and HPAs.
    pub max_ready: u32,
    /// The time of a refill.
    pub refill: Refill,
    /// The time for which a claim keeps its Sandbox, in seconds.
    pub hold_seconds: f64,
    /// The hours at the beginning in which plugins learn, and which count in no figure of a contender.
    pub learning_hours: f64,
    /// The seed.
    pub seed: u64,
    /// The price of an hour of a warm Sandbox.
    pub cost_per_hour: Option<f64>,
}

impl Report {
    /// The report about these outcomes.
    #[must_use]
    pub fn new(trace: &Trace, conditions: &Conditions, contenders: Vec<Outcome>) -> Self {
        let length = interval(trace);
        let mut demand = vec![0; usize::try_from(trace.length.div_ceil(length)).unwrap_or_default()];
        for at in trace.arrivals() {
            if let Some(count) = usize::try_from(at / length).ok().and_then(|index| demand.get_mut(index)) {
                *count += 1;
            }
        }
        Self {
            trace: TraceFacts {
                name: trace.name.clone(),
                start: trace.start,
                hours: rounded(trace.length as f64 / 3_600_000.0, 3),
                claims: trace.arrivals().len(),
            },
            conditions: ConditionFacts {
                min_ready: conditions.min,
                max_ready: conditions.max,
                refill: conditions.refill,
                hold_seconds: conditions.hold.as_secs_f64(),
                learning_hours: rounded(conditions.learning.as_secs_f64() / 3600.0, 3),
                seed: conditions.seed,
                cost_per_hour: conditions.cost_per_hour,
            },
            interval_seconds: length as f64 / 1000.0,
            demand,
            contenders,
        }
    }
}

/// The heads of the columns.
pub(crate) const COLUMNS: [&str; 11] = [
    "contender",
    "hit rate",
    "misses",
    "wait p50 s",
    "wait p99 s",
    "idle h",
    "warming h",
    "created",
    "largest",
    "changes",
    "cost",
];

/// The cells of an outcome, in the order of [`COLUMNS`].
pub(crate) fn cells(outcome: &Outcome) -> [String; COLUMNS.len()] {
    [
        outcome.name.clone(),
        outcome.hit_rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.3} %", rate * 100.0)),
        outcome.misses.to_string(),
        format!("{:.2}", outcome.wait_p50_seconds),
        format!("{:.2}", outcome.wait_p99_seconds),
        format!("{:.2}", outcome.idle_hours),
        format!("{:.2}", outcome.warming_hours),
        outcome.created.to_string(),
        outcome.largest_size.to_string(),
        outcome.size_changes.to_string(),
        outcome.cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}")),
    ]
}

/// The report as a table, with warnings about plugins that failed.
#[must_use]
pub fn table(report: &Report) -> String {
    let TraceFacts { name, start, hours, claims } = &report.trace;
    let rows: Vec<[String; COLUMNS.len()]> =
        [COLUMNS.map(str::to_owned)].into_iter().chain(report.contenders.iter().map(cells)).collect();
    let widths: Vec<usize> =
        (0..COLUMNS.len()).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut text = format!("{name}: {claims} claims in {hours} h from {start}");
    let learning = report.conditions.learning_hours;
    if learning > 0.0 {
        // Writing to a String never fails.
        let _ = write!(text, ", of which the first {learning} h count in no figure");
    }
    text.push_str("\n\n");
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    for warning in warnings(report) {
        // Writing to a String never fails.
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    text
}

/// A text about each plugin that failed.
fn warnings(report: &Report) -> impl Iterator<Item = String> {
    report.contenders.iter().filter_map(|outcome| {
        let failures = outcome.failures.as_ref()?;
        let failed: u64 = failures.by_kind.values().sum();
        let (name, asked, first) = (&outcome.name, outcome.questions, &failures.first);
        Some(format!("{name}: {failed} of {asked} questions failed, the first with: {first}"))
    })
}
