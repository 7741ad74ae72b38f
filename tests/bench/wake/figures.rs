//! The figures of some wakes: percentiles of the whole time, and the phases of the wakes at these percentiles.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::phases::{Phase, Wake};
use crate::stats::{Summary, percentile, round};

/// The wakes of one setting, the shortest first.
pub(crate) struct Figures {
    title: String,
    wakes: Vec<Wake>,
}

/// The percentiles whose wakes are shown. The phases of one wake add up, which percentiles of phases do not.
const SHOWN: [(&str, f64); 2] = [("p50", 0.50), ("p99", 0.99)];

impl Figures {
    pub(super) fn of(title: &str, mut wakes: Vec<Wake>) -> Self {
        wakes.sort_by(|a, b| a.total().total_cmp(&b.total()));
        Self { title: title.to_owned(), wakes }
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// The wake at a percentile of the whole time, by nearest rank.
    pub(super) fn at(&self, share: f64) -> Option<&Wake> {
        let numbers: Vec<f64> = (0..self.wakes.len()).map(|number| number as f64).collect();
        self.wakes.get(percentile(&numbers, share)? as usize)
    }

    /// The percentiles of the gateway's and the operator's own time.
    pub(super) fn ours(&self) -> Option<Summary> {
        Summary::of(self.wakes.iter().map(Wake::ours).collect())
    }

    pub(super) fn json(&self) -> Value {
        let phases = |share| -> Value {
            let Some(wake) = self.at(share) else { return Value::Null };
            Phase::ALL
                .into_iter()
                .map(|p| (p.name().to_owned(), json!(round(wake.part(p)))))
                .collect::<Map<_, _>>()
                .into()
        };
        let total = Summary::of(self.wakes.iter().map(Wake::total).collect());
        json!({
            "setting": self.title,
            "wakes": self.wakes.len(),
            "total_ms": total.map(Summary::json),
            "own_share_ms": self.ours().map(Summary::json),
            "phases_of_p50_ms": phases(0.50),
            "phases_of_p99_ms": phases(0.99),
        })
    }
}

/// A table in Markdown. Times are milliseconds.
pub(super) fn table(all: &[&Figures]) -> String {
    let mut text = String::from("| |");
    let mut rule = String::from("|---|");
    for figures in all {
        for (name, _) in SHOWN {
            let _ = write!(text, " {}, {name} |", figures.title);
            rule.push_str("---|");
        }
    }
    let mut row = |name: &str, cell: &dyn Fn(&Figures, f64) -> Option<f64>| {
        let cells = all.iter().flat_map(|figures| SHOWN.map(|(_, share)| cell(figures, share)));
        let cells: Vec<String> = cells.map(|ms| ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"))).collect();
        let _ = write!(rule, "\n| {name} | {} |", cells.join(" | "));
    };
    row("**whole time**", &|figures, share| figures.at(share).map(Wake::total));
    for phase in Phase::ALL {
        row(phase.name(), &|figures, share| figures.at(share).map(|wake| wake.part(phase)));
    }
    row("own share of that wake", &|figures, share| figures.at(share).map(Wake::ours));
    row("own share, by its own percentile", &|figures, share| {
        let mut ours: Vec<f64> = figures.wakes.iter().map(Wake::ours).collect();
        ours.sort_by(f64::total_cmp);
        percentile(&ours, share)
    });
    format!("{text}\n{rule}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(title: &str, pods: impl IntoIterator<Item = f64>) -> Figures {
        let wake = |start| Wake::for_tests([1.0, 2.0, 3.0, 4.0, start, 5.0, 6.0]);
        Figures::of(title, pods.into_iter().map(wake).collect())
    }

    #[test]
    fn phases_at_a_percentile_are_those_of_one_wake_and_add_up() {
        let figures = figures("gVisor", (1..=20).rev().map(|n| f64::from(n) * 100.0));
        let [middle, last] = [figures.at(0.50).unwrap(), figures.at(0.99).unwrap()];
        assert_eq!((middle.part(Phase::Start), last.part(Phase::Start)), (1000.0, 2000.0));
        let json = figures.json();
        let sum: f64 = json["phases_of_p50_ms"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        assert!((sum - json["total_ms"]["p50"].as_f64().unwrap()).abs() < 0.1, "{json}");
        assert_eq!(json["own_share_ms"]["p99"], 12.0);
    }

    #[test]
    fn table_has_a_row_for_every_phase_and_columns_for_every_setting() {
        let (a, b) = (figures("runc", [100.0]), figures("gVisor", [200.0]));
        let text = table(&[&a, &b]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "| | runc, p50 | runc, p99 | gVisor, p50 | gVisor, p99 |");
        assert!(lines.contains(&"| **whole time** | 121.0 | 121.0 | 221.0 | 221.0 |"), "{text}");
        assert!(lines.contains(&"| pod start | 100.0 | 100.0 | 200.0 | 200.0 |"), "{text}");
        assert_eq!(lines.len(), 2 + 1 + Phase::ALL.len() + 2);
        assert!(table(&[&figures("none", [])]).contains("| - | - |"));
    }
}
