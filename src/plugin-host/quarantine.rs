//! Quarantine: the time for which a plugin that failed several times in a row is not called.
//!
//! Each plugin has one of these pure state machines for each hook. Consecutive failures begin a quarantine. After the
//! quarantine the plugin is called again, and the next failure begins a quarantine of twice the length. A success
//! resets the state.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::QuarantinePolicy;

/// The recent failures of one plugin in one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    failures: u32,
    quarantines: u32,
    until: Option<Timestamp>,
}

impl Quarantine {
    /// The end of the current quarantine. `None` if the plugin may be called.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now)
    }

    /// Records a success, which resets the state.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Records a failure at this time. The failure may begin a quarantine.
    pub fn failed(&mut self, now: Timestamp, policy: QuarantinePolicy) {
        if self.until(now).is_some() {
            // The call began before the quarantine, so its failure does not count.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.quarantines == 0 && self.failures < policy.failures {
            return;
        }
        let length = length(self.quarantines, policy);
        self.quarantines = self.quarantines.saturating_add(1);
        self.failures = 0;
        self.until = Some(now.checked_add(length).unwrap_or(Timestamp::MAX));
    }
}

fn length(earlier: u32, policy: QuarantinePolicy) -> Duration {
    let factor = 1_u32.checked_shl(earlier).unwrap_or(u32::MAX);
    policy.first.saturating_mul(factor).min(policy.longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: QuarantinePolicy =
        QuarantinePolicy { failures: 3, first: Duration::from_secs(30), longest: Duration::from_secs(100) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The state after the events of a text, one each second from second 0. `F` is a failure, and `S` is a success.
    fn after(events: &str) -> Quarantine {
        let mut quarantine = Quarantine::default();
        for (second, event) in (0..).zip(events.chars()) {
            match event {
                'F' => quarantine.failed(at(second), POLICY),
                _ => quarantine.succeeded(),
            }
        }
        quarantine
    }

    #[test]
    fn consecutive_failures_begin_a_quarantine() {
        for (events, until) in [("", None), ("FF", None), ("FFF", Some(32)), ("FFSFF", None), ("FFSFFF", Some(35))] {
            assert_eq!(after(events).until(at(6)), until.map(at), "{events}");
        }
    }

    #[test]
    fn failures_of_running_calls_do_not_prolong_it() {
        assert_eq!(after("FFFFFFFF").until(at(6)), Some(at(32)));
    }

    #[test]
    fn quarantine_ends_by_itself() {
        let quarantine = after("FFF");
        assert_eq!(quarantine.until(at(31)), Some(at(32)));
        assert_eq!(quarantine.until(at(32)), None);
    }

    #[test]
    fn next_failure_doubles_the_quarantine_up_to_the_longest() {
        let mut quarantine = after("FFF");
        let mut lengths = vec![];
        for _ in 0..4 {
            let end = quarantine.until.unwrap();
            quarantine.failed(end, POLICY);
            lengths.push(quarantine.until.unwrap().duration_since(end).as_secs());
        }
        assert_eq!(lengths, [60, 100, 100, 100]);
    }

    #[test]
    fn success_after_a_quarantine_resets_the_state() {
        let mut quarantine = after("FFF");
        quarantine.succeeded();
        quarantine.failed(at(100), POLICY);
        assert_eq!(quarantine.until(at(100)), None);
    }
}
