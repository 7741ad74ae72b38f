//! `paddock-cluster`: starts and stops a local control plane by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use paddock_cluster::{Binaries, Cluster, DetachedCluster, Options, Program, build_node, node_is_missing};

/// A real Kubernetes control plane on this machine, with simulated nodes.
#[derive(Parser)]
#[command(name = "paddock-cluster", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the control plane's programs and print their folder. The first build takes minutes.
    Build(Build),
    /// Report whether this machine can run a real node. If it cannot, print what it lacks and fail.
    Check,
    /// Start a cluster and print how to use it. It keeps running until `down`, unless `--foreground` is set.
    Up(Up),
    /// List the clusters that were left running.
    List,
    /// Stop clusters that were left running, and remove all of their files.
    Down(Down),
}

#[derive(Args)]
struct Build {
    /// Build the programs and the images of a real node too.
    #[arg(long)]
    real_node: bool,
}

#[derive(Args)]
struct Up {
    /// The number of simulated nodes.
    #[arg(long, default_value_t = Options::default().nodes)]
    nodes: u32,
    /// Log every request to the API server at the level Metadata, to log/audit.jsonl in the cluster's folder.
    #[arg(long)]
    audit: bool,
    /// Let the API server limit requests, as it does by default.
    #[arg(long)]
    priority_and_fairness: bool,
    /// Add the RuntimeClasses gvisor and kata.
    #[arg(long)]
    isolation: bool,
    /// Start one real node instead of simulated ones, with the RuntimeClasses runc and gvisor. This needs root.
    #[arg(long, conflicts_with_all = ["nodes", "isolation"])]
    real_node: bool,
    /// Run until Ctrl-C. All processes and files are removed when this process ends in any way.
    #[arg(long)]
    foreground: bool,
}

#[derive(Args)]
struct Down {
    /// The cluster's folder, as `up` and `list` print it. It may be omitted if there is only one cluster.
    dir: Option<PathBuf>,
    /// Stop all clusters.
    #[arg(long, conflicts_with = "dir")]
    all: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Build(build) => {
            println!("{}", Binaries::ready()?.path(Program::Kubectl).with_file_name("").display());
            if build.real_node {
                println!("{}", build_node().await?.display());
            }
        }
        Command::Check => match node_is_missing() {
            None => println!("a real node can run here"),
            Some(reason) => bail!(reason),
        },
        Command::Up(up) => {
            let options = Options {
                nodes: up.nodes,
                audit: up.audit,
                priority_and_fairness: up.priority_and_fairness,
                ..Options::default()
            };
            let options = if up.isolation { options.with_isolation() } else { options };
            let options = if up.real_node { options.with_node() } else { options };
            let cluster = Cluster::start(options).await?;
            if up.foreground {
                println!("export KUBECONFIG={}", cluster.kubeconfig().display());
                tokio::signal::ctrl_c().await?;
            } else {
                println!("{}", cluster.keep().await?);
            }
        }
        Command::List => {
            for detached in DetachedCluster::all() {
                println!("{}", detached.dir().display());
            }
        }
        Command::Down(down) => {
            for detached in chosen(&down)? {
                let dir = detached.dir().to_owned();
                detached.stop()?;
                println!("stopped {}", dir.display());
            }
        }
    }
    Ok(())
}

fn chosen(down: &Down) -> Result<Vec<DetachedCluster>> {
    if let Some(dir) = &down.dir {
        return Ok(vec![DetachedCluster::open(dir)?]);
    }
    let all = DetachedCluster::all();
    if all.len() > 1 && !down.all {
        bail!("{} clusters are running: give the folder of one, as `list` prints it, or --all", all.len());
    }
    Ok(all)
}
