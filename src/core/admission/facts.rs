//! The parts of the World that a review uses.

use std::sync::Arc;

use paddock_api::kind::Kind;
use paddock_api::names::label;

use super::activity::connects;
use super::defaults::first_observed;
use super::review::{ConnectedSandbox, Context, Entry, Missing, Phase, Review, Verb};
use crate::world::{Connected, NewClaim, World};

impl Context {
    /// Returns the context of a review from the World, which contains this namespace or all of them.
    #[must_use]
    pub fn of(world: &World, review: &Review, watched: Option<&str>, operator_user: Option<Arc<str>>) -> Self {
        let connected = match review.operation {
            Verb::Connect => Some(world.connected(&review.resource, &review.namespace, &review.name)),
            Verb::Create | Verb::Update | Verb::Delete => None,
        };
        let sandbox = connected.and_then(Connected::sandbox);
        let updates_sandbox = review.operation == Verb::Update
            && review.resource == Kind::Sandbox.plural()
            && review.group == Kind::Sandbox.group();
        let missing = missing(world, review, (connected, watched));
        let namespace_labels = match missing {
            // The API server gives each namespace this label.
            Some(Missing::Namespace) => [(label::NAMESPACE_NAME.to_owned(), review.namespace.clone())].into(),
            Some(Missing::FreshLabels | Missing::Connected) | None => world.namespace_labels(&review.namespace),
        };
        Self {
            namespace_labels,
            missing,
            classes: world.classes().clone(),
            bindings: world.bindings().clone(),
            settings: world.settings().clone(),
            operator_user,
            reserved_sandbox: None,
            claim_problems: world.problems_of_claim(&review.group, &review.resource, &review.namespace, &review.object),
            sandbox_of_claim: world.sandbox_of_claim(&review.group, &review.resource, &review.namespace, &review.name),
            sandbox: sandbox.map(|sandbox| ConnectedSandbox {
                key: sandbox.key.clone(),
                uid: sandbox.meta.uid.clone(),
                resource_version: sandbox.meta.resource_version.clone(),
                in_pool: sandbox.meta.in_pool(),
                untouched_in_pool: sandbox.meta.in_pool() && !sandbox.meta.edited(),
                idle_timeout: sandbox.sandbox().and_then(|s| s.spec.as_ref().ok()).and_then(|s| s.idle_timeout),
                throttled: sandbox.sandbox().and_then(|s| s.status.throttle.as_deref()?.throttled_since()),
                annotations: sandbox.meta.annotations.clone(),
            }),
            exposed_by: updates_sandbox.then(|| world.exposed_by(&review.namespace, &review.name)).flatten(),
            in_reconcile: false,
        }
    }
}

/// The fact that the World lacks for a review. `connected` is the end of a connection. An operator that watches only one
/// namespace knows no Pod of another one, and has nothing to do with it.
fn missing(
    world: &World,
    review: &Review,
    (connected, watched): (Option<Connected<'_>>, Option<&str>),
) -> Option<Missing> {
    let Some(connected) = connected else {
        let is_missing = !review.namespace.is_empty() && !world.namespace_known(&review.namespace);
        return is_missing.then_some(Missing::Namespace);
    };
    let is_watched = watched.is_none_or(|watched| watched == review.namespace);
    let is_missing = is_watched && connects(review) && matches!(connected, Connected::Unknown);
    is_missing.then_some(Missing::Connected)
}

/// Reserves a warm Sandbox for the claim of a review, and returns the name of the Sandbox. The review must be the
/// mutating call for a create of a claim that is not a dry run. Otherwise nothing is reserved.
///
/// A second call for the same write (reinvocation) gets the same Sandbox.
pub fn reserve(world: &mut World, review: &Review) -> Option<Arc<str>> {
    let creates = (review.phase, review.entry, review.operation) == (Phase::Mutate, Entry::OwnKinds, Verb::Create);
    if !creates || review.dry_run {
        return None;
    }
    let kind = Kind::of_resource(&review.group, &review.resource)
        .filter(|kind| matches!(kind, Kind::Claim | Kind::SeedClaim))?;
    let stamp = first_observed(&review.object, review.now);
    world.reserve(NewClaim { kind, namespace: &review.namespace, document: &review.object, stamp, now: review.now })
}

#[cfg(test)]
mod tests;
