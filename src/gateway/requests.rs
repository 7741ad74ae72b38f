//! The requests on one connection, of a client or to a Sandbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The requests of a connection that have not ended. Clones are handles on the same count.
#[derive(Clone, Debug)]
pub(crate) struct Requests(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    running: AtomicUsize,
    ended: Mutex<Instant>,
}

/// A request that has not ended.
#[derive(Debug)]
pub(crate) struct Running(Requests);

impl Requests {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Counted { running: AtomicUsize::new(0), ended: Mutex::new(Instant::now()) }))
    }

    pub(crate) fn begin(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    /// The number of requests.
    pub(crate) fn running(&self) -> usize {
        self.0.running.load(Ordering::Relaxed)
    }

    /// The time since which there is no request.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.running() == 0).then(|| *self.0.ended.lock())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.0.ended.lock() = Instant::now();
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
