//! Whether a watch has failed for so long that its kind counts as unknown.

use tokio::time::Instant;

use crate::limits;

/// The failures of a watch since its last success. A watch that is established again delivers nothing until an object
/// changes. If the failures go on for long, the kind is therefore listed again, because only a list shows a success.
#[derive(Debug, Default)]
pub(super) enum Outage {
    /// The last attempt had success, or nothing is known yet.
    #[default]
    None,
    /// Attempts have failed since `since`, the last one at `last`.
    Failing { since: Instant, last: Instant },
    /// They have failed for so long that the kind is listed again.
    Suspected,
    /// The list failed too.
    Confirmed,
}

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The watch is tried again.
    Retry,
    /// The kind is listed.
    List,
    /// The kind is unknown, and its list is tried again.
    Unknown,
}

impl Outage {
    /// Records a failure.
    pub(super) fn failed(&mut self, now: Instant) -> Consequence {
        let (next, consequence) = match self {
            Outage::Failing { since, last } if now - *last <= limits::WATCH_FAILURE_GAP => {
                if now - *since >= limits::WATCH_OUTAGE {
                    (Outage::Suspected, Consequence::List)
                } else {
                    (Outage::Failing { since: *since, last: now }, Consequence::Retry)
                }
            }
            // A watch that lived for a while in between was no failure.
            Outage::None | Outage::Failing { .. } => (Outage::Failing { since: now, last: now }, Consequence::Retry),
            Outage::Suspected | Outage::Confirmed => (Outage::Confirmed, Consequence::Unknown),
        };
        *self = next;
        consequence
    }

    /// Records an event of the watch. It does not end a suspicion, because the events of an incomplete list show nothing.
    pub(super) fn event(&mut self) {
        match self {
            Outage::None | Outage::Failing { .. } => *self = Outage::None,
            Outage::Suspected | Outage::Confirmed => {}
        }
    }

    /// Records a complete list. Returns whether the kind was unknown before.
    pub(super) fn listed(&mut self) -> bool {
        matches!(std::mem::take(self), Outage::Confirmed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_failures_without_a_pause_between_them_are_an_outage() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        // A load balancer cuts the watch once a minute.
        for minute in 0..10 {
            assert_eq!(outage.failed(at(minute * 60)), Consequence::Retry);
        }
        outage.event();
        for second in (600..660).step_by(10) {
            assert_eq!(outage.failed(at(second)), Consequence::Retry, "{second}");
        }
        assert_eq!(outage.failed(at(660)), Consequence::List);
        assert!(!outage.listed(), "the list shows that all is well");
        for second in (700..760).step_by(10) {
            assert_eq!(outage.failed(at(second)), Consequence::Retry, "{second}");
        }
        assert_eq!(outage.failed(at(760)), Consequence::List);
        outage.event();
        assert_eq!(outage.failed(at(761)), Consequence::Unknown);
        assert_eq!(outage.failed(at(900)), Consequence::Unknown);
        assert!(outage.listed());
        assert_eq!(outage.failed(at(901)), Consequence::Retry);
    }
}
