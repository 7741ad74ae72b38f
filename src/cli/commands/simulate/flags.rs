//! The flags of `paddock simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use paddock_simulate::{Refill, Shape};

use crate::output::TableFormat;
use crate::values::parse_duration;

/// The exit codes, the examples and the layouts of traces, at the end of the help.
pub(crate) const AFTER_HELP: &str = "\
The exit code is 1 if a plugin does not load, refuses its settings or wants to be asked too often, or if no fixed size
has the hit rate of --best-fixed. It is 2 if a flag or a file is wrong.

Examples:
  # The built-in plugin against the smallest fixed size with a hit rate of 99 %, on a daily wave of 20 claims a minute
  paddock simulate --shape diurnal --rate 20

  # A plugin of your own with two settings, three fixed sizes and an HPA, on claims of your own
  paddock simulate --trace claims.csv --plugin mine.wasm:small.yaml --plugin mine.wasm:large.yaml --fixed 5,10,20 --hpa 6

  # A plugin that learns the shape of the week, in the third week
  paddock simulate --shape working-week --days 21 --learn-days 14 --plugin pool-seasonal --plugin pool-by-demand --best-fixed 99

  # The course over time, as charts
  paddock simulate --trace claims.csv --plugin mine.wasm --best-fixed 99 --html report.html

  # A day of one function of Azure's trace of 2019, as JSON
  paddock simulate --trace invocations_per_function_md.anon.d01.csv --only HASH -o json

A trace is a CSV file in one of these layouts. Its first line says which:
  a time on each line                           seconds from the beginning, seconds since 1970, or RFC 3339
  HashOwner,HashApp,HashFunction,Trigger,1,...  Azure Functions 2019: invocations in each minute
  app,func,end_timestamp,duration               Azure Functions 2021: an invocation on each line
  day,time,0,1,...                              Huawei 2023: requests in each minute or second";

/// Replays claims through pool-sizing plugins in virtual time, with the code that sizes pools in the cluster. Without a
/// contender, compares pool-by-demand with the smallest fixed size that has a hit rate of 99 %.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("claims").required(true).args(["shape", "trace"])))]
pub(crate) struct SimulateArgs {
    /// Generated claims: poisson, diurnal, working-week, bursts, flash-crowd, rl-burst or slow-pool.
    #[arg(long, value_name = "SHAPE", value_parser = parse_shape)]
    pub(super) shape: Option<Shape>,
    /// CSV file with the times of claims, or - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Claims in a minute of a generated shape. If absent, 6. It is the average, except that a flash crowd comes on top. The
    /// shape slow-pool has a rate of its own.
    #[arg(long, value_name = "NUMBER", value_parser = parse_number, allow_negative_numbers = true, conflicts_with = "trace")]
    pub(super) rate: Option<f64>,
    /// Number of days. If absent, a shape has one day or one week, and a file is read to its end.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=366))]
    pub(super) days: Option<u32>,
    /// Days at the beginning in which plugins learn. They are simulated, and count in no figure except for the charts.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=366), default_value_t = 0)]
    pub(super) learn_days: u32,
    /// Function or application of the file whose claims are read. May be repeated. If absent, all are read.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "shape")]
    pub(super) only: Vec<String>,
    /// Share of the claims of the file that is kept, chosen at random.
    #[arg(long, value_name = "SHARE", value_parser = parse_share, allow_negative_numbers = true, default_value = "1", conflicts_with = "shape")]
    pub(super) scale: f64,
    /// Plugin: pool-by-demand, pool-seasonal, or a component. A configuration file as in the plugin directory may follow.
    /// Without it, the file of the same name beside the component is used, as by the operator. The settings, the failure
    /// policy and the limits except the deadline apply. The selectors do not apply. May be repeated.
    #[arg(long = "plugin", value_name = "NAME|FILE.wasm[:FILE.yaml]")]
    pub(super) plugins: Vec<String>,
    /// Fixed size. May be repeated.
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub(super) fixed: Vec<u32>,
    /// The smallest fixed size with this hit rate in percent. May be repeated.
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', value_parser = parse_percent, allow_negative_numbers = true)]
    pub(super) best_fixed: Vec<f64>,
    /// HorizontalPodAutoscaler on the claims of the last minute, with this target: claims in a minute for each Sandbox
    /// of the pool. May be repeated.
    #[arg(long, value_name = "TARGET", value_delimiter = ',', value_parser = parse_positive, allow_negative_numbers = true)]
    pub(super) hpa: Vec<f64>,
    /// Smallest size for plugins and HPAs.
    #[arg(long, value_name = "SIZE", default_value_t = 0)]
    pub(super) min_ready: u32,
    /// Largest size for plugins and HPAs.
    #[arg(long, value_name = "SIZE", default_value_t = 1000)]
    pub(super) max_ready: u32,
    /// Time from the creation of a Sandbox until it is Ready: seconds, or lognormal:MEDIAN,P99 in seconds. If absent, 10
    /// seconds, and 150 seconds for the shape slow-pool.
    #[arg(long, value_name = "TIME")]
    pub(super) refill: Option<Refill>,
    /// Time for which a claim keeps its Sandbox. Only plugins that look at the number of claimed Sandboxes depend on it.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10m")]
    pub(super) hold: Duration,
    /// Seed of everything that is random. The same flags give the same result.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,
    /// Price of an hour of one warm Sandbox, Ready or starting.
    #[arg(long, value_name = "PRICE", value_parser = parse_number, allow_negative_numbers = true)]
    pub(super) cost_per_hour: Option<f64>,
    /// Format of the report on standard output.
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "table")]
    pub(super) output: TableFormat,
    /// File for the report as a page of HTML with charts. The page needs no network and no JavaScript.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

fn parse_shape(value: &str) -> Result<Shape, String> {
    Shape::ALL.iter().copied().find(|shape| shape.name() == value).ok_or_else(|| {
        let names: Vec<&str> = Shape::ALL.iter().map(|shape| shape.name()).collect();
        format!("no shape {value:?}: expected one of {}", names.join(", "))
    })
}

fn number(value: &str, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let number = value.parse().ok().filter(|number: &f64| number.is_finite() && fits(*number));
    number.ok_or_else(|| format!("{value:?} is not {expected}"))
}

fn parse_number(value: &str) -> Result<f64, String> {
    number(value, |number| number >= 0.0, "a number of at least 0")
}

fn parse_positive(value: &str) -> Result<f64, String> {
    number(value, |number| number > 0.0, "a number above 0")
}

fn parse_share(value: &str) -> Result<f64, String> {
    number(value, |share| share > 0.0 && share <= 1.0, "a share above 0 and at most 1, such as 0.05")
}

fn parse_percent(value: &str) -> Result<f64, String> {
    number(value, |percent| (0.0..=100.0).contains(&percent), "a percentage from 0 to 100, such as 99")
}
