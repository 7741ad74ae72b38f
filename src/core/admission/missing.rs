//! Facts that a review needs and that no watch has delivered. The request is denied. Otherwise, an unknown pod would
//! count as a pod of no Sandbox, and an unknown namespace as one that no policy selects, both in favour of the user.

use paddock_api::names::label;

use super::kinds;
use super::outcome::Why;
use super::pods;
use super::review::{Context, Entry, Missing, Review};
use super::state::{Halt, ReviewState, deny};
use super::target::{Target, target};
use crate::binding::{Binding, FailurePolicy};
use crate::isolation::IsolationRule;
use crate::question::Hook;

/// Whether a review would be denied for the lack of a fact that may arrive in a moment.
#[must_use]
pub fn awaits_a_fact(review: &Review, context: &Context) -> bool {
    let may_arrive = match context.missing {
        Some(Missing::Namespace | Missing::Connected) => true,
        Some(Missing::FreshLabels) | None => false,
    };
    may_arrive && check(&ReviewState::new(review, context, &[]), &target(review, context)).is_err()
}

/// Denies a review that needs a fact which is missing.
pub(super) fn check(state: &ReviewState<'_>, target: &Target) -> Result<(), Halt> {
    let review = state.review;
    match state.context.missing {
        Some(Missing::Connected) if review.namespace != "kube-system" => Err(deny(
            Why::NotSeen,
            format!(
                "the operator has not seen {} {} yet, or the Sandbox that it belongs to, so it cannot record the \
                 connection; if it exists, try again",
                review.resource, review.name
            ),
        )),
        Some(Missing::Namespace | Missing::FreshLabels) => match depends_on_labels(state, target) {
            Some(policy) => Err(deny(
                Why::NotSeen,
                format!(
                    "the operator has not seen the namespace {} yet, or no longer knows its labels, so it cannot tell \
                     whether {policy} applies; try again",
                    review.namespace
                ),
            )),
            None => Ok(()),
        },
        Some(Missing::Connected) | None => Ok(()),
    }
}

/// The name of a policy that depends on the labels of the namespace.
fn depends_on_labels(state: &ReviewState<'_>, target: &Target) -> Option<String> {
    let binding = needs_labels(state, target).map(|binding| binding.name.clone());
    binding.or_else(|| uncertain_rule(state, target).map(|rule| Binding::name_of_policy(&rule.policy)))
}

/// A rule about isolation of which it is not known whether it applies, if the review judges the isolation of a pod.
fn uncertain_rule<'a>(state: &ReviewState<'a>, target: &Target) -> Option<&'a IsolationRule> {
    let context = state.context;
    let judges = match target {
        Target::Own(_) => kinds::judges_isolation(state),
        Target::Pod => pods::judges_isolation(state),
        Target::Exempt | Target::OwnNamespace => false,
    };
    let labels = context.namespace();
    context.bindings.isolation().iter().filter(|_| judges).find(|rule| rule.applies(&labels).is_none())
}

/// A binding that depends on the labels of the namespace: by its selector, or because its plugin gets them. If the
/// binding admits what its plugin cannot judge, it needs no labels. One label has the name of the namespace. The review
/// contains the name, so a selector for other names excludes the binding.
fn needs_labels<'a>(state: &ReviewState<'a>, target: &Target) -> Option<&'a Binding> {
    let (review, context) = (state.review, state.context);
    let asks = match target {
        Target::Own(_) => review.entry != Entry::OwnedSandboxes,
        Target::Pod => pods::asks_plugins(state),
        Target::Exempt | Target::OwnNamespace => false,
    };
    let is_asked = |binding: &&Binding| {
        let of_hook = match binding.hook {
            Hook::Admission => binding.reviews_kind(&review.kind),
            Hook::RuntimeClass => matches!(target, Target::Pod),
            Hook::Idle | Hook::PoolSize => false,
        };
        of_hook
            && !binding.built_in
            && binding.mode.acts()
            && binding.failure_policy == FailurePolicy::Fail
            && !binding.namespaces.excludes(label::NAMESPACE_NAME, &review.namespace)
    };
    context.bindings.iter().filter(|_| asks).find(is_asked)
}
