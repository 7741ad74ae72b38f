//! The figures of the ways to the Sandbox. A comparison is one of the same round, since the speed of the machine changes.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::load::Saturated;
use super::ways::{DIRECT, NGINX};
use crate::args::GatewayArgs;
use crate::stats::{percentile, round};

/// The memory of a proxy with idle WebSockets, in MB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sockets {
    pub(super) count: u32,
    /// Before they were opened.
    pub(super) before_mb: f64,
    /// While they are idle.
    pub(super) with_mb: f64,
    /// After they were closed.
    pub(super) after_mb: f64,
}

impl Sockets {
    /// The memory of one of them, in kB.
    pub(super) fn each_kb(&self) -> f64 {
        (self.with_mb - self.before_mb) * 1000.0 / f64::from(self.count)
    }
}

/// The figures of one way, by rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) name: &'static str,
    /// The latencies in milliseconds at the fixed rate, the shortest first.
    latencies: Vec<Vec<f64>>,
    /// Microseconds of processor time of the proxy for a request at the fixed rate.
    cpu_at_rate: Vec<f64>,
    /// The highest rates, in requests per second.
    rates: Vec<f64>,
    /// Microseconds of processor time of the proxy for a request at the highest rate.
    cpu: Vec<f64>,
    pub(super) sockets: Option<Sockets>,
}

/// The median of some rounds, with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self { median: percentile(&values, 0.5)?, low: *values.first()?, high: *values.last()? })
    }

    fn json(self) -> Value {
        json!({ "median": precise(self.median), "low": precise(self.low), "high": precise(self.high) })
    }
}

/// Rounds to a thousandth: a proxy adds some hundredths of a millisecond.
fn precise(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Figures {
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Adds a round at the fixed rate, with the processor time of the proxy in seconds.
    pub(super) fn at_a_rate(&mut self, mut latencies: Vec<f64>, cpu_s: f64) {
        self.cpu_at_rate.push(cpu_s * 1e6 / latencies.len().max(1) as f64);
        latencies.sort_by(f64::total_cmp);
        self.latencies.push(latencies);
    }

    /// Adds a round at the highest rate, with the processor time of the proxy in seconds.
    pub(super) fn saturated(&mut self, done: Saturated, cpu_s: f64) {
        self.rates.push(done.requests as f64 / done.seconds);
        self.cpu.push(cpu_s * 1e6 / done.requests.max(1) as f64);
    }

    /// The latencies of all rounds.
    pub(super) fn all_latencies(&self) -> Vec<f64> {
        self.latencies.concat()
    }

    /// The highest rate of each round.
    pub(super) fn rates(&self) -> &[f64] {
        &self.rates
    }

    fn percentiles(&self, share: f64) -> Vec<f64> {
        self.latencies.iter().filter_map(|round| percentile(round, share)).collect()
    }

    fn latency(&self, share: f64) -> Option<Spread> {
        Spread::of(self.percentiles(share))
    }

    /// The latency beyond that of another way in the same round.
    fn added(&self, share: f64, to: &Self) -> Option<Spread> {
        Spread::of(self.each_added(share, to))
    }

    fn each_added(&self, share: f64, to: &Self) -> Vec<f64> {
        self.percentiles(share).iter().zip(to.percentiles(share)).map(|(ms, direct)| ms - direct).collect()
    }

    /// The added latency as a multiple of that of nginx in the same round.
    fn added_ratio(&self, share: f64, direct: &Self, nginx: &Self) -> Option<Spread> {
        let (own, other) = (self.each_added(share, direct), nginx.each_added(share, direct));
        // A round in which nginx added nothing has no ratio.
        Spread::of(own.iter().zip(&other).filter(|(_, other)| **other > 0.0).map(|(own, other)| own / other).collect())
    }

    fn rate_ratio(&self, to: &Self) -> Option<Spread> {
        Spread::of(self.rates.iter().zip(&to.rates).map(|(own, other)| own / other).collect())
    }

    fn cpu_ratio(&self, to: &Self) -> Option<Spread> {
        let pairs = self.cpu.iter().zip(&to.cpu).filter(|(_, other)| **other > 0.0);
        Spread::of(pairs.map(|(own, other)| own / other).collect())
    }

    fn proxy(&self) -> bool {
        self.name != DIRECT
    }
}

fn named<'a>(all: &'a [Figures], name: &str) -> Option<&'a Figures> {
    all.iter().find(|figures| figures.name == name)
}

/// A name, and the figure of each way.
type Row<'a> = (String, Box<dyn Fn(&Figures) -> Option<Spread> + 'a>);

/// All figures that have a spread, by their names in JSON and in the table.
fn rows<'a>(all: &'a [Figures], args: &GatewayArgs) -> Vec<(&'static str, usize, Row<'a>)> {
    let (direct, nginx) = (named(all, DIRECT), named(all, NGINX));
    let (rate, connections) = (args.rate, args.connections);
    let proxy = |figures: &Figures| figures.proxy().then_some(());
    let mut rows: Vec<(&'static str, usize, Row<'a>)> = Vec::new();
    for (share, name, added, ratio) in
        [(0.50, "p50_ms", "added_p50_ms", "added_p50_to_nginx"), (0.99, "p99_ms", "added_p99_ms", "added_p99_to_nginx")]
    {
        let title = &name[..3];
        rows.push((name, 3, (format!("{title} at {rate} requests/s, ms"), Box::new(move |of| of.latency(share)))));
        let more = move |of: &Figures| proxy(of).and_then(|()| of.added(share, direct?));
        rows.push((added, 3, (format!("added {title}, ms"), Box::new(more))));
        let of_nginx = move |of: &Figures| proxy(of).and_then(|()| of.added_ratio(share, direct?, nginx?));
        rows.push((ratio, 2, (format!("added {title}, as a multiple of nginx's"), Box::new(of_nginx))));
    }
    let rates = |of: &Figures| Spread::of(of.rates.clone());
    rows.push(("rate", 0, (format!("requests/s on {connections} connections"), Box::new(rates))));
    rows.push(("rate_to_direct", 2, ("of the direct rate".to_owned(), Box::new(move |of| of.rate_ratio(direct?)))));
    rows.push(("rate_to_nginx", 2, ("of nginx's rate".to_owned(), Box::new(move |of| of.rate_ratio(nginx?)))));
    let cpu = move |of: &Figures| proxy(of).and_then(|()| Spread::of(of.cpu.clone()));
    rows.push(("cpu_us", 0, ("processor time of the proxy for a request then, µs".to_owned(), Box::new(cpu))));
    let ratio = move |of: &Figures| proxy(of).and_then(|()| of.cpu_ratio(nginx?));
    rows.push(("cpu_to_nginx", 2, ("as a multiple of nginx's".to_owned(), Box::new(ratio))));
    let slow = move |of: &Figures| proxy(of).and_then(|()| Spread::of(of.cpu_at_rate.clone()));
    rows.push(("cpu_at_rate_us", 0, (format!("processor time at {rate} requests/s, µs"), Box::new(slow))));
    rows
}

/// A table in Markdown: the median of the rounds, with the lowest and the highest.
pub(super) fn table(all: &[Figures], args: &GatewayArgs) -> String {
    let mut text = format!("| {} rounds: median (lowest to highest) |", args.rounds);
    all.iter().for_each(|figures| text.push_str(&format!(" {} |", figures.name)));
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(all.len()));
    for (_, digits, (name, cell)) in rows(all, args) {
        let _ = write!(text, "\n| {name} |");
        for figures in all {
            match cell(figures) {
                Some(Spread { median, low, high }) => {
                    let _ = write!(text, " {median:.digits$} ({low:.digits$} to {high:.digits$}) |");
                }
                None => text.push_str(" |"),
            }
        }
    }
    if let Some(count) = all.iter().find_map(|figures| figures.sockets).map(|sockets| sockets.count) {
        let mut row = |name: &str, cell: &dyn Fn(&Sockets) -> String| {
            let _ = write!(text, "\n| {name} |");
            for figures in all {
                let _ = write!(text, " {} |", figures.sockets.as_ref().map(cell).unwrap_or_default());
            }
        };
        row(&format!("kB for each of {count} idle WebSockets"), &|of| format!("{:.1}", of.each_kb()));
        row("resident memory before, with, and after them, MB", &|of| {
            format!("{:.1}, {:.1}, {:.1}", of.before_mb, of.with_mb, of.after_mb)
        });
    }
    text.push('\n');
    text
}

/// The figures of each way as JSON.
pub(super) fn json(all: &[Figures], args: &GatewayArgs) -> Value {
    let rows = rows(all, args);
    let of = |figures: &Figures| {
        let spreads =
            rows.iter().map(|(key, _, (_, cell))| ((*key).to_owned(), json!(cell(figures).map(Spread::json))));
        let mut object: Map<String, Value> = spreads.collect();
        object.insert("way".to_owned(), json!(figures.name));
        object.insert("rates".to_owned(), json!(figures.rates.iter().map(|rate| round(*rate)).collect::<Vec<_>>()));
        let sockets = figures.sockets.map(|of| {
            json!({
                "count": of.count, "each_kb": round(of.each_kb()), "before_mb": round(of.before_mb),
                "with_mb": round(of.with_mb), "after_mb": round(of.after_mb),
            })
        });
        object.insert("websockets".to_owned(), json!(sockets));
        Value::Object(object)
    };
    all.iter().map(of).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Benchmark, Cli};

    pub(in super::super) fn args() -> GatewayArgs {
        let Benchmark::Gateway(args) = Cli::try_parse_from(["bench", "gateway", "2"]).unwrap().command else {
            panic!("another benchmark")
        };
        args
    }

    /// Two rounds, of which the machine was half as fast in the second.
    pub(in super::super) fn figures() -> Vec<Figures> {
        let of = |name, ms: f64, rate: usize| {
            let mut figures = Figures::of(name);
            for slow in [1, 2] {
                figures.at_a_rate((1..=100).map(|_| ms * slow as f64).collect(), 0.01);
                figures.saturated(Saturated { requests: rate / slow, seconds: 1.0 }, 0.5);
            }
            figures
        };
        vec![of(DIRECT, 0.1, 40_000), of("gateway", 0.3, 10_000), of(NGINX, 0.2, 20_000)]
    }

    #[test]
    fn ways_are_compared_within_a_round() {
        let mut all = figures();
        let (direct, gateway, nginx) = (&all[0], &all[1], &all[2]);
        let near = |got: Option<Spread>, median: f64, low: f64, high: f64| {
            let got = got.unwrap();
            let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(close(got.median, median) && close(got.low, low) && close(got.high, high), "{got:?}");
        };
        near(gateway.added(0.5, direct), 0.2, 0.2, 0.4);
        near(gateway.added_ratio(0.99, direct, nginx), 2.0, 2.0, 2.0);
        near(gateway.rate_ratio(nginx), 0.5, 0.5, 0.5);
        near(gateway.cpu_ratio(nginx), 2.0, 2.0, 2.0);
        all[1].sockets = Some(Sockets { count: 1000, before_mb: 10.0, with_mb: 22.0, after_mb: 12.0 });
        let text = table(&all, &args());
        for wanted in [
            "| 2 rounds: median (lowest to highest) | direct | gateway | nginx |",
            "| of nginx's rate | 2.00",
            "| 12.0 |",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        let json = json(&all, &args());
        assert_eq!((&json[1]["rate"]["low"], &json[1]["websockets"]["each_kb"]), (&json!(5000.0), &json!(12.0)));
        assert!(json[0]["cpu_us"].is_null(), "{json}");
    }

    #[test]
    fn without_nginx_nothing_is_compared_with_it() {
        let all = &figures()[..2];
        let text = table(all, &args());
        assert!(text.contains("| of nginx's rate | | |"), "{text}");
    }
}
