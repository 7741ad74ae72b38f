//! The events that queue a key. They are a label of logs and metrics.

use strum::{IntoStaticStr, VariantArray};

/// The event that queued a key. It is for logs and metrics only, and no decision depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Trigger {
    /// The object itself changed, and not by one of our writes.
    Changed,
    /// An object that this one depends on changed.
    Related,
    /// The requeue time of a plan has come.
    Wake,
    /// A write did not succeed, or a plan was stale.
    Retry,
    /// This replica became the leader.
    Leading,
    /// The periodic resync.
    Resync,
}

impl Trigger {
    /// The word in the label of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub(super) fn background(self) -> bool {
        match self {
            Trigger::Resync | Trigger::Leading => true,
            Trigger::Changed | Trigger::Related | Trigger::Wake | Trigger::Retry => false,
        }
    }
}
