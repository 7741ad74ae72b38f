//! The revision of a pod: hashes of those parts of its Sandbox's spec that only a new pod can take. An annotation of the
//! pod contains it, so that the status can name the parts that have changed since.

use std::collections::{BTreeMap, BTreeSet};

use paddock_api::kind::ApiShape;
use paddock_api::names::annotation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::volumes::disk_dirs;
use crate::model;
use crate::object::hash::fnv64;
use crate::object::json::to_value;
use crate::object::{Object, VolumeLoss};

/// The maximum number of containers, and of volumes, that have hashes of their own. More of them have one hash together,
/// so that the annotation stays small.
const LISTED_MAX: usize = 16;

/// The lists of containers in a pod's spec.
const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

type Hashes = BTreeMap<String, String>;

/// The revision of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodRevision {
    /// The generation of the Sandbox from which the pod was made.
    pub(crate) generation: i64,
    /// The hash of each field of the pod's spec that is in no other list.
    fields: Hashes,
    /// The hash of each field of each container, by the list and the name of the container.
    containers: BTreeMap<String, Hashes>,
    /// The hash of each volume, by its name.
    volumes: Hashes,
    /// Whether the Sandbox had an idle policy and an `emptyDir` whose files must not be lost.
    keeps_dirs: bool,
}

impl PodRevision {
    /// The revision that a pod would have if it was made now.
    pub(crate) fn of(sandbox: &Object, model: &model::Sandbox) -> Self {
        let Value::Object(mut spec) = model.pod.spec.text().parse::<Value>() else { return Self::default() };
        let mut revision = Self { generation: sandbox.meta.generation, ..Self::default() };
        for list in CONTAINER_LISTS {
            let Some(containers) = take_list(&mut spec, list) else { continue };
            for mut container in containers {
                let name = take_name(&mut container);
                let hashes = container.iter().map(|(field, value)| (field.clone(), hash(value))).collect();
                revision.containers.insert(format!("{list}[{name}]"), hashes);
            }
        }
        for mut volume in take_list(&mut spec, "volumes").into_iter().flatten() {
            let name = take_name(&mut volume);
            revision.volumes.insert(name, hash(&Value::Object(volume)));
        }
        // The class may be named beside the pod or in its spec.
        spec.remove(RUNTIME_CLASS);
        revision.fields = spec.iter().map(|(field, value)| (field.clone(), hash(value))).collect();
        if let Some(class) = &model.runtime_class {
            revision.fields.insert(RUNTIME_CLASS.to_owned(), hash(&class.as_str().into()));
        }
        if model.idle_timeout.is_some() {
            let lost = VolumeLoss::of(&sandbox.meta.annotations);
            revision.keeps_dirs = disk_dirs(model).any(|dir| !lost.allows(&dir.name));
        }
        revision
    }

    /// The revision in the annotation of a pod. A pod that the operator did not make has none.
    pub(crate) fn of_pod(pod: &Object) -> Option<Self> {
        serde_json::from_str(pod.meta.annotations.get(annotation::POD_REVISION)?).ok()
    }

    /// The revision in the annotation of a pod, if the pod was made from another generation of its Sandbox. Most pods were
    /// not, and only the generation is read then.
    pub(crate) fn of_another_generation(pod: &Object, generation: i64) -> Option<Self> {
        #[derive(Deserialize)]
        struct Made {
            #[serde(default)]
            generation: i64,
        }
        let made: Made = serde_json::from_str(pod.meta.annotations.get(annotation::POD_REVISION)?).ok()?;
        if made.generation == generation { None } else { Self::of_pod(pod) }
    }

    /// The value of the annotation.
    pub(crate) fn annotation(&self) -> String {
        to_value(self).to_string()
    }

    /// Whether the pod template declared a volume, or `None` if the names of the volumes are not listed.
    pub(crate) fn declares(&self, volume: &str) -> Option<bool> {
        (!self.fields.contains_key("volumes")).then(|| self.volumes.contains_key(volume))
    }

    /// The fields of a Sandbox that differ between this revision, which its pod has, and a newer one.
    pub(crate) fn pending(&self, newer: &Self, model: &model::Sandbox) -> Vec<String> {
        let pod = match model.shape {
            ApiShape::Upstream => "spec.podTemplate.spec",
            ApiShape::Seed => "spec.template.spec",
        };
        let class_in_spec = model.pod.spec.names_class();
        let mut fields = Vec::new();
        for field in different(&self.fields, &newer.fields) {
            fields.push(if field == RUNTIME_CLASS && !class_in_spec {
                format!("spec.{RUNTIME_CLASS}")
            } else {
                format!("{pod}.{field}")
            });
        }
        for container in keys(&self.containers, &newer.containers) {
            match (self.containers.get(container), newer.containers.get(container)) {
                (Some(old), Some(new)) => {
                    fields.extend(different(old, new).map(|field| format!("{pod}.{container}.{field}")));
                }
                (Some(_), None) | (None, Some(_)) | (None, None) => fields.push(format!("{pod}.{container}")),
            }
        }
        fields.extend(different(&self.volumes, &newer.volumes).map(|volume| format!("{pod}.volumes[{volume}]")));
        if newer.keeps_dirs && !self.keeps_dirs {
            fields.push("spec.idleTimeout".to_owned());
        }
        fields
    }
}

const RUNTIME_CLASS: &str = "runtimeClassName";

/// Takes a list of named objects out of a spec, unless it is too long to be listed.
fn take_list(spec: &mut Map<String, Value>, list: &str) -> Option<Vec<Map<String, Value>>> {
    if spec.get(list)?.as_array()?.len() > LISTED_MAX {
        return None;
    }
    let Value::Array(items) = spec.remove(list)? else { return None };
    Some(items.into_iter().filter_map(|item| if let Value::Object(item) = item { Some(item) } else { None }).collect())
}

fn take_name(item: &mut Map<String, Value>) -> String {
    item.remove("name").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn keys<'a, V>(a: &'a BTreeMap<String, V>, b: &'a BTreeMap<String, V>) -> BTreeSet<&'a String> {
    a.keys().chain(b.keys()).collect()
}

fn different<'a>(a: &'a Hashes, b: &'a Hashes) -> impl Iterator<Item = &'a String> {
    keys(a, b).into_iter().filter(|key| a.get(*key) != b.get(*key))
}

/// Six hex digits of a hash, so that the annotation stays small.
fn hash(value: &Value) -> String {
    format!("{:06x}", fnv64([value.to_string().as_bytes()]) & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;
    use serde_json::{Value, json};

    use super::PodRevision;
    use crate::object::Object;

    fn sandbox(change: &Value) -> Object {
        let mut document = json!({
            "metadata": { "name": "a", "uid": "u", "generation": 1 },
            "spec": { "podTemplate": { "spec": {
                "containers": [{ "name": "c", "image": "i:1", "env": [{ "name": "A", "value": "1" }] }],
                "volumes": [{ "name": "work", "emptyDir": {} }],
            } } },
        });
        json_patch::merge(&mut document, change);
        Object::from_json(Kind::Sandbox, document).unwrap()
    }

    fn revision(sandbox: &Object) -> PodRevision {
        PodRevision::of(sandbox, sandbox.sandbox().unwrap().spec.as_ref().unwrap())
    }

    #[test]
    fn pending_fields_are_those_that_only_a_new_pod_takes() {
        let pod = |spec: Value| json!({ "spec": { "podTemplate": { "spec": spec } } });
        let container = |fields: Value| {
            let mut container = json!({ "name": "c", "image": "i:1", "env": [{ "name": "A", "value": "1" }] });
            json_patch::merge(&mut container, &fields);
            pod(json!({ "containers": [container] }))
        };
        let made = revision(&sandbox(&json!({})));
        for (change, expected) in [
            (json!({}), vec![]),
            (container(json!({ "image": "i:2" })), vec!["spec.podTemplate.spec.containers[c].image"]),
            (
                container(json!({ "name": "d" })),
                vec!["spec.podTemplate.spec.containers[c]", "spec.podTemplate.spec.containers[d]"],
            ),
            (
                container(json!({ "env": null, "command": ["x"] })),
                vec!["spec.podTemplate.spec.containers[c].command", "spec.podTemplate.spec.containers[c].env"],
            ),
            (pod(json!({ "nodeSelector": { "a": "b" } })), vec!["spec.podTemplate.spec.nodeSelector"]),
            (
                pod(json!({ "volumes": [{ "name": "work", "emptyDir": { "medium": "Memory" } }] })),
                vec!["spec.podTemplate.spec.volumes[work]"],
            ),
            (pod(json!({ "runtimeClassName": "gvisor" })), vec!["spec.podTemplate.spec.runtimeClassName"]),
            (json!({ "spec": { "runtimeClassName": "gvisor" } }), vec!["spec.runtimeClassName"]),
            (json!({ "spec": { "idleTimeout": "1m" } }), vec!["spec.idleTimeout"]),
            (json!({ "spec": { "service": true, "replicas": 0, "shutdownTime": "2030-01-01T00:00:00Z" } }), vec![]),
            (json!({ "spec": { "podTemplate": { "metadata": { "labels": { "a": "b" } } } } }), vec![]),
        ] {
            let newer = sandbox(&change);
            let model = newer.sandbox().unwrap().spec.clone().unwrap();
            assert_eq!(made.pending(&PodRevision::of(&newer, &model), &model), expected, "{change}");
        }
    }

    #[test]
    fn revision_is_read_back_from_its_annotation_and_stays_small() {
        let many =
            |count: usize| (0..count).map(|n| json!({ "name": format!("c{n}"), "image": "i" })).collect::<Value>();
        for count in [1, 16, 200] {
            let containers = json!({ "containers": many(count) });
            let revision = revision(&sandbox(&json!({ "spec": { "podTemplate": { "spec": containers } } })));
            let annotation = revision.annotation();
            assert!(annotation.len() < 1500, "{count} containers: {}", annotation.len());
            let owner = json!({ "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "u", "controller": true });
            let annotations = json!({ "policy.paddock.dev/pod-revision": annotation });
            let metadata =
                json!({ "metadata": { "name": "a", "annotations": annotations, "ownerReferences": [owner] } });
            let pod = Object::from_json(Kind::Pod, metadata).unwrap();
            assert_eq!(PodRevision::of_pod(&pod), Some(revision.clone()));
            assert_eq!(PodRevision::of_another_generation(&pod, revision.generation), None);
            assert_eq!(PodRevision::of_another_generation(&pod, revision.generation + 1), Some(revision));
        }
    }

    #[test]
    fn revision_knows_the_volumes_of_the_template() {
        let revision = revision(&sandbox(&json!({})));
        assert_eq!((revision.declares("work"), revision.declares("mesh")), (Some(true), Some(false)));
    }
}
