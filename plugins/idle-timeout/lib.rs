//! `idle-timeout`: suspends a Sandbox that had no activity for its `idleTimeout`.
//!
//! A Sandbox stays awake
//!
//! - until `idleTimeout` after the latest of its creation, its pod becoming Ready, and its last activity;
//! - while an exec, attach or port-forward keeps it awake;
//! - while connections are open;
//! - while it uses the processor, if the settings give a threshold.
//!
//! The plugin asks for its next question at the exact time when the next of these ends.
//!
//! Settings: `{"tiers": ["suspend"], "throttleAfterSeconds": null, "cpuMillicores": null}` are the defaults. `tiers` lists
//! what may be done with an idle Sandbox, in the order of preference: the plugin takes the first one that is possible.
//! After `throttleAfterSeconds` without activity, the plugin throttles a Sandbox, if it can be throttled, until the
//! `idleTimeout` has passed. A Sandbox for which no tier is possible then stays throttled. From `cpuMillicores` on, a
//! Sandbox counts as busy.

use paddock_plugin_sdk::idle::{Answer, Plugin, Question, Tier};
use serde::Deserialize;

/// Interval between questions while processor use alone keeps a Sandbox awake, in milliseconds. Clusters usually
/// collect metrics every 15 s to 60 s.
const CPU_CHECK_MS: u64 = 60_000;

/// The shortest time without activity after which a Sandbox is throttled, in milliseconds: ten seconds, and a fifth of the
/// `idleTimeout`. Activity is recorded when it moves by half of that, so a Sandbox in use is never throttled.
const THROTTLE_LEAST_MS: u64 = 10_000;
const THROTTLE_LEAST_SHARE: u64 = 5;

/// The plugin.
pub struct IdleTimeout;

/// The settings.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    tiers: Vec<TierName>,
    throttle_after_seconds: Option<u64>,
    cpu_millicores: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tiers: vec![TierName::Suspend], throttle_after_seconds: None, cpu_millicores: None }
    }
}

/// A tier, as the settings name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TierName {
    Throttle,
    Suspend,
    Hibernate,
    Delete,
}

impl TierName {
    fn tier(self) -> Tier {
        match self {
            TierName::Throttle => Tier::Throttle,
            TierName::Suspend => Tier::Suspend,
            TierName::Hibernate => Tier::Hibernate,
            TierName::Delete => Tier::Delete,
        }
    }
}

impl Plugin for IdleTimeout {
    type Settings = Settings;
    const SETTINGS_SCHEMA: &'static str = include_str!("settings.schema.json");

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.tiers.is_empty() {
            return Err("tiers: must name at least one of throttle, suspend, hibernate, delete".into());
        }
        if settings.throttle_after_seconds == Some(0) {
            return Err("throttleAfterSeconds: must be at least 1, or left out".into());
        }
        if settings.cpu_millicores == Some(0) {
            return Err("cpuMillicores: must be at least 1, or left out".into());
        }
        Ok(())
    }

    fn decide(question: &Question, settings: &Settings) -> Result<Answer, String> {
        let Question { now, idle_timeout_ms: timeout, .. } = *question;
        if timeout == 0 {
            return Ok(stay(None, "it has no idleTimeout".into()));
        }
        if let Some(connections) = question.connections.filter(|connections| *connections > 0) {
            // They are activity now, and their number tells nobody when they end.
            let due = now.saturating_add(timeout);
            let next = throttled_from(question, settings, now).map_or(due, |from| from.min(due));
            return Ok(stay(Some(next), format!("open connections: {connections}")));
        }
        if let Some(until) = question.held_until.filter(|until| *until > now) {
            let left = seconds(until - now);
            return Ok(stay(Some(until), format!("held awake by exec, attach or port-forward for up to {left} s")));
        }
        let active = last_activity(question);
        let due = active.saturating_add(timeout);
        let throttled_from = throttled_from(question, settings, active).filter(|from| *from < due);
        let quiet = format!("no activity for {} s of {} s", seconds(now.saturating_sub(active)), seconds(timeout));
        let next = throttled_from.unwrap_or(due);
        if next > now {
            return Ok(stay(Some(next), quiet));
        }
        if let (Some(used), Some(busy)) = (question.cpu_millicores, settings.cpu_millicores)
            && used >= busy
        {
            let next = now.saturating_add(CPU_CHECK_MS.min(timeout));
            return Ok(stay(Some(next), format!("uses {used} thousandths of a core, busy from {busy} on")));
        }
        if due > now {
            return Ok(throttle(Some(due), quiet));
        }
        Ok(release(question, settings, active))
    }
}

/// The latest activity. A time in the future counts as now, because clocks differ.
fn last_activity(question: &Question) -> u64 {
    let times = [Some(question.created), question.ready_since, question.last_activity];
    times.into_iter().flatten().max().unwrap_or(question.now).min(question.now)
}

/// The time from which the Sandbox is to be throttled. `None` if the settings do not say so. If the Sandbox cannot be
/// throttled, the operator reports why.
fn throttled_from(question: &Question, settings: &Settings, active: u64) -> Option<u64> {
    let after = settings.throttle_after_seconds?.saturating_mul(1000);
    let least = THROTTLE_LEAST_MS.max(question.idle_timeout_ms / THROTTLE_LEAST_SHARE);
    Some(active.saturating_add(after.max(least)))
}

/// The preferred tier that is possible for an idle Sandbox.
fn release(question: &Question, settings: &Settings, active: u64) -> Answer {
    let quiet = seconds(question.now.saturating_sub(active));
    let limit = seconds(question.idle_timeout_ms);
    let idle = format!("no activity for {quiet} s, idleTimeout is {limit} s");
    let possible = |tier: &Tier| question.tiers.contains(tier);
    match settings.tiers.iter().map(|name| name.tier()).find(possible) {
        Some(tier) => Answer { action: Some(tier), next_check: None, reason: idle, state: None },
        None => {
            let next = question.now.saturating_add(question.idle_timeout_ms);
            if settings.throttle_after_seconds.is_some() && possible(&Tier::Throttle) {
                return throttle(Some(next), idle);
            }
            let wanted: Vec<_> = settings.tiers.iter().map(|tier| format!("{tier:?}").to_lowercase()).collect();
            stay(Some(next), format!("{idle}, but not possible for it: {}", wanted.join(", ")))
        }
    }
}

fn throttle(next_check: Option<u64>, reason: String) -> Answer {
    Answer { action: Some(Tier::Throttle), next_check, reason, state: None }
}

fn stay(next_check: Option<u64>, reason: String) -> Answer {
    Answer { action: None, next_check, reason, state: None }
}

fn seconds(milliseconds: u64) -> u64 {
    milliseconds / 1000
}

paddock_plugin_sdk::export!(IdleTimeout: idle);

#[cfg(test)]
mod tests {
    use super::*;
    use paddock_plugin_sdk::testing::NOW;
    use paddock_plugin_sdk::testing::idle::{assert_schema_agrees, decide, question, settings_error, settings_schema};

    const TIMEOUT: u64 = 600_000;

    /// A Sandbox that has had no activity for longer than its timeout.
    fn idle_sandbox() -> Question {
        let (created, ready_since) = (NOW - 10 * TIMEOUT, Some(NOW - 9 * TIMEOUT));
        let tiers = vec![Tier::Throttle, Tier::Suspend, Tier::Delete];
        let last_activity = Some(NOW - 2 * TIMEOUT);
        Question { idle_timeout_ms: TIMEOUT, created, ready_since, last_activity, tiers, ..question() }
    }

    /// The action and the next check with the default settings.
    fn outcome(question: &Question) -> (Option<Tier>, Option<u64>) {
        let Answer { action, next_check, .. } = decide::<IdleTimeout>(question, "{}");
        (action, next_check)
    }

    #[test]
    fn idle_sandbox_is_suspended() {
        let answer = decide::<IdleTimeout>(&idle_sandbox(), "{}");
        assert_eq!(answer.action, Some(Tier::Suspend));
        assert_eq!(answer.reason, "no activity for 1200 s, idleTimeout is 600 s");
    }

    #[test]
    fn sandbox_without_an_idle_timeout_stays_awake() {
        assert_eq!(outcome(&Question { idle_timeout_ms: 0, ..idle_sandbox() }), (None, None));
    }

    #[test]
    fn timeout_ends_at_the_millisecond_that_was_the_next_check() {
        let quiet_for = |time| Question { last_activity: Some(NOW - time), ..idle_sandbox() };
        assert_eq!(outcome(&quiet_for(TIMEOUT - 1)), (None, Some(NOW + 1)));
        assert_eq!(outcome(&quiet_for(TIMEOUT)), (Some(Tier::Suspend), None));
    }

    #[test]
    fn creation_readiness_and_activity_each_keep_it_awake() {
        let long_ago = NOW - 5 * TIMEOUT;
        let quiet = Question { created: long_ago, ready_since: None, last_activity: None, ..idle_sandbox() };
        let recent = NOW - 1000;
        for question in [
            Question { created: recent, ..quiet.clone() },
            Question { ready_since: Some(recent), ..quiet.clone() },
            Question { last_activity: Some(recent), ..quiet },
        ] {
            assert_eq!(outcome(&question), (None, Some(recent + TIMEOUT)));
        }
    }

    #[test]
    fn exec_keeps_it_awake_until_its_time_has_passed() {
        let held_until = |time| Question { held_until: Some(time), ..idle_sandbox() };
        assert_eq!(outcome(&held_until(NOW + 5000)), (None, Some(NOW + 5000)));
        assert_eq!(outcome(&held_until(NOW)).0, Some(Tier::Suspend));
    }

    #[test]
    fn open_connections_keep_it_awake() {
        let connections = |number| Question { connections: Some(number), ..idle_sandbox() };
        assert_eq!(outcome(&connections(1)), (None, Some(NOW + TIMEOUT)));
        assert_eq!(outcome(&connections(0)).0, Some(Tier::Suspend));
    }

    /// The throttle is not late because the Sandbox had connections.
    #[test]
    fn open_connections_are_looked_at_again_when_the_throttle_could_begin() {
        let busy = Question { connections: Some(1), ..idle_sandbox() };
        for (after, next) in [(150, 150_000), (6000, TIMEOUT)] {
            let settings = format!(r#"{{"throttleAfterSeconds":{after}}}"#);
            let Answer { action, next_check, .. } = decide::<IdleTimeout>(&busy, &settings);
            assert_eq!((action, next_check), (None, Some(NOW + next)), "{settings}");
        }
    }

    #[test]
    fn processor_use_keeps_it_awake_only_from_the_threshold_on() {
        for (settings, used, action) in [
            ("{}", 900, Some(Tier::Suspend)),
            (r#"{"cpuMillicores":50}"#, 50, None),
            (r#"{"cpuMillicores":50}"#, 49, Some(Tier::Suspend)),
        ] {
            let busy = Question { cpu_millicores: Some(used), ..idle_sandbox() };
            assert_eq!(decide::<IdleTimeout>(&busy, settings).action, action, "{settings}");
        }
    }

    #[test]
    fn activity_in_the_future_counts_as_now() {
        let ahead = Question { last_activity: Some(NOW + 50 * TIMEOUT), ..idle_sandbox() };
        assert_eq!(outcome(&ahead), (None, Some(NOW + TIMEOUT)));
    }

    #[test]
    fn first_preferred_tier_that_is_possible_is_taken() {
        for (tiers, action) in [
            (r#"["hibernate","throttle","suspend"]"#, Some(Tier::Throttle)),
            (r#"["delete"]"#, Some(Tier::Delete)),
            (r#"["hibernate"]"#, None),
        ] {
            let settings = format!(r#"{{"tiers":{tiers}}}"#);
            assert_eq!(decide::<IdleTimeout>(&idle_sandbox(), &settings).action, action, "{tiers}");
        }
    }

    #[test]
    fn sandbox_is_throttled_first_and_suspended_later() {
        let quiet_for = |time| Question { last_activity: Some(NOW - time), ..idle_sandbox() };
        let settings = r#"{"throttleAfterSeconds":300}"#;
        let outcome = |question: &Question, settings: &str| {
            let Answer { action, next_check, .. } = decide::<IdleTimeout>(question, settings);
            (action, next_check)
        };
        for (quiet, expected) in [
            (299_999, (None, Some(NOW + 1))),
            (300_000, (Some(Tier::Throttle), Some(NOW + 300_000))),
            (TIMEOUT - 1, (Some(Tier::Throttle), Some(NOW + 1))),
            (TIMEOUT, (Some(Tier::Suspend), None)),
        ] {
            assert_eq!(outcome(&quiet_for(quiet), settings), expected, "{quiet}");
        }
        // A tenth of the idle timeout passes between two records of activity.
        assert_eq!(outcome(&quiet_for(119_999), r#"{"throttleAfterSeconds":1}"#), (None, Some(NOW + 1)));
        assert_eq!(outcome(&quiet_for(120_000), r#"{"throttleAfterSeconds":1}"#).0, Some(Tier::Throttle));
        // The idle timeout comes first.
        assert_eq!(outcome(&quiet_for(1000), r#"{"throttleAfterSeconds":601}"#), (None, Some(NOW + TIMEOUT - 1000)));
        // The operator reports why a Sandbox cannot be throttled, and asks again at its idle timeout.
        let fixed = Question { tiers: vec![Tier::Suspend], ..quiet_for(400_000) };
        assert_eq!(outcome(&fixed, settings), (Some(Tier::Throttle), Some(NOW + 200_000)));
        // One that cannot be suspended stays throttled.
        let kept = Question { tiers: vec![Tier::Throttle], ..idle_sandbox() };
        assert_eq!(outcome(&kept, settings), (Some(Tier::Throttle), Some(NOW + TIMEOUT)));
        assert_eq!(outcome(&kept, "{}"), (None, Some(NOW + TIMEOUT)));
        // A busy one is not throttled.
        let busy = Question { cpu_millicores: Some(50), ..quiet_for(400_000) };
        let with_cpu = r#"{"throttleAfterSeconds":300,"cpuMillicores":50}"#;
        assert_eq!(outcome(&busy, with_cpu), (None, Some(NOW + CPU_CHECK_MS)));
    }

    #[test]
    fn reason_names_the_tier_that_is_not_possible() {
        let question = Question { tiers: vec![], ..idle_sandbox() };
        let answer = decide::<IdleTimeout>(&question, "{}");
        assert_eq!((answer.action, answer.next_check), (None, Some(NOW + TIMEOUT)));
        assert!(answer.reason.ends_with("but not possible for it: suspend"), "{}", answer.reason);
    }

    #[test]
    fn settings_error_names_the_field() {
        for (settings, field) in [
            (r#"{"tiers":[]}"#, "tiers: "),
            (r#"{"tiers":["sleep"]}"#, "tiers[0]: "),
            (r#"{"cpuMillicores":0}"#, "cpuMillicores: "),
            (r#"{"throttleAfterSeconds":0}"#, "throttleAfterSeconds: "),
        ] {
            let error = settings_error::<IdleTimeout>(settings);
            assert!(error.starts_with(field), "{settings}: {error}");
        }
    }

    #[test]
    fn schema_has_the_values_of_the_check_and_the_defaults() {
        assert_eq!(assert_schema_agrees::<IdleTimeout>(), 3, "two minimums and a maximum");
        let schema = settings_schema::<IdleTimeout>();
        let tiers = schema["properties"]["tiers"]["items"]["enum"].as_array().unwrap();
        let names: Vec<_> = tiers.iter().map(|tier| format!("`{}`", tier.as_str().unwrap())).collect();
        let error = settings_error::<IdleTimeout>(r#"{"tiers":["sleep"]}"#);
        assert!(error.contains(&format!("expected one of {}", names.join(", "))), "{error}");
    }
}
