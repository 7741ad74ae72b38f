//! `cargo bench-cluster`: the cost of claims, of sandboxes and of the gateway, measured on a real control plane.
//!
//! The load is an open loop: arrivals are fixed beforehand and do not depend on replies. Latency is measured from the
//! intended start to the event of the client's own watch. All started processes end with the program: after success,
//! after a failure and after Ctrl-C.

mod args;
mod arrivals;
mod audit;
mod chart;
mod client;
mod controller;
mod environment;
mod gateway;
mod load;
mod metrics;
mod objects;
mod progress;
mod report;
mod runs;
mod stats;
mod tracker;
mod usage;
mod wake;
mod watch;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use paddock_cluster::{AnyCluster, stopped};
use serde_json::{Map, Value, json};

use crate::args::{Benchmark, Cli, Command};
use crate::controller::Who;
use crate::progress::say;
use crate::report::Measured;
use crate::runs::RunContext;

/// The exit code that a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = perform(&cli.command);
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn perform(benchmark: &Benchmark) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let mut slot = None;
        let ended = tokio::select! {
            done = run(benchmark, &mut slot) => done.map(|()| ExitCode::SUCCESS),
            signal = stopped() => {
                say("interrupted: removing what was started");
                signal.map(|()| ExitCode::from(INTERRUPTED)).map_err(Into::into)
            }
        };
        clean_up(&mut slot).await;
        ended
    });
    // The runtime must not wait for a build that Ctrl-C interrupted.
    runtime.shutdown_background();
    ended
}

async fn run(benchmark: &Benchmark, slot: &mut Option<AnyCluster>) -> Result<()> {
    match benchmark {
        Benchmark::Load(command) => print(command, measure(command, slot).await?),
        Benchmark::Wake(args) => wake::perform(args, slot).await,
        Benchmark::Gateway(args) => gateway::perform(args, slot).await,
        Benchmark::GatewaySoak(args) => gateway::soak(args, slot).await,
    }
}

/// The controllers to measure, one after another, each on its own cluster.
fn controllers(command: &Command) -> Result<Vec<Who>> {
    let common = command.common();
    if let Command::Bare { .. } = command {
        ensure!(common.against.is_none() && !common.with_bare, "bare: no controller is measured, nor compared");
        return Ok(vec![Who::Bare]);
    }
    let mut controllers = Vec::new();
    common.chart.check()?;
    if !common.only_against {
        controllers.push(Who::Paddock);
    }
    if common.against.is_some() {
        controllers.push(Who::Other);
    }
    if common.with_bare {
        let comparable = matches!(command, Command::ClaimsBurst { .. } | Command::ClaimsSustained { .. });
        ensure!(comparable, "--with-bare: only claims-burst and claims-sustained are a bare client's load as well");
        controllers.push(Who::Bare);
    }
    Ok(controllers)
}

/// Measures all controllers. The cluster of the current run is in `slot`, so that the owner of the slot can end it.
async fn measure(command: &Command, slot: &mut Option<AnyCluster>) -> Result<(Vec<Measured>, String)> {
    let controllers = controllers(command)?;
    let run = &command.common().run;
    let program = if controllers.contains(&Who::Paddock) { Some(run.program().await?) } else { run.named()? };
    let (mut runs, mut version) = (Vec::new(), String::new());
    for who in controllers {
        let bare_writes = command.common().bare_writes.unwrap_or_else(|| writes(&runs));
        let context = RunContext { slot: &mut *slot, program: program.as_deref(), who, bare_writes };
        runs.push(runs::run(command, context).await?);
        if let Some(place) = &slot {
            version = place.client().apiserver_version().await.context("the API server's version")?.git_version;
        }
        clean_up(slot).await;
    }
    compare(&mut runs);
    Ok((runs, version))
}

/// The number of writes for a claim until it was Ready, which the bare client then repeats.
fn writes(runs: &[Measured]) -> u8 {
    let measured = runs.first().and_then(|run| run.figures.get("writes_per_claim_to_ready")?.as_f64());
    if measured.is_some_and(|measured| measured < 2.5) { 2 } else { 3 }
}

/// Ends our cluster, or removes our objects from the user's cluster.
async fn clean_up(slot: &mut Option<AnyCluster>) {
    if let Some(mut place) = slot.take() {
        for error in place.clean_up().await {
            eprintln!("not removed: {error}");
        }
    }
}

/// Computes the difference between the latency of the other runs and that of the bare client.
fn compare(runs: &mut [Measured]) {
    let at =
        |run: &Measured, percentile: &str| run.figures.get("ready_ms").and_then(|ready| ready[percentile].as_f64());
    let Some(bare) = runs.iter().find(|run| run.who == Who::Bare).cloned() else { return };
    for run in runs.iter_mut().filter(|run| run.who != Who::Bare) {
        for percentile in ["p50", "p95", "p99"] {
            let more = at(run, percentile).zip(at(&bare, percentile)).map(|(its, bare)| (its / bare - 1.0) * 100.0);
            run.number(&format!("overhead_{percentile}_percent"), more);
        }
    }
}

fn print(command: &Command, (runs, version): (Vec<Measured>, String)) -> Result<()> {
    let common = command.common();
    let (cores, memory) = usage::machine()?;
    let title = format!("{}, Kubernetes {version}, {cores} processors, {memory} GiB", command.title());
    println!("{}", report::table(&title, &runs));
    if let Some(file) = &common.chart.svg {
        chart::draw(file, &title, &runs).with_context(|| format!("drawing {}", file.display()))?;
        say(&format!("drew {}", file.display()));
    }
    if common.run.json {
        let local = common.target.kubeconfig.is_none();
        let head: Map<String, Value> = [
            ("benchmark", json!(command.title())),
            ("machine", json!({ "processors": cores, "memory_gib": memory })),
            ("kubernetes", json!(version)),
            ("seed", json!(common.seed)),
            ("nodes", json!(common.nodes)),
            ("audit", json!(local && !common.no_audit)),
            ("webhook", json!(local && !common.no_webhook)),
            ("refill", json!(!common.no_refill)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect();
        println!("{}", report::object(head, &runs));
    }
    Ok(())
}
