//! The parts that the pods of the operator and of the gateway have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::common::Settings;

/// The user `nonroot` of distroless images.
const USER: i64 = 65532;

/// The spec of a pod that fulfils the Pod Security Standard `restricted`.
pub(super) fn pod(account: &str, selector: &Value, container: Value) -> Value {
    json!({
        "serviceAccountName": account,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        // The replicas are placed on different nodes if there are enough nodes.
        "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "labelSelector": { "matchLabels": selector },
                "topologyKey": "kubernetes.io/hostname",
            },
        }] } },
        "containers": [container],
    })
}

/// The container of such a pod. One of its ports is named `health`.
pub(super) fn container(settings: &Settings, name: &str, args: &[String], ports: &[(&str, i32)]) -> Value {
    let port = |(name, number): &(&str, i32)| json!({ "name": name, "containerPort": number, "protocol": "TCP" });
    json!({
        "name": name,
        "image": settings.image,
        "args": args,
        "ports": ports.iter().map(port).collect::<Vec<_>>(),
        // The list of a large cluster takes time. Until it is complete, the process is alive and not ready.
        "livenessProbe": probe("/healthz", 10, 3),
        "readinessProbe": probe("/readyz", 2, 1),
        // A start takes a second. On a node whose processors are all busy it has taken more than half a minute, and a
        // restart only adds to that.
        "startupProbe": probe("/healthz", 1, 120),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    })
}

fn probe(path: &str, period: i32, failures: i32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "health" },
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    })
}

/// A disruption budget, so that draining nodes leaves one replica.
pub(super) fn disruption_budget(metadata: &ObjectMeta, selector: &Value) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": { "minAvailable": 1, "selector": { "matchLabels": selector } },
    })
}
