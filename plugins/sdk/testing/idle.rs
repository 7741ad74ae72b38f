//! Questions and calls of the hook `idle`.

use super::{NOW, calls, follow_ups};
use crate::idle::{Answer, Question, Tier};

const MINUTE: u64 = 60_000;

/// A Sandbox with an `idleTimeout` of ten minutes, created two hours ago and without activity for the last hour.
/// It can be suspended.
///
/// ```
/// use paddock_plugin_sdk::idle::Question;
/// use paddock_plugin_sdk::testing::{NOW, idle::question};
///
/// let active = Question { last_activity: Some(NOW - 5000), ..question() };
/// assert!(active.last_activity > active.ready_since);
/// ```
#[must_use]
pub fn question() -> Question {
    Question {
        namespace: "agents".into(),
        name: "agent".into(),
        labels: vec![],
        idle_timeout_ms: 10 * MINUTE,
        created: NOW - 120 * MINUTE,
        ready_since: Some(NOW - 119 * MINUTE),
        last_activity: Some(NOW - 60 * MINUTE),
        held_until: None,
        connections: None,
        cpu_millicores: None,
        tiers: vec![Tier::Suspend],
        state: vec![],
        now: NOW,
    }
}

calls!(idle);
follow_ups!();
