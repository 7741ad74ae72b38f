//! The right to write, and until when. The elector extends it; the writer looks at it before every write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Shared by the elector and the writer.
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
    /// No right to write yet.
    #[must_use]
    pub fn closed() -> Self {
        Self { until: Arc::new(Mutex::new(Right::None)) }
    }

    /// A right without end: there is no election.
    #[must_use]
    pub fn open() -> Self {
        Self { until: Arc::new(Mutex::new(Right::Always)) }
    }

    /// Extends the right to a time; never shortens it.
    pub fn extend(&self, until: Instant) {
        let mut right = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *right = match *right {
            Right::Always => Right::Always,
            Right::Until(had) => Right::Until(had.max(until)),
            Right::None => Right::Until(until),
        };
    }

    /// Takes the right away at once.
    pub fn revoke(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Right::None;
    }

    /// For how long a write may still be under way; `None`: it may not be sent.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        match *self.until.lock().unwrap_or_else(PoisonError::into_inner) {
            Right::None => None,
            Right::Always => Some(Duration::MAX),
            Right::Until(until) => until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()),
        }
    }
}
