//! The work queue, which decides on the key to reconcile next.
//!
//! A key is in the queue at most once, and at most one reconcile works on it. Keys wait in lanes, one for each kind of
//! work, each with its own limit of concurrent reconciles. Within a lane, namespaces take turns, and within a namespace
//! flows do. A flow is a family of names, such as the Sandboxes of one pool. Ten thousand keys of one namespace or flow
//! therefore do not delay a key of another, and no name that a user chooses gains a turn. A namespace never holds all
//! places of a lane with more than eight places. Keys from a periodic resync and lanes of less urgent work wait for the
//! others, but they have a turn after they were passed over eight times.
//!
//! This is our own code because the schedulers of kube and of tokio-util know neither lanes nor fairness between
//! namespaces.
//! The delayed keys are an ordered set and no `DelayQueue`, which panics at a time more than two years ahead, and a
//! Sandbox may be told to shut down then.

mod lane;
mod trigger;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use paddock_api::kind::Key;
use paddock_kube::turns::Ranks;
use parking_lot::Mutex;
use strum::{IntoStaticStr, VariantArray, VariantNames};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::lane::LaneState;
pub(crate) use self::lane::{Flow, flow};
pub use self::lane::{Lane, Workers};
pub use self::trigger::Trigger;
use crate::limits;

/// The end of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Done {
    /// All writes of the plan were stored.
    Converged,
    /// The state of the cluster has changed since the plan. The key is reconciled again, at once unless that happens
    /// repeatedly.
    Again,
    /// A write was refused, or its result is not known. The key waits for its backoff, and at least as long as the API
    /// server demanded.
    Failed {
        /// The `Retry-After` of the API server, if there was one.
        at_least: Option<Duration>,
    },
}

impl Done {
    /// The word in the label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The work queue. Clones are handles on the same queue.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    entries: HashMap<Key, Entry>,
    lanes: [LaneState; Lane::VARIANTS.len()],
    ranks: Ranks<{ Lane::VARIANTS.len() }>,
    delayed: BTreeSet<(Instant, Key)>,
    /// The pools whose reconcile takes long, each with the time for its snapshot and decision.
    slow_keys: HashMap<Key, Duration>,
    next_ticket: u64,
    random: fastrand::Rng,
    open: bool,
    closed: bool,
}

/// The state of a key. The entry is removed if the key waits for nothing and did not fail.
struct Entry {
    phase: Phase,
    failures: u32,
    /// The key is not reconciled before this time, unless the object itself changes.
    blocked: Option<Instant>,
}

enum Phase {
    /// The key is only known because it failed, or it is moving to another phase.
    Idle,
    Delayed {
        due: Instant,
        trigger: Trigger,
    },
    Ready {
        ticket: u64,
        since: Instant,
        trigger: Trigger,
    },
    Running {
        again: Option<(Instant, Trigger)>,
    },
}

/// A key to reconcile. Dropping it without [`Job::done`] counts as a failure.
pub struct Job {
    /// The key of the object to reconcile.
    pub key: Key,
    /// The first event that queued the key.
    pub trigger: Trigger,
    /// The time for which the key was ready before its turn.
    pub waited: Duration,
    shared: Arc<Shared>,
    reported: bool,
}

impl Queue {
    /// An empty queue. It is closed until [`Queue::open`]. The seed makes its jitter repeatable.
    #[must_use]
    pub fn new(workers: Workers, seed: u64) -> Self {
        let state = State {
            entries: HashMap::new(),
            lanes: std::array::from_fn(|lane| LaneState::new(workers.of(Lane::VARIANTS[lane]))),
            ranks: Ranks::default(),
            delayed: BTreeSet::new(),
            slow_keys: HashMap::new(),
            next_ticket: 0,
            random: fastrand::Rng::with_seed(seed),
            open: false,
            closed: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// Queues keys. They are reconciled as soon as it is their turn.
    pub fn push(&self, keys: impl IntoIterator<Item = Key>, trigger: Trigger) {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        let mut any = false;
        for key in keys {
            any = true;
            state.schedule(key, now, trigger, now);
        }
        drop(state);
        if any {
            self.shared.changed.notify_one();
        }
    }

    /// Queues a key for a later time. If the key is already queued for an earlier time, that time stays.
    pub fn push_at(&self, key: Key, due: Instant, trigger: Trigger) {
        self.shared.state.lock().schedule(key, due, trigger, Instant::now());
        self.shared.changed.notify_one();
    }

    /// Opens or closes the queue, because only a leader reconciles. A closed queue drops its keys and accepts none.
    /// Otherwise a replica that never leads would keep a key of every object that ever existed. The caller therefore
    /// queues all objects after opening it.
    pub fn open(&self, open: bool) {
        let mut state = self.shared.state.lock();
        state.open = open;
        if !open {
            state.forget();
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Ends the queue. [`Queue::next`] returns `None` from now on.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_one();
    }

    /// Waits for the next key whose turn it is. `None` after [`Queue::close`]. Only one task may call it at a time.
    pub async fn next(&self) -> Option<Job> {
        loop {
            let due = {
                let mut state = self.shared.state.lock();
                if state.closed {
                    return None;
                }
                let now = Instant::now();
                state.move_due(now);
                if state.open
                    && let Some((key, trigger, since)) = state.take()
                {
                    let waited = now.saturating_duration_since(since);
                    return Some(Job { key, trigger, waited, shared: self.shared.clone(), reported: false });
                }
                state.delayed.first().map(|(due, _)| *due)
            };
            let changed = self.shared.changed.notified();
            match due {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// The number of ready keys and the number of running reconciles, for each lane.
    #[must_use]
    pub fn depth(&self) -> Vec<(Lane, usize, usize)> {
        let state = self.shared.state.lock();
        Lane::VARIANTS
            .iter()
            .map(|&lane| (lane, state.lanes[lane as usize].ready(), state.lanes[lane as usize].running()))
            .collect()
    }
}

impl Job {
    /// Records the processor time of the snapshot and the decision. A pool of ten thousand Sandboxes is reconciled less
    /// often than a pool of ten, because otherwise it would use a whole processor while it is being filled.
    pub fn took(&self, looking: Duration) {
        self.shared.state.lock().took(&self.key, looking);
    }

    /// Records the end of the reconcile, and the requeue time of its plan.
    pub fn done(mut self, done: Done, wake: Option<Instant>) {
        self.reported = true;
        self.shared.finish(&self.key, done, wake);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.reported {
            self.shared.finish(&self.key, Done::Failed { at_least: None }, None);
        }
    }
}

impl Shared {
    fn finish(&self, key: &Key, done: Done, wake: Option<Instant>) {
        self.state.lock().finish(key, done, wake, Instant::now());
        self.changed.notify_one();
    }
}

impl State {
    /// Drops all keys except those that are being reconciled.
    fn forget(&mut self) {
        self.delayed.clear();
        self.lanes.iter_mut().for_each(LaneState::clear);
        self.entries.retain(|_, entry| {
            if let Phase::Running { again } = &mut entry.phase {
                *again = None;
                return true;
            }
            false
        });
    }

    fn schedule(&mut self, key: Key, due: Instant, trigger: Trigger, now: Instant) {
        if !self.open {
            return;
        }
        let entry =
            self.entries.entry(key.clone()).or_insert_with(|| Entry { phase: Phase::Idle, failures: 0, blocked: None });
        if trigger == Trigger::Changed {
            entry.blocked = None;
        }
        let due = entry.blocked.map_or(due, |blocked| due.max(blocked));
        // Many Sandboxes of a pool change at about the same time, and no client waits for the refill.
        let gathers = Lane::of(key.kind) == Lane::Pools && trigger == Trigger::Related;
        let mut due = if gathers {
            let looking =
                self.slow_keys.get(&key).map_or(Duration::ZERO, |looking| *looking * limits::SLOW_POOL_DEBOUNCE_FACTOR);
            due.max(now + looking.clamp(limits::POOL_DEBOUNCE, limits::SLOW_POOL_DEBOUNCE_MAX))
        } else {
            due
        };
        match &mut entry.phase {
            Phase::Running { again } => {
                *again = Some(match *again {
                    None => (due, trigger),
                    // A change of the object itself is always remembered, because it ends a wait.
                    Some((at, had)) => {
                        let earlier = if due < at { trigger } else { had };
                        let changed = trigger == Trigger::Changed || had == Trigger::Changed;
                        (due.min(at), if changed { Trigger::Changed } else { earlier })
                    }
                });
                return;
            }
            Phase::Ready { trigger: had, .. } => {
                // The key waits for a periodic resync. An event moves it forward at once, without the delay of the
                // event.
                let fresh = due <= now || trigger == Trigger::Related;
                if !fresh || !had.background() || trigger.background() {
                    return;
                }
                due = due.min(now);
                self.lanes[Lane::of(key.kind) as usize].preempt();
            }
            Phase::Delayed { due: had, .. } => {
                if *had <= due {
                    return;
                }
                let had = *had;
                self.delayed.remove(&(had, key.clone()));
            }
            Phase::Idle => {}
        }
        if due <= now {
            self.make_ready(key, trigger, now);
        } else if let Some(entry) = self.entries.get_mut(&key) {
            entry.phase = Phase::Delayed { due, trigger };
            self.delayed.insert((due, key));
        }
    }

    fn took(&mut self, key: &Key, looking: Duration) {
        if Lane::of(key.kind) != Lane::Pools {
            return;
        }
        if looking * limits::SLOW_POOL_DEBOUNCE_FACTOR > limits::POOL_DEBOUNCE {
            self.slow_keys.insert(key.clone(), looking);
        } else {
            self.slow_keys.remove(key);
        }
    }

    fn make_ready(&mut self, key: Key, trigger: Trigger, now: Instant) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.phase = Phase::Ready { ticket, since: now, trigger };
            self.lanes[Lane::of(key.kind) as usize].push(key, ticket, trigger.background());
        }
    }

    /// Makes the delayed keys ready whose time has come.
    fn move_due(&mut self, now: Instant) {
        while let Some((due, _)) = self.delayed.first()
            && *due <= now
            && let Some((_, key)) = self.delayed.pop_first()
        {
            if let Some(Entry { phase: Phase::Delayed { trigger, .. }, .. }) = self.entries.get(&key) {
                let trigger = *trigger;
                self.make_ready(key, trigger, now);
            }
        }
    }

    /// Takes the next ready key, from the most urgent lane that has a turn.
    fn take(&mut self) -> Option<(Key, Trigger, Instant)> {
        let Self { lanes, ranks, entries, .. } = self;
        loop {
            let ready = std::array::from_fn(|lane| lanes[lane].has_turn());
            let rank = ranks.next(ready)?;
            let lane = &mut lanes[rank];
            let (key, ticket) = lane.pop()?;
            // A key that was moved from the resync to the fresh keys is in the lane twice. Only its newest ticket is
            // valid.
            if let Some(entry) = entries.get_mut(&key)
                && let Phase::Ready { ticket: current, since, trigger } = entry.phase
                && current == ticket
            {
                entry.phase = Phase::Running { again: None };
                lane.begin(&key);
                ranks.served(rank, ready);
                return Some((key, trigger, since));
            }
            lane.skip();
        }
    }

    fn finish(&mut self, key: &Key, done: Done, wake: Option<Instant>, now: Instant) {
        self.lanes[Lane::of(key.kind) as usize].end(key);
        let Some(entry) = self.entries.get_mut(key) else { return };
        let again = match std::mem::replace(&mut entry.phase, Phase::Idle) {
            Phase::Running { again } => again,
            Phase::Idle | Phase::Delayed { .. } | Phase::Ready { .. } => None,
        };
        entry.blocked = None;
        let next = match done {
            Done::Converged => {
                entry.failures = 0;
                wake.map(|at| (at, Trigger::Wake))
            }
            Done::Again => {
                entry.failures += 1;
                let delay = match entry.failures.checked_sub(limits::IMMEDIATE_CONFLICT_RETRIES + 1) {
                    None => Duration::ZERO,
                    Some(n) => backoff(n, &mut self.random),
                };
                Some((now + delay, Trigger::Retry))
            }
            Done::Failed { at_least } => {
                let delay = backoff(entry.failures, &mut self.random).max(at_least.unwrap_or_default());
                entry.failures += 1;
                // The failure of the key itself is a reason to wait. A change that came during the reconcile is not
                // delayed further.
                if again.is_none_or(|(_, trigger)| trigger != Trigger::Changed) {
                    entry.blocked = Some(now + delay);
                }
                Some((now + delay, Trigger::Retry))
            }
        };
        for (due, trigger) in [again, next].into_iter().flatten() {
            self.schedule(key.clone(), due, trigger, now);
        }
        if let Some(entry) = self.entries.get(key)
            && matches!(entry.phase, Phase::Idle)
        {
            self.entries.remove(key);
        }
    }
}

/// Doubles the wait from the first to the longest, and returns a random time between half of it and all of it.
fn backoff(failures: u32, random: &mut fastrand::Rng) -> Duration {
    let full = limits::KEY_BACKOFF.delay(failures);
    full.mul_f64(0.5 + random.f64() / 2.0)
}

#[cfg(test)]
mod tests;
