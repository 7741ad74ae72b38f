//! The gate that calls pass: at most so many at once, and a clock that ticks while any is inside.
//!
//! The pooling allocator has one slot for each call that may run; a call without a slot waits here, within
//! its deadline. The same count tells the ticker whether there is anything to interrupt: an idle operator
//! has no timer running.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct State {
    inside: u32,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    capacity: u32,
    left: Condvar,
    entered: Condvar,
}

/// A call inside the gate.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Gate>);

impl Gate {
    pub(crate) fn new(capacity: u32) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            capacity: capacity.max(1),
            left: Condvar::new(),
            entered: Condvar::new(),
        })
    }

    /// Enters, waiting at most until the deadline.
    pub(crate) fn enter(self: &Arc<Self>, deadline: Instant) -> Option<Pass> {
        let mut state = self.lock();
        while state.inside >= self.capacity {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            state = self.left.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.inside += 1;
        if state.inside == 1 {
            self.entered.notify_all();
        }
        Some(Pass(Arc::clone(self)))
    }

    /// Calls `tick` at this pace while any call is inside; returns when the gate is closed.
    pub(crate) fn tick_while_busy(&self, pace: Duration, tick: impl Fn()) {
        let mut state = self.lock();
        while !state.closed {
            if state.inside == 0 {
                state = self.entered.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            std::thread::sleep(pace);
            tick();
            state = self.lock();
        }
    }

    /// Ends the ticking. Calls that are inside are no longer interrupted, so only the last owner closes.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.entered.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is two plain values, whole after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_full_gate_lets_nobody_in_until_somebody_leaves() {
        let gate = Gate::new(2);
        let soon = || Instant::now() + Duration::from_millis(20);
        let (first, _second) = (gate.enter(soon()).unwrap(), gate.enter(soon()).unwrap());
        assert!(gate.enter(soon()).is_none());
        let waiting = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.enter(Instant::now() + Duration::from_secs(30)).is_some()
        });
        drop(first);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn the_clock_ticks_only_while_a_call_is_inside_and_stops_when_closed() {
        let (gate, ticks) = (Gate::new(1), Arc::new(AtomicU32::new(0)));
        let ticker = std::thread::spawn({
            let (gate, ticks) = (Arc::clone(&gate), Arc::clone(&ticks));
            move || {
                gate.tick_while_busy(Duration::from_millis(1), || {
                    ticks.fetch_add(1, Ordering::Relaxed);
                })
            }
        });
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(ticks.load(Ordering::Relaxed), 0, "nobody is inside");
        let pass = gate.enter(Instant::now() + Duration::from_secs(1)).unwrap();
        let started = Instant::now();
        while ticks.load(Ordering::Relaxed) < 3 {
            assert!(started.elapsed() < Duration::from_secs(30), "the clock does not tick");
            std::thread::yield_now();
        }
        drop(pass);
        gate.close();
        ticker.join().unwrap();
    }
}
