//! `cargo bench-cluster gateway-soak`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use paddock_cluster::AnyCluster;
use paddock_load::soak::Plan;
use serde_json::json;

use crate::args::SoakArgs;
use crate::progress::say;
use crate::usage;

/// The interval at which the Service looks at its replicas. The readiness probe of `deploy/` has two seconds, and the end of
/// a pod is noticed at once.
const NOTICES: Duration = Duration::from_secs(1);
/// The longest pause of a client on its connection. The drain delay is five seconds.
const PAUSE: Duration = Duration::from_secs(3);
/// The time after the kill in which requests are counted.
const AFTER_KILL: Duration = Duration::from_secs(30);

/// Runs the soak, and prints the figures. Fails if a request was lost or duplicated before the kill.
pub(crate) async fn perform(args: &SoakArgs, slot: &mut Option<AnyCluster>) -> Result<()> {
    let (cluster, scene) = super::open(slot, &args.run).await?;
    let version = cluster.client().apiserver_version().await.context("the API server's version")?.git_version;
    let mut gateways = Vec::new();
    for name in ["gateway-a", "gateway-b"] {
        gateways.push(scene.gateway(cluster, name, &["--allow-unauthenticated"]).await?);
    }
    let plan =
        Plan { time: args.time(), restarts: args.restarts, pause: PAUSE, notices: NOTICES, after_kill: AFTER_KILL };
    let report = paddock_load::soak(&scene, gateways, &plan, say).await?;
    let (cores, memory) = usage::machine()?;
    let name = format!("gateway-soak --minutes {} --restarts {}", args.minutes, args.restarts);
    println!("{name}, Kubernetes {version}, {cores} processors, {memory} GiB\n\n{}", report.table());
    if args.run.json {
        let object = json!({
            "benchmark": name,
            "machine": { "processors": cores, "memory_gib": memory },
            "kubernetes": version,
            "soak": report.json(),
        });
        println!("{object}");
    }
    match report.faults().as_slice() {
        [] => Ok(()),
        faults => bail!("before the kill: {}", faults.join("; ")),
    }
}
