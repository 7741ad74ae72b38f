//! Whether a watch has failed for so long that its kind counts as unknown.

use std::time::Duration;

use paddock_kube::watch::Attempt;
use tokio::time::Instant;

use crate::limits;

/// The failures of a watch since its last success. A watch that is established again delivers nothing until an object
/// changes. If the failures go on for long, the kind is therefore listed again, because only a list shows a success.
#[derive(Debug, Default)]
pub(crate) enum Outage {
    /// The last attempt had success, or nothing is known yet.
    #[default]
    None,
    /// Attempts have failed since `since`. The last one was `attempt`, and failed at `last`.
    Failing { since: Instant, last: Instant, attempt: Attempt },
    /// They have failed for so long that the kind is listed again.
    Suspected,
    /// The list failed too.
    Confirmed,
}

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// The watch is tried again.
    Retry,
    /// The kind is listed.
    List,
    /// The kind is unknown, and its list is tried again.
    Unknown,
}

impl Outage {
    /// Records the failure of an attempt.
    pub(crate) fn failed(&mut self, attempt: Attempt, now: Instant) -> Consequence {
        let (next, consequence) = match *self {
            Outage::Failing { since, last, attempt: before } if now - last <= longest_gap(before, attempt) => {
                if now - since < limits::WATCH_OUTAGE {
                    (Outage::Failing { since, last: now, attempt }, Consequence::Retry)
                } else {
                    match attempt {
                        Attempt::List => (Outage::Confirmed, Consequence::Unknown),
                        Attempt::Start | Attempt::Watch => (Outage::Suspected, Consequence::List),
                    }
                }
            }
            // A watch that lived for a while in between was no failure.
            Outage::None | Outage::Failing { .. } => {
                (Outage::Failing { since: now, last: now, attempt }, Consequence::Retry)
            }
            Outage::Suspected | Outage::Confirmed => (Outage::Confirmed, Consequence::Unknown),
        };
        *self = next;
        consequence
    }

    /// Records an event of an established watch. It does not end a suspicion, because only a list does.
    pub(crate) fn event(&mut self) {
        match self {
            Outage::None | Outage::Failing { .. } => *self = Outage::None,
            Outage::Suspected | Outage::Confirmed => {}
        }
    }

    /// Records a complete list. Returns whether the kind was unknown before.
    pub(crate) fn listed(&mut self) -> bool {
        matches!(std::mem::take(self), Outage::Confirmed)
    }
}

/// The longest time between two failures of the same outage.
fn longest_gap(before: Attempt, attempt: Attempt) -> Duration {
    match (before, attempt) {
        // After a list that failed, nothing but a complete list is a success. A list may take any time.
        (Attempt::List, Attempt::List | Attempt::Start | Attempt::Watch) => Duration::MAX,
        (Attempt::Start | Attempt::Watch, Attempt::List | Attempt::Start) => limits::WATCH_START_FAILURE_GAP,
        (Attempt::Start | Attempt::Watch, Attempt::Watch) => limits::WATCH_FAILURE_GAP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_without_a_pause_between_them_are_an_outage() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        // A load balancer cuts the watch once a minute.
        for minute in 0..10 {
            assert_eq!(outage.failed(Attempt::Watch, at(minute * 60)), Consequence::Retry);
        }
        outage.event();
        for second in (600..660).step_by(10) {
            assert_eq!(outage.failed(Attempt::Watch, at(second)), Consequence::Retry, "{second}");
        }
        assert_eq!(outage.failed(Attempt::Watch, at(660)), Consequence::List);
        assert!(!outage.listed(), "the list shows that all is well");
        for second in (700..760).step_by(10) {
            assert_eq!(outage.failed(Attempt::Watch, at(second)), Consequence::Retry, "{second}");
        }
        assert_eq!(outage.failed(Attempt::Watch, at(760)), Consequence::List);
        outage.event();
        assert_eq!(outage.failed(Attempt::Watch, at(761)), Consequence::Unknown);
        assert_eq!(outage.failed(Attempt::Watch, at(900)), Consequence::Unknown);
        assert!(outage.listed());
        assert_eq!(outage.failed(Attempt::Watch, at(901)), Consequence::Retry);
    }

    /// The consequences of failures at these seconds.
    fn consequences(failures: &[(Attempt, u64)]) -> Vec<Consequence> {
        let (begin, mut outage) = (Instant::now(), Outage::default());
        failures.iter().map(|(attempt, at)| outage.failed(*attempt, begin + Duration::from_secs(*at))).collect()
    }

    #[test]
    fn attempts_that_fail_slowly_are_an_outage() {
        use Attempt::{List as L, Start as S, Watch as W};
        use Consequence::{List, Retry, Unknown};
        for (failures, expected) in [
            // Each attempt hangs until the connection gives up.
            (vec![(S, 0), (S, 85), (L, 170), (L, 255)], vec![Retry, List, Unknown, Unknown]),
            (vec![(L, 0), (L, 85)], vec![Retry, Unknown]),
            (vec![(W, 0), (S, 80), (L, 165)], vec![Retry, List, Unknown]),
            // An overloaded API server ends a list after a minute, and an old version ends it after minutes.
            (vec![(L, 0), (L, 70)], vec![Retry, Unknown]),
            (vec![(L, 0), (L, 400), (L, 800)], vec![Retry, Unknown, Unknown]),
            (vec![(L, 0), (L, 30), (L, 59), (L, 60)], vec![Retry, Retry, Retry, Unknown]),
            // A watch or its start that works for a while in between.
            (vec![(W, 0), (W, 60), (W, 120), (W, 180)], vec![Retry; 4]),
            (vec![(S, 0), (W, 60), (S, 86_400), (L, 172_800)], vec![Retry; 4]),
            (vec![(W, 0), (L, 600), (L, 601)], vec![Retry; 3]),
        ] {
            assert_eq!(consequences(&failures), expected, "{failures:?}");
        }
    }
}
