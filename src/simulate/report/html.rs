//! The report as one page of HTML. It needs nothing from outside and no JavaScript, and is also well-formed XML.

use std::fmt::Write as _;

use serde_json::Value;

use super::svg::{Axis, Chart, escaped};
use super::{COLUMNS, Report, cells, warnings};
use crate::outcome::Outcome;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2733; --paper: #ffffff; --faint: #d8dee6; --demand: #7a8794; --ready: #1769aa;
  --size: #c77700; --hit: #2e8b57; --miss: #c0392b; --plugin: #7b3fb5; --hpa: #c77700; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe6ee; --paper: #14191f; --faint: #34404c; --demand: #93a1af;
  --ready: #62b0ee; --size: #f0a83c; --hit: #5cc48c; --miss: #ef7468; --plugin: #c08cf0; --hpa: #f0a83c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; } h3 { font-size: 1em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: 0.2em 0.7em; text-align: right; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 11px; }
.grid { stroke: var(--faint); } .line { fill: none; stroke-width: 1.5; } .point { stroke: var(--paper); }
.bar.demand { fill: var(--demand); } .bar.hit { fill: var(--hit); } .bar.miss { fill: var(--miss); }
.line.ready { stroke: var(--ready); } .line.size { stroke: var(--size); stroke-dasharray: 4 2; } .line.fixed { stroke: var(--ready); }
.point.fixed { fill: var(--ready); } .point.plugin { fill: var(--plugin); } .point.hpa { fill: var(--hpa); }
.key { display: inline-block; width: 0.8em; height: 0.8em; margin: 0 0.3em 0 1em; }
.key.ready { background: var(--ready); } .key.size { background: var(--size); } .key.hit { background: var(--hit); }
.key.miss { background: var(--miss); }
.warning { border-left: 4px solid var(--miss); padding-left: 0.8em; }
";

/// The report as a page of HTML. `curve` has the outcomes of fixed sizes, in their order, for the frontier.
#[must_use]
pub fn html(report: &Report, curve: &[Outcome]) -> String {
    let title = escaped(&format!("Simulation of {}", report.trace.name));
    let mut page = format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n"
    );
    let facts = &report.trace;
    let start = facts.start;
    paragraph(&mut page, &format!("{} claims in {} hours from {start}.", facts.claims, facts.hours));
    page.push_str("<h2>Contenders</h2>\n");
    summary(&mut page, &report.contenders);
    for warning in warnings(report) {
        let _ = writeln!(page, "<p class=\"warning\">{}</p>", escaped(&warning));
    }
    page.push_str("<h2>Idle hours against hit rate</h2>\n");
    paragraph(
        &mut page,
        "The line has the fixed sizes. A contender to the left of it or above it is better than every fixed size.",
    );
    page.push_str(&frontier(&report.contenders, curve));
    page.push_str("<h2>Demand</h2>\n");
    page.push_str(&demand(report));
    for outcome in &report.contenders {
        let name = escaped(&outcome.name);
        let _ = writeln!(page, "<h2>{name}</h2>");
        page.push_str(&course(report, outcome));
    }
    page.push_str("<h2>All figures</h2>\n");
    figures(&mut page, report, curve);
    page.push_str("</body>\n</html>\n");
    page
}

fn paragraph(page: &mut String, text: &str) {
    let _ = writeln!(page, "<p>{}</p>", escaped(text));
}

/// A table. The first row has the heads.
fn table(page: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(&cell))).collect::<String>()
    };
    page.push_str("<div class=\"wide\"><table>\n");
    let _ = writeln!(page, "<tr>{}</tr>", cells("th", &mut heads.iter().map(|head| (*head).to_owned())));
    for row in rows {
        let _ = writeln!(page, "<tr>{}</tr>", cells("td", &mut row.into_iter()));
    }
    page.push_str("</table></div>\n");
}

fn summary(page: &mut String, outcomes: &[Outcome]) {
    table(page, &COLUMNS, outcomes.iter().map(|outcome| cells(outcome).to_vec()));
}

/// Idle hours and hit rate in percent.
fn place(outcome: &Outcome) -> Option<(f64, f64)> {
    Some((outcome.idle_hours, outcome.hit_rate? * 100.0))
}

fn frontier(outcomes: &[Outcome], curve: &[Outcome]) -> String {
    let line: Vec<(f64, f64)> = curve.iter().filter_map(place).collect();
    let points: Vec<(&Outcome, (f64, f64))> = outcomes.iter().filter_map(|o| Some((o, place(o)?))).collect();
    let all = || line.iter().copied().chain(points.iter().map(|(_, place)| *place));
    let lowest = all().map(|(_, rate)| rate).fold(100.0, f64::min);
    let x = Axis::up_to(all().map(|(hours, _)| hours), "idle hours");
    let y = Axis { from: (lowest - 1.0).max(0.0), to: 100.0, label: "hit rate in percent" };
    let mut chart = Chart::new("Idle hours against hit rate", (960.0, 380.0), x, y);
    chart.line("fixed", &line);
    for (outcome, place) in points {
        chart.point(outcome.kind, place, &outcome.name);
    }
    chart.finish()
}

/// The hours from the beginning, for each interval of the series: its start and its end.
fn hours(report: &Report) -> impl Iterator<Item = (f64, f64)> {
    let length = report.interval_seconds / 3600.0;
    (0..report.demand.len()).map(move |n| (n as f64 * length, (n + 1) as f64 * length))
}

fn time_axis(report: &Report) -> Axis {
    Axis { from: 0.0, to: report.trace.hours.max(1e-3), label: "hours from the beginning" }
}

fn demand(report: &Report) -> String {
    let y = Axis::up_to(report.demand.iter().map(|n| *n as f64), "claims");
    let mut chart = Chart::new("Claims in each interval", (960.0, 220.0), time_axis(report), y);
    let bars: Vec<_> = hours(report).zip(&report.demand).map(|((from, to), n)| (from, to, 0.0, *n as f64)).collect();
    chart.bars("demand", &bars);
    chart.finish()
}

/// The size and the Ready Sandboxes of a contender, and under them its hits and misses.
fn course(report: &Report, outcome: &Outcome) -> String {
    let series = &outcome.series;
    let y = Axis::up_to(series.ready.iter().chain(&series.size).copied(), "Sandboxes");
    let title = format!("Ready Sandboxes and size of {}", outcome.name);
    let mut pool = Chart::new(&title, (960.0, 260.0), time_axis(report), y);
    let line = |values: &[f64]| -> Vec<(f64, f64)> {
        hours(report).zip(values).map(|((from, to), value)| ((from + to) / 2.0, *value)).collect()
    };
    pool.line("size", &line(&series.size));
    pool.line("ready", &line(&series.ready));
    let most = series.hits.iter().zip(&series.misses).map(|(hits, misses)| (hits + misses) as f64);
    let title = format!("Hits and misses of {}", outcome.name);
    let mut claims = Chart::new(&title, (960.0, 220.0), time_axis(report), Axis::up_to(most, "claims"));
    let both = || hours(report).zip(series.hits.iter().zip(&series.misses));
    let hits: Vec<_> = both().map(|((from, to), (hits, _))| (from, to, 0.0, *hits as f64)).collect();
    let misses: Vec<_> = both().map(|((a, b), (hits, misses))| (a, b, *hits as f64, (hits + misses) as f64)).collect();
    claims.bars("hit", &hits);
    claims.bars("miss", &misses);
    let key = |class: &str, text: &str| format!("<span class=\"key {class}\"></span>{text}");
    format!(
        "<p>{}{}{}{}</p>\n{}{}",
        key("ready", "Ready"),
        key("size", "size"),
        key("hit", "hits"),
        key("miss", "misses"),
        pool.finish(),
        claims.finish(),
    )
}

/// Every figure of the JSON report, for those who read tables.
fn figures(page: &mut String, report: &Report, curve: &[Outcome]) {
    let mut leaves = Vec::new();
    if let Ok(Value::Object(fields)) = serde_json::to_value(report) {
        for (name, value) in fields.iter().filter(|(name, _)| *name != "contenders" && *name != "demand") {
            collect(name, value, &mut leaves);
        }
    }
    for outcome in &report.contenders {
        if let Ok(Value::Object(fields)) = serde_json::to_value(outcome) {
            for (name, value) in fields.iter().filter(|(name, _)| *name != "series" && *name != "name") {
                collect(&format!("{}: {name}", outcome.name), value, &mut leaves);
            }
        }
    }
    page.push_str("<details><summary>Figures of the report</summary>\n");
    table(page, &["figure", "value"], leaves.into_iter().map(|(name, value)| vec![name, value]));
    page.push_str("</details>\n<details><summary>Fixed sizes</summary>\n");
    summary(page, curve);
    page.push_str("</details>\n");
    for outcome in &report.contenders {
        let _ = writeln!(page, "<details><summary>Course of {}</summary>", escaped(&outcome.name));
        let series = &outcome.series;
        let number = |value: Option<String>| value.unwrap_or_default();
        let rows = hours(report).zip(&report.demand).enumerate().map(|(at, ((from, _), claims))| {
            vec![
                format!("{from:.2}"),
                claims.to_string(),
                number(series.ready.get(at).map(|ready| Value::from(*ready).to_string())),
                number(series.size.get(at).map(|size| Value::from(*size).to_string())),
                number(series.hits.get(at).map(u64::to_string)),
                number(series.misses.get(at).map(u64::to_string)),
            ]
        });
        table(page, &["hour", "claims", "ready", "size", "hits", "misses"], rows);
        page.push_str("</details>\n");
    }
}

/// The values in a JSON value, each with its path.
fn collect(path: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| collect(&format!("{path}.{name}"), value, leaves))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| collect(&format!("{path}[{n}]"), item, leaves))
        }
        Value::String(text) => leaves.push((path.to_owned(), text.clone())),
        Value::Null | Value::Bool(_) | Value::Number(_) => leaves.push((path.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use paddock_core::settings::Settings;

    use super::*;
    use crate::conditions::{Conditions, Refill};
    use crate::model::simulate;
    use crate::search::fixed_curve;
    use crate::shapes::{Shape, generate};
    use crate::sizer::Contender;
    use crate::trace::Trace;

    fn page(trace: &Trace) -> (Report, String) {
        let conditions = Conditions {
            min: 1,
            max: 50,
            refill: Refill::Lognormal { median_seconds: 6.0, p99_seconds: 20.0 },
            hold: Duration::from_secs(60),
            gather: Duration::from_millis(50),
            learning: Duration::ZERO,
            seed: 1,
            cost_per_hour: Some(0.3),
            settings: Settings::default(),
        };
        let outcomes = [Contender::Fixed(3), Contender::Hpa(4.0)].map(|c| simulate(trace, &conditions, &c));
        let report = Report::new(trace, &conditions, outcomes.to_vec());
        let page = html(&report, &fixed_curve(trace, &conditions));
        (report, page)
    }

    /// All numbers in a JSON value.
    fn numbers(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Number(number) => found.push(number.to_string()),
            Value::Array(items) => items.iter().for_each(|item| numbers(item, found)),
            Value::Object(fields) => fields.values().for_each(|value| numbers(value, found)),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn page_is_well_formed_and_needs_nothing_from_outside() {
        let mut hostile = generate(Shape::Bursts, 2.0, 1, 1).unwrap();
        hostile.name = "<script>alert('&')</script>\u{1}".to_owned();
        let (_, page) = page(&hostile);
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(&page, options).unwrap();
        let names: Vec<&str> = document.descendants().filter(|n| n.is_element()).map(|n| n.tag_name().name()).collect();
        assert!(!names.iter().any(|name| ["script", "link", "img", "iframe", "object"].contains(name)));
        for node in document.descendants() {
            for attribute in node.attributes() {
                assert!(!["src", "href", "onload", "onclick"].contains(&attribute.name()), "{attribute:?}");
            }
        }
        assert!(!page.contains("url(") && !page.contains("@import"));
        // Two charts for each of two contenders, the demand, and the frontier.
        let charts: Vec<_> =
            document.descendants().filter(|n| n.has_tag_name(("http://www.w3.org/2000/svg", "svg"))).collect();
        assert_eq!(charts.len(), 6);
        for chart in charts {
            assert!(chart.descendants().any(|n| ["polyline", "path"].contains(&n.tag_name().name())));
            assert!(
                chart
                    .descendants()
                    .all(|n| n.attributes().all(|a| !a.value().contains("NaN") && !a.value().contains("inf")))
            );
        }
    }

    #[test]
    fn page_has_every_number_of_the_json() {
        let (report, page) = page(&generate(Shape::Diurnal, 2.0, 1, 1).unwrap());
        let mut wanted = Vec::new();
        numbers(&serde_json::to_value(&report).unwrap(), &mut wanted);
        assert!(wanted.len() > 2000, "{}", wanted.len());
        for number in wanted {
            assert!(page.contains(&format!(">{number}<")), "{number}");
        }
    }

    #[test]
    fn trace_without_a_claim_has_a_page_too() {
        let empty = Trace::new("empty", crate::trace::monday(), Duration::from_secs(60), vec![]).unwrap();
        let (_, page) = page(&empty);
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        assert!(roxmltree::Document::parse_with_options(&page, options).is_ok());
        assert!(!page.contains("NaN"));
    }
}
