//! The report of a replay, as text and as JSON.

use std::fmt::Write as _;

use clap::ValueEnum;
use jiff::Timestamp;
use paddock_core::question::{Hook, PluginRef};
use paddock_core::record::{ObjectName, Record};
use serde::Serialize;

use super::differ::Field;
use crate::output::json;

/// The format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines of text, for people.
    Text,
    /// One JSON object.
    Json,
}

/// What a replay found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The component that was asked.
    component: PluginRef,
    /// The number of decisions that were compared.
    pub(super) decisions: usize,
    /// The decisions that differ.
    pub(super) differences: Vec<Difference>,
    /// The number of decisions that depended on more than the question.
    pub(super) not_compared: usize,
    /// The number of decisions of other hooks and other plugins.
    pub(super) skipped: usize,
    /// The number of compared decisions that were made with other settings.
    other_settings: usize,
    /// The number of compared decisions from whose record values are missing.
    redacted: usize,
    /// The plugins that made the compared decisions.
    plugins: Vec<Recorded>,
    /// The lines that are not records.
    pub(super) malformed: Vec<Malformed>,
}

/// A plugin of the recording.
#[derive(Debug, Serialize)]
struct Recorded {
    #[serde(flatten)]
    plugin: PluginRef,
    decisions: usize,
}

/// A line that is not a record.
#[derive(Debug, Serialize)]
pub(super) struct Malformed {
    /// The number of the line, from 1 on.
    pub(super) line: usize,
    /// The fault.
    pub(super) message: String,
}

/// A decision that differs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Difference {
    line: usize,
    time: Timestamp,
    hook: Hook,
    object: ObjectName,
    plugin: PluginRef,
    redacted_values: usize,
    fields: Vec<Field>,
}

impl Difference {
    pub(super) fn new(line: usize, record: &Record, fields: Vec<Field>) -> Self {
        Self {
            line,
            time: record.time,
            hook: record.hook(),
            object: record.object.clone(),
            plugin: record.plugin.clone(),
            redacted_values: record.redacted_values,
            fields,
        }
    }
}

impl Report {
    pub(super) fn new(component: &PluginRef) -> Self {
        Self {
            component: component.clone(),
            decisions: 0,
            differences: Vec::new(),
            not_compared: 0,
            skipped: 0,
            other_settings: 0,
            redacted: 0,
            plugins: Vec::new(),
            malformed: Vec::new(),
        }
    }

    /// Counts a decision that is compared.
    pub(super) fn count(&mut self, record: &Record, settings_digest: &str) {
        self.decisions += 1;
        self.other_settings += usize::from(record.settings_digest != settings_digest);
        self.redacted += usize::from(record.redacted_values > 0);
        match self.plugins.iter_mut().find(|known| known.plugin == record.plugin) {
            Some(known) => known.decisions += 1,
            None => self.plugins.push(Recorded { plugin: record.plugin.clone(), decisions: 1 }),
        }
    }
}

impl Format {
    /// The whole report.
    pub(super) fn text(self, report: &Report) -> anyhow::Result<String> {
        match self {
            Format::Text => Ok(text(report)),
            Format::Json => json(report),
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for difference in &report.differences {
        let Difference { line, time, hook, object, plugin, redacted_values, fields } = difference;
        let ObjectName { kind, namespace, name, .. } = object;
        let _ =
            writeln!(text, "line {line}: {time}, {} of {kind} {namespace}/{name} by {}", hook.as_str(), plugin.name);
        for Field { field, recorded, now } in fields {
            let _ = writeln!(text, "  {field}: recorded {recorded}, now {now}");
        }
        if *redacted_values > 0 {
            let _ = writeln!(text, "  ({redacted_values} values of the question are not in the recording)");
        }
    }
    let (all, differ) = (report.decisions, report.differences.len());
    let _ = writeln!(text, "{all} decisions, {} equal, {differ} differ", all - differ);
    for Recorded { plugin, decisions } in &report.plugins {
        let same = if plugin.digest == report.component.digest { ", the same component" } else { "" };
        let _ = writeln!(text, "  {decisions} by {} ({}){same}", plugin.name, plugin.digest);
    }
    let notes = [
        (report.other_settings, "were made with other settings"),
        (report.redacted, "have values that are not in the recording"),
        (report.not_compared, "were not compared, because they depended on more than the question"),
        (report.skipped, "are of other hooks or other plugins"),
    ];
    for (count, what) in notes.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(text, "  {count} {what}");
    }
    text
}
