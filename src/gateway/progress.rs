//! The time of the last byte of a connection or of a body, and the number of bytes of a body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time of the last byte. Clones are handles on the same time.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    begin: Instant,
    moved: Arc<Moved>,
}

#[derive(Debug, Default)]
struct Moved {
    /// Nanoseconds since the begin.
    last: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// The time is now.
    pub(crate) fn new() -> Self {
        Self { begin: Instant::now(), moved: Arc::default() }
    }

    pub(crate) fn last(&self) -> Instant {
        self.begin + Duration::from_nanos(self.moved.last.load(Ordering::Relaxed))
    }

    /// A byte moved now.
    pub(crate) fn moved(&self) {
        let nanos = u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.moved.last.store(nanos, Ordering::Relaxed);
    }

    /// Bytes of a body were taken.
    pub(crate) fn took(&self, bytes: usize) {
        self.moved.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The bytes of a body that were taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.moved.bytes.load(Ordering::Relaxed)
    }
}
