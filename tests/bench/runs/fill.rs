//! A pool that grows from zero to N: the rate at which sandboxes are created.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::{RunContext, claims};
use crate::args::Common;
use crate::audit;
use crate::environment::{Environment, Moment};
use crate::objects;
use crate::progress::say;
use crate::report::Measured;
use crate::stats::Summary;
use crate::tracker::ms;
use crate::usage::Sampler;
use crate::watch::{Event, Watch};

/// If no sandbox becomes Ready for this time, no more will.
const STALLED: Duration = Duration::from_secs(60);
/// The longest time for settling.
const SETTLE: Duration = Duration::from_secs(30);

/// The time of the first event of each sandbox, and of its first event with Ready.
type FirstEvents = HashMap<String, (Instant, Option<Instant>)>;

pub(super) async fn run(context: &mut RunContext<'_>, common: &Common, sandboxes: u32) -> Result<Measured> {
    let mut environment = context.open(common, sandboxes).await?;
    environment.settle(SETTLE).await?;
    let before = environment.moment().await?;
    let sampler = Sampler::begin(environment.processes());
    let mut measured = Measured::new(environment.who);
    let full = watched(&environment, common, sandboxes, &mut measured).await?;
    let after = environment.moment().await?;
    let samples = sampler.end();
    claims::used(&mut measured, (&before, &after), &samples, sandboxes as usize);
    counted(&mut environment, &mut measured, &before, sandboxes as usize).await?;
    if !full {
        measured.notes.push(format!("it stopped before {sandboxes} were Ready"));
    }
    Ok(measured)
}

async fn watched(
    environment: &Environment<'_>,
    common: &Common,
    sandboxes: u32,
    measured: &mut Measured,
) -> Result<bool> {
    let first_events = Arc::new(Mutex::new(FirstEvents::new()));
    let watch = Watch::begin(&environment.client, &objects::sandboxes(), |_| {}).await?;
    let (into, mut tasks) = (Arc::clone(&first_events), JoinSet::new());
    tasks.spawn(watch.follow(move |event| note(&mut into.lock().unwrap_or_else(PoisonError::into_inner), &event)));
    say(&format!("{}: a pool of {sandboxes}", environment.who.title()));
    let start = Instant::now();
    environment.pool(sandboxes, common).await?;
    let (mut most, mut grew) = (0, Instant::now());
    let full = loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            ended = tasks.join_next() => match ended {
                Some(Ok(Err(error))) => return Err(error),
                Some(Ok(Ok(_)) | Err(_)) | None => bail!("the client's watch ended"),
            },
        }
        let ready =
            first_events.lock().unwrap_or_else(PoisonError::into_inner).values().filter(|(_, at)| at.is_some()).count();
        if ready >= sandboxes as usize {
            break true;
        }
        if ready > most {
            (most, grew) = (ready, Instant::now());
        }
        if grew.elapsed() > STALLED {
            break false;
        }
    };
    let first_events = first_events.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ready: Vec<f64> =
        first_events.values().filter_map(|(_, at)| Some(at.as_ref()?.duration_since(start).as_secs_f64())).collect();
    ready.sort_by(f64::total_cmp);
    let took = ready.last().copied().unwrap_or_default();
    measured.set("sandboxes", ready.len());
    measured.number("fill_s", Some(took));
    measured.number("rate", (took > 0.0).then(|| ready.len() as f64 / took));
    let each = first_events.values().filter_map(|(first, at)| Some(ms(at.as_ref()?.duration_since(*first)))).collect();
    measured.summary("ready_ms", Summary::of(each));
    let step = ready.len().div_ceil(400).max(1);
    let points = ready.iter().enumerate().filter(|(n, _)| n % step == 0 || n + 1 == ready.len());
    measured.growth = points.map(|(n, at)| (*at, (n + 1) as f64)).collect();
    Ok(full)
}

fn note(first_events: &mut FirstEvents, event: &Event<'_>) {
    let Some(state) = &event.state else { return };
    if !first_events.contains_key(event.name) {
        first_events.insert(event.name.to_owned(), (event.at, None));
    }
    if let Some((_, ready @ None)) = first_events.get_mut(event.name).filter(|_| state.ready) {
        *ready = Some(event.at);
    }
}

async fn counted(
    environment: &mut Environment<'_>,
    measured: &mut Measured,
    before: &Moment,
    count: usize,
) -> Result<()> {
    environment.settle(SETTLE).await?;
    let end = environment.moment().await?;
    let each = |sum: f64| sum / count as f64;
    let reconciles = end.reconciles.map(|end| each(end - before.reconciles.unwrap_or(0.0)));
    measured.number("reconciles_per_sandbox", reconciles);
    let role = measured.who.role();
    let Some(audit) = &mut environment.audit else { return Ok(()) };
    audit.refresh()?;
    let all = audit.between(before.wall, end.wall);
    let (writes, _) = audit::of(&all, role);
    measured.number("writes_per_sandbox", Some(each(writes.attempts as f64)));
    measured.writes("writes", &all, count);
    Ok(())
}
