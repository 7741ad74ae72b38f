//! The limit of concurrent plugin calls, and the clock that ticks while a call runs.
//!
//! The pooling allocator has one slot for each concurrent call. A call without a slot waits here, within its deadline.
//! The ticker uses the same count: it ticks only while there is a call to interrupt, so an idle operator runs no timer.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct State {
    running: u32,
    closed: bool,
}

/// Grants at most `capacity` permits at the same time.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    state: Mutex<State>,
    capacity: u32,
    released: Condvar,
    started: Condvar,
}

/// The right to run one call. Dropping the permit makes room for the next call.
#[derive(Debug)]
pub(crate) struct Permit(Arc<ConcurrencyLimit>);

impl ConcurrencyLimit {
    pub(crate) fn new(capacity: u32) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            capacity: capacity.max(1),
            released: Condvar::new(),
            started: Condvar::new(),
        })
    }

    /// Waits for a permit. `None` if no permit becomes free before the deadline.
    pub(crate) fn acquire(self: &Arc<Self>, deadline: Instant) -> Option<Permit> {
        let mut state = self.lock();
        while state.running >= self.capacity {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            state = self.released.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.running += 1;
        if state.running == 1 {
            self.started.notify_all();
        }
        Some(Permit(Arc::clone(self)))
    }

    /// Calls `tick` once in each interval while a call runs. Returns after [`close`](Self::close).
    pub(crate) fn tick_while_busy(&self, interval: Duration, tick: impl Fn()) {
        let mut state = self.lock();
        while !state.closed {
            if state.running == 0 {
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
        // A panic cannot leave the state half-written: it is a count and a flag.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn permit_is_granted_only_below_the_capacity() {
        let limit = ConcurrencyLimit::new(2);
        let soon = || Instant::now() + Duration::from_millis(20);
        let (first, _second) = (limit.acquire(soon()).unwrap(), limit.acquire(soon()).unwrap());
        assert!(limit.acquire(soon()).is_none());
        let waiting = std::thread::spawn({
            let limit = Arc::clone(&limit);
            move || limit.acquire(Instant::now() + Duration::from_secs(30)).is_some()
        });
        drop(first);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn clock_ticks_only_while_a_call_runs_and_stops_when_closed() {
        let (limit, ticks) = (ConcurrencyLimit::new(1), Arc::new(AtomicU32::new(0)));
        let ticker = std::thread::spawn({
            let (limit, ticks) = (Arc::clone(&limit), Arc::clone(&ticks));
            move || {
                limit.tick_while_busy(Duration::from_millis(1), || {
                    ticks.fetch_add(1, Ordering::Relaxed);
                })
            }
        });
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(ticks.load(Ordering::Relaxed), 0, "no call runs");
        let permit = limit.acquire(Instant::now() + Duration::from_secs(1)).unwrap();
        let started = Instant::now();
        while ticks.load(Ordering::Relaxed) < 3 {
            assert!(started.elapsed() < Duration::from_secs(30), "the clock does not tick");
            std::thread::yield_now();
        }
        drop(permit);
        limit.close();
        ticker.join().unwrap();
    }
}
