//! The snapshot, the answers and the plan of recent reconciles, for `/debug/seen`. The number of traces is limited, and
//! the oldest is dropped first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use paddock_api::kind::Key;
use paddock_core::plan::Plan;
use paddock_core::question::PluginReply;
use paddock_core::snapshot::Snapshot;
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
#[derive(Clone, Default)]
pub struct Traces {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    traces: HashMap<Key, (u64, Arc<Trace>)>,
    order: VecDeque<(u64, Key)>,
    next: u64,
}

impl Traces {
    /// Stores a trace in place of the key's previous trace.
    pub fn keep(&self, trace: Trace) {
        let trace = Arc::new(trace);
        let mut kept = self.lock();
        kept.next += 1;
        let number = kept.next;
        kept.order.push_back((number, trace.key.clone()));
        kept.traces.insert(trace.key.clone(), (number, trace));
        while kept.order.len() > limits::TRACE_CAPACITY
            && let Some((number, key)) = kept.order.pop_front()
        {
            if kept.traces.get(&key).is_some_and(|(newest, _)| *newest == number) {
                kept.traces.remove(&key);
            }
        }
    }

    /// The key's last trace, unless it was dropped.
    #[must_use]
    pub fn last(&self, key: &Key) -> Option<Arc<Trace>> {
        self.lock().traces.get(key).map(|(_, trace)| trace.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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
