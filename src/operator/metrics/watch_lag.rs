//! The lag of the watches: the time between the reply to one of our writes and its event on the watch.

use std::time::Duration;

use lru::LruCache;
use paddock_api::kind::Key;
use paddock_core::object::Object;
use tokio::time::Instant;

use crate::limits;

/// The writes whose events are awaited, each with its version and the time of its reply.
pub(super) struct WatchLag {
    expected: LruCache<Key, (u64, Instant)>,
}

impl Default for WatchLag {
    fn default() -> Self {
        Self { expected: LruCache::new(limits::WATCH_LAG_CAPACITY) }
    }
}

impl WatchLag {
    /// Records that the write was answered now. If the store is full, the oldest entry is dropped.
    pub(super) fn expect(&mut self, object: &Object, now: Instant) {
        self.expected.put(object.key.clone(), (object.meta.version, now));
    }

    /// The time since the reply to the write that this event shows. `None` for the writes of other programs, and if the
    /// event came before the reply.
    pub(super) fn take(&mut self, object: &Object, now: Instant) -> Option<Duration> {
        let (version, at) = *self.expected.peek(&object.key)?;
        if object.meta.version < version {
            return None;
        }
        self.expected.pop(&object.key);
        (object.meta.version == version).then(|| now.duration_since(at))
    }
}
