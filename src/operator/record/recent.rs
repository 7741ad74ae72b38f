//! The last decisions, in memory. Their number and their bytes are limited.

use std::collections::VecDeque;
use std::sync::Arc;

use paddock_core::record::Decision;
use parking_lot::Mutex;

/// The last decisions. A new decision displaces the oldest one if there is no room.
pub(super) struct Recent {
    count: usize,
    bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    decisions: VecDeque<Arc<Decision>>,
    bytes: usize,
}

impl Recent {
    pub(super) fn new(count: usize, bytes: usize) -> Self {
        Self { count, bytes, kept: Mutex::default() }
    }

    /// Whether a decision with this number of bytes is kept. A single large one must not displace all others.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        self.count > 0 && bytes <= self.bytes / 4
    }

    pub(super) fn push(&self, decision: Arc<Decision>) {
        let bytes = decision.bytes();
        if !self.takes(bytes) {
            return;
        }
        // Dropped after the lock is released: an object may be large.
        let mut dropped = Vec::new();
        let mut kept = self.kept.lock();
        kept.decisions.push_back(decision);
        kept.bytes = kept.bytes.saturating_add(bytes);
        while kept.decisions.len() > self.count || kept.bytes > self.bytes {
            let Some(oldest) = kept.decisions.pop_front() else { break };
            kept.bytes = kept.bytes.saturating_sub(oldest.bytes());
            dropped.push(oldest);
        }
        drop(kept);
    }

    /// The decisions, the oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Decision>> {
        self.kept.lock().decisions.iter().cloned().collect()
    }
}
