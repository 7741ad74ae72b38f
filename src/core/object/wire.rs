//! Reads those fields of Pods, Nodes and RuntimeClasses that an object keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use paddock_api::names::annotation;
use serde_json::Value;

use super::cluster::{Node, RuntimeClass};
use super::json::string_map;
use super::pod::{ChangedPod, LostSource, LostVolume, Pod};
use crate::deciding;
use crate::isolation::{self, APPARMOR_ANNOTATION, HostAccessSet, PodFields};

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Reads a Pod. The API server counts the changes of its spec in the generation.
pub(super) fn pod(
    spec: &Value,
    status: &Value,
    generation: Option<i64>,
    annotations: &BTreeMap<String, String>,
) -> Pod {
    let lost = |volume: &Value| Some(LostVolume { name: text(&volume["name"])?, source: lost_source(volume)? });
    Pod {
        node: text(&spec["nodeName"]),
        runtime_class: text(&spec["runtimeClassName"]),
        host_access: host_access(spec, annotations),
        plugins: Arc::new(deciding::parse(annotations.get(annotation::PLUGINS))),
        restarts: spec["restartPolicy"].as_str().is_none_or(|p| p == "Always"),
        lost_volumes: list(&spec["volumes"]).filter_map(lost).collect(),
        phase: text(&status["phase"]).filter(|phase| !phase.is_empty()).unwrap_or_else(|| "Pending".to_owned()),
        reason: text(&status["reason"]),
        message: text(&status["message"]),
        offered_spec: None,
        ips: list(&status["podIPs"]).filter_map(|p| text(&p["ip"])).collect(),
        conditions: conditions(&status["conditions"]),
        changed: generation.filter(|n| *n > 1).map(|_| Box::new(ChangedPod::of(spec))),
    }
}

/// The access to the host that a pod has. The paths are not used.
fn host_access(spec: &Value, annotations: &BTreeMap<String, String>) -> HostAccessSet {
    let read = annotations.iter().filter(|(key, _)| key.starts_with(APPARMOR_ANNOTATION));
    let metadata = serde_json::json!({ "annotations": read.collect::<BTreeMap<_, _>>() });
    let pod = PodFields {
        spec,
        spec_path: String::new(),
        metadata: &metadata,
        metadata_path: String::new(),
        class: None,
        class_path: String::new(),
    };
    isolation::host_access(&pod).into_iter().map(|(access, _)| access).collect()
}

/// The source of a volume, if its files are deleted with the pod. An `emptyDir` in memory or in huge pages is scratch. A
/// read-only volume has files of a driver, such as secrets.
fn lost_source(volume: &Value) -> Option<LostSource> {
    if volume["emptyDir"].is_object() {
        let on_disk = volume["emptyDir"]["medium"].as_str().unwrap_or_default().is_empty();
        on_disk.then_some(LostSource::EmptyDir)
    } else if volume["csi"].is_object() {
        (volume["csi"]["readOnly"] != true).then_some(LostSource::Csi)
    } else if volume["ephemeral"].is_object() {
        Some(LostSource::Ephemeral)
    } else {
        volume["gitRepo"].is_object().then_some(LostSource::GitRepo)
    }
}

/// Reads the conditions of a pod that decisions use.
fn conditions(conditions: &Value) -> BTreeMap<String, Condition> {
    const READ: [&str; 3] = ["Ready", "PodScheduled", "DisruptionTarget"];
    list(conditions)
        .filter(|c| c["type"].as_str().is_some_and(|kind| READ.contains(&kind)))
        .filter_map(|c| {
            let mut c = c.clone();
            // A condition of a pod may lack fields that `metav1.Condition` requires.
            for field in ["reason", "message"] {
                if !c[field].is_string() {
                    c[field] = "".into();
                }
            }
            if !c["lastTransitionTime"].is_string() {
                c["lastTransitionTime"] = "1970-01-01T00:00:00Z".into();
            }
            let condition: Condition = serde_json::from_value(c).ok()?;
            Some((condition.type_.clone(), condition))
        })
        .collect()
}

pub(super) fn node(spec: &Value, status: &Value) -> Node {
    let unschedulable = spec["unschedulable"] == true;
    let ready = list(&status["conditions"]).any(|c| c["type"] == "Ready" && c["status"] == "True");
    let handlers: Vec<String> = list(&status["runtimeHandlers"]).filter_map(|h| text(&h["name"])).collect();
    Node {
        schedulable: ready && !unschedulable,
        cordoned: unschedulable,
        handlers: (!handlers.is_empty()).then_some(handlers),
    }
}

pub(super) fn runtime_class(handler: &Value, scheduling: &Value) -> RuntimeClass {
    let handler = text(handler).unwrap_or_default();
    RuntimeClass { handler, node_selector: string_map(scheduling, "/nodeSelector") }
}
