//! The command lines of `gateway` and `gateway-soak`.

use std::time::Duration;

use clap::Args;

use super::{Chart, Run, between, rate};

#[derive(Clone, Debug, Args)]
pub(crate) struct GatewayArgs {
    /// The rounds. In each of them, every way to the Sandbox is measured once, in another order.
    #[arg(value_name = "ROUNDS", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Seconds for each measurement of a round.
    #[arg(long, value_name = "SECONDS", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// Requests per second when the latency is measured (Poisson arrivals).
    #[arg(long, value_name = "RATE", value_parser = rate, default_value = "500")]
    pub(crate) rate: f64,
    /// Connections on which requests follow each other without a pause when the highest rate is measured.
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) connections: u32,
    /// Idle WebSockets for which the memory is measured, or as many as the limit of open files allows. 0 leaves them out.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub(crate) websockets: u32,
    /// Leave nginx out.
    #[arg(long)]
    pub(crate) no_nginx: bool,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) chart: Chart,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SoakArgs {
    /// Minutes until a replica is killed. The restarts are spread over them.
    #[arg(long, value_name = "MINUTES", value_parser = minutes, default_value = "20")]
    pub(crate) minutes: f64,
    /// Rolling restarts of the two replicas.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) restarts: u32,
    #[command(flatten)]
    pub(crate) run: Run,
}

impl SoakArgs {
    /// The time of [`SoakArgs::minutes`].
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    between(text, 0.1, 600.0)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Benchmark, Cli};

    #[test]
    fn gateway_and_its_soak_have_defaults_and_limits() {
        let parse = |args: &[&str]| {
            let args = ["bench"].iter().chain(args);
            Cli::try_parse_from(args).map(|cli| cli.command).map_err(|error| error.to_string())
        };
        let Ok(Benchmark::Gateway(args)) = parse(&["gateway", "--no-nginx"]) else { panic!("another") };
        assert_eq!((args.rounds, args.connections, args.websockets, args.no_nginx), (5, 64, 10_000, true));
        let Ok(Benchmark::GatewaySoak(args)) = parse(&["gateway-soak", "--minutes", "0.5"]) else { panic!("another") };
        assert_eq!((args.time(), args.restarts), (Duration::from_secs(30), 5));
        for wrong in [&["gateway", "0"][..], &["gateway", "--rate", "0"], &["gateway-soak", "--minutes", "0"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
