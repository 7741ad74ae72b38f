//! N unused sandboxes: memory, processor time and watch traffic at rest, a scrape, and a start of the operator with all
//! of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use paddock_cluster::Signal;

use super::RunContext;
use crate::args::Common;
use crate::client::{Load, send};
use crate::controller::Who;
use crate::environment::Environment;
use crate::metrics::Scrape;
use crate::objects;
use crate::progress::say;
use crate::report::Measured;
use crate::stats::{Summary, round};
use crate::tracker::ms;
use crate::usage::{self, Sampler, Watched};
use crate::watch::Watch;

/// The longest time for settling. It does not include a full resync.
const SETTLE: Duration = Duration::from_secs(60);
/// The number of scrapes of the metrics. The median is reported.
const SCRAPES: usize = 7;
/// The time that a controller has to end before it is killed.
const GRACE: Duration = Duration::from_secs(30);

pub(super) async fn run(
    context: &mut RunContext<'_>,
    common: &Common,
    sandboxes: u32,
    rest: Duration,
) -> Result<Measured> {
    // Writes are not counted here, and with tens of thousands of sandboxes the log has hundreds of megabytes.
    let common = Common { no_audit: true, ..common.clone() };
    let mut environment = context.open(&common, sandboxes).await?;
    environment.pool(sandboxes, &common).await?;
    say(&format!("{}: filling the pool with {sandboxes} sandboxes", environment.who.title()));
    let sampler = Sampler::begin(environment.processes());
    let ready = environment.fill(sandboxes).await?;
    let mut measured = Measured::new(environment.who);
    measured.set("sandboxes", ready);
    if ready < sandboxes {
        measured.notes.push(format!("it stopped at {ready} of {sandboxes}"));
    }
    settled(&mut environment).await?;
    at_rest(&environment, &mut measured, rest).await?;
    scraped(&environment, &mut measured).await?;
    measured.samples = sampler.end();
    measured.number("rss_mb", usage::peak(&measured.samples, environment.who.role()));
    restarted(&environment, &mut measured).await?;
    Ok(measured)
}

/// Waits until sandboxes do not change any more.
async fn settled(environment: &mut Environment<'_>) -> Result<()> {
    const QUIET: Duration = Duration::from_secs(5);
    let watch = Watch::begin(&environment.client, &objects::sandboxes(), |_| {}).await?;
    let (changed, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(watch.follow(move |_| {
        // The receiver is closed when the wait is over.
        let _ = changed.send(());
    }));
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, changes.recv()).await {} };
    // A controller that continues for longer is measured as it is.
    let _ = tokio::time::timeout(SETTLE, quiet).await;
    Ok(())
}

async fn at_rest(environment: &Environment<'_>, measured: &mut Measured, rest: Duration) -> Result<()> {
    say(&format!("{}: {} s at rest", environment.who.title(), rest.as_secs()));
    let role = environment.who.role();
    let (traffic, events, before) =
        (watch_bytes(environment).await?, watch_events(environment).await?, environment.moment().await?);
    tokio::time::sleep(rest).await;
    let after = environment.moment().await?;
    let (more_traffic, more_events) = (watch_bytes(environment).await?, watch_events(environment).await?);
    let seconds = after.wall.duration_since(before.wall).as_secs_f64();
    let share = |spent: f64| spent / seconds * 100.0;
    let spent = usage::spent(&before.usage, &after.usage);
    let shares: BTreeMap<String, f64> = spent.iter().map(|(who, s)| (who.clone(), round(share(*s)))).collect();
    measured.number("rest_cpu_percent", shares.get(role).copied());
    measured.set("rest_cpu", serde_json::to_value(&shares).context("the processor at rest")?);
    measured.number("rss_rest_mb", after.usage.get(role).map(|usage| usage.rss_mb));
    let memory: BTreeMap<&String, f64> = after.usage.iter().map(|(who, usage)| (who, round(usage.rss_mb))).collect();
    measured.set("memory_mb", serde_json::to_value(&memory).context("memory at rest")?);
    let rate = |before: Option<f64>, after: Option<f64>| Some((after? - before.unwrap_or(0.0)) / seconds);
    measured.number("watch_events_per_s", rate(events, more_events));
    measured.number("watch_kb_per_s", rate(traffic, more_traffic).map(|bytes| bytes / 1000.0));
    measured.number("reconciles_per_s", rate(before.reconciles, after.reconciles));
    Ok(())
}

/// The number of bytes of watch events that the API server has sent to all clients.
async fn watch_bytes(environment: &Environment<'_>) -> Result<Option<f64>> {
    let reply = send(&environment.client, Method::GET, "/metrics", Load::Empty).await?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    Ok(Scrape::from_text(text).sum("apiserver_watch_events_sizes_sum", &[]))
}

/// The number of objects that watches have delivered to the controller. Only our operator counts them.
async fn watch_events(environment: &Environment<'_>) -> Result<Option<f64>> {
    let Some(replica) = environment.replicas.first() else { return Ok(None) };
    Ok(Scrape::of(&replica.metrics).await?.sum("paddock_watch_events_total", &[]))
}

async fn scraped(environment: &Environment<'_>, measured: &mut Measured) -> Result<()> {
    let Some(replica) = environment.replicas.first() else { return Ok(()) };
    let (mut took, mut size) = (Vec::new(), 0);
    for _ in 0..SCRAPES {
        let scrape = Scrape::of(&replica.metrics).await?;
        took.push(ms(scrape.took));
        size = scrape.len();
    }
    measured.number("scrape_ms", Summary::of(took).map(|summary| summary.p50));
    measured.number("scrape_kb", Some(size as f64 / 1000.0));
    Ok(())
}

/// Ends the controller and starts it again while all sandboxes exist.
async fn restarted(environment: &Environment<'_>, measured: &mut Measured) -> Result<()> {
    let Some(replica) = environment.replicas.first() else { return Ok(()) };
    say(&format!("{}: starting it again", environment.who.title()));
    replica.process.signal(Signal::Terminate).await?;
    // A controller that does not end is killed by the restart.
    let _ = tokio::time::timeout(GRACE, replica.process.wait()).await;
    replica.process.restart().await?;
    let role = environment.who.role();
    let sampler = Sampler::begin(vec![Watched { name: role.to_owned(), pid: replica.process.pid() }]);
    let ready = replica.ready().await?;
    measured.number("start_ready_s", Some(ready.as_secs_f64()));
    if environment.who == Who::Paddock {
        measured.number("start_leads_s", Some((ready + replica.leads().await?).as_secs_f64()));
    }
    // The first work after the start happens in this time.
    tokio::time::sleep(Duration::from_secs(5)).await;
    measured.number("start_rss_mb", usage::peak(&sampler.end(), role));
    Ok(())
}
