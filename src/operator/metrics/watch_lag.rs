//! The lag of the watches: the time between the reply to one of our writes and its event on the watch.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use paddock_api::kind::Key;
use paddock_core::object::Object;
use tokio::time::Instant;

use crate::limits;

#[derive(Default)]
pub(super) struct WatchLag {
    expected: HashMap<Key, (u64, Instant)>,
    order: VecDeque<(Key, u64)>,
}

impl WatchLag {
    /// Records that the write was answered now. If the store is full, the oldest entry is dropped.
    pub(super) fn expect(&mut self, object: &Object, now: Instant) {
        self.expected.insert(object.key.clone(), (object.meta.version, now));
        self.order.push_back((object.key.clone(), object.meta.version));
        while self.order.len() > limits::WATCH_LAG_CAPACITY
            && let Some((key, version)) = self.order.pop_front()
        {
            if self.expected.get(&key).is_some_and(|(expected, _)| *expected == version) {
                self.expected.remove(&key);
            }
        }
    }

    /// The time since the reply to the write that this event shows. `None` for the writes of other programs, and if the
    /// event came before the reply.
    pub(super) fn take(&mut self, object: &Object, now: Instant) -> Option<Duration> {
        let (version, at) = *self.expected.get(&object.key)?;
        if object.meta.version < version {
            return None;
        }
        self.expected.remove(&object.key);
        (object.meta.version == version).then(|| now.duration_since(at))
    }
}
