//! Whether the plugins of users allow that a claim gets a Sandbox.

use paddock_api::kind::Kind;

use crate::decide::review::{self, ReconcileReview};
use crate::manifest::MetadataChange;
use crate::model;
use crate::object::Object;
use crate::snapshot::ClaimSnapshot;

/// The reviews before a claim gets a Sandbox: of the claim, and of the warm Sandbox that it takes. A Sandbox that is
/// created for the claim is reviewed before its pod is created.
pub(super) fn reviews(snapshot: &ClaimSnapshot, model: &model::Claim, warm: Option<&Object>) -> Vec<ReconcileReview> {
    let (claim, common) = (&snapshot.claim, &snapshot.common);
    if !has_plugins(snapshot) || !common.namespace_known {
        return Vec::new();
    }
    let of_claim = ReconcileReview::of_claim(common, claim, model);
    let of_take = warm.and_then(|warm| ReconcileReview::of_take(snapshot, warm, model));
    of_claim.into_iter().chain(of_take).collect()
}

/// The reviews before the labels and annotations of a bound claim reach its Sandbox: of the claim, and of the Sandbox in its
/// changed form. The Sandbox reviews its pod before it changes it.
pub(super) fn change_reviews(
    snapshot: &ClaimSnapshot,
    model: &model::Claim,
    (sandbox, change): (&Object, &MetadataChange),
) -> Vec<ReconcileReview> {
    let (claim, common) = (&snapshot.claim, &snapshot.common);
    if !has_plugins(snapshot) || !common.namespace_known {
        return Vec::new();
    }
    let of_claim = ReconcileReview::of_claim(common, claim, model);
    let of_sandbox = ReconcileReview::of_change(common, sandbox, &change.patch);
    of_claim.into_iter().chain(of_sandbox).collect()
}

/// Whether the reviews have to wait for the labels of the namespace, which decide about the bindings.
pub(super) fn awaits_namespace(snapshot: &ClaimSnapshot) -> bool {
    has_plugins(snapshot) && !snapshot.common.namespace_known
}

/// Whether a plugin of a user reviews claims or Sandboxes.
pub(super) fn has_plugins(snapshot: &ClaimSnapshot) -> bool {
    [snapshot.claim.key.kind, Kind::Sandbox].into_iter().any(|kind| review::has_plugins(&snapshot.common, kind))
}
