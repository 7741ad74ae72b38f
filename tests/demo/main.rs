//! `cargo demo`: the life of a sandbox, shown on a real control plane.
//!
//! The demo builds the programs that it needs, starts its own cluster with the operator beside it, and runs the
//! chapters of `walkthrough`. It ends all processes that it started after success, after a failure and after Ctrl-C.
//! Only `--keep` leaves the cluster and the operator running, and `--down` removes them again.

mod access;
mod gateway;
mod manifests;
mod operator;
mod screen;
mod session;
mod wait;
mod walkthrough;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use paddock_cluster::{AGENT_IMAGE, BUSYBOX_IMAGE, Binaries, DetachedCluster, Program, Target, stopped};

use crate::screen::Screen;
use crate::session::{MARK, NAMESPACE, Session, Story};

/// Shows Paddock at work on a real Kubernetes control plane.
///
/// Without flags, the demo starts its own control plane on this machine and removes it at the end. The first run builds
/// the control plane and the operator, which takes minutes. The builds are kept in your cache folder and in `target`.
/// KUBECONFIG is ignored: another cluster is used only if you name it.
#[derive(Debug, Parser)]
#[command(name = "cargo-demo", bin_name = "cargo demo", version, about)]
struct Args {
    /// Run the sample Sandbox in a container under gVisor, on a real node, and resume it by a request through the gateway.
    /// This needs root, and the first run builds the programs of the node. The other chapters of the demo are left out.
    #[arg(long, conflicts_with = "kubeconfig")]
    real: bool,
    /// Leave the cluster and the operator running at the end, and print how to use them.
    #[arg(long, conflicts_with = "kubeconfig")]
    keep: bool,
    /// Remove all demos that you left running with `--keep`, and do nothing else.
    #[arg(long, conflicts_with_all = ["keep", "kubeconfig", "real"])]
    down: bool,
    #[command(flatten)]
    target: Target,
}

/// The exit code that a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = if args.down { down().map(|()| ExitCode::SUCCESS) } else { run(&args) };
    ended.unwrap_or_else(|error| {
        eprintln!("\nerror: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: &Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(demonstrate(args));
    // The runtime must not wait for a build that Ctrl-C interrupted.
    runtime.shutdown_background();
    ended
}

async fn demonstrate(args: &Args) -> Result<ExitCode> {
    let screen = Screen::new();
    let mut stop = std::pin::pin!(stopped());
    screen.title("Paddock", "sandboxes for code that nobody has read, on a real Kubernetes API server");
    let story = if args.real { Story::RealNode } else { Story::SimulatedNodes };
    let mut session = tokio::select! {
        session = Session::open(&args.target, story, &screen) => session?,
        signal = &mut stop => { signal?; return Ok(ExitCode::from(INTERRUPTED)) }
    };
    let result = tokio::select! {
        result = session.run(&screen) => result,
        signal = &mut stop => {
            session.clean_up(&screen).await;
            signal?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if let Err(error) = &result {
        screen.failure(error, &session.logs());
    }
    if args.keep {
        let kept = session.keep().await?;
        let mut places = kept.operator.map(|operator| operator.places(NAMESPACE)).unwrap_or_default();
        if let Some(gateway) = &kept.gateway {
            places.extend(gateway.places());
            places.push(walkthrough::waking_request(gateway));
        }
        if let Story::RealNode = story {
            places.push(("images", format!("{AGENT_IMAGE} and {BUSYBOX_IMAGE}; the node pulls no others")));
        }
        screen.detached(&kept.cluster, own_kubectl().as_deref(), &places);
    } else {
        session.clean_up(&screen).await;
    }
    // The failure was already printed, with the end of the log.
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The control plane's kubectl, for users without their own.
fn own_kubectl() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let has_one = std::env::split_paths(&path).any(|folder| folder.join("kubectl").is_file());
    let binaries = Binaries::ready().ok().filter(|_| !has_one)?;
    Some(binaries.path(Program::Kubectl).to_owned())
}

/// Stops every cluster that a demo left running. Other clusters stay.
fn down() -> Result<()> {
    let mut stopped = 0;
    for detached in DetachedCluster::all().into_iter().filter(|detached| detached.dir().join(MARK).exists()) {
        let folder = detached.dir().display().to_string();
        detached.stop().with_context(|| format!("stopping the demo in {folder}"))?;
        println!("stopped the demo in {folder}");
        stopped += 1;
    }
    if stopped == 0 {
        println!("no demo is running");
    }
    Ok(())
}
