//! Quarantine: a plugin that keeps failing is left alone for a while.
//!
//! A pure state machine, one for each plugin and hook. Failures in a row bring a plugin into quarantine;
//! when the stay is over one call is let through at a time, and the next failure brings it back for twice
//! as long. A success forgets everything.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::QuarantinePolicy;

/// What is known of one plugin's recent failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    failures: u32,
    stays: u32,
    until: Option<Timestamp>,
}

impl Quarantine {
    /// Until when the plugin is not called; `None` when it is.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now)
    }

    /// An answer came: all is forgotten.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// No answer came.
    pub fn failed(&mut self, now: Timestamp, policy: QuarantinePolicy) {
        if self.until(now).is_some() {
            // A call that was under way when the stay began.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.stays == 0 && self.failures < policy.failures {
            return;
        }
        let stay = stay(self.stays, policy);
        self.stays = self.stays.saturating_add(1);
        self.failures = 0;
        self.until = Some(now.checked_add(stay).unwrap_or(Timestamp::MAX));
    }
}

fn stay(stays: u32, policy: QuarantinePolicy) -> Duration {
    let factor = 1_u32.checked_shl(stays).unwrap_or(u32::MAX);
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

    /// Plays `F`ailures and `S`uccesses, a second apart from second 0.
    fn after(story: &str) -> Quarantine {
        let mut quarantine = Quarantine::default();
        for (second, event) in (0..).zip(story.chars()) {
            match event {
                'F' => quarantine.failed(at(second), POLICY),
                _ => quarantine.succeeded(),
            }
        }
        quarantine
    }

    #[test]
    fn failures_in_a_row_lead_there() {
        for (story, until) in [("", None), ("FF", None), ("FFF", Some(32)), ("FFSFF", None), ("FFSFFF", Some(35))] {
            assert_eq!(after(story).until(at(6)), until.map(at), "{story}");
        }
    }

    #[test]
    fn failures_of_calls_under_way_do_not_lengthen_the_stay() {
        assert_eq!(after("FFFFFFFF").until(at(6)), Some(at(32)));
    }

    #[test]
    fn it_ends_by_itself() {
        let quarantine = after("FFF");
        assert_eq!(quarantine.until(at(31)), Some(at(32)));
        assert_eq!(quarantine.until(at(32)), None);
    }

    #[test]
    fn the_next_failure_leads_back_for_twice_as_long_up_to_the_longest() {
        let mut quarantine = after("FFF");
        let mut stays = vec![];
        for _ in 0..4 {
            let end = quarantine.until.unwrap();
            quarantine.failed(end, POLICY);
            stays.push(quarantine.until.unwrap().duration_since(end).as_secs());
        }
        assert_eq!(stays, [60, 100, 100, 100]);
    }

    #[test]
    fn a_success_after_the_stay_forgets_it() {
        let mut quarantine = after("FFF");
        quarantine.succeeded();
        quarantine.failed(at(100), POLICY);
        assert_eq!(quarantine.until(at(100)), None);
    }
}
