//! The time of the last byte of a connection or of a body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time of the last byte. Clones are handles on the same time.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    begin: Instant,
    /// Nanoseconds since the begin.
    last: Arc<AtomicU64>,
}

impl Progress {
    /// The time is now.
    pub(crate) fn new() -> Self {
        Self { begin: Instant::now(), last: Arc::default() }
    }

    pub(crate) fn last(&self) -> Instant {
        self.begin + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }

    /// A byte moved now.
    pub(crate) fn moved(&self) {
        let nanos = u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.store(nanos, Ordering::Relaxed);
    }
}
