//! Delivers the data of a claim to the pod of its Sandbox.
//!
//! The operator creates a Secret for the pod, and then sets an annotation of the pod. The write of the annotation makes
//! the kubelet look at the Secret at once. The kubelet watches pods and Secrets independently, so a second write of the
//! pod follows in case the first was faster than the Secret.

use jiff::Timestamp;
use paddock_api::claim_data::{SECRET, VOLUME, delivered_by};
use paddock_api::names::annotation;
use serde_json::{Value, json};

use crate::manifest;
use crate::model::{self, ClaimData};
use crate::object::{Object, Pod};
use crate::plan::{Action, ClaimDelivery, Op, Reason};
use crate::snapshot::{ClaimOfSandbox, SandboxSnapshot};
use crate::time::saturating_add;

/// The next step of a delivery.
pub(super) enum Delivery {
    /// Nothing is left to do: the claim brings nothing, or the pod cannot get it, or it was delivered.
    Nothing,
    /// The Secret and the annotation are written.
    Due(Box<ClaimDelivery>),
    /// The pod is written once more.
    Repeat,
    /// The pod is written once more at this time.
    RepeatAt(Timestamp),
    /// The data cannot be delivered, with the reason.
    Impossible(String),
}

/// Determines the next step for a running pod.
pub(super) fn delivery(snapshot: &SandboxSnapshot, object: &Object, pod: &Pod) -> Delivery {
    let recorded = snapshot.sandbox.meta.annotations.get(annotation::CLAIM_DATA_DIGEST);
    let (Some(secret), Some(recorded)) = (pod.claim_secret(), recorded) else { return Delivery::Nothing };
    if snapshot.sandbox.meta.controller.as_ref().is_some_and(|claim| delivered(object, &claim.uid)) {
        return repeat(snapshot, object);
    }
    let Some(of_claim) = &snapshot.claim else { return Delivery::Nothing };
    let name = &object.key.name;
    if !manifest::is_secret_of(name, secret) {
        return Delivery::Impossible(format!(
            "the volume {VOLUME} of Pod {name} names Secret {secret}, which is not a name that the operator gives: leave \
             the volume {VOLUME} in spec.podTemplate as the template makes it, with Secret {SECRET}, and delete the Pod"
        ));
    }
    let claim = &of_claim.claim;
    match data_of(of_claim, recorded) {
        Err(problem) => Delivery::Impossible(problem),
        Ok(data) => Delivery::Due(Box::new(ClaimDelivery {
            claim: claim.key.clone(),
            claim_uid: claim.meta.uid.to_string(),
            digest: data.digest.clone(),
            secret: secret.to_string(),
            held: pod.held,
            large: data.makes_large_secret(),
        })),
    }
}

/// Whether the data of the claim is on its way to a pod, or there.
fn delivered(pod: &Object, claim_uid: &str) -> bool {
    pod.meta.annotations.get(annotation::CLAIM_DATA) == Some(&delivered_by(claim_uid))
}

/// The operation that delivers. `metadata` is the patch of the pod's labels and annotations, which is written with it.
pub(super) fn deliver(snapshot: &SandboxSnapshot, object: &Object, data: ClaimDelivery, metadata: Option<Value>) -> Op {
    let mut body = metadata.unwrap_or_else(|| json!({ "metadata": {} }));
    let annotations = &mut body["metadata"]["annotations"];
    annotations[annotation::CLAIM_DATA] = delivered_by(&data.claim_uid).into();
    // A pod without a node may have got one, which the World does not show yet.
    annotations[annotation::CLAIM_DATA_SENT] = snapshot.common.now.to_string().into();
    let action = Action::Deliver { uid: object.meta.uid.to_string(), data, body };
    Op { key: object.key.clone(), reason: Reason::ClaimDataDelivered, action }
}

/// The operation that makes the kubelet look at the Secret once more.
pub(super) fn repeated(object: &Object) -> Op {
    let body = json!({ "metadata": { "annotations": { annotation::CLAIM_DATA_SENT: null } } });
    Op::patch(object, Reason::ClaimDataRepeated, body)
}

/// The repetition of a delivery, unless it was done.
fn repeat(snapshot: &SandboxSnapshot, object: &Object) -> Delivery {
    let Some(sent) = object.meta.annotations.get(annotation::CLAIM_DATA_SENT) else { return Delivery::Nothing };
    let now = snapshot.common.now;
    // A time in the future is that of a wrong clock.
    let sent = sent.parse::<Timestamp>().ok().filter(|sent| *sent <= now);
    match sent.map(|sent| saturating_add(sent, snapshot.common.settings.claim_data_repeat)) {
        Some(due) if due > now => Delivery::RepeatAt(due),
        Some(_) | None => Delivery::Repeat,
    }
}

/// The digest of the data that the claim brings, if it is still what it was when the claim got its Sandbox. The template
/// has to list the referenced Secrets at the time of the delivery too.
fn data_of<'a>(of_claim: &'a ClaimOfSandbox, recorded: &str) -> Result<&'a ClaimData, String> {
    let ClaimOfSandbox { claim, template } = of_claim;
    let name = &claim.key.name;
    let model = match claim.claim().map(|parsed| &parsed.spec) {
        Some(Ok(model)) => model,
        Some(Err(problem)) => return Err(format!("SandboxClaim {name} is not valid: {problem}")),
        None => return Err(format!("{name} is no SandboxClaim")),
    };
    if let Some(problem) = &model.env_errors {
        return Err(format!("SandboxClaim {name} is not valid: {problem}"));
    }
    let Some(data) = model.data.as_ref().filter(|data| data.digest == recorded) else {
        return Err(format!(
            "spec.env and spec.files of SandboxClaim {name} are not those with which it got its Sandbox, so they are not \
             delivered: restore them, or create another claim"
        ));
    };
    if data.files.iter().any(|file| file.secret.is_some()) {
        let of_template = template.as_ref().and_then(|template| Some((template, template.template()?)));
        let Some((template, Ok(of_template))) = of_template.map(|(t, parsed)| (t, parsed.spec.as_ref())) else {
            return Err(format!(
                "the template of SandboxClaim {name} does not exist or is not valid, and only the template allows \
                 references to Secrets: restore the template"
            ));
        };
        model::check_claim_data(model, of_template, &template.key.name)
            .map_err(|problem| format!("SandboxClaim {name}: {problem}"))?;
    }
    Ok(data)
}
