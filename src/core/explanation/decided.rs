//! What the operator decided: sentences about a plan.

use super::words::when;
use crate::plan::{Action, Op, Plan};

/// Sentences about a plan. They name objects and reasons, and not the content of writes.
#[must_use]
pub fn decided(plan: &Plan) -> Vec<String> {
    let mut lines: Vec<String> = plan.ops().map(operation).collect();
    if lines.is_empty() {
        lines.push("Nothing had to be written.".to_owned());
    }
    for event in plan.events.iter().chain(&plan.results) {
        let kind = if event.warning { "Warning" } else { "Normal" };
        lines.push(format!("It sent the {kind} Event {}: {}", event.reason, event.note));
    }
    lines.push(match &plan.requeue {
        Some(requeue) => {
            let (at, reason) = (when(requeue.at), requeue.reason);
            format!("It decides again at {at} ({reason}), or earlier if something changes.")
        }
        None => "It decides again when something changes.".to_owned(),
    });
    lines
}

fn operation(op: &Op) -> String {
    let verb = match &op.action {
        Action::Create { .. } => "create",
        Action::Patch { status: true, .. } => "write the status of",
        Action::Patch { status: false, .. } => "patch",
        Action::Resize { .. } => "resize",
        Action::Adopt { .. } => "adopt",
        Action::Deliver { .. } => "deliver the data of a claim to",
        Action::Delete { .. } => "delete",
    };
    format!("It decided to {verb} {} {} ({}).", op.key.kind.name(), op.key.name, op.reason)
}
