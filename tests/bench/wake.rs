//! `cargo bench-cluster wake`: from a request for a suspended Sandbox to its answer, on a real node, by phases.

mod chart;
mod figures;
mod phases;
mod request;
mod scene;

use anyhow::{Context as _, Result, bail};
use paddock_cluster::{AnyCluster, node_is_missing};
use serde_json::{Value, json};

use self::figures::Figures;
use self::scene::Scene;
use crate::args::{Setting, WakeArgs};
use crate::progress::say;
use crate::usage;

/// Measures, and prints the figures. The cluster is in `slot`, so that the owner of the slot can end it.
pub(crate) async fn perform(args: &WakeArgs, slot: &mut Option<AnyCluster>) -> Result<()> {
    if let Some(reason) = node_is_missing() {
        bail!(reason);
    }
    args.chart.check()?;
    let program = args.run.program().await?;
    let mut scene = Scene::open(slot, &program, args.run.keep_logs).await?;
    let mut measured = Vec::new();
    for setting in args.settings() {
        say(&format!("{}: {} wakes, one at a time", setting.title(), args.wakes));
        let wakes = one_at_a_time(&mut scene, setting, args.wakes).await?;
        measured.push(Figures::of(setting.title(), wakes));
    }
    let storm = match args.storm {
        0 => None,
        storm => {
            let setting = Setting::Gvisor;
            say(&format!("{}: {storm} wakes at once", setting.title()));
            let wakes = at_once(&mut scene, setting, storm).await?;
            Some(Figures::of(&format!("{storm} at once, {}", setting.title()), wakes))
        }
    };
    let version = scene.version().await?;
    print(args, &version, &measured, storm.as_ref())
}

async fn one_at_a_time(scene: &mut Scene<'_>, setting: Setting, wakes: u32) -> Result<Vec<phases::Wake>> {
    let names = scene.suspended(setting, wakes).await?;
    let mut measured = Vec::new();
    for name in &names {
        scene.pause().await;
        let before = scene.phases().await?;
        let asked = scene.request(name).await?;
        let phases = scene.phases().await?.since(before);
        measured.push(scene.wake(name, asked, Some(phases))?);
    }
    scene.delete(&names).await?;
    Ok(measured)
}

async fn at_once(scene: &mut Scene<'_>, setting: Setting, wakes: u32) -> Result<Vec<phases::Wake>> {
    let names = scene.suspended(setting, wakes).await?;
    scene.pause().await;
    let asked = futures::future::join_all(names.iter().map(|name| scene.request(name))).await;
    let mut measured = Vec::new();
    for (name, asked) in names.iter().zip(asked) {
        measured.push(scene.wake(name, asked?, None)?);
    }
    scene.delete(&names).await?;
    Ok(measured)
}

fn print(args: &WakeArgs, version: &str, measured: &[Figures], storm: Option<&Figures>) -> Result<()> {
    let (cores, memory) = usage::machine()?;
    let title = format!("wake {}, Kubernetes {version}, {cores} processors, {memory} GiB", args.wakes);
    let all: Vec<&Figures> = measured.iter().chain(storm).collect();
    println!("{title}\n\n{}", figures::table(&all));
    if let Some(file) = &args.chart.svg {
        chart::draw(file, &title, &all).with_context(|| format!("drawing {}", file.display()))?;
        say(&format!("drew {}", file.display()));
    }
    if args.run.json {
        let runs: Vec<Value> = all.iter().map(|figures| figures.json()).collect();
        let object = json!({
            "benchmark": format!("wake {}", args.wakes),
            "machine": { "processors": cores, "memory_gib": memory },
            "kubernetes": version,
            "runs": runs,
        });
        println!("{object}");
    }
    Ok(())
}
