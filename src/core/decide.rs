//! Decisions: pure functions from a snapshot and answers of plugins to questions and plans, with one pair for each
//! kind.
//!
//! [`questions`] returns the questions that plugins have to answer before the decision. [`decide`] returns the plan.

mod adopt;
mod ask;
mod claim;
mod pool;
pub mod pool_size;
mod review;
mod sandbox;
mod template;

use crate::plan::Plan;
use crate::question::{PluginReply, PluginRequest};
use crate::snapshot::Snapshot;

/// Returns the requests for plugins that come before a decision. The caller calls it again with all answers so far,
/// until it returns nothing.
#[must_use]
pub fn questions(snapshot: &Snapshot, replies: &[PluginReply]) -> Vec<PluginRequest> {
    match snapshot {
        Snapshot::Absent(_) | Snapshot::Terminating(_) | Snapshot::Observed(_) | Snapshot::Template(_) => vec![],
        Snapshot::Claim(snapshot) => claim::questions(snapshot, replies),
        Snapshot::Sandbox(snapshot) => sandbox::questions(snapshot, replies),
        Snapshot::Pool(snapshot) => pool::questions(snapshot, replies),
    }
}

/// Returns the plan for an object. The snapshot contains the time of the decision.
#[must_use]
pub fn decide(snapshot: &Snapshot, replies: &[PluginReply]) -> Plan {
    let mut plan = match snapshot {
        Snapshot::Absent(_) | Snapshot::Terminating(_) | Snapshot::Observed(_) => Plan::default(),
        Snapshot::Sandbox(snapshot) => sandbox::decide(snapshot, replies),
        Snapshot::Template(snapshot) => template::decide(snapshot),
        Snapshot::Pool(snapshot) => pool::decide(snapshot, replies),
        Snapshot::Claim(snapshot) => claim::decide(snapshot, replies),
    };
    plan.steps.retain(|step| !step.is_empty());
    plan
}
