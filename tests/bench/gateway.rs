//! `cargo bench-cluster gateway` and `gateway-soak`: requests to a Sandbox on this machine's loopback address, directly,
//! through the gateway and through nginx.

mod chart;
mod figures;
mod load;
mod soak;
mod sockets;
mod ways;

use anyhow::{Context as _, Result, bail};
use paddock_cluster::{AnyCluster, Cluster, Options};
use paddock_load::Scene;
use serde_json::json;

use self::figures::Figures;
pub(crate) use self::soak::perform as soak;
use self::ways::{Way, Ways};
use crate::args::{GatewayArgs, Run};
use crate::progress::say;
use crate::{arrivals, usage};

/// The connections that share the requests of a fixed rate. With fewer, a request might wait for another one's answer.
const AT_A_RATE: u32 = 16;

/// Measures, and prints the figures. The cluster is in `slot`, so that the owner of the slot can end it.
pub(crate) async fn perform(args: &GatewayArgs, slot: &mut Option<AnyCluster>) -> Result<()> {
    args.chart.check()?;
    let websockets = sockets::allowed(args.websockets)?;
    let (cluster, scene) = open(slot, &args.run).await?;
    let version = cluster.client().apiserver_version().await.context("the API server's version")?.git_version;
    let ways = Ways::open(cluster, &scene, !args.no_nginx).await?;
    let mut all: Vec<Figures> = ways.all.iter().map(|way| Figures::of(way.name)).collect();
    for round in 0..args.rounds {
        say(&format!("round {} of {}", round + 1, args.rounds));
        for at in 0..ways.all.len() {
            // Another one begins in each round, so that no way always follows the same one.
            let number = (at + round as usize) % ways.all.len();
            let (Some(way), Some(figures)) = (ways.all.get(number), all.get_mut(number)) else { continue };
            at_a_rate(args, round, way, figures).await?;
            saturated(args, way, figures).await?;
        }
    }
    if websockets > 0 {
        say(&format!("{websockets} idle WebSockets"));
        sockets::measure(cluster, &scene, &ways, websockets, &mut all).await?;
    }
    print(args, &version, &all)
}

/// Starts a control plane with a Sandbox. No operator runs, because the gateway needs none.
async fn open<'a>(slot: &'a mut Option<AnyCluster>, run: &Run) -> Result<(&'a Cluster, Scene)> {
    let program = run.program().await?;
    say("starting a cluster with a Sandbox");
    let cluster = Cluster::start(Options { nodes: 1, ..Options::default() }).await?;
    let AnyCluster::Local(cluster) = slot.insert(AnyCluster::Local(cluster)) else { bail!("the cluster is not ours") };
    if run.keep_logs {
        cluster.keep_logs();
    }
    let scene = Scene::open(cluster, &program).await?;
    Ok((cluster, scene))
}

/// Measures the latency at the fixed rate.
async fn at_a_rate(args: &GatewayArgs, round: u32, way: &Way, figures: &mut Figures) -> Result<()> {
    // All ways of a round have the same arrivals.
    let count = arrivals::count(args.rate, args.seconds);
    let schedule = arrivals::poisson(args.rate, count, u64::from(round));
    let before = usage::now(&way.processes);
    let latencies = load::at_a_rate(way.address, &way.request, schedule, AT_A_RATE).await;
    let latencies = latencies.with_context(|| format!("{}, at a rate", way.name))?;
    let spent = usage::spent(&before, &usage::now(&way.processes)).values().sum::<f64>();
    figures.at_a_rate(latencies, spent);
    Ok(())
}

/// Measures the highest rate.
async fn saturated(args: &GatewayArgs, way: &Way, figures: &mut Figures) -> Result<()> {
    let before = usage::now(&way.processes);
    let done = load::saturated(way.address, &way.request, args.seconds, args.connections).await;
    let done = done.with_context(|| format!("{}, without a pause", way.name))?;
    let spent = usage::spent(&before, &usage::now(&way.processes)).values().sum::<f64>();
    figures.saturated(done, spent);
    Ok(())
}

fn print(args: &GatewayArgs, version: &str, all: &[Figures]) -> Result<()> {
    let (cores, memory) = usage::machine()?;
    let name = format!(
        "gateway {} --seconds {} --rate {} --connections {}",
        args.rounds, args.seconds, args.rate, args.connections
    );
    let title = format!("{name}, Kubernetes {version}, {cores} processors, {memory} GiB");
    println!("{title}\n\n{}", figures::table(all, args));
    if let Some(file) = &args.chart.svg {
        chart::draw(file, &title, all).with_context(|| format!("drawing {}", file.display()))?;
        say(&format!("drew {}", file.display()));
    }
    if args.run.json {
        let object = json!({
            "benchmark": name,
            "machine": { "processors": cores, "memory_gib": memory },
            "kubernetes": version,
            "ways": figures::json(all, args),
        });
        println!("{object}");
    }
    Ok(())
}
