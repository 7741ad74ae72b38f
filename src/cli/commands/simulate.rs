//! `paddock simulate`: what pool-sizing plugins would have done for a day of claims, and what that would have cost.

mod contenders;
mod flags;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use paddock_core::settings::Settings;
use paddock_operator::limits::POOL_DEBOUNCE;
use paddock_simulate::{
    Conditions, ReadOptions, Refill, Report, Shape, Trace, fixed_curve, generate, html, read, table,
};

use crate::usage::{OrBadUsage as _, bad_usage};
pub(crate) use flags::{AFTER_HELP, SimulateArgs};

/// The claims in a minute of a generated shape, if `--rate` is absent.
const DEFAULT_RATE: f64 = 6.0;

/// Simulates the claims with every contender, and prints the report.
pub(crate) fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    let (report, page) = report(args)?;
    if let (Some(path), Some(page)) = (&args.html, page) {
        std::fs::write(path, page).with_context(|| format!("--html {}", path.display())).or_bad_usage()?;
    }
    args.output.print(&report, table)
}

/// The report, and the page of HTML if it is asked for.
fn report(args: &SimulateArgs) -> anyhow::Result<(Report, Option<String>)> {
    let (min, max) = (args.min_ready, args.max_ready);
    if min > max {
        return Err(bad_usage(format!("--min-ready {min} must be at most --max-ready, which is {max}")));
    }
    let settings = Settings::default();
    check_size("--max-ready", max, &settings)?;
    args.fixed.iter().try_for_each(|size| check_size("--fixed", *size, &settings))?;
    let trace = claims(args).or_bad_usage()?;
    let learning = learning(args, &trace).or_bad_usage()?;
    let shape_refill = args.shape.unwrap_or(Shape::Poisson).refill_seconds();
    let conditions = Conditions {
        min,
        max,
        refill: args.refill.unwrap_or(Refill::Fixed { seconds: shape_refill }),
        hold: args.hold,
        gather: POOL_DEBOUNCE,
        learning,
        seed: args.seed,
        cost_per_hour: args.cost_per_hour,
        settings,
    };
    let outcomes = contenders::outcomes(args, &trace, &conditions)?;
    let report = Report::new(&trace, &conditions, outcomes);
    let page = args.html.is_some().then(|| html(&report, &fixed_curve(&trace, &conditions)));
    Ok((report, page))
}

/// The time in which plugins learn. Claims must follow it.
fn learning(args: &SimulateArgs, trace: &Trace) -> anyhow::Result<Duration> {
    let learning = Duration::from_hours(u64::from(args.learn_days) * 24);
    let last = trace.arrivals().last().map_or(Duration::ZERO, |last| Duration::from_millis(*last));
    ensure!(
        learning.is_zero() || learning < last,
        "--learn-days {} must be less than the days of the claims, which end after {:.1}",
        args.learn_days,
        last.as_secs_f64() / 86_400.0
    );
    Ok(learning)
}

fn check_size(flag: &str, size: u32, settings: &Settings) -> anyhow::Result<()> {
    let most = settings.max_pool_size;
    if size > most {
        let message = format!("{flag} {size} must be at most {most}, the default of --max-pool-size of the operator");
        return Err(bad_usage(message));
    }
    Ok(())
}

/// The claims of the shape, or of the file.
fn claims(args: &SimulateArgs) -> anyhow::Result<Trace> {
    if let Some(shape) = args.shape {
        let days = args.days.unwrap_or(shape.days());
        let own_rate = shape == Shape::SlowPool && args.rate.is_some();
        ensure!(!own_rate, "--rate must be left out for --shape {}, which has a claim every 40 s", shape.name());
        return generate(shape, args.rate.unwrap_or(DEFAULT_RATE), days, args.seed)
            .with_context(|| format!("--shape {}", shape.name()));
    }
    let Some(path) = &args.trace else { bail!("--shape or --trace is needed: which claims are replayed?") };
    let options = ReadOptions { only: args.only.clone(), scale: args.scale, days: args.days, seed: args.seed };
    let file: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).with_context(|| format!("--trace {}", path.display()))?))
    };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    read(&name, file, &options).with_context(|| format!("--trace {}", path.display()))
}

#[cfg(test)]
mod tests;
