//! `my-plugin`: suspends a Sandbox that had no activity for a multiple of its `idleTimeout`.
//!
//! Settings: `{"factor": 1}` is the default.

use paddock_plugin_sdk::idle::{Answer, Plugin, Question, Tier};
use paddock_plugin_sdk::serde::Deserialize;

/// The plugin.
pub struct Policy;

/// The settings. They come from the plugin's YAML file. `settings.schema.json` describes them for users, and the operator
/// checks them with it.
#[derive(Deserialize)]
#[serde(crate = "paddock_plugin_sdk::serde", default, deny_unknown_fields)]
pub struct Settings {
    /// The number by which the `idleTimeout` of a Sandbox is multiplied.
    factor: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { factor: 1 }
    }
}

impl Plugin for Policy {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("../settings.schema.json");

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.factor == 0 { Err("factor: must be at least 1".into()) } else { Ok(()) }
    }

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let timeout = question.idle_timeout_ms.saturating_mul(settings.factor);
        let active = [Some(question.created), question.ready_since, question.last_activity, question.held_until];
        let last = active.into_iter().flatten().max().unwrap_or(question.created);
        let end = last.saturating_add(timeout);
        if question.connections.is_some_and(|connections| connections > 0) {
            return Ok(stay(question.now.saturating_add(timeout), "it has open connections".into()));
        }
        if question.now < end {
            return Ok(stay(end, format!("it was active {} s ago", question.now.saturating_sub(last) / 1000)));
        }
        if !question.tiers.contains(&Tier::Suspend) {
            return Ok(stay(question.now.saturating_add(timeout), "it cannot be suspended now".into()));
        }
        let reason = format!("no activity for {} s", question.now.saturating_sub(last) / 1000);
        Ok(Answer { action: Some(Tier::Suspend), next_check: None, reason, state: None })
    }
}

fn stay(next_check: u64, reason: String) -> Answer {
    // The operator asks again after an hour at the latest, so the time does not have to be exact beyond that.
    Answer { action: None, next_check: Some(next_check.min(LAST)), reason, state: None }
}

/// The last time that the host accepts, some days before the end of the year 9999.
const LAST: u64 = 253_400_000_000_000;

paddock_plugin_sdk::export!(Policy: idle);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::testing::NOW;
    use paddock_plugin_sdk::testing::idle::{at_next_check, decide, question, settings_error};

    #[test]
    fn sandbox_without_activity_is_suspended() {
        assert_eq!(decide::<Policy>(&question(), "{}").action, Some(Tier::Suspend));
        assert_eq!(decide::<Policy>(&question(), r#"{"factor": 100}"#).action, None);
    }

    #[test]
    fn active_sandbox_is_suspended_at_the_next_check() {
        let active = Question { last_activity: Some(NOW - 5000), ..question() };
        let answer = decide::<Policy>(&active, "{}");
        assert_eq!(answer.action, None);
        let later = at_next_check(&active, &answer).unwrap();
        assert_eq!(decide::<Policy>(&later, "{}").action, Some(Tier::Suspend));
    }

    #[test]
    fn connections_and_missing_tiers_keep_a_sandbox_awake() {
        let connected = Question { connections: Some(1), ..question() };
        let unsafe_to_suspend = Question { tiers: vec![], ..question() };
        for question in [connected, unsafe_to_suspend] {
            assert_eq!(decide::<Policy>(&question, "{}").action, None);
        }
    }

    #[test]
    fn settings_error_names_the_field() {
        assert!(settings_error::<Policy>(r#"{"factor": 0}"#).starts_with("factor: "));
    }
}
