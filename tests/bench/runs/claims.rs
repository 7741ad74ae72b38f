//! The benchmarks of claims: on a full pool at once or at a rate, on an empty pool, and with deletions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::RunContext;
use crate::args::Common;
use crate::arrivals::Schedule;
use crate::audit::{self, Claimed};
use crate::environment::{Environment, Moment};
use crate::load;
use crate::objects;
use crate::progress::say;
use crate::report::Measured;
use crate::tracker::{ClaimTracker, Outcome};
use crate::usage::{self, Sample, Sampler};
use crate::watch::Watch;

/// The time from the end of the preparation to the first arrival.
pub(super) const LEAD: Duration = Duration::from_millis(300);
/// The longest time for settling before a run.
const SETTLE: Duration = Duration::from_secs(30);

/// Claims on a pool that was filled beforehand.
pub(super) async fn warm(
    context: &mut RunContext<'_>,
    common: &Common,
    schedule: Schedule,
    pool: u32,
) -> Result<Measured> {
    let most = pool + u32::try_from(schedule.len()).unwrap_or(u32::MAX);
    let mut environment = context.open(common, most).await?;
    prepare(&mut environment, common, pool).await?;
    measure(&mut environment, common, schedule, None).await
}

/// Fills the pool and waits until all work is done.
pub(super) async fn prepare(environment: &mut Environment<'_>, common: &Common, pool: u32) -> Result<()> {
    environment.pool(pool, common).await?;
    environment.full(pool).await?;
    if common.no_refill {
        environment.stop_refill().await?;
    }
    environment.settle(SETTLE).await?;
    Ok(())
}

/// Claims on an empty pool of size zero.
pub(super) async fn cold(context: &mut RunContext<'_>, common: &Common, schedule: Schedule) -> Result<Measured> {
    let mut environment = context.open(common, u32::try_from(schedule.len()).unwrap_or(u32::MAX)).await?;
    environment.pool(0, common).await?;
    environment.settle(SETTLE).await?;
    measure(&mut environment, common, schedule, None).await
}

/// Claims that are deleted while others are created.
pub(super) async fn churn(
    context: &mut RunContext<'_>,
    common: &Common,
    schedule: Schedule,
    lifetime: Duration,
) -> Result<Measured> {
    let all = u32::try_from(schedule.len()).unwrap_or(u32::MAX);
    let pool = common.pool_size.unwrap_or(all.clamp(1, 100));
    let mut environment = context.open(common, pool.saturating_add(all)).await?;
    prepare(&mut environment, common, pool).await?;
    environment.collects_garbage().await?;
    measure(&mut environment, common, schedule, Some(lifetime)).await
}

/// Applies the load and measures it. With a `lifetime`, a claim is deleted this long after it is Ready. Without it, all
/// claims are deleted at the end.
pub(super) async fn measure(
    environment: &mut Environment<'_>,
    common: &Common,
    schedule: Schedule,
    lifetime: Option<Duration>,
) -> Result<Measured> {
    let (count, last) = (schedule.len(), schedule.last().copied().unwrap_or_default());
    say(&format!("{}: {count} claims in {:.1} s", environment.who.title(), last.as_secs_f64()));
    let watch = Watch::begin(&environment.client, &objects::claims(), |_| {}).await?;
    let before = environment.moment().await?;
    let sampler = Sampler::begin(environment.processes());
    let (start, wall) = (Instant::now() + LEAD, Timestamp::now() + LEAD);
    let tracker = Arc::new(ClaimTracker::new("c", start, &schedule));
    let mut tasks = JoinSet::new();
    let (on_board, client) = (Arc::clone(&tracker), environment.client.clone());
    tasks.spawn(watch.follow(move |event| {
        if let (Some(number), Some(lifetime)) = (on_board.watched(&event), lifetime) {
            load::delete_later(&client, &objects::claims(), &on_board, number, lifetime);
        }
    }));
    let pacing = load::begin(&environment.client, &objects::claims(), &tracker, schedule, objects::claim);
    let deadline = start + last + common.deadline() + lifetime.unwrap_or_default();
    let arrived = tracker.until(deadline, |p| {
        p.answered == count && p.ready + p.refused == count && (lifetime.is_none() || p.gone + p.refused == count)
    });
    tokio::select! {
        _ = arrived => {}
        ended = tasks.join_next() => match ended {
            Some(Ok(Err(error))) => return Err(error),
            Some(Ok(Ok(_)) | Err(_)) | None => bail!("the client's watch ended"),
        },
    }
    drop(pacing);
    let after = environment.moment().await?;
    let samples = sampler.end();
    let outcome = Outcome::of(&tracker, &environment.launches().await?);
    let mut measured = Measured::new(environment.who);
    set_client_figures(&mut measured, &outcome);
    used(&mut measured, (&before, &after), &samples, count);
    counted(environment, common, &mut measured, &Span { tracker: &tracker, before: &before, after: &after, wall })
        .await?;
    if common.no_refill {
        measured.notes.push("the pool was being deleted meanwhile, held by a finalizer: no refill".to_owned());
    }
    Ok(measured)
}

/// Sets the figures that the client measured.
pub(super) fn set_client_figures(measured: &mut Measured, outcome: &Outcome) {
    measured.set("claims", outcome.claims);
    measured.number("offered_rate", outcome.offered);
    measured.number("rate", Some(outcome.rate));
    measured.summary("ready_ms", outcome.ready);
    measured.summary("ack_ms", outcome.ack);
    if outcome.gone.is_some() {
        measured.summary("gone_ms", outcome.gone);
    }
    measured.set("cold", outcome.cold);
    measured.set("lost", outcome.lost);
    measured.set("refused", outcome.refused);
    measured.set("twice", outcome.twice);
    measured.latencies.clone_from(&outcome.latencies);
}

/// Sets the figures of the machine's usage.
pub(super) fn used(measured: &mut Measured, (before, after): (&Moment, &Moment), samples: &[Sample], count: usize) {
    let role = measured.who.role();
    let spent = usage::spent(&before.usage, &after.usage);
    measured.cpu("cpu", &spent);
    measured.number("cpu_s", spent.get(role).copied());
    measured.number("cpu_ms_each", spent.get(role).map(|s| s * 1000.0 / count.max(1) as f64));
    measured.number("rss_rest_mb", before.usage.get(role).map(|usage| usage.rss_mb));
    measured.number("rss_mb", usage::peak(samples, role));
    samples.clone_into(&mut measured.samples);
}

struct Span<'a> {
    tracker: &'a Arc<ClaimTracker>,
    before: &'a Moment,
    after: &'a Moment,
    /// The tracker's start on the audit log's clock.
    wall: Timestamp,
}

/// Deletes the claims, and counts the writes and the reconciles from the first creation to the last deletion.
async fn counted(
    environment: &mut Environment<'_>,
    common: &Common,
    measured: &mut Measured,
    span: &Span<'_>,
) -> Result<()> {
    let Span { tracker, before, after, wall } = span;
    let claims = tracker.claims();
    let each = |sum: f64| sum / claims.len() as f64;
    let between = |from: &Moment, to: &Moment| Some(to.reconciles? - from.reconciles.unwrap_or(0.0));
    measured.number("reconciles_per_claim_to_ready", between(before, after).map(each));
    let drained = common.drain > 0 && drain(environment, tracker, common.drain()).await?;
    let end = environment.moment().await?;
    measured.number("reconciles_per_claim", between(before, &end).filter(|_| drained).map(each));
    let role = measured.who.role();
    let Some(audit) = &mut environment.audit else { return Ok(()) };
    audit.refresh()?;
    let names: HashMap<usize, String> = (0..claims.len()).map(|number| (number, tracker.name(number))).collect();
    let wanted: Vec<Claimed<'_>> = claims
        .iter()
        .enumerate()
        .filter_map(|(number, claim)| {
            Some(Claimed {
                claim: &names[&number],
                sandbox: claim.sandbox.as_deref()?,
                asked: *wall + claim.intended,
                ready: *wall + claim.ready?,
            })
        })
        .collect();
    let to_ready = audit.until_ready(role, &wanted);
    let (writes, _) = audit::of(&to_ready, role);
    let of_ready = |count: usize| count as f64 / wanted.len().max(1) as f64;
    measured.number("writes_per_claim_to_ready", (!wanted.is_empty()).then(|| of_ready(writes.attempts)));
    measured.writes("writes_to_ready", &to_ready, wanted.len());
    let all = audit.between(before.wall, end.wall);
    let (writes, events) = audit::of(&all, role);
    measured.number("writes_per_claim", drained.then(|| each(writes.attempts as f64)));
    measured.number("events_per_claim", Some(each(events.attempts as f64)));
    measured.number("conflicts_per_claim", Some(each(writes.conflicts as f64)));
    measured.writes("writes", &all, claims.len());
    if !drained {
        measured.notes.push("the claims were not all deleted in time: see --drain".to_owned());
    }
    Ok(())
}

/// Deletes the existing claims, and waits until their sandboxes are deleted and there are no more writes. Returns
/// whether that happened.
pub(super) async fn drain(
    environment: &mut Environment<'_>,
    tracker: &Arc<ClaimTracker>,
    limit: Duration,
) -> Result<bool> {
    let deadline = Instant::now() + limit;
    say(&format!("{}: deleting the claims", environment.who.title()));
    load::delete_all(&environment.client, &objects::claims(), tracker).await?;
    say(&format!("{}: waiting until what they had is gone and nothing more is written", environment.who.title()));
    let taken: Vec<String> = tracker.claims().into_iter().filter_map(|claim| claim.sandbox).collect();
    for path in [objects::sandboxes(), objects::pods()] {
        loop {
            let mut there = HashSet::new();
            Watch::begin(&environment.client, &path, |event| {
                there.insert(event.name.to_owned());
            })
            .await?;
            // A pod has its sandbox's name.
            if !taken.iter().any(|sandbox| there.contains(sandbox)) {
                break;
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    environment.settle(deadline.saturating_duration_since(Instant::now())).await
}
