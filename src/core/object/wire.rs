//! Reads those fields of Pods, Nodes and RuntimeClasses that an object keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::claim_data::{INIT, VOLUME};
use paddock_api::kind::ChildKind;
use paddock_api::names::{annotation, label};
use serde_json::Value;

use super::cluster::{Node, RuntimeClass, ServiceEndpoints};
use super::cpu::PodCpu;
use super::json::{JsonText, string_map};
use super::pod::{ChangedPod, ConditionStatus, LostSource, LostVolume, Pod, PodCondition, RareParts};
use crate::deciding;
use crate::isolation::{self, APPARMOR_ANNOTATION, HostAccessSet, PodFields};
use crate::tcp_wake::Gateway;

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<T: for<'a> From<&'a str>>(value: &Value) -> Option<T> {
    value.as_str().map(T::from)
}

/// Reads a Pod. The API server counts the changes of its spec in the generation. The spec of a pod that is `offered` for
/// adoption is kept whole.
pub(super) fn pod(
    spec: &Value,
    status: &Value,
    generation: Option<i64>,
    annotations: &BTreeMap<String, String>,
    offered: bool,
) -> Pod {
    let lost = |volume: &Value| Some(LostVolume { name: text(&volume["name"])?, source: lost_source(volume)? });
    Pod {
        node: text(&spec["nodeName"]),
        runtime_class: text(&spec["runtimeClassName"]),
        host_access: host_access(spec, annotations),
        plugins: Arc::new(deciding::parse(annotations.get(annotation::PLUGINS).map(String::as_str))),
        restarts: spec["restartPolicy"].as_str().is_none_or(|p| p == "Always"),
        lost_volumes: list(&spec["volumes"]).filter_map(lost).collect(),
        phase: status["phase"].as_str().filter(|phase| !phase.is_empty()).unwrap_or("Pending").into(),
        reason: text(&status["reason"]),
        message: text(&status["message"]),
        held: list(&spec["volumes"]).any(|volume| volume["name"] == INIT),
        ips: list(&status["podIPs"]).filter_map(|p| text(&p["ip"])).collect(),
        conditions: conditions(&status["conditions"]),
        changed: generation.filter(|n| *n > 1).and_then(|_| ChangedPod::of(spec)).map(Box::new),
        rare: RareParts::of(
            claim_secret(&spec["volumes"]),
            offered.then(|| spec.to_string().into()),
            PodCpu::of(spec, status),
        ),
    }
}

/// The name of the Secret in the volume for the data of a claim, if the pod has that volume.
fn claim_secret(volumes: &Value) -> Option<Box<str>> {
    let volume = list(volumes).find(|volume| volume["name"] == VOLUME)?;
    text(volume.pointer("/projected/sources/0/secret/name")?)
}

/// The Service of an EndpointSlice.
pub(super) fn service_of(kind: ChildKind, meta: &ObjectMeta) -> Option<Arc<str>> {
    let service = meta.labels.as_ref().filter(|_| kind == ChildKind::EndpointSlice)?.get(label::SERVICE_NAME)?;
    Some(service.as_str().into())
}

/// Reads the endpoints of an EndpointSlice. Addresses of other types than these two are names of hosts.
pub(super) fn service_endpoints(service: Arc<str>, address_type: &Value, endpoints: &Value) -> ServiceEndpoints {
    let is_ip = address_type == "IPv4" || address_type == "IPv6";
    let endpoints = list(endpoints).filter(|_| is_ip).filter_map(|endpoint| {
        let address = endpoint["addresses"][0].as_str()?;
        let conditions = &endpoint["conditions"];
        let ready = conditions["ready"] != false && conditions["terminating"] != true && conditions["serving"] != false;
        Some(Gateway { address: address.into(), ready })
    });
    ServiceEndpoints { service, endpoints: endpoints.collect() }
}

/// The bytes of a foreign NetworkPolicy's selector that are kept. No selector of a user has as many.
const SELECTION_BYTES_MAX: usize = 16 * 1024;

/// The fields of a foreign NetworkPolicy that say which pods it selects. If they are too large, nobody reads them, and the
/// policy counts as one that selects every pod.
pub(super) fn selection(spec: &Value) -> JsonText {
    let types: BTreeSet<&str> = list(&spec["policyTypes"]).filter_map(Value::as_str).collect();
    let selection = JsonText::of(&serde_json::json!({ "podSelector": spec["podSelector"], "policyTypes": types }));
    if selection.as_str().len() > SELECTION_BYTES_MAX { JsonText::of(&"too large") } else { selection }
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
    isolation::host_access(&pod)
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

/// Reads the conditions of a pod that decisions use. A condition of a pod may lack a reason, a message and a time.
fn conditions(conditions: &Value) -> Box<[PodCondition]> {
    const READ: [&str; 5] = ["Ready", "PodScheduled", "DisruptionTarget", "PodResizePending", "PodResizeInProgress"];
    let read = list(conditions).filter_map(|c| {
        let kind = READ.into_iter().find(|kind| c["type"] == *kind)?;
        let status = match c["status"].as_str()? {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        };
        let since = c["lastTransitionTime"].as_str().and_then(|at| at.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
        Some(PodCondition {
            kind,
            status,
            reason: text(&c["reason"]).unwrap_or_default(),
            message: text(&c["message"]).unwrap_or_default(),
            since,
        })
    });
    read.collect()
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
    RuntimeClass {
        handler: text(handler).unwrap_or_default(),
        node_selector: string_map(scheduling, "/nodeSelector"),
        tolerations: serde_json::from_value(scheduling["tolerations"].clone()).unwrap_or_default(),
    }
}
