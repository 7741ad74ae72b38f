//! What put a key into the queue: the label of logs and metrics.

/// What put a key into the queue. For logs and metrics: a decision does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The object itself changed, and not by our own hand.
    Changed,
    /// Something that it depends on changed.
    Related,
    /// A plan asked to be woken.
    Wake,
    /// A write did not succeed, or a plan was stale.
    Retry,
    /// This replica took the lead.
    Leading,
    /// The periodic pass.
    Resync,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Trigger; 6] =
        [Trigger::Changed, Trigger::Related, Trigger::Wake, Trigger::Retry, Trigger::Leading, Trigger::Resync];

    /// The label of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Changed => "changed",
            Trigger::Related => "related",
            Trigger::Wake => "wake",
            Trigger::Retry => "retry",
            Trigger::Leading => "leading",
            Trigger::Resync => "resync",
        }
    }

    pub(super) fn background(self) -> bool {
        match self {
            Trigger::Resync | Trigger::Leading => true,
            Trigger::Changed | Trigger::Related | Trigger::Wake | Trigger::Retry => false,
        }
    }
}
