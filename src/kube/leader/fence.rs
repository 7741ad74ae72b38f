//! The fence: the right to write, and the time until which it lasts. The election extends it, and the writer checks it
//! before every write.
//!
//! This is our own code because no crate for leader election ends the right to write before the lease. The fence holds
//! a time of the monotonic clock, and the writer bounds every request by it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The right to write. The election and the writer share it. Clones are handles on the same right.
#[derive(Clone)]
pub struct Fence {
    until: Arc<Mutex<Right>>,
}

#[derive(Clone, Copy)]
enum Right {
    None,
    Until(Instant),
    Always,
}

impl Fence {
    /// A fence without the right to write.
    #[must_use]
    pub fn closed() -> Self {
        Self { until: Arc::new(Mutex::new(Right::None)) }
    }

    /// A fence with a right to write that lasts until it is ended.
    #[must_use]
    pub fn open() -> Self {
        let fence = Self::closed();
        fence.allow();
        fence
    }

    /// Extends the right to a time. It never shortens the right.
    pub fn extend(&self, until: Instant) {
        let mut right = self.until.lock();
        *right = match *right {
            Right::Always => Right::Always,
            Right::Until(had) => Right::Until(had.max(until)),
            Right::None => Right::Until(until),
        };
    }

    /// Gives the right until it is ended, for an operator without an election.
    pub fn allow(&self) {
        *self.until.lock() = Right::Always;
    }

    /// Ends the right at once.
    pub fn revoke(&self) {
        *self.until.lock() = Right::None;
    }

    /// The time for which a write may be in flight. `None` if no write may be sent.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        match *self.until.lock() {
            Right::None => None,
            Right::Always => Some(Duration::MAX),
            Right::Until(until) => until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()),
        }
    }
}
