//! The report as text for people, as JSON, as SARIF and as OCSF.

mod ocsf;
mod sarif;

use clap::ValueEnum;
use serde::Serialize;

use super::finding::{Finding, Level, Report};
use super::item::Place;
use crate::output::json;

/// The format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines of text, for people.
    Table,
    /// One JSON object.
    Json,
    /// A SARIF 2.1.0 log, for code scanning.
    Sarif,
    /// OCSF 1.3.0 compliance findings, one JSON object for each line.
    Ocsf,
}

impl Format {
    pub(super) fn text(self, report: &Report) -> anyhow::Result<String> {
        match self {
            Format::Table => Ok(table(report)),
            Format::Json => json(&Summary::of(report)),
            Format::Sarif => json(&sarif::log(report)),
            Format::Ocsf => Ok(ocsf::lines(report, jiff::Timestamp::now())),
        }
    }
}

/// The report in JSON.
#[derive(Serialize)]
struct Summary<'a> {
    workloads: usize,
    errors: usize,
    warnings: usize,
    findings: Vec<Leveled<'a>>,
}

#[derive(Serialize)]
struct Leveled<'a> {
    level: Level,
    #[serde(flatten)]
    finding: &'a Finding,
}

impl<'a> Summary<'a> {
    fn of(report: &'a Report) -> Self {
        Self {
            workloads: report.workloads,
            errors: report.count(Level::Error),
            warnings: report.count(Level::Warning),
            findings: report.findings.iter().map(|finding| Leveled { level: finding.rule.level(), finding }).collect(),
        }
    }
}

/// Two lines for each finding: the object with the rule, and the field with the message.
fn table(report: &Report) -> String {
    let place = |place: &Place| format!(" ({}:{})", place.file, place.line);
    let mut text = String::new();
    for finding in &report.findings {
        let at = finding.place.as_ref().map(place).unwrap_or_default();
        let (level, rule) = (finding.rule.level().as_str(), finding.rule.id());
        let first = format!("{level:<7}  {rule:<21}  {}{at}", finding.object());
        let second = format!("{}: {}", finding.field, finding.message);
        text += &format!("{}\n         {}\n", printable(&first), printable(&second));
    }
    let number = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    let counts = [
        number(report.workloads, "workload"),
        number(report.count(Level::Error), "error"),
        number(report.count(Level::Warning), "warning"),
    ];
    text + &counts.join(", ") + "\n"
}

/// The text without control characters, because a manifest of somebody else must not command the terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}
