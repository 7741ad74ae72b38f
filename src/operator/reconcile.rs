//! The reconcile loop, the same five steps for every kind: snapshot, ask, answer, plan, write.

mod reconciler;
mod trace;

pub use self::reconciler::Reconciler;
pub use self::trace::{Trace, Traces};
