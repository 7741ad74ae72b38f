//! Counts the calls of each plugin, for its status.

use std::collections::HashMap;
use std::sync::Arc;

use paddock_core::question::{Answer, Failure, FailureKind};
use parking_lot::Mutex;

/// The calls of all plugins since the start. Clones are handles on the same counters.
#[derive(Clone, Debug, Default)]
pub struct CallCounts {
    counts: Arc<Mutex<HashMap<String, Calls>>>,
}

/// The calls of one plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// All calls.
    pub all: i64,
    /// The calls without a valid answer.
    pub failures: i64,
    /// The calls in which the component trapped.
    pub traps: i64,
}

impl CallCounts {
    /// Counts one call of a plugin. A call that the host did not begin counts too.
    pub(in crate::plugins) fn count(&self, plugin: &str, result: &Result<Answer, Failure>) {
        let mut counts = self.counts.lock();
        let calls = match counts.get_mut(plugin) {
            Some(calls) => calls,
            None => counts.entry(plugin.to_owned()).or_default(),
        };
        calls.all = calls.all.saturating_add(1);
        if let Err(failure) = result {
            calls.failures = calls.failures.saturating_add(1);
            calls.traps = calls.traps.saturating_add(i64::from(failure.kind == FailureKind::Trap));
        }
    }

    /// The calls of a plugin.
    #[must_use]
    pub fn of(&self, plugin: &str) -> Calls {
        self.counts.lock().get(plugin).copied().unwrap_or_default()
    }
}
