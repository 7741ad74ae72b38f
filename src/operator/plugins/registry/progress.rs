//! The state of one image: what was pulled, what is wrong, and when the registry is asked again.

use std::time::Duration;

use paddock_kube::backoff::Backoff;

use crate::limits;
use crate::plugins::objects::{Component, Fault};

/// The result of one attempt without a fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The image is the one that was pulled before.
    Same,
    /// The image is another one, or more is known about it.
    New(Component),
}

/// The state of one image.
pub(super) struct Progress {
    poll: Duration,
    /// Whether the spec names a digest, which never names anything else.
    is_pinned: bool,
    failures: u32,
    component: Option<Component>,
    fault: Option<Fault>,
}

impl Progress {
    pub(super) fn new(poll: Duration, is_pinned: bool) -> Self {
        Self { poll, is_pinned, failures: 0, component: None, fault: None }
    }

    /// The component that was pulled last. It stays while its registry has a fault.
    pub(super) fn component(&self) -> Option<&Component> {
        self.component.as_ref()
    }

    /// The fault of the last attempt.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Takes in the result of an attempt.
    pub(super) fn take_in(&mut self, result: Result<Found, Fault>) {
        match result {
            Ok(found) => {
                if let Found::New(component) = found {
                    self.component = Some(component);
                }
                (self.fault, self.failures) = (None, 0);
            }
            Err(fault) => {
                self.fault = Some(fault);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// The wait before the next attempt. `None` if there is nothing left to ask. `chance` is from 0 to 1, and spreads the
    /// attempts of several replicas.
    pub(super) fn wait(&self, chance: f64) -> Option<Duration> {
        if let Some(earlier) = self.failures.checked_sub(1) {
            let first = limits::PLUGIN_PULL_RETRY.min(self.poll);
            let full = Backoff::new(first, self.poll).delay(earlier);
            return Some(full.mul_f64(1.0 - chance / 2.0));
        }
        let warns = self.component.as_ref().and_then(|component| component.image.as_ref()?.warning.as_ref()).is_some();
        if self.is_pinned && !warns {
            return None;
        }
        // Never later than the interval, so that all replicas follow within it.
        Some(self.poll.mul_f64(1.0 - chance / 10.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::objects::{FaultReason, Image};
    use crate::plugins::source::Content;

    const POLL: Duration = Duration::from_secs(60);

    fn image(digest: &str, warning: Option<&str>) -> Component {
        let content = Content::of(*b"component");
        let image = Image { digest: digest.to_owned(), warning: warning.map(str::to_owned) };
        Component { content, image: Some(image) }
    }

    fn unreachable() -> Fault {
        Fault::new(FaultReason::Unreachable, "no route")
    }

    #[test]
    fn tag_is_polled_within_the_interval_and_a_digest_is_pulled_once() {
        let mut tag = Progress::new(POLL, false);
        tag.take_in(Ok(Found::New(image("1", None))));
        assert_eq!((tag.wait(0.0), tag.wait(1.0)), (Some(POLL), Some(POLL.mul_f64(0.9))));
        tag.take_in(Ok(Found::Same));
        assert_eq!(tag.wait(0.0), Some(POLL));
        let mut pinned = Progress::new(POLL, true);
        pinned.take_in(Ok(Found::New(image("1", None))));
        assert_eq!(pinned.wait(0.5), None);
        // A signature that is missing may be added.
        pinned.take_in(Ok(Found::New(image("1", Some("no signature")))));
        assert_eq!(pinned.wait(0.0), Some(POLL));
    }

    #[test]
    fn failures_keep_the_component_and_space_the_attempts() {
        let mut progress = Progress::new(POLL, true);
        progress.take_in(Err(unreachable()));
        assert!(
            progress.component().is_none() && progress.wait(0.0).is_some(),
            "a digest is asked for until it is pulled"
        );
        progress.take_in(Ok(Found::New(image("1", None))));
        let mut waits = Vec::new();
        for _ in 0..7 {
            progress.take_in(Err(unreachable()));
            waits.push(progress.wait(0.0).unwrap().as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(progress.wait(1.0), Some(POLL / 2));
        assert_eq!(progress.component(), Some(&image("1", None)));
        assert_eq!(progress.fault().map(|fault| fault.reason), Some(FaultReason::Unreachable));
        progress.take_in(Ok(Found::Same));
        assert_eq!((progress.fault(), progress.wait(0.0)), (None, None));
    }

    #[test]
    fn short_interval_is_never_exceeded_by_a_retry() {
        let mut progress = Progress::new(Duration::from_millis(500), false);
        for _ in 0..9 {
            progress.take_in(Err(unreachable()));
            assert!(progress.wait(0.0).unwrap() <= Duration::from_millis(500));
        }
    }
}
