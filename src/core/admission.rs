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
//! A review that needs a fact which no watch has delivered is denied, and the user tries again ([`Missing`]).
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
mod missing;
mod outcome;
mod own_namespace;
mod patch;
mod pods;
mod reservation;
mod review;
mod state;
mod target;
mod touch;
mod warnings;

pub use accept::{Acceptance, accept};
pub(crate) use accept::{idle_check, kept_size, pool_check};
pub use activity::{Activity, CONNECTIONS, activity};
pub use chain::{Chain, PluginFailure, first_answer};
pub use class::accept_class;
pub use facts::reserve;
pub use kinds::{invalid_fields, marker_errors};
pub use missing::awaits_a_fact;
pub use outcome::{Cause, Denial, ReviewVerdict, Why};
pub use pods::ENDS_OR_MOVES;
pub use reservation::WarmReservations;
pub use review::{ConnectedSandbox, Context, Entry, Missing, Phase, Review, Verb, Write};
pub use target::FINALIZER_UPDATE_FIELDS;
pub use touch::{Touch, not_recorded, touch};

use crate::question::{PluginReply, PluginRequest};
use state::{Halt, ReviewState};
use target::{Target, target};

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

fn check(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    let target = target(state.review, state.context);
    missing::check(state, &target)?;
    match target {
        Target::Exempt => Ok(()),
        Target::Own(_) if state.context.in_reconcile => kinds::ask_again(state),
        Target::Own(kind) => kinds::check(state, kind),
        Target::Pod => pods::check(state),
        Target::OwnNamespace => own_namespace::check(state),
    }
}

#[cfg(test)]
mod tests;
