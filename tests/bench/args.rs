//! The command line.

mod gateway;
mod run;
mod wake;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use paddock_cluster::{Endpoint, Target};

pub(crate) use self::gateway::{GatewayArgs, SoakArgs};
pub(crate) use self::run::{Chart, Run};
pub(crate) use self::wake::{Setting, WakeArgs};

/// Measures Paddock on a real Kubernetes control plane.
///
/// Each run starts its own control plane on this machine (etcd, kube-apiserver, scheduler, controller-manager and kwok
/// nodes) with the operator beside it, applies the load, prints the figures, and removes everything. KUBECONFIG is
/// ignored: another cluster is used only if you name it. docs/performance/README.md explains each figure.
#[derive(Debug, Parser)]
#[command(name = "cargo-bench-cluster", bin_name = "cargo bench-cluster", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Benchmark,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of them in a program")]
pub(crate) enum Benchmark {
    #[command(flatten)]
    Load(Command),
    /// Requests for suspended sandboxes on a real node: the time to the answer, by phases. This needs root.
    Wake(WakeArgs),
    /// Requests through the gateway beside a direct connection and nginx: latency, rate, processor time and memory.
    Gateway(GatewayArgs),
    /// Requests and streams through two gateways that are restarted one after another, and one of them killed at last.
    GatewaySoak(SoakArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// N claims at once on a pool that has a Ready sandbox for each.
    ClaimsBurst {
        /// The number of claims.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
        claims: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Claims at a steady rate (Poisson arrivals), on a pool that is refilled.
    ClaimsSustained {
        #[command(flatten)]
        arrivals: Arrivals,
        #[command(flatten)]
        common: Common,
    },
    /// The highest rate: rounds of claims-sustained, each faster, until p99 exceeds a limit or cold starts begin.
    Saturate {
        /// Claims per second in the first round.
        #[arg(value_name = "RATE", value_parser = rate, default_value = "10")]
        rate: f64,
        /// The duration of each round.
        #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600), default_value = "20")]
        seconds: u32,
        /// The factor by which the rate grows from round to round.
        #[arg(long, value_name = "F", value_parser = factor, default_value = "1.25")]
        factor: f64,
        /// Milliseconds to Ready that 99 of 100 claims have to stay below.
        #[arg(long, value_name = "MS", default_value = "500", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// N claims at once on an empty pool: a sandbox is created for each.
    Cold {
        /// The number of claims.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
        claims: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Fill an empty pool with N Ready sandboxes.
    Fill {
        /// The number of sandboxes.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        sandboxes: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Claims that are each deleted some seconds after they are Ready, while new ones are created.
    Churn {
        /// Claims per second.
        #[arg(value_name = "RATE", value_parser = rate, default_value = "20")]
        rate: f64,
        /// The time during which claims are created.
        #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600), default_value = "30")]
        seconds: u32,
        /// Seconds for which a claim is kept after it is Ready.
        #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u32).range(0..=3600))]
        lifetime: u32,
        #[command(flatten)]
        common: Common,
    },
    /// N unused sandboxes: the cost of holding them, and the time that the operator takes to start with them.
    Hold {
        /// The number of sandboxes.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        sandboxes: u32,
        /// The time for which usage at rest is measured.
        #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3600))]
        rest: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Two replicas. The leader is killed while N claims are created at a steady rate.
    Failover {
        /// The number of claims.
        #[arg(value_name = "N", default_value = "300", value_parser = clap::value_parser!(u32).range(3..=20_000))]
        claims: u32,
        /// Claims per second.
        #[arg(long, value_name = "RATE", value_parser = rate, default_value = "10")]
        rate: f64,
        /// Lease duration, renew deadline and retry period of the replicas, in seconds. The default is upstream's.
        #[arg(long, value_name = "S,S,S", value_parser = lease, default_value = "15,10,2")]
        lease: Lease,
        #[command(flatten)]
        common: Common,
    },
    /// The API server's own share: a bare client does a claim's three writes in two round trips, without any operator.
    Bare {
        #[command(flatten)]
        arrivals: Arrivals,
        #[command(flatten)]
        common: Common,
    },
}

/// Claims at a steady rate.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Arrivals {
    /// Claims per second.
    #[arg(value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,
    /// The time during which claims are created.
    #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) chart: Chart,

    /// Nodes, each for 1100 pods. More nodes are created if N needs them.
    #[arg(long, value_name = "N", default_value = "20", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) nodes: u32,
    /// Ready sandboxes in the pool at the start. The default is enough for the run.
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pool_size: Option<u32>,
    /// The seed of the arrivals.
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Load")]
    pub(crate) seed: u64,
    /// Measure the claims without a refill. The pool is filled and then deleted, but a finalizer keeps it. Controllers
    /// ignore a terminating pool, and claims still take sandboxes from it.
    #[arg(long, conflicts_with = "kubeconfig", help_heading = "Load")]
    pub(crate) no_refill: bool,
    /// Seconds after the last arrival by which a claim has to be Ready, or it counts as lost.
    #[arg(long, value_name = "SECONDS", default_value = "60", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) deadline: u32,
    /// The longest time in seconds for deleting the claims and settling afterwards. Writes until then are part of
    /// `writes_per_claim`. With 0, the claims are not deleted.
    #[arg(long, value_name = "SECONDS", default_value = "120", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub(crate) drain: u32,
    /// Switch the API server's audit log off. The run is faster, but writes are not counted.
    #[arg(long, help_heading = "Load")]
    pub(crate) no_audit: bool,
    /// Let the API server limit requests (priority and fairness), as it does by default.
    #[arg(long, help_heading = "Load")]
    pub(crate) fairness: bool,

    /// Switch the operator's admission webhook off.
    #[arg(long, help_heading = "Operator")]
    pub(crate) no_webhook: bool,
    /// One more flag of the operator, such as --operator-flag=--log-level=debug. It may be repeated.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true, help_heading = "Operator")]
    pub(crate) operator_flag: Vec<String>,

    /// Also measure a bare client with the same load, and report the operator's share of the latency.
    #[arg(long, help_heading = "Comparison")]
    pub(crate) with_bare: bool,
    /// Writes that the bare client does for a claim. With 3, it marks the claim and takes the sandbox at once, and then
    /// writes the claim's status. With 2, it takes the sandbox and then writes the status, as if a webhook had marked
    /// the claim. The default is the number that the operator needed in the same run, or 3.
    #[arg(long, value_name = "N", help_heading = "Comparison", value_parser = clap::value_parser!(u8).range(2..=3))]
    pub(crate) bare_writes: Option<u8>,
    /// Also measure another controller, whose metrics are at this URL.
    #[arg(
        long,
        value_name = "URL",
        requires = "controller_cmd",
        conflicts_with = "kubeconfig",
        help_heading = "Comparison"
    )]
    pub(crate) against: Option<Endpoint>,
    /// The command that starts the other controller through `sh -c`, with KUBECONFIG set. {kubeconfig} is replaced by
    /// the file's path.
    #[arg(long, value_name = "CMD", requires = "against", help_heading = "Comparison")]
    pub(crate) controller_cmd: Option<String>,
    /// The CustomResourceDefinitions of the other controller. The default is ours, which serve the same objects.
    #[arg(long, value_name = "FILE", requires = "against", help_heading = "Comparison")]
    pub(crate) crds: Option<PathBuf>,
    /// Measure only the other controller.
    #[arg(long, requires = "against", help_heading = "Comparison")]
    pub(crate) only_against: bool,

    #[command(flatten, next_help_heading = "Another cluster")]
    pub(crate) target: Target,
}

impl Common {
    /// The duration of [`Common::deadline`].
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline.into())
    }

    /// The duration of [`Common::drain`].
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain.into())
    }
}

impl Command {
    /// The options that every benchmark has.
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::ClaimsBurst { common, .. }
            | Self::ClaimsSustained { common, .. }
            | Self::Saturate { common, .. }
            | Self::Cold { common, .. }
            | Self::Fill { common, .. }
            | Self::Churn { common, .. }
            | Self::Hold { common, .. }
            | Self::Failover { common, .. }
            | Self::Bare { common, .. } => common,
        }
    }

    /// The benchmark's name and arguments as they were typed, with the flags that change the load or the comparison.
    pub(crate) fn title(&self) -> String {
        let common = self.common();
        let flags = [(common.no_refill, " --no-refill"), (common.with_bare, " --with-bare")];
        let flags: String = flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag).collect();
        let name = match self {
            Self::ClaimsBurst { claims, .. } => format!("claims-burst {claims}"),
            Self::ClaimsSustained { arrivals: Arrivals { rate, seconds }, .. } => {
                format!("claims-sustained {rate} {seconds}")
            }
            Self::Saturate { rate, seconds, .. } => format!("saturate {rate} {seconds}"),
            Self::Cold { claims, .. } => format!("cold {claims}"),
            Self::Fill { sandboxes, .. } => format!("fill {sandboxes}"),
            Self::Churn { rate, seconds, .. } => format!("churn {rate} {seconds}"),
            Self::Hold { sandboxes, .. } => format!("hold {sandboxes}"),
            Self::Failover { claims, .. } => format!("failover {claims}"),
            Self::Bare { arrivals: Arrivals { rate, seconds }, .. } => format!("bare {rate} {seconds}"),
        };
        name + &flags
    }
}

/// The timing of leader election, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The time after which a lease that is not renewed expires.
    pub(crate) duration: u32,
    /// The time after its last renewal for which a leader continues.
    pub(crate) deadline: u32,
    /// The interval of tries and renewals.
    pub(crate) retry: u32,
}

fn lease(text: &str) -> Result<Lease, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[duration, deadline, retry]) if retry > 0 => Ok(Lease { duration, deadline, retry }),
        Ok(_) | Err(_) => Err("expected three numbers of seconds, such as 15,10,2".to_owned()),
    }
}

/// The maximum is more than any API server of this kind can handle.
fn rate(text: &str) -> Result<f64, String> {
    between(text, 0.1, 2000.0)
}

fn factor(text: &str) -> Result<f64, String> {
    between(text, 1.01, 10.0)
}

fn between(text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("expected a number from {least} to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Command, String> {
        let args = std::iter::once("bench").chain(args.iter().copied());
        match Cli::try_parse_from(args).map_err(|error| error.to_string())?.command {
            Benchmark::Load(command) => Ok(command),
            Benchmark::Wake(_) | Benchmark::Gateway(_) | Benchmark::GatewaySoak(_) => panic!("another benchmark"),
        }
    }

    #[test]
    fn flags_come_after_the_benchmark() {
        let command = parse(&["claims-burst", "300", "--json", "--no-refill", "--seed", "7"]).unwrap();
        assert_eq!(command.title(), "claims-burst 300 --no-refill");
        let common = command.common();
        assert!(common.run.json && common.no_refill);
        assert_eq!((common.seed, common.nodes), (7, 20));
    }

    #[test]
    fn impossible_measurements_are_refused_with_a_reason() {
        for (args, expected) in [
            (&["claims-sustained", "0", "10"][..], "from 0.1 to 2000"),
            (&["claims-burst", "0"], "1..=20000"),
            (&["claims-burst", "9", "--against", "http://h/metrics"], "--controller-cmd"),
            (&["claims-burst", "9", "--against", "h", "--controller-cmd", "x"], "http://HOST:PORT/PATH"),
            (&["claims-burst", "9", "--only-against"], "--against"),
            (&["failover", "--lease", "1"], "three numbers"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }

    #[test]
    fn leases_have_upstreams_names_by_default() {
        let Command::Failover { lease, claims, .. } = parse(&["failover"]).unwrap() else { panic!("another") };
        assert_eq!((lease, claims), (Lease { duration: 15, deadline: 10, retry: 2 }, 300));
        let Command::Failover { lease, .. } = parse(&["failover", "--lease", "4,3,1"]).unwrap() else { panic!() };
        assert_eq!(lease, Lease { duration: 4, deadline: 3, retry: 1 });
    }
}
