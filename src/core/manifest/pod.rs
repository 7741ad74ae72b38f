//! The pod of a Sandbox.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodSpec, VolumeMount};
use paddock_api::claim_data::NONE;
use paddock_api::kind::{ApiShape, Kind, OwnKind};
use paddock_api::names::{annotation, label, name_hash};
use serde_json::{Value, json};

use super::claim_data::{name_secret, secret_name};
use super::hold::set_init_image;
use super::owned;
use super::revision::PodRevision;
use super::volumes::{let_containers_write, mount_claim};
use crate::marker::Marker;
use crate::model;
use crate::network_policy::selection_labels;
use crate::object::json::to_value;
use crate::object::{Object, Texts};

/// The facts from which a pod is made, in addition to its Sandbox.
#[derive(Clone, Debug)]
pub struct PodPlan<'a> {
    /// The name of the pod.
    pub name: &'a str,
    /// The RuntimeClass, or `None` for the default runtime of the cluster.
    pub runtime_class: Option<&'a str>,
    /// The reason for the RuntimeClass, which an annotation of the pod contains.
    pub class_reason: Option<&'a str>,
    /// The plugin that chose the RuntimeClass, which an annotation of the pod contains.
    pub class_plugin: Option<&'a str>,
    /// The names of the `emptyDir` volumes that the pod mounts as volume claims.
    pub kept_dirs: &'a [String],
    /// The time of the decision. The name of the Secret with the data of a claim depends on it, so that no two pods of a
    /// Sandbox have the same.
    pub now: Timestamp,
    /// The image with the program that holds containers until the data of their claim is there.
    pub init_image: Option<&'a str>,
    /// Whether the pod has to be isolated. It then gets the marker, which outlives the label of the namespace, the claim
    /// or the template that demands it.
    pub isolate: bool,
}

/// Returns the pod of a Sandbox, as JSON.
#[must_use]
pub fn pod(sandbox: &Object, model: &model::Sandbox, plan: &PodPlan<'_>) -> Value {
    let mut spec = model.pod.spec.parse();
    // A name that is no hostname stays the name of the pod, and the kubelet makes a hostname of it.
    spec.hostname = model::names::dns_label(&sandbox.key.name).is_none().then(|| sandbox.key.name.to_string());
    // The kubelet would prefer it.
    spec.hostname_override = None;
    spec.runtime_class_name = plan.runtime_class.map(str::to_owned);
    // Generated code gets no credentials of the cluster, unless the user asks for them.
    spec.automount_service_account_token = Some(spec.automount_service_account_token.unwrap_or(false));
    // Service links would put the addresses of all Services of the namespace, which includes one for each stable
    // address, into the environment of every container.
    spec.enable_service_links = Some(spec.enable_service_links.unwrap_or(false));
    for claim in &model.volume_claims {
        mount_claim(&mut spec, &claim.name, &sandbox.key.name);
    }
    for dir in plan.kept_dirs {
        mount_claim(&mut spec, dir, &sandbox.key.name);
    }
    let_containers_write(&mut spec, plan.kept_dirs);
    if model.shape == ApiShape::Seed {
        mount_unmounted(&mut spec);
    }
    if model.pod.spec.takes_claim_data() {
        name_secret(&mut spec, &secret_name(plan.name, &sandbox.meta.uid, &plan.now.to_string()));
    }
    if let Some(image) = plan.init_image {
        set_init_image(&mut spec, image);
    }
    let mut annotations = pod_annotations(sandbox, model);
    annotations.insert(annotation::POD_REVISION.to_owned(), PodRevision::of(sandbox, model).annotation());
    let reasons = [(annotation::CLASS_REASON, plan.class_reason), (annotation::CLASS_PLUGIN, plan.class_plugin)];
    annotations.extend(reasons.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))));
    let mut labels = pod_labels(sandbox, model);
    if plan.isolate && Marker::of(&labels) == Marker::Unmarked {
        labels.insert(label::GENERATED_CODE.to_owned(), label::TRUE.to_owned());
    }
    let metadata = json!({ "labels": labels, "annotations": annotations });
    let mut pod = owned(sandbox, Kind::Pod, plan.name, metadata);
    pod["spec"] = to_value(&spec);
    pod
}

/// The labels that a Sandbox's pod should have.
#[must_use]
pub fn pod_labels(sandbox: &Object, model: &model::Sandbox) -> BTreeMap<String, String> {
    with_operator_labels(sandbox, model.pod.labels.to_map())
}

/// The labels of a Sandbox's pod that the operator sets, whatever the pod template says.
pub(crate) fn operator_labels(sandbox: &Object) -> BTreeMap<String, String> {
    with_operator_labels(sandbox, BTreeMap::new())
}

fn with_operator_labels(sandbox: &Object, mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    // The labels of the claim, pool and template come from the Sandbox.
    for inherited in [label::CLAIM_UID, label::WARM_POOL_SANDBOX] {
        if let Some(v) = sandbox.meta.labels.get(inherited) {
            labels.insert(inherited.to_owned(), v.to_owned());
        }
    }
    match (Marker::of(&labels), own_marker(sandbox)) {
        (_, Marker::Marked) | (Marker::Marked, _) => {
            labels.insert(label::GENERATED_CODE.to_owned(), label::TRUE.to_owned());
        }
        // The value stays as the user wrote it, so that the review of the pod names it.
        (Marker::Unmarked, Marker::Unclear) => {
            let unclear = sandbox.meta.labels.get(label::GENERATED_CODE);
            labels.extend(unclear.map(|value| (label::GENERATED_CODE.to_owned(), value.to_owned())));
        }
        (Marker::Unclear | Marker::Unmarked, Marker::Unclear | Marker::Unmarked) => {}
    }
    if let Some(template) = &sandbox.template {
        // The NetworkPolicy of the template selects the pod by these labels, so no user decides about them.
        labels.extend(selection_labels(&template.name).map(|(key, value)| (key.to_owned(), value)));
    }
    labels.insert(label::SANDBOX_NAME_HASH.to_owned(), name_hash(&sandbox.key.name));
    labels.insert(label::SANDBOX_UID.to_owned(), sandbox.meta.uid.to_string());
    labels
}

/// The marker of a Sandbox and of its pod template, which is that of [`pod_labels`]. Without a valid spec, the Sandbox
/// itself decides.
pub(crate) fn sandbox_marker(sandbox: &Object, model: Option<&model::Sandbox>) -> Marker {
    Marker::strongest([labelled_marker(sandbox, model), recorded_marker(sandbox)])
}

/// The marker in the labels of a Sandbox and of its pod template.
pub(crate) fn labelled_marker(sandbox: &Object, model: Option<&model::Sandbox>) -> Marker {
    let of_template = model.map_or(Marker::Unmarked, |model| Marker::of(&model.pod.labels));
    Marker::strongest([of_template, Marker::of(&sandbox.meta.labels)])
}

/// The marker of the Sandbox itself: that of its label, or that of its status.
fn own_marker(sandbox: &Object) -> Marker {
    Marker::strongest([Marker::of(&sandbox.meta.labels), recorded_marker(sandbox)])
}

/// The marker in the status of a Sandbox. It stays when the label is removed: from the Sandbox while the webhook is away,
/// or from its claim, its pool or its template at any time.
pub(crate) fn recorded_marker(sandbox: &Object) -> Marker {
    let recorded = sandbox.sandbox().and_then(|s| s.status.isolation.as_ref()).is_some_and(|i| i.generated_code);
    if recorded { Marker::Marked } else { Marker::Unmarked }
}

/// The annotations that a Sandbox's pod should have. Two of them list the labels and annotations that were propagated.
#[must_use]
pub fn pod_annotations(sandbox: &Object, model: &model::Sandbox) -> BTreeMap<String, String> {
    /// These tell what the operator did to the pod, so the pod template of a user says nothing about them.
    const OF_THE_OPERATOR: [&str; 7] = [
        annotation::CLAIM_DATA,
        annotation::CLAIM_DATA_SENT,
        annotation::POD_REVISION,
        annotation::CLASS_REASON,
        annotation::CLASS_PLUGIN,
        annotation::PLUGIN_LABELS,
        annotation::PLUGIN_ANNOTATIONS,
    ];
    let mut annotations = model.pod.annotations.to_map();
    annotations.retain(|key, _| !OF_THE_OPERATOR.contains(&key.as_str()));
    let propagated = [
        (annotation::PROPAGATED_LABELS, keys(&model.pod.labels)),
        (annotation::PROPAGATED_ANNOTATIONS, keys(&annotations)),
    ];
    annotations.extend(propagated.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), v)));
    if model.pod.spec.takes_claim_data() && claimed_without_data(sandbox) {
        // The code in the pod waits for what its claim brings, and this says that it brings nothing.
        annotations.insert(annotation::CLAIM_DATA.to_owned(), NONE.to_owned());
    }
    if sandbox.meta.in_pool() {
        annotations.entry(annotation::SAFE_TO_EVICT.to_owned()).or_insert_with(|| label::TRUE.to_owned());
    }
    annotations
}

/// The keys of a map, separated by commas.
fn keys(of: &impl Texts) -> String {
    of.entries().map(|(key, _)| key).collect::<Vec<_>>().join(",")
}

/// Whether a claim has the Sandbox and brought no data to it.
fn claimed_without_data(sandbox: &Object) -> bool {
    let of_claim = sandbox.owner_key().is_some_and(|owner| matches!(owner.kind.own(), Some(OwnKind::Claim(_))));
    of_claim && !sandbox.meta.annotations.contains_key(annotation::CLAIM_DATA_DIGEST)
}

/// In a pod with a single container, mounts each volume that no container uses at the path `/<volume>`.
pub fn mount_unmounted(spec: &mut PodSpec) {
    let [container] = spec.containers.as_mut_slice() else { return };
    let init = spec.init_containers.iter().flatten();
    let mounted: Vec<String> = init
        .flat_map(|c| c.volume_mounts.iter().flatten())
        .chain(container.volume_mounts.iter().flatten())
        .map(|m| m.name.clone())
        .collect();
    let devices: Vec<String> = container.volume_devices.iter().flatten().map(|d| d.name.clone()).collect();
    for volume in spec.volumes.iter().flatten() {
        if mounted.contains(&volume.name) || devices.contains(&volume.name) {
            continue;
        }
        container.volume_mounts.get_or_insert_with(Vec::new).push(VolumeMount {
            name: volume.name.clone(),
            mount_path: format!("/{}", volume.name),
            ..VolumeMount::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_strongest_marker_of_its_template_and_its_sandbox() {
        use Marker::{Marked, Unclear, Unmarked};

        for (of_template, of_sandbox, expected) in [
            ("false", "false", Unmarked),
            ("false", "maybe", Unclear),
            ("false", "true", Marked),
            ("maybe", "false", Unclear),
            ("maybe", "maybe", Unclear),
            ("maybe", "true", Marked),
            ("true", "false", Marked),
            ("true", "maybe", Marked),
            ("true", "true", Marked),
        ] {
            let labels = |value: &str| json!({ "labels": { label::GENERATED_CODE: value } });
            let mut metadata = labels(of_sandbox);
            metadata["name"] = "a".into();
            let pod = json!({ "metadata": labels(of_template), "spec": { "containers": [{ "name": "c" }] } });
            let mut document = json!({ "metadata": metadata, "spec": { "podTemplate": pod } });
            let sandbox = Object::from_json(Kind::Sandbox, document.clone()).unwrap();
            let model = sandbox.sandbox().unwrap().spec.clone().unwrap();
            let case = format!("template {of_template}, Sandbox {of_sandbox}");
            assert_eq!(sandbox_marker(&sandbox, Some(&*model)), expected, "{case}");
            assert_eq!(Marker::of(&pod_labels(&sandbox, &model)), expected, "{case}");
            assert_eq!(sandbox_marker(&sandbox, None), Marker::of(&sandbox.meta.labels), "{case}");
            document["status"] = json!({ "isolation": { "generatedCode": true } });
            let marked = Object::from_json(Kind::Sandbox, document).unwrap();
            assert_eq!(sandbox_marker(&marked, Some(&*model)), Marked, "{case}");
            assert_eq!(Marker::of(&pod_labels(&marked, &model)), Marked, "{case}");
        }
    }
}
