//! The record of each claim of a run: its intended start, its creation, its Ready and its deletion.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::arrivals::Schedule;
use crate::stats::Summary;
use crate::watch::Event;

/// One claim. Times are counted from the run's start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    /// The time at which it was due.
    pub(crate) intended: Duration,
    /// The time at which the reply to its creation arrived.
    pub(crate) acked: Option<Duration>,
    /// Whether its creation was refused or got no reply.
    pub(crate) refused: bool,
    /// The time of its first watch event.
    pub(crate) first_event: Option<Duration>,
    /// The time of its first watch event with Ready.
    pub(crate) ready: Option<Duration>,
    /// Its sandbox at that time.
    pub(crate) sandbox: Option<String>,
    /// The time at which its deletion was requested.
    pub(crate) deletion_requested: Option<Duration>,
    /// The time of the watch event for its deletion.
    pub(crate) gone: Option<Duration>,
}

/// All claims of a run.
#[derive(Debug)]
pub(crate) struct ClaimTracker {
    /// The start of the run, from which the schedule is counted.
    pub(crate) start: Instant,
    prefix: &'static str,
    claims: Mutex<Vec<Claim>>,
    changed: Notify,
}

/// The numbers of claims by their progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Claims with a reply, positive or negative.
    pub(crate) answered: usize,
    /// Refused claims.
    pub(crate) refused: usize,
    /// Claims that were Ready once.
    pub(crate) ready: usize,
    /// Deleted claims.
    pub(crate) gone: usize,
}

impl ClaimTracker {
    /// The claims of a run that starts at `start`.
    pub(crate) fn new(prefix: &'static str, start: Instant, schedule: &Schedule) -> Self {
        let claims = schedule.iter().map(|at| Claim { intended: *at, ..Claim::default() }).collect();
        Self { start, prefix, claims: Mutex::new(claims), changed: Notify::new() }
    }

    /// The name of the claim with this number.
    pub(crate) fn name(&self, number: usize) -> String {
        format!("{}-{number:06}", self.prefix)
    }

    fn number(&self, name: &str) -> Option<usize> {
        name.strip_prefix(self.prefix)?.strip_prefix('-')?.parse().ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Claim)) {
        if let Some(claim) = self.lock().get_mut(number) {
            change(claim);
        }
        self.changed.notify_waiters();
    }

    /// Records the reply to the claim's creation.
    pub(crate) fn answered(&self, number: usize, at: Instant, taken: bool) {
        let at = at.duration_since(self.start);
        self.change(number, |claim| {
            claim.acked = taken.then_some(at);
            claim.refused = !taken;
        });
    }

    /// Records the request for the claim's deletion.
    pub(crate) fn deletion_requested(&self, number: usize) {
        let at = self.start.elapsed();
        self.change(number, |claim| claim.deletion_requested = Some(at));
    }

    /// Records a watch event. Returns the claim's number if the claim is Ready for the first time.
    pub(crate) fn watched(&self, event: &Event<'_>) -> Option<usize> {
        let number = self.number(event.name)?;
        let at = event.at.saturating_duration_since(self.start);
        let mut first = None;
        self.change(number, |claim| match &event.state {
            Some(state) => {
                claim.first_event.get_or_insert(at);
                if state.ready && claim.ready.is_none() {
                    claim.ready = Some(at);
                    claim.sandbox = state.sandbox.map(str::to_owned);
                    first = Some(number);
                }
            }
            None => claim.gone = Some(at),
        });
        first
    }

    /// The progress of all claims.
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        for claim in self.lock().iter() {
            progress.answered += usize::from(claim.acked.is_some() || claim.refused);
            progress.refused += usize::from(claim.refused);
            progress.ready += usize::from(claim.ready.is_some());
            progress.gone += usize::from(claim.gone.is_some());
        }
        progress
    }

    /// Waits for a predicate until a deadline. Returns whether it was fulfilled.
    pub(crate) async fn until(&self, deadline: Instant, done: impl Fn(Progress) -> bool) -> bool {
        // The predicate is checked at intervals and not after each change, because a check reads thousands of claims.
        const LOOK: Duration = Duration::from_millis(20);
        loop {
            let changed = self.changed.notified();
            if done(self.progress()) {
                return true;
            }
            if tokio::time::timeout_at(deadline.into(), changed).await.is_err() {
                return done(self.progress());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A copy of all claims.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        self.lock().clone()
    }
}

/// The results of the claims of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The number of claims.
    pub(crate) claims: usize,
    /// Due claims per second, if they were not all due at once.
    pub(crate) offered: Option<f64>,
    /// The time from the intended start to the reply.
    pub(crate) ack: Option<Summary>,
    /// The time from the intended start to Ready.
    pub(crate) ready: Option<Summary>,
    /// The time from the request for the deletion to its watch event.
    pub(crate) gone: Option<Summary>,
    /// Claims that were never Ready.
    pub(crate) lost: usize,
    /// Claims that the API server refused. They count as lost too.
    pub(crate) refused: usize,
    /// Claims whose sandbox was created for them.
    pub(crate) cold: usize,
    /// Sandboxes that two claims had at the same time.
    pub(crate) twice: usize,
    /// Claims per second that became Ready, from the first one's intended start to the last one's Ready.
    pub(crate) rate: f64,
    /// The intended start in seconds and the latency in milliseconds of each claim that was Ready.
    pub(crate) latencies: Vec<(f64, f64)>,
}

/// A duration in milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl Outcome {
    /// `launches` contains the launch type of each existing sandbox. A deleted sandbox is recognized by its name,
    /// because a sandbox that is created for a claim has the claim's name.
    pub(crate) fn of(tracker: &ClaimTracker, launches: &HashMap<String, String>) -> Self {
        let claims = tracker.claims();
        let since = |claim: &Claim, at: Option<Duration>| at.map(|at| ms(at.saturating_sub(claim.intended)));
        let ready: Vec<(f64, f64)> = claims
            .iter()
            .filter_map(|claim| Some((claim.intended.as_secs_f64(), since(claim, claim.ready)?)))
            .collect();
        let ack = claims.iter().filter_map(|claim| since(claim, claim.acked)).collect();
        let gone =
            claims.iter().filter_map(|claim| Some(ms(claim.gone?.saturating_sub(claim.deletion_requested?)))).collect();
        let cold = |(number, claim): &(usize, &Claim)| {
            claim.sandbox.as_ref().is_some_and(|sandbox| match launches.get(sandbox) {
                Some(launch) => launch != "warm",
                None => *sandbox == tracker.name(*number),
            })
        };
        let first = claims.iter().map(|claim| claim.intended).min().unwrap_or_default();
        let last = claims.iter().filter_map(|claim| claim.ready).max().unwrap_or_default();
        let took = last.saturating_sub(first).as_secs_f64();
        let due = claims.iter().map(|claim| claim.intended).max().unwrap_or_default().saturating_sub(first);
        Self {
            claims: claims.len(),
            // The number of gaps between the first and the last claim is one less than the number of claims.
            offered: (!due.is_zero()).then(|| (claims.len() - 1) as f64 / due.as_secs_f64()),
            ack: Summary::of(ack),
            ready: Summary::of(ready.iter().map(|(_, latency)| *latency).collect()),
            gone: Summary::of(gone),
            lost: claims.iter().filter(|claim| claim.ready.is_none()).count(),
            refused: claims.iter().filter(|claim| claim.refused).count(),
            cold: claims.iter().enumerate().filter(cold).count(),
            twice: twice(&claims),
            rate: if took > 0.0 { ready.len() as f64 / took } else { 0.0 },
            latencies: ready,
        }
    }
}

/// A sandbox belongs to one claim forever, so a name in two claims is an error.
fn twice(claims: &[Claim]) -> usize {
    let mut taken = HashSet::new();
    claims.iter().filter_map(|claim| claim.sandbox.as_ref()).filter(|sandbox| !taken.insert(*sandbox)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::State;

    fn ready<'a>(tracker: &ClaimTracker, name: &'a str, after_ms: u64, sandbox: &'a str) -> Event<'a> {
        let state = State { uid: "u", ready: true, sandbox: Some(sandbox), hinted: false, launch: None };
        Event { at: tracker.start + Duration::from_millis(after_ms), name, state: Some(state) }
    }

    fn tracker(count: usize) -> ClaimTracker {
        let schedule = (0..count).map(|n| Duration::from_millis(100 * n as u64)).collect();
        ClaimTracker::new("c", Instant::now(), &schedule)
    }

    #[test]
    fn latency_is_from_the_intended_start_however_late_it_was_asked() {
        let tracker = tracker(2);
        tracker.answered(1, tracker.start + Duration::from_millis(350), true);
        assert_eq!(tracker.watched(&ready(&tracker, "c-000001", 400, "p-a")), Some(1));
        // A second Ready event does not change the time.
        assert_eq!(tracker.watched(&ready(&tracker, "c-000001", 900, "p-a")), None);
        let outcome = Outcome::of(&tracker, &HashMap::new());
        assert_eq!(outcome.ready.unwrap().max, 300.0);
        assert_eq!(outcome.ack.unwrap().max, 250.0);
        assert_eq!((outcome.lost, outcome.refused), (1, 0));
        assert_eq!(outcome.latencies, [(0.1, 300.0)]);
        assert_eq!(outcome.offered, Some(10.0));
    }

    #[test]
    fn refused_lost_cold_and_doubly_taken_claims_are_counted() {
        let tracker = tracker(6);
        tracker.answered(0, tracker.start, false);
        for (number, sandbox) in [(1, "p-a"), (2, "p-a"), (3, "c-000003"), (4, "p-b")] {
            let name = tracker.name(number);
            tracker.watched(&ready(&tracker, &name, 500, sandbox));
        }
        let launches = HashMap::from([("p-a".to_owned(), "warm".to_owned()), ("p-b".to_owned(), "cold".to_owned())]);
        let outcome = Outcome::of(&tracker, &launches);
        assert_eq!((outcome.lost, outcome.refused), (2, 1));
        assert_eq!((outcome.cold, outcome.twice), (2, 1));
    }

    #[test]
    fn names_of_other_claims_are_ignored() {
        let tracker = tracker(1);
        for name in ["d-000000", "c-7", "c", "c-x"] {
            tracker.watched(&ready(&tracker, name, 1, "p-a"));
        }
        assert_eq!(tracker.progress(), Progress::default());
    }
}
