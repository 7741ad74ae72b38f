//! The load: creates claims when they are due, independent of the results of earlier claims, and deletes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt as _;
use http::Method;
use kube::Client;
use serde_json::Value;

use crate::arrivals::Schedule;
use crate::client::{Load, send};
use crate::tracker::ClaimTracker;

/// The time after which the client gives up on a request. It is the API server's own limit.
const REQUEST: Duration = Duration::from_secs(60);
/// The number of concurrent deletions that are not measured.
const DELETIONS: usize = 64;

/// Ends the creation of claims when it is dropped.
pub(crate) struct Pacing(Arc<AtomicBool>);

impl Drop for Pacing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Creates the tracker's claims below `path` when they are due. `claim` makes the claim with a name.
///
/// A separate thread keeps the time, because the runtime's timers have a resolution of one millisecond, which is much
/// compared with the measured latencies.
pub(crate) fn begin(
    client: &Client,
    path: &str,
    tracker: &Arc<ClaimTracker>,
    schedule: Schedule,
    claim: impl Fn(&str) -> Value + Send + Sync + 'static,
) -> Pacing {
    let stop = Arc::new(AtomicBool::new(false));
    let (client, path, tracker) = (client.clone(), Arc::<str>::from(path), Arc::clone(tracker));
    let (runtime, stopped, claim) = (tokio::runtime::Handle::current(), Arc::clone(&stop), Arc::new(claim));
    std::thread::spawn(move || {
        for (number, at) in schedule.into_iter().enumerate() {
            sleep_until(tracker.start + at, &stopped);
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let (client, path, tracker) = (client.clone(), Arc::clone(&path), Arc::clone(&tracker));
            let claim = Arc::clone(&claim);
            runtime.spawn(async move {
                let object = claim(&tracker.name(number));
                let creation = send(&client, Method::POST, &path, Load::Json(&object));
                let reply = tokio::time::timeout(REQUEST, creation).await;
                let taken = matches!(reply, Ok(Ok(reply)) if reply.status.is_success());
                tracker.answered(number, Instant::now(), taken);
            });
        }
    });
    Pacing(stop)
}

fn sleep_until(due: Instant, stopped: &AtomicBool) {
    const LOOK: Duration = Duration::from_millis(200);
    loop {
        let remaining = due.saturating_duration_since(Instant::now());
        if remaining.is_zero() || stopped.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(remaining.min(LOOK));
    }
}

/// Deletes one claim of the tracker after a delay.
pub(crate) fn delete_later(client: &Client, path: &str, tracker: &Arc<ClaimTracker>, number: usize, after: Duration) {
    let (client, tracker) = (client.clone(), Arc::clone(tracker));
    let path = format!("{path}/{}", tracker.name(number));
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        tracker.deletion_requested(number);
        // The watch reports whether the claim was deleted.
        let _ = tokio::time::timeout(REQUEST, send(&client, Method::DELETE, &path, Load::Empty)).await;
    });
}

/// Deletes all existing claims of the tracker.
pub(crate) async fn delete_all(client: &Client, path: &str, tracker: &Arc<ClaimTracker>) -> Result<()> {
    let there = tracker.claims().into_iter().enumerate().filter(|(_, claim)| claim.acked.is_some());
    let numbers: Vec<usize> =
        there.filter(|(_, claim)| claim.deletion_requested.is_none()).map(|(number, _)| number).collect();
    let deletions = numbers.into_iter().map(|number| async move {
        tracker.deletion_requested(number);
        send(client, Method::DELETE, &format!("{path}/{}", tracker.name(number)), Load::Empty).await
    });
    let mut deletions = futures::stream::iter(deletions).buffer_unordered(DELETIONS);
    while let Some(deleted) = deletions.next().await {
        deleted?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pacing_ends_when_it_is_dropped_and_not_at_the_next_arrival() {
        let stop = Arc::new(AtomicBool::new(false));
        let pacing = Pacing(Arc::clone(&stop));
        let began = Instant::now();
        let sleeper = std::thread::spawn(move || sleep_until(began + Duration::from_secs(3600), &stop));
        drop(pacing);
        sleeper.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
