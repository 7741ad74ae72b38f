//! The restorations of one configuration. If somebody undoes every one of them, the operator restores seldom, and shows
//! the difference.

use serde_json::Value;
use tokio::time::Instant;

use super::super::registered::RegisteredEntry;
use crate::limits;

/// What a restoration writes and what it replaces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Restoration {
    /// The operator's own entries.
    pub(super) entries: Vec<Value>,
    /// The entries that differ from them.
    pub(super) differ: Vec<RegisteredEntry>,
}

/// Whether a difference is restored now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is restored.
    Restore,
    /// It is restored, although somebody undid the last restorations. It counts as a difference until a later check.
    RestoreAndShow,
    /// It is shown, because somebody undid the last restorations.
    Show,
}

/// The last restorations of one configuration.
#[derive(Default)]
pub(super) struct Restores {
    last: Option<(Restoration, Instant)>,
    /// The number of times in a row that the last restoration was made.
    times: u32,
}

impl Restores {
    /// Whether this restoration may be made now.
    pub(super) fn turn(&self, next: &Restoration) -> Turn {
        match &self.last {
            Some((last, at)) if self.undone(next, last, *at) && self.times >= limits::RESTORES_IN_A_ROW => {
                if at.elapsed() < limits::RESTORE_PAUSE { Turn::Show } else { Turn::RestoreAndShow }
            }
            Some(_) | None => Turn::Restore,
        }
    }

    /// Notes a restoration that the API server has accepted.
    pub(super) fn restored(&mut self, made: Restoration) {
        let again = self.last.as_ref().is_some_and(|(last, at)| self.undone(&made, last, *at));
        self.times = if again { self.times.saturating_add(1) } else { 1 };
        self.last = Some((made, Instant::now()));
    }

    /// Whether the same was restored shortly before.
    fn undone(&self, next: &Restoration, last: &Restoration, at: Instant) -> bool {
        next == last && at.elapsed() < limits::RESTORE_PAUSE * 2
    }
}
