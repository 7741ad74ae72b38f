//! The benchmarks: the environment of each, and its measurements.

mod bare;
mod claims;
mod failover;
mod fill;
mod hold;
mod saturate;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use paddock_cluster::AnyCluster;

use crate::args::{Arrivals, Command, Common};
use crate::arrivals::{self, Schedule};
use crate::controller::Who;
use crate::environment::{Environment, Setup};
use crate::report::Measured;

/// The cluster of a run, and the controller that is measured.
pub(crate) struct RunContext<'a> {
    /// The slot for the cluster, so that its owner can end the cluster.
    pub(crate) slot: &'a mut Option<AnyCluster>,
    /// Our operator's binary, if it was built.
    pub(crate) program: Option<&'a Path>,
    /// The controller that is measured.
    pub(crate) who: Who,
    /// The number of writes that the bare client does for a claim: two or three.
    pub(crate) bare_writes: u8,
}

impl RunContext<'_> {
    async fn open(&mut self, common: &Common, sandboxes: u32) -> Result<Environment<'_>> {
        self.open_with(common, sandboxes, 1, Vec::new()).await
    }

    async fn open_with(
        &mut self,
        common: &Common,
        sandboxes: u32,
        replicas: usize,
        flags: Vec<String>,
    ) -> Result<Environment<'_>> {
        let setup = Setup { common, who: self.who, program: self.program, sandboxes, replicas, flags };
        Environment::open(self.slot, &setup).await
    }
}

/// Runs a benchmark for one controller.
pub(crate) async fn run(command: &Command, mut context: RunContext<'_>) -> Result<Measured> {
    let common = command.common();
    if let (Some((schedule, _)), Who::Bare) = (load(command), context.who) {
        return bare::run(&mut context, common, schedule).await;
    }
    match command {
        Command::ClaimsBurst { .. } | Command::ClaimsSustained { .. } => {
            let Some((schedule, pool)) = load(command) else { bail!("this benchmark has no arrivals") };
            claims::warm(&mut context, common, schedule, pool).await
        }
        Command::Cold { claims, .. } => claims::cold(&mut context, common, arrivals::burst(*claims as usize)).await,
        Command::Churn { rate, seconds, lifetime, .. } => {
            let schedule = arrivals::poisson(*rate, arrivals::count(*rate, *seconds), common.seed);
            claims::churn(&mut context, common, schedule, Duration::from_secs((*lifetime).into())).await
        }
        Command::Saturate { rate, seconds, factor, limit, .. } => {
            let steps = saturate::Steps { rate: *rate, seconds: *seconds, factor: *factor, limit: f64::from(*limit) };
            saturate::run(&mut context, common, steps).await
        }
        Command::Fill { sandboxes, .. } => fill::run(&mut context, common, *sandboxes).await,
        Command::Hold { sandboxes, rest, .. } => {
            hold::run(&mut context, common, *sandboxes, Duration::from_secs((*rest).into())).await
        }
        Command::Failover { claims, rate, lease, .. } => {
            let schedule = arrivals::poisson(*rate, *claims as usize, common.seed);
            failover::run(&mut context, common, schedule, *lease).await
        }
        Command::Bare { .. } => bail!("the bare client is measured without a controller"),
    }
}

/// The arrivals of a benchmark that a bare client can run too, and the size of the pool for its claims.
fn load(command: &Command) -> Option<(Schedule, u32)> {
    let steady = |rate: f64, seconds: u32, seed| arrivals::poisson(rate, arrivals::count(rate, seconds), seed);
    match command {
        Command::ClaimsBurst { claims, common } => {
            Some((arrivals::burst(*claims as usize), common.pool_size.unwrap_or(*claims)))
        }
        Command::ClaimsSustained { arrivals: Arrivals { rate, seconds }, common } => {
            let schedule = steady(*rate, *seconds, common.seed);
            let all = u32::try_from(schedule.len()).unwrap_or(u32::MAX);
            // With a refill, the pool has the sandboxes for five seconds of claims, which is several times the duration
            // of a refill.
            let some = (rate * 5.0).ceil().max(50.0) as u32;
            Some((schedule, common.pool_size.unwrap_or(if common.no_refill { all } else { some.min(all) })))
        }
        Command::Bare { arrivals: Arrivals { rate, seconds }, common } => {
            Some((steady(*rate, *seconds, common.seed), 0))
        }
        Command::Saturate { .. }
        | Command::Cold { .. }
        | Command::Fill { .. }
        | Command::Churn { .. }
        | Command::Hold { .. }
        | Command::Failover { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Benchmark, Cli};

    fn pool(args: &[&str]) -> (usize, u32) {
        let args = std::iter::once("bench").chain(args.iter().copied());
        let Benchmark::Load(command) = Cli::try_parse_from(args).unwrap().command else { panic!("another") };
        let (schedule, pool) = load(&command).unwrap();
        (schedule.len(), pool)
    }

    #[test]
    fn a_pool_suffices_for_its_claims() {
        assert_eq!(pool(&["claims-burst", "300"]), (300, 300));
        assert_eq!(pool(&["claims-burst", "300", "--pool-size", "20"]), (300, 20));
        assert_eq!(pool(&["claims-sustained", "45", "30", "--no-refill"]), (1350, 1350));
        assert_eq!(pool(&["claims-sustained", "45", "30"]), (1350, 225));
        assert_eq!(pool(&["claims-sustained", "5", "2"]), (10, 10));
    }
}
