//! Compares the built-in plugins for pools with fixed sizes and with HorizontalPodAutoscalers, over many seeds.
//!
//! `cargo run --release -p paddock-simulate --example pool-figures -- report '{}'` prints tables for seeds 11 to 40.
//! `tune FILE` prints a line for each line of settings in a file, for seeds 1 to 10. `speed` simulates a million claims.
//!
//! `weeks FIRST LAST` compares `pool-seasonal` with `pool-by-demand` in the third week of traces of three weeks, for these
//! seeds. `weeks 1 10 SETTINGS` does so with settings of `pool-seasonal`.

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
        ["weeks", first, last] => weeks(first.parse().unwrap()..=last.parse().unwrap(), "{}"),
        ["weeks", first, last, settings] => weeks(first.parse().unwrap()..=last.parse().unwrap(), settings),
        _ => panic!("expected report SETTINGS, tune FILE, weeks FIRST LAST [SETTINGS] or speed"),
    }
}

fn conditions(refill_seconds: f64, seed: u64) -> Conditions {
    Conditions {
        min: 0,
        max: 1000,
        refill: Refill::Fixed { seconds: refill_seconds },
        hold: Duration::from_mins(10),
        gather: Duration::from_millis(50),
        learning: Duration::ZERO,
        seed,
        cost_per_hour: None,
        settings: Settings::default(),
    }
}

/// A built-in plugin with its settings.
type Plugin<'a> = (&'a str, &'a str);

/// The outcome of `pool-by-demand` with these settings, for each seed, with the claims and conditions of that seed.
fn with_plugin<T: Send>(
    settings: &str,
    (shape, rate, refill): (Shape, f64, f64),
    seeds: RangeInclusive<u64>,
    compare: impl Fn(&Trace, &Conditions, Outcome) -> T + Sync,
) -> Vec<T> {
    let days = (shape.days(), 0);
    with_plugins(
        &[("pool-by-demand", settings)],
        (shape, rate, refill),
        days,
        seeds,
        |trace, conditions, mut outcomes| compare(trace, conditions, outcomes.remove(0)),
    )
}

/// The outcomes of plugins for each seed, with the claims and conditions of that seed. The first days are for learning.
fn with_plugins<T: Send>(
    plugins: &[Plugin<'_>],
    (shape, rate, refill): (Shape, f64, f64),
    (days, learn_days): (u32, u32),
    seeds: RangeInclusive<u64>,
    compare: impl Fn(&Trace, &Conditions, Vec<Outcome>) -> T + Sync,
) -> Vec<T> {
    let host = Host::new(HostConfig::default()).unwrap();
    let ask = |request: &PluginRequest, now: Timestamp| host.ask(request, now);
    let contender = |(name, settings): &Plugin<'_>| {
        let built_in = BUILT_INS.iter().find(|built_in| built_in.name == *name).unwrap();
        let candidate = Candidate {
            name,
            component: built_in.component,
            settings,
            limits: Limits::default(),
            failure_policy: FailurePolicy::Ignore,
        };
        PluginContender::new(name, PluginContender::bindings(&host, &candidate).unwrap(), &ask)
    };
    let contenders: Vec<PluginContender<'_>> = plugins.iter().map(contender).collect();
    let seeds = Mutex::new(seeds);
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = seeds.lock().unwrap().next();
            let Some(seed) = next else { return };
            let trace = generate(shape, rate, days, seed).unwrap();
            let learning = Duration::from_hours(u64::from(learn_days) * 24);
            let conditions = Conditions { learning, ..conditions(refill, seed) };
            let outcome = |contender| simulate(&trace, &conditions, &Contender::Plugin(contender));
            let outcomes: Vec<Outcome> = contenders.iter().map(outcome).collect();
            assert!(outcomes.iter().all(|outcome| outcome.failures.is_none() && !outcome.stopped));
            done.lock().unwrap().push((seed, compare(&trace, &conditions, outcomes)));
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

/// A row for each shape: `pool-seasonal`, `pool-by-demand` and the best fixed size in the third week.
fn weeks(seeds: RangeInclusive<u64>, settings: &str) {
    let (rate, refill) = LOADS[0];
    println!("{rate} claims a minute, refills of {refill} s, seeds {seeds:?}, {settings}\n");
    println!(
        "| shape | hits of pool-seasonal in % | hits of pool-by-demand | idle against the best fixed size in % | idle of \
         pool-by-demand against it | size changes in an hour, of both |"
    );
    println!("|---|---|---|---|---|---|");
    for shape in SHAPES {
        let plugins = [("pool-seasonal", settings), ("pool-by-demand", "{}")];
        let figures =
            with_plugins(&plugins, (shape, rate, refill), (21, 14), seeds.clone(), |trace, conditions, outcomes| {
                (outcomes, smallest_fixed(trace, conditions, HIT_RATE).unwrap())
            });
        let hits = |of: usize| percent(figures.iter().map(|f| f.0[of].hit_rate.unwrap() * 100.0), 2);
        let idle = |of: usize| percent(figures.iter().map(|f| (f.0[of].idle_hours / f.1.idle_hours - 1.0) * 100.0), 0);
        let changes = |of: usize| percent(figures.iter().map(|f| f.0[of].size_changes as f64 / 168.0), 0);
        println!(
            "| {} | {} | {} | {} | {} | {}, {} |",
            shape.name(),
            hits(0),
            hits(1),
            idle(0),
            idle(1),
            changes(0),
            changes(1)
        );
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
