//! The lanes of calls. Calls of different lanes share no quarantine, no log lines and no share of a namespace.
//!
//! Anybody who reaches the webhook without a certificate can name any namespace in a review, and so use up what this
//! namespace has. The lanes keep such reviews away from the calls of the operator itself.

use paddock_core::question::Caller;

/// A lane of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// The calls of verified callers, and the trials of components.
    Verified,
    /// The questions of unverified callers.
    Unverified,
    /// The checks of settings for unverified callers. Such a check is about no namespace, so made-up reviews of objects
    /// without a namespace would otherwise have the same share.
    UnverifiedSettings,
}

impl Lane {
    /// The lane of a question.
    pub(crate) fn of_question(caller: Caller) -> Self {
        match caller {
            Caller::Verified => Self::Verified,
            Caller::Unverified => Self::Unverified,
        }
    }

    /// The lane of a check of settings.
    pub(crate) fn of_settings(caller: Caller) -> Self {
        match caller {
            Caller::Verified => Self::Verified,
            Caller::Unverified => Self::UnverifiedSettings,
        }
    }

    /// The largest part of the budget that the calls of this lane may hold together, as a divisor. A single call may be
    /// larger than this part. As long as none is, a quarter remains for verified callers.
    pub(crate) fn divisor(self) -> u32 {
        match self {
            Self::Verified => 1,
            Self::Unverified => 2,
            Self::UnverifiedSettings => 4,
        }
    }
}

/// A value for each lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerLane<T> {
    verified: T,
    unverified: T,
    unverified_settings: T,
}

impl<T> PerLane<T> {
    pub(crate) fn get(&self, lane: Lane) -> &T {
        match lane {
            Lane::Verified => &self.verified,
            Lane::Unverified => &self.unverified,
            Lane::UnverifiedSettings => &self.unverified_settings,
        }
    }

    pub(crate) fn get_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Verified => &mut self.verified,
            Lane::Unverified => &mut self.unverified,
            Lane::UnverifiedSettings => &mut self.unverified_settings,
        }
    }
}
