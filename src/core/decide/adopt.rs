//! The adoption of objects: those that a user prepared under the right name, and the children of an earlier Sandbox of
//! the same name that an orphaning deletion left behind.
//!
//! A stand-alone Sandbox adopts what its user labelled as adoptable, as upstream's does. A Sandbox of a pool, claim or
//! template adopts only an object that is as the operator would have made it. Otherwise anybody who may create an object
//! under the right name could put their own code into somebody else's sandbox.

mod same;

use paddock_api::kind::Kind;
use paddock_api::names::{label, name_hash};
use serde_json::{Value, json};

use crate::manifest::taken_over_by;
use crate::model;
use crate::object::{Body, Object};
use crate::plan::{Op, Reason};

/// Whether a Sandbox may adopt an object of the right name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Adoption {
    /// The object belongs to somebody, or nobody offered it.
    No,
    /// The object may be adopted.
    Yes,
    /// The object was offered or left behind, and differs in this field from what the operator would make.
    Differs(String),
}

/// Makes `owner` the controller of an object.
pub(super) fn adopt(owner: &Object, object: &Object, labels: Value) -> Op {
    let body = json!({ "metadata": { "ownerReferences": taken_over_by(owner, object), "labels": labels } });
    Op::patch_if_unchanged(object, Reason::Adopted, body)
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
    let Some(mut actual) = spec(object) else { return Adoption::No };
    let uid = format!("/selector/{}", label::SANDBOX_UID.replace('/', "~1"));
    if let (Some(earlier), Some(now)) = (actual.pointer_mut(&uid), wanted["spec"].pointer(&uid)) {
        // The Sandbox that left the object behind had another UID. The operator changes it after the adoption.
        *earlier = now.clone();
    }
    same::difference(&actual, &wanted["spec"]).map_or(Adoption::Yes, Adoption::Differs)
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

/// Makes a claim the controller of a Sandbox that a user prepared, and gives it the labels and annotations of the
/// Sandbox that the operator would create (`wanted`).
pub(super) fn adopt_prepared(claim: &Object, sandbox: &Object, wanted: &Value) -> Op {
    let metadata = &wanted["metadata"];
    let mut body = json!({ "metadata": { "ownerReferences": taken_over_by(claim, sandbox) } });
    for field in ["labels", "annotations"] {
        body["metadata"][field] = metadata[field].clone();
    }
    Op::patch_if_unchanged(sandbox, Reason::Adopted, body)
}

/// The first field in which a Sandbox that a user prepared differs from the Sandbox that the operator would create for a
/// claim (`wanted`).
pub(super) fn sandbox_difference(sandbox: &Object, wanted: &Value) -> Option<String> {
    let wanted = Object::from_json(Kind::Sandbox, wanted.clone())?;
    let models = sandbox.sandbox().map(|s| &s.spec).zip(wanted.sandbox().map(|s| &s.spec));
    match models {
        Some((Ok(actual), Ok(wanted))) => model_difference(actual, wanted),
        Some((Err(_) | Ok(_), Err(_) | Ok(_))) | None => Some("spec".to_owned()),
    }
}

fn model_difference(actual: &model::Sandbox, wanted: &model::Sandbox) -> Option<String> {
    let parts = [
        (&actual.pod.labels, &wanted.pod.labels, "spec.podTemplate.metadata.labels"),
        (&actual.pod.annotations, &wanted.pod.annotations, "spec.podTemplate.metadata.annotations"),
    ];
    for (actual, wanted, path) in parts {
        // The label of the template comes with the adoption.
        let differs = |(k, v): &(&String, &String)| actual.get(*k) != Some(*v) && *k != label::TEMPLATE_REF_HASH;
        if let Some((key, _)) = wanted.iter().find(differs) {
            return Some(format!("{path}[{key}]"));
        }
    }
    if let Some(path) = same::difference(&actual.pod.spec.text().parse(), &wanted.pod.spec.text().parse()) {
        return Some(path.replacen("spec", "spec.podTemplate.spec", 1));
    }
    // A plugin may have chosen a class when the Sandbox was admitted.
    let class = wanted.runtime_class.is_none() || actual.runtime_class == wanted.runtime_class;
    let fields = [
        (class, "spec.podTemplate.spec.runtimeClassName"),
        (actual.shape == wanted.shape, "spec.podTemplate"),
        (actual.volume_claims == wanted.volume_claims, "spec.volumeClaimTemplates"),
        (actual.service == wanted.service, "spec.service"),
        (actual.idle_timeout == wanted.idle_timeout, "spec.idleTimeout"),
        (actual.resume == wanted.resume, "spec.resumePolicy"),
        (actual.drain == wanted.drain, "spec.drainPolicy"),
        (actual.wake == wanted.wake, "spec.wakeSchedule"),
    ];
    fields.into_iter().find(|(same, _)| !same).map(|(_, path)| path.to_owned())
}
