//! The snapshot, the answers and the plan of recent reconciles, for `/debug/seen`. The number of traces is limited, and
//! the oldest is dropped first.

use std::sync::Arc;

use jiff::Timestamp;
use lru::LruCache;
use paddock_api::kind::Key;
use paddock_core::plan::Plan;
use paddock_core::question::PluginReply;
use paddock_core::snapshot::Snapshot;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::limits;
use crate::queue::Trigger;
use crate::write::Progress;

/// The record of one reconcile.
pub struct Trace {
    /// The object that was reconciled.
    pub key: Key,
    /// The time of the snapshot.
    pub at: Timestamp,
    /// The event that queued the key.
    pub trigger: Trigger,
    /// The snapshot that the decision used.
    pub snapshot: Arc<Snapshot>,
    /// The questions to plugins, each with its answer or failure.
    pub answers: Vec<PluginReply>,
    /// The plan that the core decided on.
    pub plan: Plan,
    /// The progress of the plan's writes.
    pub progress: Progress,
}

/// The last trace of each key. Clones share one store.
#[derive(Clone)]
pub struct Traces {
    kept: Arc<Mutex<LruCache<Key, Arc<Trace>>>>,
}

impl Default for Traces {
    fn default() -> Self {
        Self { kept: Arc::new(Mutex::new(LruCache::new(limits::TRACE_CAPACITY))) }
    }
}

impl Traces {
    /// Stores a trace in place of the key's previous trace.
    pub fn keep(&self, trace: Trace) {
        let (key, trace) = (trace.key.clone(), Arc::new(trace));
        // What makes room is dropped after the lock is released: a snapshot may be large.
        let _dropped = self.kept.lock().push(key, trace);
    }

    /// The key's last trace, unless it was dropped.
    #[must_use]
    pub fn last(&self, key: &Key) -> Option<Arc<Trace>> {
        self.kept.lock().peek(key).cloned()
    }
}

impl Trace {
    /// The trace as JSON for people. Each operation of the plan is also a line of text.
    #[must_use]
    pub fn json(&self) -> Value {
        let lines: Vec<String> = self.plan.ops().map(ToString::to_string).collect();
        json!({
            "at": self.at,
            "trigger": self.trigger.as_str(),
            "seen": &*self.snapshot,
            "answered": self.answers,
            "planned": lines,
            "plan": self.plan,
            "progress": format!("{:?}", self.progress),
        })
    }
}
