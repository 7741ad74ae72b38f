//! `idle-timeout`: a sandbox that saw no activity for its `idleTimeout` goes to sleep.
//!
//! It is active until `idleTimeout` after the newest of: its creation, its pod becoming Ready, and its last
//! sign of activity; while an exec, attach or port-forward holds it; while connections are open; and, where
//! set, while it uses the processor. It is asked again exactly when the next of these runs out.
//!
//! Settings: `{"tiers": ["suspend"], "cpuMillicores": null}` are the defaults. `tiers` are what may be done,
//! most wanted first: the first one that is possible for the sandbox is taken. `cpuMillicores` is the use
//! from which on a sandbox counts as busy.

use paddock_plugin_sdk::idle::{Answer, Plugin, Question, Tier};
use serde::Deserialize;

/// How often processor use is looked at while it alone keeps a sandbox awake, in milliseconds: metrics are
/// usually taken every 15 s to 60 s.
const CPU_LOOK_MS: u64 = 60_000;

/// The plugin.
pub struct IdleTimeout;

/// What users may set.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    tiers: Vec<TierName>,
    cpu_millicores: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tiers: vec![TierName::Suspend], cpu_millicores: None }
    }
}

/// A tier, as settings name it.
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

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.tiers.is_empty() {
            return Err("tiers: must name at least one of throttle, suspend, hibernate, delete".into());
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
            return Ok(stay(Some(now.saturating_add(timeout)), format!("open connections: {connections}")));
        }
        if let Some(until) = question.held_until.filter(|until| *until > now) {
            let left = seconds(until - now);
            return Ok(stay(Some(until), format!("held awake by exec, attach or port-forward for up to {left} s")));
        }
        let active = last_activity(question);
        let due = active.saturating_add(timeout);
        if due > now {
            let (quiet, limit) = (seconds(now.saturating_sub(active)), seconds(timeout));
            return Ok(stay(Some(due), format!("no activity for {quiet} s of {limit} s")));
        }
        if let (Some(used), Some(busy)) = (question.cpu_millicores, settings.cpu_millicores)
            && used >= busy
        {
            let look = now.saturating_add(CPU_LOOK_MS.min(timeout));
            return Ok(stay(Some(look), format!("uses {used} thousandths of a core, busy from {busy} on")));
        }
        Ok(sleep(question, settings, active))
    }
}

/// The newest sign of life. What lies in the future (clocks differ) counts as now.
fn last_activity(question: &Question) -> u64 {
    let signs = [Some(question.created), question.ready_since, question.last_activity];
    signs.into_iter().flatten().max().unwrap_or(question.now).min(question.now)
}

fn sleep(question: &Question, settings: &Settings, active: u64) -> Answer {
    let quiet = seconds(question.now.saturating_sub(active));
    let limit = seconds(question.idle_timeout_ms);
    let idle = format!("no activity for {quiet} s, idleTimeout is {limit} s");
    let possible = |tier: &Tier| question.tiers.contains(tier);
    match settings.tiers.iter().map(|name| name.tier()).find(possible) {
        Some(tier) => Answer { action: Some(tier), next_check: None, reason: idle, state: None },
        None => {
            let next = question.now.saturating_add(question.idle_timeout_ms);
            let wanted: Vec<_> = settings.tiers.iter().map(|tier| format!("{tier:?}").to_lowercase()).collect();
            stay(Some(next), format!("{idle}, but not possible for it: {}", wanted.join(", ")))
        }
    }
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
    use paddock_plugin_sdk::idle::run;

    const NOW: u64 = 1_000_000_000;
    const TIMEOUT: u64 = 600_000;

    /// A sandbox that has been quiet for longer than its timeout.
    fn quiet() -> Question {
        Question {
            namespace: "agents".into(),
            name: "a".into(),
            labels: vec![],
            idle_timeout_ms: TIMEOUT,
            created: NOW - 10 * TIMEOUT,
            ready_since: Some(NOW - 9 * TIMEOUT),
            last_activity: Some(NOW - 2 * TIMEOUT),
            held_until: None,
            connections: None,
            cpu_millicores: None,
            tiers: vec![Tier::Throttle, Tier::Suspend, Tier::Delete],
            state: vec![],
            now: NOW,
        }
    }

    fn ask(change: impl FnOnce(&mut Question)) -> Answer {
        ask_with("{}", change)
    }

    fn ask_with(settings: &str, change: impl FnOnce(&mut Question)) -> Answer {
        let mut question = quiet();
        change(&mut question);
        run::<IdleTimeout>(&question, settings).unwrap()
    }

    #[test]
    fn a_quiet_sandbox_is_suspended() {
        let answer = ask(|_| {});
        assert_eq!(answer.action, Some(Tier::Suspend));
        assert_eq!(answer.reason, "no activity for 1200 s, idleTimeout is 600 s");
    }

    #[test]
    fn it_is_due_at_the_millisecond_and_asked_again_exactly_then() {
        for (quiet_for, action, next) in [(TIMEOUT - 1, None, Some(NOW + 1)), (TIMEOUT, Some(Tier::Suspend), None)] {
            let answer = ask(|q| q.last_activity = Some(NOW - quiet_for));
            assert_eq!((answer.action, answer.next_check), (action, next), "{quiet_for}");
        }
    }

    #[test]
    fn any_of_creation_readiness_and_activity_counts() {
        let long_ago = NOW - 5 * TIMEOUT;
        for change in [
            |q: &mut Question| q.created = NOW - 1000,
            |q: &mut Question| q.ready_since = Some(NOW - 1000),
            |q: &mut Question| q.last_activity = Some(NOW - 1000),
        ] {
            let answer = ask(|q| {
                (q.created, q.ready_since, q.last_activity) = (long_ago, None, None);
                change(q);
            });
            assert_eq!((answer.action, answer.next_check), (None, Some(NOW - 1000 + TIMEOUT)));
        }
    }

    #[test]
    fn an_exec_holds_it_awake_until_the_hold_runs_out() {
        let answer = ask(|q| q.held_until = Some(NOW + 5000));
        assert_eq!((answer.action, answer.next_check), (None, Some(NOW + 5000)));
        assert_eq!(ask(|q| q.held_until = Some(NOW)).action, Some(Tier::Suspend));
    }

    #[test]
    fn open_connections_hold_it_awake() {
        assert_eq!(ask(|q| q.connections = Some(1)).action, None);
        assert_eq!(ask(|q| q.connections = Some(0)).action, Some(Tier::Suspend));
    }

    #[test]
    fn processor_use_counts_only_where_a_threshold_is_set() {
        for (settings, used, action) in [
            ("{}", 900, Some(Tier::Suspend)),
            (r#"{"cpuMillicores":50}"#, 50, None),
            (r#"{"cpuMillicores":50}"#, 49, Some(Tier::Suspend)),
        ] {
            assert_eq!(ask_with(settings, |q| q.cpu_millicores = Some(used)).action, action, "{settings}");
        }
    }

    #[test]
    fn activity_in_the_future_counts_as_now() {
        let answer = ask(|q| q.last_activity = Some(NOW + 50 * TIMEOUT));
        assert_eq!((answer.action, answer.next_check), (None, Some(NOW + TIMEOUT)));
    }

    #[test]
    fn the_first_wanted_tier_that_is_possible_is_taken() {
        for (tiers, action) in [
            (r#"["hibernate","throttle","suspend"]"#, Some(Tier::Throttle)),
            (r#"["delete"]"#, Some(Tier::Delete)),
            (r#"["hibernate"]"#, None),
        ] {
            assert_eq!(ask_with(&format!(r#"{{"tiers":{tiers}}}"#), |_| {}).action, action, "{tiers}");
        }
    }

    #[test]
    fn where_suspending_is_not_possible_it_stays_and_says_so() {
        let answer = ask(|q| q.tiers = vec![]);
        assert_eq!((answer.action, answer.next_check), (None, Some(NOW + TIMEOUT)));
        assert!(answer.reason.ends_with("but not possible for it: suspend"), "{}", answer.reason);
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        for (settings, field) in [
            (r#"{"tiers":[]}"#, "tiers: "),
            (r#"{"tiers":["sleep"]}"#, "tiers[0]: "),
            (r#"{"cpuMillicores":0}"#, "cpuMillicores: "),
        ] {
            let error = run::<IdleTimeout>(&quiet(), settings).unwrap_err();
            assert!(error.starts_with(field), "{settings}: {error}");
        }
    }
}
