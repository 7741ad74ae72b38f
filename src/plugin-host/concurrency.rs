//! The budget of all calls together, its fair shares by namespace, and the clock that ticks while a call runs.
//!
//! A call takes an instance and the bytes of its memory limit from the budget before it begins, so the memory of all
//! calls together never exceeds the budget. A call that finds no room waits here, within its deadline.
//!
//! A namespace may hold at most as much as remains free. One busy namespace therefore gets half of the budget, and two
//! get a third each: there is always room for the first call of another namespace. Namespaces that wait take turns, so
//! that a budget of a single call is shared too.
//!
//! The ticker uses the same state: it ticks only while there is a call to interrupt, so an idle operator runs no timer.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An amount of the budget: instances, and bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) instances: u32,
    pub(crate) bytes: usize,
}

impl Share {
    /// The share of one call with this much memory, in bytes.
    pub(crate) fn of_call(bytes: usize) -> Self {
        Self { instances: 1, bytes }
    }

    /// Whether this share is at most the other one, in instances and in bytes.
    fn fits_in(self, other: Self) -> bool {
        self.instances <= other.instances && self.bytes <= other.bytes
    }

    fn plus(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_add(other.instances),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_sub(other.instances),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    taken: Share,
    by_namespace: BTreeMap<Arc<str>, Share>,
    waiting: BTreeMap<Arc<str>, Waiting>,
    /// The number of permits that were granted.
    granted: u64,
    closed: bool,
}

/// The calls of one namespace that wait for room.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    calls: u32,
    /// The share of the call that began to wait last.
    share: Share,
    /// The number of the namespace's last permit since it began to wait. Zero if it got none.
    turn: u64,
}

impl State {
    /// Whether it is a namespace's turn to take a share: it has room, and no other one with room waits for longer.
    fn grants(&self, total: Share, namespace: &str, share: Share) -> bool {
        let turn = self.waiting.get(namespace).map_or(0, |waiting| waiting.turn);
        let goes_first =
            |(other, waiting): (&Arc<str>, &Waiting)| waiting.turn < turn && self.has_room(total, other, waiting.share);
        self.has_room(total, namespace, share) && !self.waiting.iter().any(goes_first)
    }

    /// Whether there is room for a share. The first call of a namespace needs only free instances and bytes. For a
    /// further one, as much has to remain free as the namespace holds.
    fn has_room(&self, total: Share, namespace: &str, share: Share) -> bool {
        let free = total.minus(self.taken);
        let held = self.by_namespace.get(namespace);
        share.fits_in(free) && held.is_none_or(|held| held.plus(share).fits_in(free.minus(share)))
    }
}

/// Grants permits within a budget.
#[derive(Debug)]
pub(crate) struct CallBudget {
    state: Mutex<State>,
    total: Share,
    released: Condvar,
    started: Condvar,
}

/// The right to run one call. Dropping the permit makes room for other calls.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<CallBudget>,
    namespace: Arc<str>,
    share: Share,
}

impl Permit {
    /// The namespace that the call belongs to.
    pub(crate) fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }
}

impl CallBudget {
    pub(crate) fn new(total: Share) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), total, released: Condvar::new(), started: Condvar::new() })
    }

    /// Waits for a permit. `None` if the namespace gets no room before the deadline.
    pub(crate) fn acquire(self: &Arc<Self>, namespace: &str, share: Share, deadline: Instant) -> Option<Permit> {
        let namespace: Arc<str> = namespace.into();
        let mut state = self.lock();
        let waiting = state.waiting.entry(Arc::clone(&namespace)).or_default();
        waiting.calls = waiting.calls.saturating_add(1);
        waiting.share = share;
        let mut granted = state.grants(self.total, &namespace, share);
        while !granted {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            state = self.released.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            granted = state.grants(self.total, &namespace, share);
        }
        if granted && state.taken.instances == 0 {
            self.started.notify_all();
        }
        state.granted = state.granted.saturating_add(u64::from(granted));
        let turn = state.granted;
        if let Some(waiting) = state.waiting.get_mut(&namespace) {
            waiting.calls = waiting.calls.saturating_sub(1);
            if granted {
                waiting.turn = turn;
            }
        }
        state.waiting.retain(|_, waiting| waiting.calls > 0);
        if granted {
            state.taken = state.taken.plus(share);
            let held = state.by_namespace.entry(Arc::clone(&namespace)).or_default();
            *held = held.plus(share);
        }
        if !state.waiting.is_empty() {
            // This call may have been in front of others.
            self.released.notify_all();
        }
        granted.then(|| Permit { budget: Arc::clone(self), namespace, share })
    }

    /// Calls `tick` once in each interval while a call runs. Returns after [`close`](Self::close).
    pub(crate) fn tick_while_busy(&self, interval: Duration, tick: impl Fn()) {
        let mut state = self.lock();
        while !state.closed {
            if state.taken.instances == 0 {
                state = self.started.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            std::thread::sleep(interval);
            tick();
            state = self.lock();
        }
    }

    /// Ends the ticking. Running calls are not interrupted any more, so only the last owner calls this.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.started.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half-written: it consists of numbers and a flag.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.taken = state.taken.minus(self.share);
        let rest = state.by_namespace.get(&self.namespace).copied().unwrap_or_default().minus(self.share);
        if rest == Share::default() {
            state.by_namespace.remove(&self.namespace);
        } else {
            state.by_namespace.insert(Arc::clone(&self.namespace), rest);
        }
        drop(state);
        // The room may be too small for the call that waits longest, or its namespace may hold too much.
        self.budget.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const CALL: Share = Share { instances: 1, bytes: 10 };

    fn budget(instances: u32, bytes: usize) -> Arc<CallBudget> {
        CallBudget::new(Share { instances, bytes })
    }

    fn at_once() -> Instant {
        Instant::now()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn permits_are_granted_within_instances_and_bytes() {
        for (instances, bytes) in [(2, 1000), (1000, 25)] {
            let budget = budget(instances, bytes);
            let (first, _second) = (budget.acquire("a", CALL, soon()).unwrap(), budget.acquire("b", CALL, soon()));
            assert!(budget.acquire("c", CALL, at_once()).is_none());
            let waiting = std::thread::spawn({
                let budget = Arc::clone(&budget);
                move || budget.acquire("c", CALL, soon()).is_some()
            });
            drop(first);
            assert!(waiting.join().unwrap());
        }
    }

    #[test]
    fn namespace_never_takes_the_room_of_others() {
        for (instances, bytes) in [(8, 10_000), (10_000, 80)] {
            let budget = budget(instances, bytes);
            let all_of = |namespace: &str| {
                let permits = std::iter::from_fn(|| budget.acquire(namespace, CALL, at_once()));
                permits.collect::<Vec<_>>()
            };
            let hostile = all_of("hostile");
            assert_eq!(hostile.len(), 4, "half of the budget");
            let second = all_of("second");
            assert_eq!(second.len(), 2, "half of the rest");
            assert_eq!(all_of("third").len(), 1);
            drop((hostile, second));
            assert!(budget.lock().by_namespace.is_empty(), "nothing is kept of a namespace without calls");
            assert_eq!(all_of("third").len(), 4);
        }
    }

    #[test]
    fn single_instance_is_everybodys() {
        let budget = budget(1, 10);
        for namespace in ["a", "b", "a"] {
            assert!(budget.acquire(namespace, CALL, at_once()).is_some(), "{namespace}");
        }
    }

    #[test]
    fn namespaces_that_wait_take_turns() {
        let budget = budget(1, 10);
        let permit = budget.acquire("hostile", CALL, soon()).unwrap();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let wait = |namespace: &'static str| {
                let (budget, order) = (&budget, &order);
                scope.spawn(move || {
                    let permit = budget.acquire(namespace, CALL, soon()).expect("a permit");
                    order.lock().unwrap().push(namespace);
                    drop(permit);
                });
            };
            (0..20).for_each(|_| wait("hostile"));
            wait("good");
            let started = Instant::now();
            let waiting = |state: &State| state.waiting.values().map(|w| w.calls).sum::<u32>();
            while waiting(&budget.lock()) < 21 {
                assert!(started.elapsed() < Duration::from_secs(30), "the calls do not wait");
                std::thread::yield_now();
            }
            drop(permit);
        });
        let place = order.lock().unwrap().iter().position(|namespace| *namespace == "good");
        assert!(place.is_some_and(|place| place <= 1), "it waited for {place:?} calls");
        assert!(budget.lock().waiting.is_empty());
    }

    #[test]
    fn clock_ticks_only_while_a_call_runs_and_stops_when_closed() {
        let (budget, ticks) = (budget(1, 10), Arc::new(AtomicU32::new(0)));
        let ticker = std::thread::spawn({
            let (budget, ticks) = (Arc::clone(&budget), Arc::clone(&ticks));
            move || {
                budget.tick_while_busy(Duration::from_millis(1), || {
                    ticks.fetch_add(1, Ordering::Relaxed);
                })
            }
        });
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(ticks.load(Ordering::Relaxed), 0, "no call runs");
        let permit = budget.acquire("a", CALL, soon()).unwrap();
        let started = Instant::now();
        while ticks.load(Ordering::Relaxed) < 3 {
            assert!(started.elapsed() < Duration::from_secs(30), "the clock does not tick");
            std::thread::yield_now();
        }
        drop(permit);
        budget.close();
        ticker.join().unwrap();
    }
}
