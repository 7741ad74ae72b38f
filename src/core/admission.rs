//! Admission: review, questions, answers, verdict. It has the form of a reconcile, for an object that is not stored
//! yet.
//!
//! [`questions`] returns the requests that follow from the answers so far. When it returns nothing, [`verdict`] is
//! final. Both make the same checks in the same order, so an answer is only used for its own question.
//!
//! The API server makes two calls: first to mutate the object, and, after all webhooks, to validate it. Plugins are
//! asked in both calls, because another webhook may have changed the object in between. They may change the object only
//! in the first call. A claim with a reserved warm Sandbox gets only the first call, if the second one could have no
//! other result.
//!
//! The core enforces two rules, whatever plugins answer: it does not admit an object that does not parse, and a Pod
//! that is marked as running generated code must name an isolating RuntimeClass.

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

use crate::question::{PluginReply, PluginRequest};
use paddock_api::kind::Kind;
use state::{Halt, ReviewState};

/// Returns the requests for plugins that come next. If there are none, [`verdict`] is final.
#[must_use]
pub fn questions(review: &Review, context: &Context, replies: &[PluginReply]) -> Vec<PluginRequest> {
    let mut state = ReviewState::new(review, context, replies);
    match check(&mut state) {
        Err(Halt::Request(request)) => vec![*request],
        Err(Halt::Deny(_)) | Ok(()) => Vec::new(),
    }
}

/// Returns the verdict. If a request has no reply, the plugin counts as one that did not answer, and the object is
/// denied.
#[must_use]
pub fn verdict(review: &Review, context: &Context, replies: &[PluginReply]) -> ReviewVerdict {
    let mut state = ReviewState::new(review, context, replies);
    let denial = match check(&mut state) {
        Ok(()) => None,
        Err(Halt::Deny(denial)) => Some(*denial),
        Err(Halt::Request(request)) => Some(Denial {
            why: Why::PluginFailed,
            message: format!("plugin {} was not asked", request.plugin.name),
            causes: Vec::new(),
        }),
    };
    state.into_verdict(denial)
}

/// The kind of object that a review is about.
enum Target {
    /// A request that is admitted without checks.
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
    // Pods of kube-system must start even if this webhook fails. The webhook configuration excludes the namespace too.
    let system = review.namespace == "kube-system" && !context.in_reconcile;
    if ours || system || review.subresource.is_some() {
        return Target::Exempt;
    }
    match review.operation {
        Verb::Delete | Verb::Connect => return Target::Exempt,
        Verb::Create | Verb::Update => {}
    }
    // Clients must be able to remove the finalizers of a terminating object.
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
