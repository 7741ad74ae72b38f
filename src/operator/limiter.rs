//! The write limiter: the number of writes that may be in flight, and the order in which they are sent.
//!
//! The limit begins with a slow start. It then grows additively and shrinks multiplicatively, in answer to the API
//! server (429 and 503). If replies become slow, more concurrent writes would only wait inside the API server, and
//! claims would wait behind refills. The limit shrinks a little in that case.
//!
//! Writes for claims come first. They keep a share of the limit that the creation of warm Sandboxes cannot use. While a
//! claim is being written, only a few warm Sandboxes are created at the same time. The pod and the status of a created
//! Sandbox have normal urgency. Less urgent writes have a turn after they were passed over eight times.
//!
//! Writes of the same urgency are sent in turns of the namespaces, and within a namespace in turns of the families of
//! names. A namespace never holds the whole limit, so a write of another namespace finds a free place.
//!
//! `--kube-api-qps` and `--kube-api-burst` add a fixed rate, with the same order.

use std::sync::Arc;
use std::time::Duration;

use paddock_api::kind::Key;
use paddock_kube::pace::{Pace, Rate};
use paddock_kube::turns::{Held, Ranks, Turns};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits;
use crate::queue::{Flow, flow};

/// The urgency of a write, which depends on who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A client waits for its claim.
    Claim,
    /// A client waits for its sandbox.
    Normal,
    /// No client waits: a refill or a clean-up.
    Background,
}

impl Urgency {
    const ALL: [Self; 3] = [Urgency::Claim, Urgency::Normal, Urgency::Background];
}

/// The information that a reply gives about the API server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The API server processed the request, with any result.
    Served,
    /// The API server refused the request because of load. The value is the `Retry-After`, if there was one.
    Busy(Option<Duration>),
    /// There was no reply. The API server is overloaded or not reachable.
    Lost,
}

/// Grants each write a permit. Clones share one state.
#[derive(Clone)]
pub struct WriteLimiter {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    limit: f64,
    /// The limit at which slow start ends.
    threshold: f64,
    in_flight: usize,
    /// The writes in flight that belong to claims.
    claims: usize,
    /// The writes in flight that no client waits for.
    background: usize,
    /// The writes in flight of each namespace.
    held: Held<Arc<str>>,
    /// The writes that wait, by urgency.
    waiting: [Turns<Arc<str>, Flow, Waiter>; 3],
    ranks: Ranks<3>,
    held_until: Option<Instant>,
    last_cut: Option<Instant>,
    /// The fixed rate of all writes together.
    rate: Option<Pace<()>>,
    /// The time at which a timer admits waiting writes again.
    timer: Option<Instant>,
}

/// A write that waits for its permit.
struct Waiter {
    namespace: Arc<str>,
    turn: oneshot::Sender<Permit>,
}

/// The right to send one write. [`Permit::done`] returns it. Dropping it returns it too, and gives no information about
/// load.
pub struct Permit {
    state: Arc<Mutex<State>>,
    urgency: Urgency,
    namespace: Arc<str>,
    since: Instant,
    returned: bool,
}

impl WriteLimiter {
    /// Creates a limiter. There is no fixed rate if `qps` is absent, zero or negative.
    #[must_use]
    pub fn new(qps: Option<f64>, burst: Option<u32>) -> Self {
        let rate = qps.filter(|qps| *qps > 0.0 && qps.is_finite()).map(|qps| {
            // The default burst is the number of writes of one second.
            let burst = burst.unwrap_or(qps as u32);
            Pace::new(Rate::new(Duration::from_secs_f64(1.0 / qps), burst))
        });
        let (start, _, most) = limits::WRITE_CONCURRENCY;
        let state = State { limit: start as f64, threshold: most as f64, rate, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Creates a limiter with this limit, as long as every permit is dropped and none reports a reply.
    #[must_use]
    pub fn fixed(limit: usize) -> Self {
        let state = State { limit: limit as f64, threshold: limit as f64, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a permit to write this object.
    pub async fn enter(&self, urgency: Urgency, key: &Key) -> Permit {
        loop {
            let (sender, turn) = oneshot::channel();
            let waiter = Waiter { namespace: key.namespace.clone(), turn: sender };
            self.state.lock().waiting[urgency as usize].push(key.namespace.clone(), flow(key), waiter);
            admit_waiting(&self.state);
            if let Ok(permit) = turn.await {
                break permit;
            }
        }
    }

    /// The number of writes that may be in flight now, and the number that are.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = self.state.lock();
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

    /// The time at which the fixed rate admits the next write and, for writes that are not for claims, at which the
    /// last `Retry-After` ends.
    fn opens(&self, urgency: Urgency) -> Option<Instant> {
        let held = self.held_until.filter(|_| urgency != Urgency::Claim);
        let rated = self.rate.as_ref().and_then(|rate| rate.opens(&()));
        held.max(rated)
    }

    /// Which urgencies have a write that may be sent now.
    fn ready(&self, now: Instant) -> [bool; 3] {
        let free = self.free();
        let may = |namespace: &Arc<str>| self.held.may_take(namespace, free);
        Urgency::ALL.map(|urgency| self.admits(urgency, now) && self.waiting[urgency as usize].any_of(may))
    }

    /// The number of writes that may be added to those in flight.
    fn free(&self) -> usize {
        (self.limit as usize).saturating_sub(self.in_flight)
    }

    /// The next write that may be sent, and its urgency.
    fn next(&mut self, now: Instant) -> Option<(Urgency, Waiter)> {
        let ready = self.ready(now);
        let rank = self.ranks.next(ready)?;
        self.ranks.served(rank, ready);
        let (free, held) = (self.free(), &self.held);
        Some((Urgency::ALL[rank], self.waiting[rank].pop_of(|namespace| held.may_take(namespace, free))?))
    }

    fn admit(&mut self, shared: &Arc<Mutex<State>>, urgency: Urgency, namespace: Arc<str>, now: Instant) -> Permit {
        if let Some(rate) = &mut self.rate {
            rate.record((), now);
        }
        self.in_flight += 1;
        self.claims += usize::from(urgency == Urgency::Claim);
        self.background += usize::from(urgency == Urgency::Background);
        self.held.take(namespace.clone());
        Permit { state: shared.clone(), urgency, namespace, since: now, returned: false }
    }

    /// Adapts the limit to a reply that took this long.
    fn learn(&mut self, signal: Signal, took: Duration, now: Instant) {
        let (start, least, most) = limits::WRITE_CONCURRENCY;
        match signal {
            Signal::Served if took >= limits::SLOW_WRITE_THRESHOLD => {
                self.cut(limits::SLOW_CUT_FACTOR, start.min(self.limit as usize), now)
            }
            // If most of the limit is unused, the reply says nothing about the capacity of the API server.
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

    /// Reduces the limit to a share of itself, unless this happened a moment ago.
    fn cut(&mut self, share: f64, least: usize, now: Instant) {
        if self.last_cut.is_none_or(|at| now.duration_since(at) >= limits::CUT_INTERVAL) {
            self.last_cut = Some(now);
            self.limit = (self.limit * share).max(least as f64);
            self.threshold = self.limit;
        }
    }
}

impl Permit {
    /// Returns the permit, with the signal of the reply.
    pub fn done(mut self, signal: Signal) {
        self.returned = true;
        give_back(&self, Some((signal, self.since.elapsed())));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.returned {
            give_back(self, None);
        }
    }
}

fn give_back(permit: &Permit, reply: Option<(Signal, Duration)>) {
    let urgency = permit.urgency;
    {
        let mut state = permit.state.lock();
        if let Some((signal, took)) = reply {
            state.learn(signal, took, Instant::now());
        }
        state.in_flight -= 1;
        state.claims -= usize::from(urgency == Urgency::Claim);
        state.background -= usize::from(urgency == Urgency::Background);
        state.held.give_back(&permit.namespace);
    }
    admit_waiting(&permit.state);
}

/// Admits waiting writes, the most urgent first, as far as the limit allows. If only time keeps the next write back,
/// starts a timer that calls this function again.
fn admit_waiting(shared: &Arc<Mutex<State>>) {
    // If the receiver of a permit is gone, dropping the permit takes the lock. It is therefore dropped after the lock
    // is released.
    let mut unwanted = Vec::new();
    let mut state = shared.lock();
    let now = Instant::now();
    let mut again: Option<Instant> = None;
    while let Some((urgency, waiter)) = state.next(now) {
        if waiter.turn.is_closed() {
            continue;
        }
        let permit = state.admit(shared, urgency, waiter.namespace, now);
        if let Err(permit) = waiter.turn.send(permit) {
            unwanted.push(permit);
        }
    }
    for urgency in Urgency::ALL {
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
            shared.lock().timer.take_if(|timer| *timer <= at);
            admit_waiting(&shared);
        });
    }
    drop(state);
    drop(unwanted);
}

#[cfg(test)]
mod tests;
