//! Back-pressure: how many writes may be under way, and who goes first.
//!
//! Slow start, then additive increase and multiplicative decrease on the API server's own word (429 and 503). Where
//! replies become slow, more at once would only wait inside the API server, and claims behind refills: the
//! limit shrinks a little then. Claims go first and keep a share that the making of warm Sandboxes cannot take; beside a claim only a
//! few are made at once. The pod and the status of one that was made follow as anybody's do.
//! `--kube-api-qps` and `--kube-api-burst` add a fixed rate where they are given, in the same order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits;

/// Who waits for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A client that watches its claim.
    Claim,
    /// A client that watches its sandbox.
    Normal,
    /// Nobody yet: refills, clean-up.
    Background,
}

/// What a reply says about the API server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It took the request, whatever it made of it.
    Served,
    /// It refused for load, and said when to come back or did not.
    Busy(Option<Duration>),
    /// No reply: it is overloaded or away.
    Lost,
}

/// The gate before every write.
#[derive(Clone)]
pub struct WriteLimiter {
    state: Arc<Mutex<State>>,
}

struct State {
    limit: f64,
    /// Where slow start ends.
    threshold: f64,
    in_flight: usize,
    /// Of those, claims'.
    claims: usize,
    /// Of those, nobody's.
    background: usize,
    waiting: [VecDeque<oneshot::Sender<Permit>>; 3],
    held_until: Option<Instant>,
    last_cut: Option<Instant>,
    rate: Option<Rate>,
    /// When those who wait are looked at again, whatever happens.
    timer: Option<Instant>,
}

/// A fixed rate: the time at which the next write would be due if all came evenly (GCRA).
struct Rate {
    interval: Duration,
    tolerance: Duration,
    next: Instant,
}

/// A place for one write. Given back by [`Permit::done`], or by dropping it, which says nothing about load.
pub struct Permit {
    state: Arc<Mutex<State>>,
    urgency: Urgency,
    since: Instant,
    returned: bool,
}

impl WriteLimiter {
    /// `qps` of zero or less, or none: no fixed rate.
    #[must_use]
    pub fn new(qps: Option<f64>, burst: Option<u32>) -> Self {
        let rate = qps.filter(|qps| *qps > 0.0 && qps.is_finite()).map(|qps| {
            let interval = Duration::from_secs_f64(1.0 / qps);
            // As client-go: a burst of one at the least, and as many as a second's worth unless told.
            let burst = burst.map_or(qps.max(1.0), |burst| f64::from(burst.max(1)));
            Rate { interval, tolerance: interval.mul_f64(burst - 1.0), next: Instant::now() }
        });
        let (start, _, most) = limits::WRITE_CONCURRENCY;
        let state = State {
            limit: start as f64,
            threshold: most as f64,
            in_flight: 0,
            claims: 0,
            background: 0,
            waiting: Default::default(),
            held_until: None,
            last_cut: None,
            rate,
            timer: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a place.
    pub async fn enter(&self, urgency: Urgency) -> Permit {
        loop {
            let (sender, turn) = oneshot::channel();
            lock(&self.state).waiting[urgency as usize].push_back(sender);
            admit_waiting(&self.state);
            if let Ok(permit) = turn.await {
                break permit;
            }
        }
    }

    /// Writes that may be under way now, and those that are.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.limit as usize, state.in_flight)
    }
}

impl State {
    fn admits(&self, urgency: Urgency, now: Instant) -> bool {
        let limit = self.limit as usize;
        self.in_flight < limit
            && self.opens(urgency).is_none_or(|at| at <= now)
            && match urgency {
                Urgency::Claim | Urgency::Normal => true,
                Urgency::Background => {
                    let share = if self.claims > 0 {
                        limits::BACKGROUND_WRITE_SHARE_BESIDE_CLAIMS
                    } else {
                        limits::BACKGROUND_WRITE_SHARE
                    };
                    self.background < (limit * share / 100).max(1)
                }
            }
    }

    /// When the fixed rate has room, and for those whom no client waits for, a `Retry-After` is over.
    fn opens(&self, urgency: Urgency) -> Option<Instant> {
        let held = self.held_until.filter(|_| urgency != Urgency::Claim);
        let rated = self.rate.as_ref().and_then(|rate| rate.next.checked_sub(rate.tolerance));
        held.max(rated)
    }

    fn admit(&mut self, shared: &Arc<Mutex<State>>, urgency: Urgency, now: Instant) -> Permit {
        if let Some(rate) = &mut self.rate {
            rate.next = rate.next.max(now) + rate.interval;
        }
        self.in_flight += 1;
        self.claims += usize::from(urgency == Urgency::Claim);
        self.background += usize::from(urgency == Urgency::Background);
        Permit { state: shared.clone(), urgency, since: now, returned: false }
    }

    /// Learns from a reply that took this long.
    fn learn(&mut self, signal: Signal, took: Duration, now: Instant) {
        let (start, least, most) = limits::WRITE_CONCURRENCY;
        match signal {
            Signal::Served if took >= limits::SLOW_WRITE_THRESHOLD => {
                self.cut(limits::SLOW_CUT_FACTOR, start.min(self.limit as usize), now)
            }
            // A limit that is not used says nothing about what the API server can take.
            Signal::Served if self.in_flight * 2 >= self.limit as usize => {
                self.limit += if self.limit < self.threshold { 1.0 } else { 1.0 / self.limit };
                self.limit = self.limit.min(most as f64);
            }
            Signal::Served => {}
            Signal::Busy(retry_after) => {
                if let Some(wait) = retry_after {
                    let until = now + wait.min(limits::RETRY_AFTER_MAX);
                    self.held_until = self.held_until.max(Some(until));
                }
                self.cut(limits::BUSY_CUT_FACTOR, least, now);
            }
            Signal::Lost => self.cut(limits::BUSY_CUT_FACTOR, least, now),
        }
    }

    /// Cuts the limit to a share of itself, unless that has just been done.
    fn cut(&mut self, share: f64, least: usize, now: Instant) {
        if self.last_cut.is_none_or(|at| now.duration_since(at) >= limits::CUT_INTERVAL) {
            self.last_cut = Some(now);
            self.limit = (self.limit * share).max(least as f64);
            self.threshold = self.limit;
        }
    }
}

impl Permit {
    /// Gives the place back with what the reply said.
    pub fn done(mut self, signal: Signal) {
        self.returned = true;
        give_back(&self.state, self.urgency, Some((signal, self.since.elapsed())));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.returned {
            give_back(&self.state, self.urgency, None);
        }
    }
}

fn give_back(shared: &Arc<Mutex<State>>, urgency: Urgency, reply: Option<(Signal, Duration)>) {
    {
        let mut state = lock(shared);
        if let Some((signal, took)) = reply {
            state.learn(signal, took, Instant::now());
        }
        state.in_flight -= 1;
        state.claims -= usize::from(urgency == Urgency::Claim);
        state.background -= usize::from(urgency == Urgency::Background);
    }
    admit_waiting(shared);
}

/// Lets in those who wait, as many as may, the most urgent first. Where only time keeps the next one out, comes again then.
fn admit_waiting(shared: &Arc<Mutex<State>>) {
    // A permit that nobody takes any more is given back by its own drop, which locks: so outside the lock.
    let mut unwanted = Vec::new();
    let mut state = lock(shared);
    let now = Instant::now();
    let mut again: Option<Instant> = None;
    for urgency in [Urgency::Claim, Urgency::Normal, Urgency::Background] {
        while state.admits(urgency, now)
            && let Some(waiter) = state.waiting[urgency as usize].pop_front()
        {
            if waiter.is_closed() {
                continue;
            }
            let permit = state.admit(shared, urgency, now);
            if let Err(permit) = waiter.send(permit) {
                unwanted.push(permit);
            }
        }
        if let Some(at) = state.opens(urgency).filter(|at| *at > now)
            && !state.waiting[urgency as usize].is_empty()
        {
            again = Some(again.map_or(at, |sooner| sooner.min(at)));
        }
    }
    if let Some(at) = again.filter(|at| state.timer.is_none_or(|timer| *at < timer))
        && let Ok(runtime) = Handle::try_current()
    {
        state.timer = Some(at);
        let shared = shared.clone();
        runtime.spawn(async move {
            tokio::time::sleep_until(at).await;
            lock(&shared).timer.take_if(|timer| *timer <= at);
            admit_waiting(&shared);
        });
    }
    drop(state);
    drop(unwanted);
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
