//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use paddock_cluster::{Endpoint, Target};

/// Measures Paddock on a real Kubernetes control plane.
///
/// Each run starts a control plane of its own on this machine (etcd, kube-apiserver, scheduler, controller-manager, kwok
/// nodes) and the operator beside it, puts the load on, prints what was measured, and removes everything. KUBECONFIG is
/// not looked at: another cluster is used only where it is named. What each figure means: docs/performance/README.md.
#[derive(Debug, Parser)]
#[command(name = "cargo-bench-cluster", bin_name = "cargo bench-cluster", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// N claims at once on a pool that has a Ready sandbox for each.
    ClaimsBurst {
        /// How many.
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
    /// The highest rate: rounds of claims-sustained, each faster, until p99 passes a limit or cold starts begin.
    Saturate {
        /// Claims a second in the first round.
        #[arg(value_name = "RATE", value_parser = rate, default_value = "10")]
        rate: f64,
        /// For how long each round lasts.
        #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600), default_value = "20")]
        seconds: u32,
        /// How much faster the next round is.
        #[arg(long, value_name = "F", value_parser = factor, default_value = "1.25")]
        factor: f64,
        /// Milliseconds to Ready that 99 of 100 claims have to stay below.
        #[arg(long, value_name = "MS", default_value = "500", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// N claims at once on an empty pool: a sandbox is made for each.
    Cold {
        /// How many.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
        claims: u32,
        #[command(flatten)]
        common: Common,
    },
    /// A pool goes from nothing to N Ready sandboxes.
    Fill {
        /// How many.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        sandboxes: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Claims come and go: each is deleted some seconds after it is Ready.
    Churn {
        /// Claims a second.
        #[arg(value_name = "RATE", value_parser = rate, default_value = "20")]
        rate: f64,
        /// For how long claims come.
        #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600), default_value = "30")]
        seconds: u32,
        /// Seconds that a claim is kept once it is Ready.
        #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u32).range(0..=3600))]
        lifetime: u32,
        #[command(flatten)]
        common: Common,
    },
    /// N sandboxes that nobody uses: what holding them costs, and how long the operator takes to start among them.
    Hold {
        /// How many.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        sandboxes: u32,
        /// How long usage at rest is measured.
        #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3600))]
        rest: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Two replicas; the leader is killed while N claims come at a steady rate.
    Failover {
        /// How many.
        #[arg(value_name = "N", default_value = "300", value_parser = clap::value_parser!(u32).range(3..=20_000))]
        claims: u32,
        /// Claims a second.
        #[arg(long, value_name = "RATE", value_parser = rate, default_value = "10")]
        rate: f64,
        /// Lease duration, renew deadline and retry period of the replicas, in seconds; as upstream's by default.
        #[arg(long, value_name = "S,S,S", value_parser = lease, default_value = "15,10,2")]
        lease: Lease,
        #[command(flatten)]
        common: Common,
    },
    /// The API server's own part: a bare client does a claim's three writes in two round trips, without any operator.
    Bare {
        #[command(flatten)]
        arrivals: Arrivals,
        #[command(flatten)]
        common: Common,
    },
}

/// Claims that come at a steady rate.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Arrivals {
    /// Claims a second.
    #[arg(value_name = "RATE", value_parser = rate)]
    pub(crate) rate: f64,
    /// For how long.
    #[arg(value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Print one JSON object as the last line.
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Draw a chart into this file.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) svg: Option<PathBuf>,
    /// Leave the control plane's and the operator's logs, and say where.
    #[arg(long, help_heading = "Output")]
    pub(crate) keep_logs: bool,

    /// Nodes, each with room for 1100 pods; more are made where N needs them.
    #[arg(long, value_name = "N", default_value = "20", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) nodes: u32,
    /// Ready sandboxes that the pool has at the start; enough for the run if absent.
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pool_size: Option<u32>,
    /// Of the arrivals.
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Load")]
    pub(crate) seed: u64,
    /// Measure the claims alone: the pool is filled beforehand, then deleted but for a finalizer that holds it. Controllers
    /// leave a pool alone that is being deleted, and claims go on taking from it.
    #[arg(long, conflicts_with = "kubeconfig", help_heading = "Load")]
    pub(crate) no_refill: bool,
    /// Seconds after the last arrival by which a claim has to be Ready, or it counts as lost.
    #[arg(long, value_name = "SECONDS", default_value = "60", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) deadline: u32,
    /// Seconds that deleting the claims and settling afterwards may take: what is written until then is part of
    /// `writes_per_claim`. 0 leaves them.
    #[arg(long, value_name = "SECONDS", default_value = "120", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub(crate) drain: u32,
    /// Leave the API server's audit log off: quicker, but nobody counts the writes.
    #[arg(long, help_heading = "Load")]
    pub(crate) no_audit: bool,
    /// The API server limits requests (priority and fairness), as it does by default.
    #[arg(long, help_heading = "Load")]
    pub(crate) fairness: bool,

    /// Leave the operator's admission webhook off.
    #[arg(long, help_heading = "Operator")]
    pub(crate) no_webhook: bool,
    /// One more flag of the operator, such as --operator-flag=--log-level=debug; may be repeated.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true, help_heading = "Operator")]
    pub(crate) operator_flag: Vec<String>,
    /// Use this operator instead of building one.
    #[arg(long, value_name = "FILE", help_heading = "Operator")]
    pub(crate) operator: Option<PathBuf>,

    /// Measure a bare client with the same load as well, and give the operator's part of the latency.
    #[arg(long, help_heading = "Comparison")]
    pub(crate) with_bare: bool,
    /// Writes that the bare client does for a claim: 3 (mark the claim and take the sandbox at once, then the claim's
    /// status), or 2 (take the sandbox, then the status) as where a webhook has marked the claim; as many as the operator
    /// was seen to do if absent, or 3.
    #[arg(long, value_name = "N", help_heading = "Comparison", value_parser = clap::value_parser!(u8).range(2..=3))]
    pub(crate) bare_writes: Option<u8>,
    /// Measure another controller as well; its metrics are at this URL.
    #[arg(
        long,
        value_name = "URL",
        requires = "controller_cmd",
        conflicts_with = "kubeconfig",
        help_heading = "Comparison"
    )]
    pub(crate) against: Option<Endpoint>,
    /// Starts that controller, through `sh -c`, with KUBECONFIG set; {kubeconfig} stands for the file's path.
    #[arg(long, value_name = "CMD", requires = "against", help_heading = "Comparison")]
    pub(crate) controller_cmd: Option<String>,
    /// Its CustomResourceDefinitions; ours, which serve the same objects, if absent.
    #[arg(long, value_name = "FILE", requires = "against", help_heading = "Comparison")]
    pub(crate) crds: Option<PathBuf>,
    /// Measure that controller and not ours.
    #[arg(long, requires = "against", help_heading = "Comparison")]
    pub(crate) only_against: bool,

    #[command(flatten, next_help_heading = "Another cluster")]
    pub(crate) target: Target,
}

impl Common {
    /// See [`Common::deadline`].
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline.into())
    }

    /// See [`Common::drain`].
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain.into())
    }
}

impl Command {
    /// What every benchmark can be told.
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

    /// Its name and arguments, as they were typed, and the flags that make it another load or comparison.
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

/// The timing of an election, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// How long a lease stands that is not renewed.
    pub(crate) duration: u32,
    /// How long after its last renewal a leader goes on.
    pub(crate) deadline: u32,
    /// How often it is tried or renewed.
    pub(crate) retry: u32,
}

fn lease(text: &str) -> Result<Lease, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[duration, deadline, retry]) if retry > 0 => Ok(Lease { duration, deadline, retry }),
        Ok(_) | Err(_) => Err("expected three numbers of seconds, such as 15,10,2".to_owned()),
    }
}

/// At most what no API server of this kind takes.
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
        Cli::try_parse_from(args).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_come_after_the_benchmark() {
        let command = parse(&["claims-burst", "300", "--json", "--no-refill", "--seed", "7"]).unwrap();
        assert_eq!(command.title(), "claims-burst 300 --no-refill");
        let common = command.common();
        assert!(common.json && common.no_refill);
        assert_eq!((common.seed, common.nodes), (7, 20));
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_reason() {
        for (args, said) in [
            (&["claims-sustained", "0", "10"][..], "from 0.1 to 2000"),
            (&["claims-burst", "0"], "1..=20000"),
            (&["claims-burst", "9", "--against", "http://h/metrics"], "--controller-cmd"),
            (&["claims-burst", "9", "--against", "h", "--controller-cmd", "x"], "http://HOST:PORT/PATH"),
            (&["claims-burst", "9", "--only-against"], "--against"),
            (&["failover", "--lease", "1"], "three numbers"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(said), "{args:?}: {error}");
        }
    }

    #[test]
    fn leases_are_upstreams_unless_told() {
        let Command::Failover { lease, claims, .. } = parse(&["failover"]).unwrap() else { panic!("another") };
        assert_eq!((lease, claims), (Lease { duration: 15, deadline: 10, retry: 2 }, 300));
        let Command::Failover { lease, .. } = parse(&["failover", "--lease", "4,3,1"]).unwrap() else { panic!() };
        assert_eq!(lease, Lease { duration: 4, deadline: 3, retry: 1 });
    }
}
