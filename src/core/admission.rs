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
//! A reconcile makes the reviews of `decide::review` with the same functions: of a claim before it gets a Sandbox, and
//! of a Sandbox and its Pod before the Pod is created.
//!
//! The core enforces two rules, whatever plugins answer: it does not admit an object that does not parse, and a Pod of
//! generated code must be isolated ([`isolation`](crate::isolation)).
//!
//! No field that the requester sets exempts a request. There are three exemptions: requests of the operator itself,
//! except that its Pods are validated; kube-system; and an update of a terminating object that changes only finalizers.

mod accept;
mod activity;
mod chain;
mod class;
mod defaults;
mod facts;
mod kinds;
mod outcome;
mod own_namespace;
mod patch;
mod pods;
mod reservation;
mod review;
mod state;
mod touch;
mod warnings;

use serde_json::Value;

pub use accept::{Acceptance, accept};
pub(crate) use accept::{idle_check, kept_size, pool_check};
pub use activity::{Activity, CONNECTIONS, activity};
pub use chain::{Chain, PluginFailure, first_answer};
pub use class::accept_class;
pub use facts::reserve;
pub use kinds::{invalid_fields, marker_errors};
pub use outcome::{Cause, Denial, ReviewVerdict, Why};
pub use pods::ENDS_OR_MOVES;
pub use reservation::WarmReservations;
pub use review::{ConnectedSandbox, Context, Entry, Phase, Review, Verb, Write};
pub use touch::{Touch, not_recorded, touch};

use crate::question::{PluginReply, PluginRequest};
use paddock_api::kind::Kind;
use state::{Halt, ReviewState};

/// Returns the requests for plugins that come next. If there are none, [`verdict`] is final.
///
/// Bindings that do not act come last. Once only they are left, the decision is final, and their answers add warnings and
/// annotations at most.
#[must_use]
pub fn questions(review: &Review, context: &Context, replies: &[PluginReply]) -> Vec<PluginRequest> {
    let mut state = ReviewState::new(review, context, replies);
    match check(&mut state) {
        Err(Halt::Request(request)) => vec![*request],
        Err(Halt::Deny(_)) | Ok(()) => state.into_later().map(|request| *request).into_iter().collect(),
    }
}

/// Returns the verdict. If a request for a binding that acts has no reply, the plugin counts as one that did not answer,
/// and the object is denied.
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
    /// The namespace in which the operator runs.
    OwnNamespace,
}

fn check(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    match target(state.review, state.context) {
        Target::Exempt => Ok(()),
        Target::Own(_) if state.context.in_reconcile => kinds::ask_again(state),
        Target::Own(kind) => kinds::check(state, kind),
        Target::Pod => pods::check(state),
        Target::OwnNamespace => own_namespace::check(state),
    }
}

fn target(review: &Review, context: &Context) -> Target {
    // Pods of kube-system must start even if this webhook fails. The webhook configuration excludes the namespace too.
    let system = review.namespace == "kube-system" && !context.in_reconcile;
    match review.operation {
        _ if system => return Target::Exempt,
        Verb::Delete | Verb::Connect => return Target::Exempt,
        Verb::Update if changes_only_finalizers(review) => return Target::Exempt,
        Verb::Create | Verb::Update => {}
    }
    let target = match (review.group.as_str(), review.resource.as_str(), review.subresource.as_deref()) {
        ("", "pods", None) => Target::Pod,
        // Ephemeral containers, a resize and the metadata in a status change a running pod.
        ("", "pods", Some(_)) if review.operation == Verb::Update => Target::Pod,
        ("", "namespaces", None) if context.settings.own_namespace.as_deref() == Some(&review.name) => {
            Target::OwnNamespace
        }
        (group, resource, None) => Kind::of_resource(group, resource).map_or(Target::Exempt, Target::Own),
        (_, _, Some(_)) => Target::Exempt,
    };
    match target {
        // The validation of a Pod is the only check after all other webhooks, so it includes the operator's own Pods.
        Target::Pod if review.phase == Phase::Validate => target,
        Target::Exempt | Target::Own(_) | Target::Pod | Target::OwnNamespace if context.is_operator(review) => {
            Target::Exempt
        }
        Target::Exempt | Target::Own(_) | Target::Pod | Target::OwnNamespace => target,
    }
}

/// Whether an update changes nothing but the finalizers of a terminating object. Clients must be able to remove them,
/// even from an object that is not valid. The stored object decides whether it is terminating: a client can send any
/// `deletionTimestamp` with a server-side apply.
fn changes_only_finalizers(review: &Review) -> bool {
    if !review.old_object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
        return false;
    }
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            // The API server changes the other three fields with every write.
            for field in ["finalizers", "managedFields", "resourceVersion", "generation"] {
                metadata.remove(field);
            }
        }
        object
    };
    rest(&review.object) == rest(&review.old_object)
}

#[cfg(test)]
mod tests;
