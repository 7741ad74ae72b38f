//! The budget of all calls together, its fair shares by lane and namespace, and the clock that ticks while a call runs.
//!
//! A call takes an instance and the bytes of its memory limit from the budget before it begins, so the memory of all
//! calls together never exceeds the budget. A call that finds no room waits here, within its deadline.
//!
//! A namespace may hold at most as much as remains free. One busy namespace therefore gets half of the budget, and two
//! get a third each: there is always room for the first call of another namespace. Namespaces that wait take turns, so
//! that a budget of a single call is shared too.
//!
//! Unverified callers can name any number of namespaces, so their lanes hold a part of the budget at most, or one call.
//! Within a lane, the same rules apply to that part. Lanes that wait take turns too, and the first call of a lane needs
//! nothing but free room.
//!
//! The ticker uses the same state: it ticks only while there is a call to interrupt, so an idle operator runs no timer.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lanes::{Lane, PerLane};

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

    fn divided_by(self, divisor: u32) -> Self {
        let of_bytes = usize::try_from(divisor).unwrap_or(usize::MAX);
        Self {
            instances: self.instances.checked_div(divisor).unwrap_or_default(),
            bytes: self.bytes.checked_div(of_bytes).unwrap_or_default(),
        }
    }

    /// The smaller of both shares, in instances and in bytes.
    fn at_most(self, other: Self) -> Self {
        Self { instances: self.instances.min(other.instances), bytes: self.bytes.min(other.bytes) }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_sub(other.instances),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// A namespace, as the calls of one lane see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) lane: Lane,
    pub(crate) namespace: Arc<str>,
}

#[derive(Debug, Default)]
struct State {
    taken: Share,
    by_lane: PerLane<Share>,
    by_holder: BTreeMap<Holder, Share>,
    waiting: BTreeMap<Holder, Waiting>,
    /// The number of the last permit of each lane.
    lane_turns: PerLane<u64>,
    /// The number of permits that were granted.
    granted: u64,
    closed: bool,
}

/// The calls of one namespace that wait for room.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// The share of each call, in no order. A call that got a permit leaves, so that nobody waits for it.
    shares: Vec<Share>,
    /// The number of the namespace's last permit since it began to wait. Zero if it got none.
    turn: u64,
}

impl State {
    /// Whether it is a holder's turn to take a share: it has room, and no other one with room waits for longer. Lanes take
    /// turns first, and then the namespaces of a lane.
    fn grants(&self, total: Share, holder: &Holder, share: Share) -> bool {
        let turn = |holder: &Holder, of_holder: u64| (*self.lane_turns.get(holder.lane), of_holder);
        let own = turn(holder, self.waiting.get(holder).map_or(0, |waiting| waiting.turn));
        let goes_first = |(other, waiting): (&Holder, &Waiting)| {
            turn(other, waiting.turn) < own && waiting.shares.iter().any(|share| self.has_room(total, other, *share))
        };
        self.has_room(total, holder, share) && !self.waiting.iter().any(goes_first)
    }

    /// Whether there is room for a share. The first call of a namespace needs only free instances and bytes. For a
    /// further one, as much has to remain free as the namespace holds.
    fn has_room(&self, total: Share, holder: &Holder, share: Share) -> bool {
        let free = total.minus(self.taken);
        let of_lane = *self.by_lane.get(holder.lane);
        let is_first = of_lane == Share::default();
        let free = if is_first { free } else { free.at_most(total.divided_by(holder.lane.divisor()).minus(of_lane)) };
        let held = self.by_holder.get(holder);
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
    holder: Holder,
    share: Share,
}

impl Permit {
    /// The lane and the namespace that the call belongs to.
    pub(crate) fn holder(&self) -> &Holder {
        &self.holder
    }
}

impl CallBudget {
    pub(crate) fn new(total: Share) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), total, released: Condvar::new(), started: Condvar::new() })
    }

    /// Waits for a permit. `None` if the namespace gets no room before the deadline.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        (lane, namespace): (Lane, &str),
        share: Share,
        deadline: Instant,
    ) -> Option<Permit> {
        let holder = Holder { lane, namespace: namespace.into() };
        let mut state = self.lock();
        state.waiting.entry(holder.clone()).or_default().shares.push(share);
        let mut granted = state.grants(self.total, &holder, share);
        while !granted {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            state = self.released.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            granted = state.grants(self.total, &holder, share);
        }
        if granted && state.taken.instances == 0 {
            self.started.notify_all();
        }
        state.granted = state.granted.saturating_add(u64::from(granted));
        let turn = state.granted;
        if let Some(waiting) = state.waiting.get_mut(&holder) {
            if let Some(at) = waiting.shares.iter().position(|other| *other == share) {
                waiting.shares.swap_remove(at);
            }
            if granted {
                waiting.turn = turn;
            }
        }
        state.waiting.retain(|_, waiting| !waiting.shares.is_empty());
        if granted {
            state.taken = state.taken.plus(share);
            let of_lane = state.by_lane.get_mut(lane);
            *of_lane = of_lane.plus(share);
            *state.lane_turns.get_mut(lane) = turn;
            let held = state.by_holder.entry(holder.clone()).or_default();
            *held = held.plus(share);
        }
        if !state.waiting.is_empty() {
            // This call may have been in front of others.
            self.released.notify_all();
        }
        granted.then(|| Permit { budget: Arc::clone(self), holder, share })
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
        let of_lane = state.by_lane.get_mut(self.holder.lane);
        *of_lane = of_lane.minus(self.share);
        let rest = state.by_holder.get(&self.holder).copied().unwrap_or_default().minus(self.share);
        if rest == Share::default() {
            state.by_holder.remove(&self.holder);
        } else {
            state.by_holder.insert(self.holder.clone(), rest);
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
            let (first, _second) = (
                budget.acquire((Lane::Verified, "a"), CALL, soon()).unwrap(),
                budget.acquire((Lane::Verified, "b"), CALL, soon()),
            );
            assert!(budget.acquire((Lane::Verified, "c"), CALL, at_once()).is_none());
            let waiting = std::thread::spawn({
                let budget = Arc::clone(&budget);
                move || budget.acquire((Lane::Verified, "c"), CALL, soon()).is_some()
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
                let permits = std::iter::from_fn(|| budget.acquire((Lane::Verified, namespace), CALL, at_once()));
                permits.collect::<Vec<_>>()
            };
            let hostile = all_of("hostile");
            assert_eq!(hostile.len(), 4, "half of the budget");
            let second = all_of("second");
            assert_eq!(second.len(), 2, "half of the rest");
            assert_eq!(all_of("third").len(), 1);
            drop((hostile, second));
            assert!(budget.lock().by_holder.is_empty(), "nothing is kept of a namespace without calls");
            assert_eq!(all_of("third").len(), 4);
        }
    }

    #[test]
    fn single_instance_is_everybodys() {
        let budget = budget(1, 10);
        for namespace in ["a", "b", "a"] {
            assert!(budget.acquire((Lane::Verified, namespace), CALL, at_once()).is_some(), "{namespace}");
        }
    }

    #[test]
    fn namespaces_that_wait_take_turns() {
        let budget = budget(1, 10);
        let permit = budget.acquire((Lane::Verified, "hostile"), CALL, soon()).unwrap();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let wait = |namespace: &'static str| {
                let (budget, order) = (&budget, &order);
                scope.spawn(move || {
                    let permit = budget.acquire((Lane::Verified, namespace), CALL, soon()).expect("a permit");
                    order.lock().unwrap().push(namespace);
                    drop(permit);
                });
            };
            (0..20).for_each(|_| wait("hostile"));
            wait("good");
            let started = Instant::now();
            let waiting = |state: &State| state.waiting.values().map(|w| w.shares.len()).sum::<usize>();
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

    /// The permits that the namespaces of a lane get now, one after the other and as many as they may have.
    fn all_of(budget: &Arc<CallBudget>, lane: Lane, namespaces: usize) -> Vec<Permit> {
        let of = |n: usize| {
            let name = format!("n{n}");
            std::iter::from_fn(move || budget.acquire((lane, &name), CALL, at_once()))
        };
        (0..namespaces).flat_map(of).collect()
    }

    #[test]
    fn unverified_callers_leave_room_whatever_namespaces_they_name() {
        for (instances, bytes) in [(16, 10_000), (10_000, 160)] {
            let budget = budget(instances, bytes);
            let unverified = all_of(&budget, Lane::Unverified, 100);
            assert_eq!(unverified.len(), 8, "half of the budget");
            let settings = all_of(&budget, Lane::UnverifiedSettings, 100);
            assert_eq!(settings.len(), 4, "a quarter, which the others cannot take");
            assert_eq!(all_of(&budget, Lane::Verified, 1).len(), 2, "a namespace gets half of the rest");
            assert_eq!(all_of(&budget, Lane::Verified, 100).len(), 4, "and all of them get the whole");
            drop((unverified, settings));
            assert_eq!(*budget.lock().by_lane.get(Lane::Unverified), Share::default());
            assert_eq!(all_of(&budget, Lane::Verified, 100).len(), 16, "nothing is kept free for nobody");
        }
    }

    #[test]
    fn single_instance_is_every_lanes() {
        let budget = budget(1, 10);
        for lane in [Lane::Unverified, Lane::UnverifiedSettings, Lane::Verified] {
            assert!(budget.acquire((lane, "a"), CALL, at_once()).is_some(), "{lane:?}");
        }
    }

    /// Each of the made-up namespaces waits for its first permit, as the good one does.
    #[test]
    fn lanes_that_wait_take_turns() {
        let budget = budget(1, 10);
        let permit = budget.acquire((Lane::Unverified, "n"), CALL, soon()).unwrap();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let wait = |lane: Lane, namespace: String| {
                let (budget, order) = (&budget, &order);
                scope.spawn(move || {
                    let permit = budget.acquire((lane, &namespace), CALL, soon()).expect("a permit");
                    order.lock().unwrap().push(lane);
                    drop(permit);
                });
            };
            (0..20).for_each(|n| wait(Lane::Unverified, format!("n{n}")));
            wait(Lane::Verified, "good".to_owned());
            let started = Instant::now();
            while budget.lock().waiting.len() < 21 {
                assert!(started.elapsed() < Duration::from_secs(30), "the calls do not wait");
                std::thread::yield_now();
            }
            drop(permit);
        });
        assert_eq!(order.lock().unwrap().first(), Some(&Lane::Verified));
    }

    /// The small call of the namespace has a permit. Its large call has none, and still waits.
    #[test]
    fn nobody_waits_for_a_call_that_has_begun() {
        let of = |bytes| Share { instances: 1, bytes };
        let budget = budget(100, 432);
        let permit = budget.acquire((Lane::Unverified, "n"), of(132), soon()).unwrap();
        std::thread::scope(|scope| {
            let large = scope.spawn(|| budget.acquire((Lane::Unverified, "m"), of(132), soon()).is_some());
            let started = Instant::now();
            while budget.lock().waiting.is_empty() {
                assert!(started.elapsed() < Duration::from_secs(30), "the large call does not wait");
                std::thread::yield_now();
            }
            assert!(budget.acquire((Lane::Unverified, "m"), of(68), at_once()).is_some());
            let verified = ["a", "b"].map(|namespace| {
                let permit = budget.acquire((Lane::Verified, namespace), of(68), at_once());
                permit.is_some()
            });
            assert!(!budget.lock().waiting.is_empty(), "the large call waits to the end");
            drop(permit);
            assert!(large.join().unwrap());
            assert_eq!(verified, [true, true]);
        });
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
        let permit = budget.acquire((Lane::Verified, "a"), CALL, soon()).unwrap();
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
