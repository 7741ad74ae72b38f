//! The reconcile loop, with the same five steps for every kind: snapshot, questions, answers, plan, write.

mod reconciler;
mod trace;

pub use self::reconciler::Reconciler;
pub use self::trace::{Trace, Traces};
