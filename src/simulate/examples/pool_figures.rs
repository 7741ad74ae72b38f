//! Compares `pool-by-demand` with fixed sizes and with HorizontalPodAutoscalers, over many seeds.
//!
//! `cargo run --release -p paddock-simulate --example pool-figures -- report '{}'` prints tables for seeds 11 to 40.
//! `tune FILE` prints a line for each line of settings in a file, for seeds 1 to 10. `speed` simulates a million claims.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a measurement: whatever fails ends it")]

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use paddock_core::binding::FailurePolicy;
use paddock_core::question::PluginRequest;
use paddock_core::settings::Settings;
use paddock_plugin_host::{BUILT_INS, Host, HostConfig, Limits};
use paddock_simulate::{
    Candidate, Conditions, Contender, Outcome, PluginContender, Refill, Shape, Trace, generate, simulate,
    smallest_fixed,
};

const SHAPES: [Shape; 4] = [Shape::Poisson, Shape::Diurnal, Shape::WorkingWeek, Shape::Bursts];
/// Claims in a minute on average, and seconds of a refill.
const LOADS: [(f64, f64); 2] = [(20.0, 10.0), (20.0, 2.0)];
/// The hit rate of the fixed size, in percent.
const HIT_RATE: f64 = 99.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["report", settings] => report(settings),
        ["tune", file] => std::fs::read_to_string(file).unwrap().lines().for_each(tune),
        ["speed"] => speed(),
        _ => panic!("expected report SETTINGS, tune FILE or speed"),
    }
}

fn conditions(refill_seconds: f64, seed: u64) -> Conditions {
    Conditions {
        min: 0,
        max: 1000,
        refill: Refill::Fixed { seconds: refill_seconds },
        hold: Duration::from_mins(10),
        gather: Duration::from_millis(50),
        seed,
        cost_per_hour: None,
        settings: Settings::default(),
    }
}

/// The outcome of `pool-by-demand` with these settings, for each seed, with the claims and conditions of that seed.
fn with_plugin<T: Send>(
    settings: &str,
    (shape, rate, refill): (Shape, f64, f64),
    seeds: RangeInclusive<u64>,
    compare: impl Fn(&Trace, &Conditions, Outcome) -> T + Sync,
) -> Vec<T> {
    let host = Host::new(HostConfig::default()).unwrap();
    let built_in = BUILT_INS.iter().find(|built_in| built_in.name == "pool-by-demand").unwrap();
    let candidate = Candidate {
        name: built_in.name,
        component: built_in.component,
        settings,
        limits: Limits::default(),
        failure_policy: FailurePolicy::Ignore,
    };
    let bindings = PluginContender::bindings(&host, &candidate).unwrap();
    let ask = |request: &PluginRequest, now: Timestamp| host.ask(request, now);
    let contender = PluginContender::new("pool-by-demand", bindings, &ask);
    let seeds = Mutex::new(seeds);
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = seeds.lock().unwrap().next();
            let Some(seed) = next else { return };
            let trace = generate(shape, rate, shape.days(), seed).unwrap();
            let conditions = conditions(refill, seed);
            let outcome = simulate(&trace, &conditions, &Contender::Plugin(&contender));
            assert_eq!(outcome.failures, None);
            done.lock().unwrap().push((seed, compare(&trace, &conditions, outcome)));
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(seed, _)| *seed);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The outcome of the HPA whose idle hours are closest to this number, among the targets from a thousandth to a thousand
/// claims in a minute for each Sandbox.
fn hpa_of_idle_hours(trace: &Trace, conditions: &Conditions, idle_hours: f64) -> Outcome {
    let outcome = |target: f64| simulate(trace, conditions, &Contender::Hpa(target));
    let (mut low, mut high) = (1e-3_f64, 1e3_f64);
    let mut best = outcome(high);
    // The target is on a logarithmic scale: 20 halvings determine it to a hundred thousandth.
    for _ in 0..20 {
        let middle = (low * high).sqrt();
        let tried = outcome(middle);
        // A higher target needs fewer Sandboxes.
        if tried.idle_hours > idle_hours {
            low = middle;
        } else {
            high = middle;
        }
        if (tried.idle_hours - idle_hours).abs() < (best.idle_hours - idle_hours).abs() {
            best = tried;
        }
    }
    best
}

/// The idle and the warming hours.
fn hours(outcome: &Outcome) -> f64 {
    outcome.idle_hours + outcome.warming_hours
}

/// The lowest value, the median and the highest value.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

fn percent(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let (low, median, high) = spread(values);
    format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
}

fn tune(settings: &str) {
    for (rate, refill) in LOADS {
        for shape in SHAPES {
            let figures = with_plugin(settings, (shape, rate, refill), 1..=10, |trace, conditions, outcome| {
                let fixed = smallest_fixed(trace, conditions, HIT_RATE).unwrap();
                (outcome.hit_rate.unwrap(), outcome.idle_hours, fixed.idle_hours)
            });
            let n = figures.len() as f64;
            let mean = |value: fn(&(f64, f64, f64)) -> f64| figures.iter().map(value).sum::<f64>() / n;
            let more = mean(|f| f.1) / mean(|f| f.2) - 1.0;
            println!("{settings} {refill} {} hits {:.4} idle {:+.1} %", shape.name(), mean(|f| f.0), more * 100.0);
        }
    }
}

fn report(settings: &str) {
    for (rate, refill) in LOADS {
        println!("\n{rate} claims a minute, refills of {refill} s\n");
        println!(
            "| shape | hit rate in % | best fixed size for 99% | idle hours against it in % | misses | misses of the HPA |"
        );
        println!("|---|---|---|---|---|---|");
        for shape in SHAPES {
            let figures = with_plugin(settings, (shape, rate, refill), 11..=40, |trace, conditions, outcome| {
                let fixed = smallest_fixed(trace, conditions, HIT_RATE).unwrap();
                let hpa = hpa_of_idle_hours(trace, conditions, outcome.idle_hours);
                (outcome, fixed, hpa)
            });
            println!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                shape.name(),
                percent(figures.iter().map(|f| f.0.hit_rate.unwrap() * 100.0), 2),
                figures.iter().filter(|f| f.0.misses * 100 > f.0.claims).count(),
                percent(figures.iter().map(|f| f64::from(f.1.largest_size)), 0),
                percent(figures.iter().map(|f| (f.0.idle_hours / f.1.idle_hours - 1.0) * 100.0), 0),
                percent(figures.iter().map(|f| (hours(&f.0) / hours(&f.1) - 1.0) * 100.0), 0),
                percent(figures.iter().map(|f| f.0.misses as f64), 0),
                percent(figures.iter().map(|f| f.2.misses as f64), 0),
                percent(figures.iter().map(|f| (f.2.idle_hours / f.0.idle_hours - 1.0) * 100.0), 1),
            );
        }
    }
}

fn speed() {
    for shape in [Shape::Poisson, Shape::Diurnal] {
        let figures = with_plugin("{}", (shape, 694.5, 10.0), 1..=1, |trace, conditions, outcome| {
            let started = Instant::now();
            let fixed = simulate(trace, conditions, &Contender::Fixed(200));
            (outcome.claims, outcome.questions, started.elapsed(), fixed.claims)
        });
        let started = Instant::now();
        let again = with_plugin("{}", (shape, 694.5, 10.0), 1..=1, |_, _, outcome| outcome.claims);
        let seconds = started.elapsed().as_secs_f64();
        let (claims, questions, fixed, _) = figures[0];
        assert_eq!(again[0], claims);
        println!("{}: {claims} claims, {questions} questions: {seconds:.1} s, fixed size {fixed:.1?}", shape.name());
    }
}
