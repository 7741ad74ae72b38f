//! Admission: review, questions, answers, verdict. The same sentence as a reconcile, for an object that is not stored yet.
//!
//! [`questions`] names what is to be asked next, given what was answered so far; when it returns nothing,
//! [`verdict`] is final. Both walk the same path, so an answer is never used for another question than its own.
//! The API server calls twice: to mutate, and, when every webhook has had its turn, to validate. Plugins are asked
//! both times, since another webhook may have changed the object in between; only the first time may they change it.
//! A claim for which a warm Sandbox is reserved is asked about once, where the second call could say nothing else.
//!
//! What the core enforces itself, whatever plugins answer: an object that does not parse is not admitted, and a Pod
//! marked as running generated code names an isolating RuntimeClass.

mod activity;
mod chain;
mod class;
mod defaults;
mod facts;
mod kinds;
mod outcome;
mod patch;
mod pods;
mod reservation;
mod review;
mod state;
mod warnings;

use serde_json::Value;

pub use activity::{Activity, activity};
pub use chain::{Chain, PluginFailure, first_answer};
pub use class::accept_class;
pub use facts::reserve;
pub use outcome::{Cause, Denial, ReviewVerdict, Why};
pub use reservation::WarmReservations;
pub use review::{ConnectedSandbox, Context, Entry, Phase, Review, Verb};

use crate::kind::Kind;
use crate::question::{PluginReply, PluginRequest};
use state::{Halt, ReviewState};

/// What is to be asked next; empty when [`verdict`] is final.
#[must_use]
pub fn questions(review: &Review, context: &Context, answered: &[PluginReply]) -> Vec<PluginRequest> {
    let mut state = ReviewState::new(review, context, answered);
    match check(&mut state) {
        Err(Halt::Request(ask)) => vec![*ask],
        Err(Halt::Deny(_)) | Ok(()) => Vec::new(),
    }
}

/// The outcome. A question that was left open counts as a plugin that did not answer, and denies.
#[must_use]
pub fn verdict(review: &Review, context: &Context, answered: &[PluginReply]) -> ReviewVerdict {
    let mut state = ReviewState::new(review, context, answered);
    let denial = match check(&mut state) {
        Ok(()) => None,
        Err(Halt::Deny(denial)) => Some(*denial),
        Err(Halt::Request(ask)) => Some(Denial {
            why: Why::PluginFailed,
            message: format!("plugin {} was not asked", ask.plugin.name),
            causes: Vec::new(),
        }),
    };
    state.into_verdict(denial)
}

/// The resource that a review is about.
enum Target {
    /// Decided already, or none of our business.
    Exempt,
    /// A kind that Paddock serves.
    Own(Kind),
    /// A Pod.
    Pod,
}

fn check(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    match subject(state.review, state.context) {
        Target::Exempt => Ok(()),
        Target::Own(kind) => kinds::check(state, kind),
        Target::Pod => pods::check(state),
    }
}

fn subject(review: &Review, context: &Context) -> Target {
    let ours = context.operator_user.as_ref().is_some_and(|user| **user == review.username);
    // kube-system must come up whatever became of this webhook; the registration leaves it out too.
    let system = review.namespace == "kube-system" && !context.in_reconcile;
    if ours || system || review.subresource.is_some() {
        return Target::Exempt;
    }
    match review.operation {
        Verb::Delete | Verb::Connect => return Target::Exempt,
        Verb::Create | Verb::Update => {}
    }
    // An object that is on its way out must be able to lose its finalizers.
    if review.object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
        return Target::Exempt;
    }
    match (review.group.as_str(), review.resource.as_str()) {
        ("", "pods") => Target::Pod,
        (group, resource) => Kind::of_resource(group, resource).map_or(Target::Exempt, Target::Own),
    }
}

#[cfg(test)]
mod tests;
