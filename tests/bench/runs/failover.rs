//! Two replicas, of which the leader is killed while claims are created: the waiting time of the claims, and the number
//! of lost ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::task::JoinSet;

use super::{RunContext, claims};
use crate::args::{Common, Lease};
use crate::arrivals::Schedule;
use crate::controller::Who;
use crate::load;
use crate::objects;
use crate::progress::say;
use crate::report::Measured;
use crate::tracker::{ClaimTracker, Outcome};
use crate::usage::{self, Sample, Sampler};
use crate::watch::Watch;

pub(super) async fn run(
    context: &mut RunContext<'_>,
    common: &Common,
    schedule: Schedule,
    lease: Lease,
) -> Result<Measured> {
    ensure!(context.who == Who::Paddock, "failover is measured of our own operator alone");
    ensure!(common.target.kubeconfig.is_none(), "failover is measured on a cluster of our own alone");
    let Lease { duration, deadline, retry } = lease;
    let flags = vec![
        format!("--lease-duration={duration}s"),
        format!("--lease-renew-deadline={deadline}s"),
        format!("--lease-retry-period={retry}s"),
    ];
    let count = schedule.len();
    let pool = common.pool_size.unwrap_or(u32::try_from(count).unwrap_or(u32::MAX));
    let mut environment = context.open_with(common, pool.saturating_mul(2), 2, flags).await?;
    claims::prepare(&mut environment, common, pool).await?;
    let [leader, other] = &environment.replicas[..] else { bail!("there are not two replicas") };
    ensure!(leader.is_leader().await && !other.is_leader().await, "the first replica does not lead alone");

    let last = schedule.last().copied().unwrap_or_default();
    let kill = schedule.get(count / 3).copied().unwrap_or_default();
    say(&format!("{count} claims in {:.1} s; the leader dies after {:.1} s", last.as_secs_f64(), kill.as_secs_f64()));
    let watch = Watch::begin(&environment.client, &objects::claims(), |_| {}).await?;
    let before = environment.moment().await?;
    let sampler = Sampler::begin(environment.processes());
    let start = Instant::now() + claims::LEAD;
    let tracker = Arc::new(ClaimTracker::new("c", start, &schedule));
    let (mut tasks, on_board) = (JoinSet::new(), Arc::clone(&tracker));
    tasks.spawn(watch.follow(move |event| {
        on_board.watched(&event);
    }));
    let pacing = load::begin(&environment.client, &objects::claims(), &tracker, schedule, objects::claim);
    let dies = async {
        tokio::time::sleep_until((start + kill).into()).await;
        let killed = start.elapsed();
        leader.process.kill().await.context("killing the leader")?;
        say("the leader is dead");
        let took = other.leads().await?;
        say(&format!("the other leads after {:.1} s", took.as_secs_f64()));
        anyhow::Ok((killed, start.elapsed()))
    };
    let until = start + last.max(kill) + Duration::from_secs(duration.into()) + common.deadline();
    let arrive = tracker.until(until, |p| p.answered == count && p.ready + p.refused == count);
    let (killed, led) = tokio::select! {
        (times, _) = async { tokio::join!(dies, arrive) } => times?,
        ended = tasks.join_next() => match ended {
            Some(Ok(Err(error))) => return Err(error),
            Some(Ok(Ok(_)) | Err(_)) | None => bail!("the client's watch ended"),
        },
    };
    drop(pacing);
    let samples = sampler.end();
    let outcome = Outcome::of(&tracker, &environment.launches().await?);
    let mut measured = Measured::new(environment.who);
    claims::set_client_figures(&mut measured, &outcome);
    let seconds = |at: Duration| at.saturating_sub(killed).as_secs_f64();
    measured.number("leader_after_s", Some(seconds(led)));
    let waiting: Vec<_> =
        tracker.claims().into_iter().filter(|claim| (killed..led).contains(&claim.intended)).collect();
    measured.set("claims_without_leader", waiting.len());
    measured.number("first_ready_after_s", waiting.iter().filter_map(|c| c.ready).min().map(seconds));
    measured.number("all_ready_after_s", waiting.iter().filter_map(|c| c.ready).max().map(seconds));
    measured.set("lease_s", vec![duration, deadline, retry]);
    // The figures of the second replica, because the first one has ended.
    let second = format!("{} 2", environment.who.role());
    let used = |sample: Option<&Sample>| Some(sample?.usage.get(&second)?.cpu_s);
    let spent = used(samples.last()).zip(used(samples.first())).map(|(after, before)| after - before);
    measured.number("cpu_s", spent);
    measured.number("rss_mb", usage::peak(&samples, &second));
    measured.number("rss_rest_mb", before.usage.get(&second).map(|usage| usage.rss_mb));
    measured.samples = samples;
    measured.set("webhook", false);
    measured.notes.push("no webhook: two replicas on one machine have no Service in front of theirs".to_owned());
    Ok(measured)
}
