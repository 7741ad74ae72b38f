//! What the last reconciles saw, were answered and planned, for `/debug/seen`. Bounded: the oldest key goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use paddock_core::kind::Key;
use paddock_core::plan::Plan;
use paddock_core::question::PluginReply;
use paddock_core::snapshot::Snapshot;
use serde_json::{Value, json};

use crate::limits;
use crate::queue::Trigger;
use crate::write::Progress;

/// One reconcile.
pub struct Trace {
    /// Of what.
    pub key: Key,
    /// When it looked.
    pub at: Timestamp,
    /// What put it into the queue.
    pub trigger: Trigger,
    /// What was seen.
    pub snapshot: Arc<Snapshot>,
    /// What each plugin was asked and answered.
    pub answers: Vec<PluginReply>,
    /// What was planned.
    pub plan: Plan,
    /// How far it came.
    pub progress: Progress,
}

/// The last trace of each key.
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
    /// Keeps a trace in place of the key's former one.
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

    /// The key's last trace, if it is still kept.
    #[must_use]
    pub fn last(&self, key: &Key) -> Option<Arc<Trace>> {
        self.lock().traces.get(key).map(|(_, trace)| trace.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trace {
    /// For people: the plan's operations also as one line each.
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
