//! `paddock plugin bench`: measures the calls of a plugin.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use paddock_core::question::{Hook, Question};
use paddock_plugin_host::{Host, digest};
use serde::{Deserialize, Serialize};

use super::component::{self, AskArgs, Loaded, now_of, read_question};
use super::text;
use crate::output::{TableFormat, json};
use crate::usage::{OrBadUsage as _, bad_usage};

/// The longest measurement, in seconds. All times of calls are kept.
const MOST_SECONDS: u64 = 60;
/// The part of the time in which calls are made before the measurement begins.
const WARM_UP: u32 = 10;

#[derive(Debug, Args)]
#[command(after_help = "\
Each call has a new instance, as in the operator. Fuel and memory are the same on every machine. Compare times only with
a run on the same machine. A result can be compared only with one of the same question and the same settings.

Examples:
  paddock plugin question pool-size > question.yaml
  paddock plugin bench my-plugin.wasm --question question.yaml --save before.json
  paddock plugin bench my-plugin.wasm --question question.yaml --compare before.json --threshold 20")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Time of the measurement, in seconds: from 1 to 60.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS))]
    seconds: u64,
    /// Writes the result to a file, in JSON.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compares the result with one that was saved.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// The part by which a number may be worse than that of --compare, in percent. Beyond it, the exit code is 1.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = parse_percent)]
    threshold: f64,
    /// Format of the output.
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: TableFormat,
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent: &f64| percent.is_finite() && *percent >= 0.0);
    percent.ok_or_else(|| format!("{text:?} must be a number of percent, such as 10"))
}

/// The result of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Measured {
    plugin: String,
    digest: String,
    hook: Hook,
    /// The digest of the question and the settings. Only results with the same digest can be compared.
    question_digest: String,
    calls: u64,
    calls_per_second: f64,
    p50_micros: f64,
    p95_micros: f64,
    p99_micros: f64,
    fuel: u64,
    memory_bytes: usize,
}

/// A result with the one that it is compared with.
#[derive(Serialize)]
struct Compared<'a> {
    #[serde(flatten)]
    now: &'a Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a Measured>,
}

/// Measures, saves and compares.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let compare = ("--compare", args.compare.as_deref());
    text::at_most_one_is_stdin(&[args.ask.call.settings(), ("--question", Some(&args.ask.question)), compare])?;
    component::log()?;
    // A wrong file is reported before the time is spent.
    let before = args.compare.as_ref().map(|path| {
        let value = text::read(path)?;
        serde_json::from_value::<Measured>(value).with_context(|| format!("{}: a saved result", path.display()))
    });
    let before = before.transpose().or_bad_usage()?;
    let host = component::host()?;
    let loaded = Loaded::new(&host, &args.ask.component, &args.ask.call)?;
    let question = read_question(&loaded, args.ask.hook, &args.ask.question)?;
    let digest = digest_of(&question, &loaded.settings)?;
    if let Some(before) = &before {
        comparable(before, question.hook(), &digest)?;
    }
    let now = measure((&host, &loaded), question, digest, Duration::from_secs(args.seconds))?;
    args.output.print(&Compared { now: &now, before: before.as_ref() }, table)?;
    if let Some(path) = &args.save {
        std::fs::write(path, json(&now)?).with_context(|| format!("writing {}", path.display())).or_bad_usage()?;
    }
    let worse = before.map(|before| worse(&before, &now, args.threshold)).unwrap_or_default();
    if !worse.is_empty() {
        bail!("worse by more than {} %: {}", args.threshold, worse.join(", "));
    }
    Ok(())
}

/// The digest of a question and the settings with which it is asked.
fn digest_of(question: &Question, settings: &str) -> anyhow::Result<String> {
    let text = serde_json::to_string(&(question, settings)).context("writing the question")?;
    Ok(digest(text.as_bytes()))
}

/// An error if a saved result is of another hook, question or settings.
fn comparable(before: &Measured, hook: Hook, digest: &str) -> anyhow::Result<()> {
    if before.hook != hook {
        let (before, now) = (before.hook.as_str(), hook.as_str());
        return Err(bad_usage(format!(
            "--compare: the saved result is of the hook {before}, and the question of {now}"
        )));
    }
    if before.question_digest != digest {
        return Err(bad_usage("--compare: the saved result must be of the same question and the same settings"));
    }
    Ok(())
}

fn measure(
    (host, loaded): (&Host, &Loaded),
    question: Question,
    question_digest: String,
    time: Duration,
) -> anyhow::Result<Measured> {
    let (hook, now) = (question.hook(), now_of(&question));
    // The first call checks the settings and the answer.
    let first = loaded.ask(host, &loaded.settings, question.clone());
    if let Err(failure) = first.outcome.used() {
        bail!(failure);
    }
    let request = loaded.request(&loaded.settings, question);
    let calls = |time: Duration| -> anyhow::Result<(Vec<Duration>, Duration)> {
        let (started, mut times) = (Instant::now(), Vec::new());
        loop {
            let call = Instant::now();
            if let Err(failure) = host.ask(&request, now) {
                bail!("call {}: {failure}", times.len() + 1);
            }
            times.push(call.elapsed());
            let passed = started.elapsed();
            if passed >= time {
                return Ok((times, passed));
            }
        }
    };
    calls(time / WARM_UP)?;
    let (mut times, passed) = calls(time)?;
    times.sort_unstable();
    let percentile = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
        times.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    ensure!(!times.is_empty(), "no call ended");
    Ok(Measured {
        plugin: loaded.plugin.plugin.name.clone(),
        digest: loaded.plugin.plugin.digest.clone(),
        hook,
        question_digest,
        calls: times.len() as u64,
        calls_per_second: times.len() as f64 / passed.as_secs_f64(),
        p50_micros: percentile(50),
        p95_micros: percentile(95),
        p99_micros: percentile(99),
        fuel: first.usage.fuel,
        memory_bytes: first.usage.memory_bytes,
    })
}

/// The numbers that are compared: the title, the number, and whether a smaller one is better.
fn numbers(measured: &Measured) -> [(&'static str, f64, bool); 6] {
    [
        ("p50 (µs)", measured.p50_micros, true),
        ("p95 (µs)", measured.p95_micros, true),
        ("p99 (µs)", measured.p99_micros, true),
        ("calls/s", measured.calls_per_second, false),
        ("fuel", measured.fuel as f64, true),
        ("memory (bytes)", measured.memory_bytes as f64, true),
    ]
}

/// By how many percent a number is worse than another. Negative if it is better.
fn percent_worse(before: f64, now: f64, smaller_is_better: bool) -> f64 {
    let (from, to) = if smaller_is_better { (before, now) } else { (now, before) };
    if from == to {
        return 0.0;
    }
    (to / from - 1.0) * 100.0
}

/// The numbers that are worse by more than a part in percent.
fn worse(before: &Measured, now: &Measured, threshold: f64) -> Vec<String> {
    let pairs = numbers(before).into_iter().zip(numbers(now));
    pairs
        .filter_map(|((title, before, smaller), (_, now, _))| {
            let percent = percent_worse(before, now, smaller);
            // NaN is worse than every number.
            let fine = percent <= threshold;
            (!fine).then(|| format!("{title} from {before:.1} to {now:.1}"))
        })
        .collect()
}

fn table(Compared { now, before }: &Compared<'_>) -> String {
    let mut text = format!("{} ({}), hook {}, {} calls\n", now.plugin, now.digest, now.hook.as_str(), now.calls);
    let former = before.map(numbers);
    for (index, (title, number, smaller)) in numbers(now).into_iter().enumerate() {
        let _ = write!(text, "{title:<15}{number:>14.1}");
        if let Some((_, before, _)) = former.as_ref().and_then(|former| former.get(index)) {
            let _ = write!(text, "  before {before:.1}, {:+.1} % worse", percent_worse(*before, number, smaller));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::plugin::component::CallArgs;

    fn measured() -> Measured {
        Measured {
            plugin: "p".into(),
            digest: "sha256:0".into(),
            hook: Hook::Idle,
            question_digest: "sha256:1".into(),
            calls: 1000,
            calls_per_second: 1000.0,
            p50_micros: 10.0,
            p95_micros: 20.0,
            p99_micros: 40.0,
            fuel: 5000,
            memory_bytes: 1 << 20,
        }
    }

    #[test]
    fn every_number_that_is_worse_than_the_threshold_is_named() {
        let before = measured();
        assert_eq!(worse(&before, &before, 0.0), Vec::<String>::new());
        let (slower, faster) = (|number: f64| number * 1.3, |number: f64| number * 0.5);
        let better = Measured {
            p50_micros: faster(10.0),
            p95_micros: faster(20.0),
            p99_micros: faster(40.0),
            calls_per_second: slower(1000.0),
            fuel: 2500,
            memory_bytes: 1 << 19,
            ..measured()
        };
        assert_eq!(worse(&before, &better, 0.0), Vec::<String>::new());
        for (now, title) in [
            (Measured { p50_micros: slower(10.0), ..measured() }, "p50"),
            (Measured { p95_micros: slower(20.0), ..measured() }, "p95"),
            (Measured { p99_micros: slower(40.0), ..measured() }, "p99"),
            (Measured { calls_per_second: 1000.0 / 1.3, ..measured() }, "calls/s"),
            (Measured { fuel: 6500, ..measured() }, "fuel"),
            (Measured { memory_bytes: 13 << 17, ..measured() }, "memory"),
            (Measured { p50_micros: f64::NAN, ..measured() }, "p50"),
        ] {
            let named = worse(&before, &now, 20.0);
            assert!(named.len() == 1 && named[0].starts_with(title), "{title}: {named:?}");
            assert!(title == "p50" && now.p50_micros.is_nan() || worse(&before, &now, 70.0).is_empty(), "{title}");
        }
    }

    #[test]
    fn json_contains_what_is_compared() {
        let (now, before) = (measured(), Measured { fuel: 4000, ..measured() });
        let value = |before| serde_json::to_value(Compared { now: &now, before }).unwrap();
        assert_eq!(value(None), serde_json::to_value(&now).unwrap());
        assert_eq!(
            (&value(Some(&before))["before"]["fuel"], &value(Some(&before))["fuel"]),
            (&4000.into(), &5000.into())
        );
    }

    /// The component does not answer with ten units of fuel, so a comparison that is refused only after the first call
    /// has another error.
    #[test]
    fn another_question_or_other_settings_are_refused_before_the_measurement() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let pool = paddock_plugin_host::BUILT_INS.iter().find(|built_in| built_in.name == "pool-by-demand").unwrap();
        std::fs::write(file("mine.wasm"), pool.component).unwrap();
        std::fs::write(file("mine.yaml"), "limits: {fuel: 10}").unwrap();
        let example = crate::commands::plugin::question::example(Hook::PoolSize);
        std::fs::write(file("question.yaml"), example).unwrap();
        std::fs::write(file("other.yaml"), example.replace("min: ", "min: 1")).unwrap();
        let value = text::parse(example).unwrap();
        let question = paddock_core::question::form::question(Hook::PoolSize, value).unwrap();
        let question_digest = digest_of(&question, "{}").unwrap();
        let of_pool = Measured { hook: Hook::PoolSize, question_digest, ..measured() };
        std::fs::write(file("before.json"), json(&of_pool).unwrap()).unwrap();
        std::fs::write(file("idle.json"), json(&measured()).unwrap()).unwrap();
        for (question, settings, before, part) in [
            ("question.yaml", None, "before.json", "fuel"),
            ("other.yaml", None, "before.json", "the same question and the same settings"),
            ("question.yaml", Some("{\"a\": 1}"), "before.json", "the same question and the same settings"),
            ("question.yaml", None, "idle.json", "of the hook idle, and the question of pool-size"),
            ("question.yaml", None, "question.yaml", "a saved result"),
        ] {
            let call = CallArgs::with_settings(settings);
            let args = BenchArgs {
                ask: AskArgs { component: file("mine.wasm"), hook: None, question: file(question), call },
                seconds: 1,
                save: None,
                compare: Some(file(before)),
                threshold: 10.0,
                output: TableFormat::Table,
            };
            let error = run(&args).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{question} {settings:?} {before}: {error:#}");
            assert_eq!(error.is::<crate::usage::BadUsage>(), part != "fuel", "{error:#}");
        }
    }

    #[test]
    fn saved_result_is_read_again() {
        let text = json(&measured()).unwrap();
        assert_eq!(serde_json::from_value::<Measured>(text::parse(&text).unwrap()).unwrap(), measured());
    }
}
