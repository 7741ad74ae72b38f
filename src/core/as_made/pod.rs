//! Changes of the Pod of a warm Sandbox.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use paddock_api::names::{annotation, label};

use super::rules::Rules;
use crate::annotation_readers::has_effect;
use crate::manifest::{self, PodRevision};
use crate::model::names::domain_of;
use crate::model::{self, Quantity};
use crate::object::{ChangedContainer, ChangedPod, Object, is_ours, side_by_side};

/// The change of a Pod, or `None` if it is as made.
pub(super) fn change(sandbox: &Object, model: &model::Sandbox, pod: &Object, rules: Rules<'_>) -> Option<String> {
    if !pod.meta.other_owners.is_empty() {
        return Some("an owner was added to its Pod".to_owned());
    }
    labels_changed(sandbox, model, pod, rules)
        .or_else(|| annotations_changed(sandbox, model, pod, rules))
        .or_else(|| spec_changed(model, pod, rules))
}

fn labels_changed(sandbox: &Object, model: &model::Sandbox, pod: &Object, rules: Rules<'_>) -> Option<String> {
    let has = &pod.meta.labels;
    let mut made = manifest::pod_labels(sandbox, model);
    // The operator adds the marker late if somebody demands it, and the webhook lets nobody remove it from a Pod.
    let marker = made.remove(label::GENERATED_CODE);
    if !has.contains_key(label::TEMPLATE_DIGEST) {
        // Pods of earlier versions do not have it, and the operator adds it. The World sees if somebody removes it.
        made.remove(label::TEMPLATE_DIGEST);
    }
    let by_operator = |has: &str| marker.as_deref() == Some(has) || rules.isolate && has == label::TRUE;
    let by_plugins = listed(pod, annotation::PLUGIN_LABELS, rules);
    side_by_side(&made, has).find_map(|(key, made, has)| match (made, has) {
        (Some(_) | None, Some(_) | None) if by_plugins.contains(&key) => None,
        (Some(_), None) => Some(format!("the label {key} was removed from its Pod")),
        (Some(made), Some(has)) => (made != has).then(|| format!("the label {key} of its Pod was changed")),
        (None, Some(has)) if key == label::GENERATED_CODE && by_operator(has) => None,
        (None, Some(_)) => (is_ours(key) || !rules.settings.ignores_label(key))
            .then(|| format!("the label {key} was added to its Pod")),
        (None, None) => None,
    })
}

fn annotations_changed(sandbox: &Object, model: &model::Sandbox, pod: &Object, rules: Rules<'_>) -> Option<String> {
    // The operator adds these when it creates the Pod. Nobody decides by them.
    const ADDED: [&str; 4] =
        [annotation::CLASS_REASON, annotation::CLASS_PLUGIN, annotation::PLUGIN_LABELS, annotation::PLUGIN_ANNOTATIONS];
    let has = &pod.meta.annotations;
    let mut made = manifest::pod_annotations(sandbox, model);
    if has.contains_key(annotation::POD_REVISION) {
        // Pods of earlier versions do not have it.
        made.insert(annotation::POD_REVISION.to_owned(), PodRevision::of(sandbox, model).annotation());
    }
    let by_plugins = listed(pod, annotation::PLUGIN_ANNOTATIONS, rules);
    side_by_side(&made, has).find_map(|(key, made, has)| match (made, has) {
        (Some(_) | None, Some(_) | None) if by_plugins.contains(&key) => None,
        (Some(_), None) => Some(format!("the annotation {key} was removed from its Pod")),
        (Some(made), Some(has)) => (made != has).then(|| format!("the annotation {key} of its Pod was changed")),
        (None, Some(_)) if ADDED.contains(&key) => None,
        (None, Some(_)) => has_effect(key).then(|| format!("the annotation {key} was added to its Pod")),
        (None, None) => None,
    })
}

/// The keys that an annotation of the Pod lists.
fn listed<'a>(pod: &'a Object, name: &str, rules: Rules<'_>) -> BTreeSet<&'a str> {
    pod.meta
        .annotations
        .get(name)
        .filter(|_| rules.plugins_may_change_pods)
        .map(|keys| keys.split(',').collect())
        .unwrap_or_default()
}

/// The change of the spec of a Pod, except that a scheduling gate was removed or a toleration was added.
///
/// The API server counts the changes of the spec and does not say what they were. Each change therefore needs an
/// explanation: a scheduling gate of the template that the Pod has no longer, or the tolerations that neither the template
/// nor the RuntimeClass has. However many tolerations there are, they explain one change, because one request can add them all, and a
/// user could spend the others. The fields that the API server lets clients change must also be as in the template.
fn spec_changed(model: &model::Sandbox, pod: &Object, rules: Rules<'_>) -> Option<String> {
    if !pod.meta.edited() {
        return None;
    }
    let changed = "the spec of its Pod was changed".to_owned();
    let Some(spec) = pod.pod().and_then(|pod| pod.changed.as_deref()) else { return Some(changed) };
    let mut made = model.pod.spec.parse();
    if let Some(image) = &rules.settings.init_image {
        // A Pod with the image of an earlier operator counts as changed, and is replaced.
        manifest::set_init_image(&mut made, image);
    }
    let made = &made;
    if spec.ephemeral_containers > 0 {
        return Some("an ephemeral container was added to its Pod".to_owned());
    }
    let gates = made.scheduling_gates.as_ref().map_or(0, Vec::len).saturating_sub(spec.scheduling_gates);
    let tolerations = Tolerations::of(made, rules.class_tolerations);
    let tolerations = spec.tolerations.iter().any(|toleration| tolerations.is_added_late(toleration));
    let explained = i64::try_from(gates + usize::from(tolerations)).unwrap_or(i64::MAX);
    let containers = made.init_containers.iter().flatten().chain(&made.containers);
    let of_template: BTreeMap<&str, &Container> = containers.map(|c| (c.name.as_str(), c)).collect();
    // A container that another webhook injected may have been changed as well, so it cannot be explained.
    let same =
        |container: &ChangedContainer| of_template.get(&*container.name).is_some_and(|own| is_as_made(own, container));
    let as_made = pod.meta.generation - 1 <= explained
        && spec.active_deadline_seconds == made.active_deadline_seconds
        && keeps_resources(made.resources.as_ref(), spec.resources.as_ref())
        && spec.containers.iter().all(same);
    (!as_made).then_some(changed)
}

/// The tolerations that a Pod has from its creation.
struct Tolerations<'a> {
    /// Those of the template and of the RuntimeClass.
    made: BTreeSet<TolerationFields<'a>>,
    /// The names of the resources that the containers of the template name.
    resources: BTreeSet<&'a str>,
}

/// The fields of a toleration, in an order.
type TolerationFields<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<i64>);

fn fields(toleration: &Toleration) -> TolerationFields<'_> {
    let Toleration { effect, key, operator, toleration_seconds, value } = toleration;
    (effect.as_deref(), key.as_deref(), operator.as_deref(), value.as_deref(), *toleration_seconds)
}

impl<'a> Tolerations<'a> {
    fn of(made: &'a PodSpec, of_class: &'a [Toleration]) -> Self {
        let resources = made.containers.iter().filter_map(|container| container.resources.as_ref());
        let names = resources.flat_map(|r| [&r.limits, &r.requests]).flatten().flat_map(BTreeMap::keys);
        Self {
            made: made.tolerations.iter().flatten().chain(of_class).map(fields).collect(),
            resources: names.map(String::as_str).collect(),
        }
    }

    /// Whether somebody added a toleration after the Pod was created. The API server adds tolerations of the node's
    /// conditions, of extended resources and of the RuntimeClass when it creates the Pod.
    fn is_added_late(&self, toleration: &Toleration) -> bool {
        let key = toleration.key.as_deref().unwrap_or_default();
        domain_of(key).is_none_or(|domain| domain != "node.kubernetes.io")
            && !self.resources.contains(key)
            && !self.made.contains(&fields(toleration))
    }
}

/// Whether the image and the resources of a container are those of the template. The API server and a LimitRange add
/// resources that the template does not name.
fn is_as_made(own: &Container, container: &ChangedContainer) -> bool {
    own.image.as_deref() == container.image.as_deref()
        && keeps_resources(own.resources.as_ref(), container.resources.as_deref())
}

/// Whether the resources that the template names are as it says.
fn keeps_resources(wanted: Option<&ResourceRequirements>, has: Option<&ResourceRequirements>) -> bool {
    let quantity = |quantity: &WireQuantity| Quantity::parse(&quantity.0);
    let keeps = |own: Option<&BTreeMap<String, WireQuantity>>, has: Option<&BTreeMap<String, WireQuantity>>| {
        own.into_iter().flatten().all(|(name, wanted)| {
            has.and_then(|has| has.get(name)).is_some_and(|has| quantity(has) == quantity(wanted))
        })
    };
    keeps(wanted.and_then(|r| r.limits.as_ref()), has.and_then(|r| r.limits.as_ref()))
        && keeps(wanted.and_then(|r| r.requests.as_ref()), has.and_then(|r| r.requests.as_ref()))
}

/// The number of containers, and of tolerations, that are kept of a Pod whose spec was changed. It is the number of
/// containers that the schema admits in a template.
const CHANGED_PARTS_MAX: usize = 1_000;

/// The names of resources that are kept for each container, on average: the requests and limits of two resources.
const RESOURCES_OF_A_CONTAINER: usize = 4;

/// The number of entries in the resources of a container or a Pod.
fn resource_entries(resources: &serde_json::Value) -> usize {
    let lengths = ["limits", "requests", "claims"].map(|part| {
        let part = &resources[part];
        part.as_object().map_or(0, serde_json::Map::len) + part.as_array().map_or(0, Vec::len)
    });
    lengths.into_iter().sum()
}

impl ChangedPod {
    /// Reads the fields of a Pod's spec that clients may change. `None` if there are more of them than a Pod needs: such a
    /// Pod is not as made, and its fields would only need memory.
    #[must_use]
    pub(crate) fn of(spec: &serde_json::Value) -> Option<Self> {
        let length = |field: &str| spec[field].as_array().map_or(0, Vec::len);
        let containers = [&spec["initContainers"], &spec["containers"]].into_iter().filter_map(|c| c.as_array());
        let containers: Vec<&serde_json::Value> = containers.flatten().collect();
        let of_containers = containers.iter().map(|container| resource_entries(&container["resources"]));
        let resources = of_containers.sum::<usize>() + resource_entries(&spec["resources"]);
        let parts = [containers.len(), length("tolerations"), resources / RESOURCES_OF_A_CONTAINER];
        if parts.into_iter().any(|count| count > CHANGED_PARTS_MAX) {
            return None;
        }
        let resources = |of: &serde_json::Value| serde_json::from_value(of["resources"].clone()).unwrap_or_default();
        Some(Self {
            containers: containers
                .into_iter()
                .map(|container| ChangedContainer {
                    name: container["name"].as_str().unwrap_or_default().into(),
                    image: container["image"].as_str().map(Into::into),
                    resources: resources(container),
                })
                .collect(),
            ephemeral_containers: length("ephemeralContainers"),
            scheduling_gates: length("schedulingGates"),
            tolerations: serde_json::from_value(spec["tolerations"].clone()).unwrap_or_default(),
            active_deadline_seconds: spec["activeDeadlineSeconds"].as_i64(),
            resources: serde_json::from_value(spec["resources"].clone()).unwrap_or_default(),
        })
    }
}
