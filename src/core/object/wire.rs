//! Wire types with only those fields of Pods, Nodes and RuntimeClasses that an object keeps.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Deserialize;
use serde_json::Value;

use super::cluster::{Node, RuntimeClass};
use super::pod::Pod;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodData {
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    runtime_class_name: Option<String>,
    restart_policy: Option<String>,
    volumes: Vec<Volume>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Volume {
    name: String,
    persistent_volume_claim: Option<ClaimName>,
    empty_dir: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimName {
    claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: String,
    reason: Option<String>,
    message: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    conditions: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

pub(super) fn pod(data: Value) -> Pod {
    let PodData { spec, status } = serde_json::from_value(data).unwrap_or_default();
    let mut volume_claims = BTreeMap::new();
    let mut empty_dirs = Vec::new();
    for volume in spec.volumes {
        if let Some(claim) = volume.persistent_volume_claim {
            volume_claims.insert(volume.name, claim.claim_name);
        } else if volume.empty_dir.is_some() {
            empty_dirs.push(volume.name);
        }
    }
    Pod {
        node: spec.node_name,
        runtime_class: spec.runtime_class_name,
        restarts: spec.restart_policy.is_none_or(|p| p == "Always"),
        volume_claims,
        empty_dirs,
        phase: if status.phase.is_empty() { "Pending".to_owned() } else { status.phase },
        reason: status.reason,
        message: status.message,
        ips: status.pod_ips.into_iter().map(|p| p.ip).collect(),
        conditions: conditions(status.conditions),
    }
}

/// Reads the conditions of a pod that decisions use.
fn conditions(conditions: Vec<Value>) -> BTreeMap<String, Condition> {
    const READ: [&str; 3] = ["Ready", "PodScheduled", "DisruptionTarget"];
    conditions
        .into_iter()
        .filter_map(|mut c| {
            let kind = c["type"].as_str()?.to_owned();
            if !READ.contains(&kind.as_str()) {
                return None;
            }
            // A condition of a pod may lack fields that `metav1.Condition` requires.
            for field in ["reason", "message"] {
                if !c[field].is_string() {
                    c[field] = "".into();
                }
            }
            if !c["lastTransitionTime"].is_string() {
                c["lastTransitionTime"] = "1970-01-01T00:00:00Z".into();
            }
            Some((kind, serde_json::from_value(c).ok()?))
        })
        .collect()
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeData {
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeSpec {
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeStatus {
    conditions: Vec<NodeCondition>,
    runtime_handlers: Vec<Handler>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Handler {
    name: String,
}

pub(super) fn node(data: Value) -> Node {
    let NodeData { spec, status } = serde_json::from_value(data).unwrap_or_default();
    let ready = status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True");
    let handlers: Vec<String> = status.runtime_handlers.into_iter().map(|h| h.name).collect();
    Node {
        schedulable: ready && !spec.unschedulable,
        cordoned: spec.unschedulable,
        handlers: (!handlers.is_empty()).then_some(handlers),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuntimeClassData {
    handler: String,
    scheduling: Option<Scheduling>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Scheduling {
    node_selector: BTreeMap<String, String>,
}

pub(super) fn runtime_class(data: Value) -> RuntimeClass {
    let RuntimeClassData { handler, scheduling } = serde_json::from_value(data).unwrap_or_default();
    RuntimeClass { handler, node_selector: scheduling.unwrap_or_default().node_selector }
}
