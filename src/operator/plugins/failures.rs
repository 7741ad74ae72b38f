//! Logs the failures of plugins: the first failure of each kind at once, and then one line a minute.
//!
//! A broken plugin fails on every question, which may be thousands of times a second. The metrics count all failures.

use std::collections::HashMap;

use jiff::Timestamp;
use paddock_core::question::{Caller, Failure, FailureKind, Hook, PluginRequest};

use crate::limits;

/// The last logged failure of each plugin, hook and kind, by the origin of the call: made-up reviews must not hide the
/// failures in a reconcile.
#[derive(Debug, Default)]
pub(super) struct Failures {
    logged: HashMap<(String, Hook, FailureKind, Caller), LoggedFailure>,
}

#[derive(Debug)]
struct LoggedFailure {
    at: Timestamp,
    /// The number of failures since that line.
    since: u64,
}

impl Failures {
    /// Whether to log this failure. If the last line about the same kind, plugin and hook is more than a minute old,
    /// returns the number of failures since then.
    pub(super) fn due(
        &mut self,
        (plugin, hook, kind, caller): (&str, Hook, FailureKind, Caller),
        now: Timestamp,
    ) -> Option<u64> {
        let key = (plugin.to_owned(), hook, kind, caller);
        if let Some(logged) = self.logged.get_mut(&key)
            && now.duration_since(logged.at).unsigned_abs() < limits::PLUGIN_FAILURE_LOG_INTERVAL
        {
            logged.since = logged.since.saturating_add(1);
            return None;
        }
        let before = self.logged.insert(key, LoggedFailure { at: now, since: 0 });
        Some(before.map_or(0, |logged| logged.since))
    }
}

/// Logs a failure, with the number of similar failures that were not logged.
pub(super) fn report(ask: &PluginRequest, failure: &Failure, suppressed: u64) {
    let (plugin, hook) = (ask.plugin.name.as_str(), ask.question.hook().as_str());
    let (digest, why) = (&ask.plugin.digest, failure.kind.as_str());
    tracing::warn!(plugin, hook, %digest, why, suppressed, failure.message, "the plugin gave no valid answer");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_logged_and_then_one_a_minute_with_the_number_suppressed() {
        let mut failures = Failures::default();
        let mut due = |second: i64, plugin: &str, hook, kind| {
            failures.due((plugin, hook, kind, Caller::Verified), Timestamp::from_second(second).unwrap())
        };
        let (idle, size, trap, fuel) = (Hook::Idle, Hook::PoolSize, FailureKind::Trap, FailureKind::Fuel);
        assert_eq!(due(0, "a", idle, trap), Some(0), "the first");
        assert_eq!(due(1, "a", idle, trap), None);
        assert_eq!(due(59, "a", idle, trap), None);
        assert_eq!(due(59, "a", idle, fuel), Some(0), "another kind");
        assert_eq!(due(59, "a", size, trap), Some(0), "another hook");
        assert_eq!(due(59, "b", idle, trap), Some(0), "another plugin");
        assert_eq!(due(60, "a", idle, trap), Some(2), "a minute later");
        assert_eq!(due(61, "a", idle, trap), None);
        // If the clock was set back, the log does not stay silent for longer.
        assert_eq!(due(-3600, "a", idle, trap), Some(1));
        let unverified = ("a", idle, trap, Caller::Unverified);
        assert_eq!(failures.due(unverified, Timestamp::from_second(-3600).unwrap()), Some(0), "another caller");
    }
}
