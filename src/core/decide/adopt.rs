//! The adoption of objects: those that a user prepared under the right name, and the children of an earlier Sandbox of
//! the same name that an orphaning deletion left behind.
//!
//! A stand-alone Sandbox adopts what its user labelled as adoptable, as upstream's does. Anybody who may create an object
//! under the right name could otherwise put their own code or files into somebody else's sandbox. A Sandbox of a pool,
//! claim or template therefore adopts nothing that runs code or holds files, and only a Service that is as the operator
//! would have made it. A claim adopts no Sandbox that it did not make.

mod same;

use paddock_api::kind::{ChildKind, Class};
use paddock_api::names::{label, name_hash};
use serde_json::{Value, json};

use crate::manifest::taken_over_by;
use crate::object::{Body, Object};
use crate::plan::Op;

/// Whether a Sandbox may adopt an object of the right name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Adoption {
    /// The object belongs to somebody, or nobody offered it.
    No,
    /// The object may be adopted.
    Yes,
    /// The object was offered or left behind, and may have run code or may contain files of somebody else. The Sandbox
    /// belongs to a pool, claim or template, so nobody has said that this is wanted.
    Prepared,
    /// The object was offered or left behind, and differs in this field from what the operator would make.
    Differs(String),
}

/// The end of a message about an object that is not adopted because of [`Adoption::Prepared`].
pub(super) const PREPARED: &str =
    "a Sandbox of a claim, pool or template takes over no Pod and no PersistentVolumeClaim: delete it";

/// Makes `owner` the controller of an object.
pub(super) fn adopt(owner: &Object, object: &Object, labels: Value) -> Op {
    let body = json!({ "metadata": { "ownerReferences": taken_over_by(owner, object), "labels": labels } });
    Op::adopt(owner, object, body)
}

/// Whether a user offers an object for adoption: it has the label that allows it and no controller, and it is not
/// terminating.
pub(super) fn adoptable(object: &Object) -> bool {
    ownerless(object) && object.meta.labels.get(label::ADOPTABLE).is_some_and(|v| v == label::TRUE)
}

/// Whether an object was a child of an earlier Sandbox of the same name.
pub(super) fn left_behind(sandbox: &Object, object: &Object) -> bool {
    ownerless(object) && object.meta.labels.get(label::SANDBOX_NAME_HASH) == Some(name_hash(&sandbox.key.name).as_str())
}

fn ownerless(object: &Object) -> bool {
    object.meta.controller.is_none() && object.meta.deletion_timestamp.is_none()
}

/// Whether a Sandbox was made for a pool, a claim or a template, and not by hand.
fn of_template(sandbox: &Object) -> bool {
    sandbox.template.is_some() || sandbox.of_pool_or_claim()
}

/// Whether a Sandbox may adopt an object. `wanted` is the object that the operator would create.
pub(super) fn adoption(sandbox: &Object, object: &Object, wanted: &Value) -> Adoption {
    let offered = adoptable(object);
    if offered && !of_template(sandbox) {
        return Adoption::Yes;
    }
    if !offered && !left_behind(sandbox, object) {
        return Adoption::No;
    }
    if of_template(sandbox) && has_past(object) {
        return Adoption::Prepared;
    }
    let Some(mut actual) = spec(object) else { return Adoption::No };
    let uid = format!("/selector/{}", label::SANDBOX_UID.replace('/', "~1"));
    if let (Some(earlier), Some(now)) = (actual.pointer_mut(&uid), wanted["spec"].pointer(&uid)) {
        // The Sandbox that left the object behind had another UID. The operator changes it after the adoption.
        *earlier = now.clone();
    }
    same::difference(&actual, &wanted["spec"]).map_or(Adoption::Yes, Adoption::Differs)
}

/// Whether an object runs code or contains files, so that its present spec does not say what it is. No field of a pod
/// tells which images it has had and who has connected to it. No field of a volume claim tells who has written to the
/// volume. Annotations of a volume claim, which the operator does not know, let storage systems copy another volume.
fn has_past(object: &Object) -> bool {
    match object.key.kind.class() {
        Class::Child(ChildKind::Pod | ChildKind::VolumeClaim) | Class::Own(_) | Class::Cluster(_) => true,
        Class::Child(ChildKind::Service | ChildKind::NetworkPolicy | ChildKind::EndpointSlice) => false,
    }
}

/// The spec of an object that may be adopted.
fn spec(object: &Object) -> Option<Value> {
    match &object.body {
        Body::Pod(pod) => serde_json::from_str(pod.as_ref()?.offered_spec()?).ok(),
        Body::VolumeClaim(offered_spec) => serde_json::from_str(offered_spec.as_deref()?).ok(),
        Body::Service(spec) => spec.as_deref().cloned(),
        Body::Sandbox(_)
        | Body::Template(..)
        | Body::Pool(_)
        | Body::Claim(_)
        | Body::NetworkPolicy(_)
        | Body::EndpointSlice(_)
        | Body::ServiceEndpoints(_)
        | Body::Namespace
        | Body::Node(_)
        | Body::RuntimeClass(_)
        | Body::StorageClass => None,
    }
}

#[cfg(test)]
mod tests;
