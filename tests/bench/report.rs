//! The results of a run: named figures, and their output.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::audit::{Count, Counts};
use crate::controller::Who;
use crate::stats::{Summary, round};
use crate::usage::Sample;

/// The figures of one run, which `docs/performance/README.md` explains.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// The controller that was measured.
    pub(crate) who: Who,
    /// The figures by name, as in the JSON output.
    pub(crate) figures: Map<String, Value>,
    /// The intended start in seconds and the latency in milliseconds of each claim.
    pub(crate) latencies: Vec<(f64, f64)>,
    /// The number of Ready sandboxes over the seconds.
    pub(crate) growth: Vec<(f64, f64)>,
    /// Usage over time.
    pub(crate) samples: Vec<Sample>,
    /// Notes that a reader needs to understand the figures.
    pub(crate) notes: Vec<String>,
}

impl Measured {
    /// Results without figures.
    pub(crate) fn new(who: Who) -> Self {
        Self {
            who,
            figures: Map::new(),
            latencies: Vec::new(),
            growth: Vec::new(),
            samples: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Sets a figure.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Sets a number, rounded to a hundredth, or null if there is none.
    pub(crate) fn number(&mut self, name: &str, value: Option<f64>) {
        self.set(name, value.map(round).map_or(Value::Null, Value::from));
    }

    /// Sets the percentiles of some latencies.
    pub(crate) fn summary(&mut self, name: &str, summary: Option<Summary>) {
        self.set(name, summary.map_or(Value::Null, Summary::json));
    }

    /// Sets the processor time of each process.
    pub(crate) fn cpu(&mut self, name: &str, spent: &BTreeMap<String, f64>) {
        self.set(name, spent.iter().map(|(who, s)| (who.clone(), json!(round(*s)))).collect::<Map<_, _>>());
    }

    /// Sets the numbers of writes by user, verb and resource, divided by `by`.
    pub(crate) fn writes(&mut self, name: &str, counts: &Counts, by: usize) {
        let rows = counts.iter().map(|((who, verb, what), count)| {
            let Count { attempts, refused, conflicts } = *count;
            let each = round(attempts as f64 / by.max(1) as f64);
            json!({
                "user": who, "verb": verb, "resource": what, "each": each,
                "count": attempts, "refused": refused, "conflicts": conflicts,
            })
        });
        self.set(name, rows.collect::<Vec<_>>());
    }

    fn at(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let first = self.figures.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part)).filter(|value| !value.is_null())
    }
}

/// The path of a figure, its title and its unit.
const FIGURES: &[(&str, &str, &str)] = &[
    ("claims", "claims", ""),
    ("sandboxes", "sandboxes", ""),
    ("offered_rate", "asked for", "/s"),
    ("rate", "Ready", "/s"),
    ("highest_rate", "highest rate within the limit", "/s"),
    ("ready_ms.p50", "Ready, p50", "ms"),
    ("ready_ms.p95", "Ready, p95", "ms"),
    ("ready_ms.p99", "Ready, p99", "ms"),
    ("ready_ms.max", "Ready, max", "ms"),
    ("ack_ms.p50", "created, p50", "ms"),
    ("ack_ms.p99", "created, p99", "ms"),
    ("gone_ms.p50", "gone, p50", "ms"),
    ("gone_ms.p99", "gone, p99", "ms"),
    ("overhead_p50_percent", "more than a bare client, p50", "%"),
    ("overhead_p95_percent", "more than a bare client, p95", "%"),
    ("cold", "cold starts", ""),
    ("lost", "lost claims", ""),
    ("refused", "of them refused", ""),
    ("twice", "sandboxes taken twice", ""),
    ("writes_per_claim_to_ready", "writes until Ready, a claim", ""),
    ("writes_per_claim", "writes from creation to deletion, a claim", ""),
    ("writes_per_sandbox", "writes, a sandbox", ""),
    ("events_per_claim", "Events, a claim", ""),
    ("conflicts_per_claim", "conflicts, a claim", ""),
    ("reconciles_per_claim_to_ready", "reconciles until all were Ready, a claim", ""),
    ("reconciles_per_claim", "reconciles, a claim", ""),
    ("reconciles_per_sandbox", "reconciles, a sandbox", ""),
    ("fill_s", "time to fill", "s"),
    ("cpu_s", "processor time of the controller", "s"),
    ("cpu_ms_each", "the same for each", "ms"),
    ("rss_rest_mb", "memory of the controller at rest", "MB"),
    ("rss_mb", "memory of the controller, most", "MB"),
    ("rest_cpu_percent", "processor at rest, of a core", "%"),
    ("watch_events_per_s", "watch events to the controller at rest", "/s"),
    ("watch_kb_per_s", "watch traffic to everybody at rest", "kB/s"),
    ("reconciles_per_s", "reconciles at rest", "/s"),
    ("scrape_ms", "a scrape of its metrics", "ms"),
    ("scrape_kb", "size of a scrape", "kB"),
    ("start_ready_s", "start until ready", "s"),
    ("start_leads_s", "start until it leads", "s"),
    ("start_rss_mb", "memory, most during the start", "MB"),
    ("leader_after_s", "kill until another leads", "s"),
    ("first_ready_after_s", "kill until a later claim is Ready", "s"),
    ("all_ready_after_s", "kill until all claims of that time are Ready", "s"),
    ("claims_without_leader", "claims without a leader", ""),
];

/// The width of a figure's title. `COLUMN` is the width of a column.
const NAME: usize = 46;
const COLUMN: usize = 13;

/// The figures of several runs side by side, as text.
pub(crate) fn table(title: &str, runs: &[Measured]) -> String {
    let mut text = format!("{title}\n\n{:NAME$}", "");
    for run in runs {
        text.push_str(&format!("{:>COLUMN$}", run.who.title()));
    }
    text.push('\n');
    for (path, name, unit) in FIGURES {
        let cells: Vec<String> = runs.iter().map(|run| run.at(path).map(show).unwrap_or_default()).collect();
        row(&mut text, name, &cells, unit);
    }
    for (key, title) in [("cpu", "processor time, s"), ("rest_cpu", "processor at rest, % of a core")] {
        section(&mut text, title, runs, key);
    }
    for run in runs {
        for (key, title) in [("writes", "writes for each"), ("writes_to_ready", "writes until Ready for each")] {
            writes(&mut text, &format!("{}: {title}", run.who.title()), run.at(key));
        }
        for note in &run.notes {
            text.push_str(&format!("\n{}: {note}\n", run.who.title()));
        }
    }
    text
}

fn row(text: &mut String, name: &str, cells: &[String], unit: &str) {
    if cells.iter().all(String::is_empty) {
        return;
    }
    let cells: String = cells.iter().map(|cell| format!("{cell:>COLUMN$}")).collect();
    text.push_str(format!("{name:NAME$}{cells} {unit}").trim_end());
    text.push('\n');
}

/// An object of numbers, with one row for each key.
fn section(text: &mut String, title: &str, runs: &[Measured], key: &str) {
    let objects: Vec<Option<&Map<String, Value>>> =
        runs.iter().map(|run| run.at(key).and_then(Value::as_object)).collect();
    let mut names: Vec<&String> = objects.iter().flatten().flat_map(|object| object.keys()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return;
    }
    text.push_str(&format!("\n{title}\n"));
    for name in names {
        let cell =
            |object: &Option<&Map<String, Value>>| object.and_then(|o| o.get(name)).map(show).unwrap_or_default();
        row(text, &format!("  {name}"), &objects.iter().map(cell).collect::<Vec<_>>(), "");
    }
}

fn writes(text: &mut String, title: &str, rows: Option<&Value>) {
    let rows = rows.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return;
    }
    text.push_str(&format!("\n{title}\n"));
    for row in rows {
        let word = |name: &str| row[name].as_str().unwrap_or_default();
        let refused = row["refused"].as_u64().unwrap_or(0);
        let refused = if refused == 0 { String::new() } else { format!("  ({refused} refused)") };
        let what = format!("{} {}", word("verb"), word("resource"));
        text.push_str(&format!("  {:20}{what:34}{:>8}{refused}\n", word("user"), show(&row["each"])));
    }
}

fn show(value: &Value) -> String {
    match (value.as_f64(), value.as_str()) {
        (Some(number), _) if number.fract() == 0.0 => format!("{number}"),
        (Some(number), _) => format!("{number:.2}"),
        (None, Some(text)) => text.to_owned(),
        (None, None) => value.to_string(),
    }
}

/// Figures that every run has in the JSON output. They are null if they were not measured.
const ALWAYS: [&str; 14] = [
    "ack_ms",
    "claims",
    "cold",
    "conflicts_per_claim",
    "cpu",
    "cpu_s",
    "lost",
    "rate",
    "ready_ms",
    "reconciles_per_claim",
    "rss_mb",
    "twice",
    "writes_per_claim",
    "writes_per_claim_to_ready",
];

/// One object with the figures of the first run, and those of the other runs under their names.
pub(crate) fn object(head: Map<String, Value>, runs: &[Measured]) -> Value {
    let mut all = head;
    for (number, run) in runs.iter().enumerate() {
        let mut figures: Map<_, _> = ALWAYS.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        figures.extend(run.figures.clone());
        figures.insert("controller".to_owned(), json!(run.who.title()));
        figures.insert("notes".to_owned(), json!(run.notes));
        if number == 0 {
            all.extend(figures);
        } else {
            all.insert(run.who.title().replace(' ', "_"), figures.into());
        }
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(who: Who, p50: f64) -> Measured {
        let mut run = Measured::new(who);
        run.summary("ready_ms", Summary::of(vec![p50]));
        run.set("lost", 0);
        run.number("overhead_p50_percent", None);
        run.writes(
            "writes",
            &Counts::from([(
                ("operator".into(), "patch".into(), "pods".into()),
                Count { attempts: 6, refused: 1, conflicts: 1 },
            )]),
            3,
        );
        run
    }

    #[test]
    fn runs_are_columns_and_missing_figures_are_omitted() {
        let text = table("burst", &[run(Who::Paddock, 5.25), run(Who::Other, 80.0)]);
        let line = text.lines().find(|line| line.starts_with("Ready, p50")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["Ready,", "p50", "5.25", "80", "ms"]);
        assert!(text.contains("lost claims") && !text.contains("bare client"), "{text}");
        assert!(text.contains("patch pods") && text.contains("2  (1 refused)"), "{text}");
    }

    #[test]
    fn the_first_runs_figures_are_at_the_top_of_the_object() {
        let object = object(Map::new(), &[run(Who::Paddock, 5.0), run(Who::Bare, 4.0)]);
        assert_eq!(object["ready_ms"]["p50"], 5.0);
        assert_eq!(object["bare_client"]["ready_ms"]["p99"], 4.0);
        assert_eq!(object["controller"], "paddock");
        assert!(object.as_object().unwrap().contains_key("writes_per_claim"));
    }
}
