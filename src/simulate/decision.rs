//! What a reconcile of the pool sees, and what it decides.

use jiff::Timestamp;
use paddock_core::snapshot::Demand;

/// The pool at the time of a reconcile.
pub(crate) struct View<'a> {
    /// The time in milliseconds since the beginning of the trace.
    pub(crate) at: u64,
    /// The same time.
    pub(crate) now: Timestamp,
    /// The members that are Ready.
    pub(crate) ready: usize,
    /// The members that are not Ready yet.
    pub(crate) creating: usize,
    /// The Sandboxes that claims keep.
    pub(crate) claimed: usize,
    /// The recent demand.
    pub(crate) demand: &'a Demand,
    /// All arrivals until now, in milliseconds since the beginning of the trace.
    pub(crate) arrived: &'a [u64],
}

/// The size, and the time of the next reconcile at the latest, in milliseconds since the beginning of the trace.
pub(crate) struct Decided {
    pub(crate) desired: u32,
    pub(crate) next: Option<u64>,
}

/// What becomes of the status of the pool at the end of a reconcile.
pub(crate) enum StatusWrite {
    /// It has no difference.
    None,
    /// It may be written at this time, in milliseconds since the beginning of the trace.
    Due(u64),
    /// It was written.
    Written,
}
