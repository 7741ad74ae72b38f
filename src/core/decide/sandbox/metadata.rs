//! The labels and annotations of a Sandbox's pod.

use std::collections::BTreeMap;

use paddock_api::kind::Kind;
use paddock_api::names::{annotation, label, name_hash};
use serde_json::{Value, json};

use super::claim_data::{self, Delivery};
use super::draft::PlanDraft;
use super::metadata_change::MetadataSync;
use super::pod;
use super::status::Problem;
use crate::decide::ask::{ASK_AGAIN, failure_events};
use crate::decide::review::{self, ReconcileReview};
use crate::model;
use crate::network_policy::selection_labels;
use crate::object::{Object, Pod};
use crate::plan::{Op, Reason};
use crate::question::{PluginReply, PluginRequest};
use crate::snapshot::SandboxSnapshot;
use crate::time::saturating_add;

/// The questions before a running pod gets the labels and annotations of its pod template.
pub(super) fn questions(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    pod: &Object,
    replies: &[PluginReply],
) -> Vec<PluginRequest> {
    // Most clusters have no such plugin, and the change is needed for the reviews alone.
    if !has_plugins(snapshot) {
        return Vec::new();
    }
    let reviews = reviews(snapshot, model, pod, &MetadataSync::of(snapshot, model, pod));
    review::questions(&reviews.unwrap_or_default(), replies)
}

/// The reviews of a change of the labels and annotations of a running pod: of the Sandbox, and of the pod as it is and as
/// it is to be. `None` if they have to wait for the labels of the namespace.
///
/// The spec of the pod is the one that the Sandbox describes, because an observed pod keeps no other copy.
fn reviews(
    snapshot: &SandboxSnapshot,
    model: &model::Sandbox,
    pod: &Object,
    change: &MetadataSync,
) -> Option<Vec<ReconcileReview>> {
    let common = &snapshot.common;
    if !has_plugins(snapshot) || !change.carries_users() {
        return Some(Vec::new());
    }
    if !common.namespace_known {
        return None;
    }
    let mut reviews = pod::sandbox_review(snapshot, model);
    if let Some(patch) = change.patch().filter(|_| review::has_plugins(common, Kind::Pod)) {
        let mut old = pod::planned_as(snapshot, model, pod);
        old["metadata"]["labels"] = json!(pod.meta.labels);
        old["metadata"]["annotations"] = json!(pod.meta.annotations);
        let mut new = old.clone();
        json_patch::merge(&mut new, &patch);
        reviews.push(ReconcileReview::of_pod_change(common, &pod.key, (old, new)));
    }
    Some(reviews)
}

/// Whether a plugin of a user reviews Sandboxes or Pods.
fn has_plugins(snapshot: &SandboxSnapshot) -> bool {
    [Kind::Sandbox, Kind::Pod].into_iter().any(|kind| review::has_plugins(&snapshot.common, kind))
}

impl PlanDraft {
    /// Decides about the labels and annotations of a running pod, and about the data of its claim. One write of the pod
    /// does both, because the kubelet waits up to one second between two changes of a pod.
    pub(super) fn metadata(
        &mut self,
        snapshot: &SandboxSnapshot,
        model: &model::Sandbox,
        (object, pod): (&Object, &Pod),
        replies: &[PluginReply],
    ) {
        let metadata = self.allowed_metadata(snapshot, model, object, replies);
        let alone = |patch| Op::patch(object, Reason::MetadataChanged, patch);
        match claim_data::delivery(snapshot, object, pod) {
            Delivery::Nothing => self.first.extend(metadata.map(alone)),
            Delivery::RepeatAt(at) => {
                self.plan.requeue_at(at, Reason::ClaimDataRepeated);
                self.first.extend(metadata.map(alone));
            }
            // Another write of the pod comes first, and the repetition in the next reconcile.
            Delivery::Repeat => {
                self.first.push(metadata.map_or_else(|| claim_data::repeated(object), alone));
            }
            Delivery::Impossible(problem) => {
                self.plan.requeue_at(saturating_add(snapshot.common.now, ASK_AGAIN), Reason::ClaimDataDelivered);
                self.first.extend(metadata.map(alone));
                self.notes.error = Some(Problem::error(problem));
            }
            Delivery::Due(due) => {
                let refused = snapshot.common.refused(Kind::Pod).is_some();
                let (before, with) = if refused { (metadata, None) } else { (None, metadata) };
                self.first.extend(before.map(alone));
                self.deliver = Some(claim_data::deliver(snapshot, object, *due, with));
            }
        }
    }

    /// The change of the labels and annotations of a running pod. If a plugin denies it, the pod gets only those that the
    /// operator itself decides about: a NetworkPolicy selects the pod by one of them.
    fn allowed_metadata(
        &mut self,
        snapshot: &SandboxSnapshot,
        model: &model::Sandbox,
        object: &Object,
        replies: &[PluginReply],
    ) -> Option<Value> {
        let change = MetadataSync::of(snapshot, model, object);
        let Some(reviews) = reviews(snapshot, model, object, &change) else {
            // The watch will deliver the labels of the namespace soon.
            self.plan.requeue_at(saturating_add(snapshot.common.now, ASK_AGAIN), Reason::Waiting);
            return change.of_operator();
        };
        let reviewed = review::outcome(&reviews, replies);
        if reviewed.denial.is_none() {
            self.plan.events.extend(failure_events(&snapshot.sandbox, &reviewed.plugin_failures));
        }
        if self.passes(snapshot, reviewed.denial) {
            return change.patch();
        }
        self.notes.withheld = change.fields(model);
        change.of_operator()
    }
}

/// Restores the labels by which the NetworkPolicy of the template selects pods, on each pod of the Sandbox, and the label
/// of the template on the Sandbox, in every state of the Sandbox. An object that `ops` already writes is left to that write
/// or to the next reconcile.
pub(super) fn keep_template_labels(snapshot: &SandboxSnapshot, ops: &mut Vec<Op>) {
    let sandbox = &snapshot.sandbox;
    let Some(template) = &sandbox.template else { return };
    let selection = selection_labels(&template.name);
    let has = |pod: &Object, (key, value): &(&str, String)| pod.meta.labels.get(key) == Some(value.as_str());
    let mut restore = |object: &Object, metadata: Value| {
        if ops.iter().all(|op| op.key != object.key) {
            ops.push(Op::patch(object, Reason::MetadataChanged, json!({ "metadata": metadata })));
        }
    };
    for pod in &snapshot.pods {
        let missing = selection.iter().filter(|label| !has(pod, label)).map(|(key, value)| (*key, value.as_str()));
        let missing: BTreeMap<&str, &str> = missing.collect();
        if !missing.is_empty() {
            restore(pod, json!({ "labels": missing }));
        }
    }
    // No policy selects the Sandbox itself. Clients know its label.
    let hash = name_hash(&template.name);
    let labelled = sandbox.meta.labels.get(label::TEMPLATE_REF_HASH) == Some(hash.as_str());
    let named = sandbox.meta.annotations.get(annotation::TEMPLATE_REF) == Some(&*template.name);
    if sandbox.meta.deletion_timestamp.is_none() && !(labelled && named) {
        let labels = json!({ label::TEMPLATE_REF_HASH: hash });
        restore(sandbox, json!({ "labels": labels, "annotations": { annotation::TEMPLATE_REF: &*template.name } }));
    }
}

/// The labels by which clients find the pod of a Sandbox. An adopted pod gets them.
pub(super) fn owned_labels(sandbox: &Object) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        (label::SANDBOX_NAME_HASH, name_hash(&sandbox.key.name)),
        (label::SANDBOX_UID, sandbox.meta.uid.to_string()),
    ]);
    labels.extend(sandbox.template.iter().flat_map(|template| selection_labels(&template.name)));
    labels
}
