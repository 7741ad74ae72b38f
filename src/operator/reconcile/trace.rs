//! The snapshot, the answers and the plan of recent reconciles, for `/debug/seen`. The number of traces and their memory
//! are limited, and the oldest is dropped first.

use std::sync::Arc;

use jiff::Timestamp;
use lru::LruCache;
use paddock_api::kind::Key;
use paddock_core::plan::Plan;
use paddock_core::question::PluginReply;
use paddock_core::record::decision_bytes;
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
    /// Whether the object is large, or one whose content the plan repeats.
    pub large: bool,
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

struct Kept {
    /// The traces, each with its estimated memory.
    traces: LruCache<Key, (usize, Arc<Trace>)>,
    bytes: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { traces: LruCache::new(limits::TRACE_CAPACITY), bytes: 0 }
    }
}

impl Traces {
    /// Stores a trace in place of the key's previous trace. A trace that needs too much memory is not kept.
    pub fn keep(&self, trace: Trace) {
        let (key, bytes, trace) = (trace.key.clone(), trace.bytes(), Arc::new(trace));
        // What makes room is dropped after the lock is released: a snapshot may be large.
        let _dropped = self.kept.lock().put(key, bytes, trace);
    }

    /// The key's last trace, unless it was dropped.
    #[must_use]
    pub fn last(&self, key: &Key) -> Option<Arc<Trace>> {
        self.kept.lock().traces.peek(key).map(|(_, trace)| trace.clone())
    }
}

impl Kept {
    /// Stores a trace. Returns those that are not kept any more.
    fn put(&mut self, key: Key, bytes: usize, trace: Arc<Trace>) -> Vec<Arc<Trace>> {
        let mut dropped: Vec<(usize, Arc<Trace>)> = self.traces.pop(&key).into_iter().collect();
        if bytes <= limits::TRACE_BYTES / 4 {
            self.bytes += bytes;
            dropped.extend(self.traces.push(key, (bytes, trace)).map(|(_, oldest)| oldest));
        } else {
            dropped.push((0, trace));
        }
        self.bytes -= dropped.iter().map(|(bytes, _)| bytes).sum::<usize>();
        while self.bytes > limits::TRACE_BYTES {
            let Some((_, oldest)) = self.traces.pop_lru() else { break };
            self.bytes -= oldest.0;
            dropped.push(oldest);
        }
        dropped.into_iter().map(|(_, trace)| trace).collect()
    }
}

impl Trace {
    /// An estimate of the memory that only the trace needs. The World has the objects of a snapshot too, or had them a moment
    /// ago, so only large ones count.
    fn bytes(&self) -> usize {
        let answers = self.answers.iter().map(|reply| decision_bytes(&reply.request, &reply.result));
        let snapshot = if self.large { limits::LARGE_SNAPSHOT_BYTES } else { 0 };
        answers.sum::<usize>() + self.plan.bytes() + snapshot
    }

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

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;
    use paddock_core::plan::{Action, Op, Reason};

    use super::*;

    fn key(n: usize) -> Key {
        Key::new(Kind::Sandbox, "ns", format!("s{n}"))
    }

    fn trace(n: usize, large: bool, body: usize) -> Trace {
        let action = Action::Create { body: json!({ "a": "x".repeat(body) }) };
        let op = Op { key: key(n), reason: Reason::PodMissing, action };
        Trace {
            key: key(n),
            at: Timestamp::UNIX_EPOCH,
            trigger: Trigger::Changed,
            large,
            snapshot: Arc::new(Snapshot::Absent(key(n))),
            answers: Vec::new(),
            plan: Plan { steps: vec![vec![op]], ..Plan::default() },
            progress: Progress::Stored,
        }
    }

    #[test]
    fn traces_need_a_limited_memory_and_the_newest_stay() {
        const BODY: usize = 1024 * 1024;
        for (large, each) in [(false, BODY), (true, BODY + limits::LARGE_SNAPSHOT_BYTES)] {
            let traces = Traces::default();
            for n in 0..100 {
                traces.keep(trace(n, large, BODY));
            }
            let kept = (0..100).filter(|n| traces.last(&key(*n)).is_some()).count();
            assert!(kept <= limits::TRACE_BYTES / each && kept + 2 > limits::TRACE_BYTES / each, "{kept}");
            assert!(traces.last(&key(99)).is_some());
            for _ in 0..100 {
                traces.keep(trace(99, large, BODY));
            }
            assert!((0..100).filter(|n| traces.last(&key(*n)).is_some()).count() >= kept, "a key has one trace");
        }
    }

    #[test]
    fn trace_that_is_too_large_displaces_no_other() {
        let traces = Traces::default();
        traces.keep(trace(0, false, 10));
        traces.keep(trace(1, false, 10));
        traces.keep(trace(1, false, limits::TRACE_BYTES));
        assert!(traces.last(&key(0)).is_some());
        assert!(traces.last(&key(1)).is_none(), "the former trace is not the last");
        assert_eq!(traces.kept.lock().traces.len(), 1);
    }
}
