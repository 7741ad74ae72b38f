//! Decisions: what to ask, and what to do, from what was seen and answered. Pure functions, one pair a kind.

mod adopt;
mod ask;
mod claim;
mod pool;
mod sandbox;
mod template;

use crate::plan::Plan;
use crate::question::{PluginReply, PluginRequest};
use crate::snapshot::Snapshot;

/// What has to be asked before a decision; to be called again with the answers until nothing is left to ask.
#[must_use]
pub fn questions(snapshot: &Snapshot, answers: &[PluginReply]) -> Vec<PluginRequest> {
    match snapshot {
        Snapshot::Absent(_) | Snapshot::Terminating(_) | Snapshot::Template(_) | Snapshot::Claim(_) => vec![],
        Snapshot::Sandbox(snapshot) => sandbox::questions(snapshot, answers),
        Snapshot::Pool(snapshot) => pool::questions(snapshot, answers),
    }
}

/// What to do. `now` is in `seen`: the time of looking.
#[must_use]
pub fn decide(snapshot: &Snapshot, answers: &[PluginReply]) -> Plan {
    match snapshot {
        Snapshot::Absent(_) | Snapshot::Terminating(_) => Plan::default(),
        Snapshot::Sandbox(snapshot) => sandbox::decide(snapshot, answers),
        Snapshot::Template(snapshot) => template::decide(snapshot),
        Snapshot::Pool(snapshot) => pool::decide(snapshot, answers),
        Snapshot::Claim(snapshot) => claim::decide(snapshot),
    }
}
