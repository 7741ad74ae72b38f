//! The objects of a run, in the upstream shape, which every controller of this API serves.

use paddock_cluster::AGENT_IMAGE;
use serde_json::{Value, json};

/// The namespace of all objects.
pub(crate) const NAMESPACE: &str = "paddock-bench";
/// The pool's name.
pub(crate) const POOL: &str = "pool";
const TEMPLATE: &str = "template";
/// The annotation that a controller writes when a claim gets its sandbox.
pub(crate) const SANDBOX_NAME: &str = "agents.x-k8s.io/sandbox-name";
/// The annotation with the time at which the controller first observed the claim.
pub(crate) const FIRST_OBSERVED: &str = "agents.x-k8s.io/controller-first-observed-at";

const EXTENSIONS: &str = "extensions.agents.x-k8s.io/v1beta1";
const AGENTS: &str = "agents.x-k8s.io/v1beta1";
const SEED: &str = "agents.x-k8s.io/v1alpha1";

/// The path of the claims.
pub(crate) fn claims() -> String {
    format!("/apis/{EXTENSIONS}/namespaces/{NAMESPACE}/sandboxclaims")
}

/// The path of the pools.
pub(crate) fn pools() -> String {
    format!("/apis/{EXTENSIONS}/namespaces/{NAMESPACE}/sandboxwarmpools")
}

/// The path of the templates.
pub(crate) fn templates() -> String {
    format!("/apis/{EXTENSIONS}/namespaces/{NAMESPACE}/sandboxtemplates")
}

/// The path of the sandboxes.
pub(crate) fn sandboxes() -> String {
    format!("/apis/{AGENTS}/namespaces/{NAMESPACE}/sandboxes")
}

/// The path of the sandboxes of the seed shape.
pub(crate) fn seed_sandboxes() -> String {
    format!("/apis/{SEED}/namespaces/{NAMESPACE}/sandboxes")
}

/// A sandbox of the seed shape that requests resume, with an agent that answers on the default port.
pub(crate) fn seed_sandbox(name: &str, class: &str, volume: bool) -> Value {
    let mut pod = json!({ "containers": [{ "name": "agent", "image": AGENT_IMAGE }] });
    if volume {
        pod["volumes"] = json!([{ "name": "workspace", "emptyDir": {} }]);
    }
    json!({
        "apiVersion": SEED, "kind": "Sandbox", "metadata": { "name": name },
        "spec": {
            "runtimeClassName": class, "template": { "spec": pod }, "idleTimeout": "1h", "resumePolicy": "OnDemand",
        },
    })
}

/// The path of the pods.
pub(crate) fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// A template whose owner does not exist.
pub(crate) fn orphan(name: &str) -> Value {
    let mut orphan = template();
    orphan["spec"]["networkPolicyManagement"] = json!("Unmanaged");
    orphan["metadata"] = json!({ "name": name, "ownerReferences": [{
        "apiVersion": EXTENSIONS, "kind": "SandboxTemplate", "name": "nobody", "uid": "00000000-0000-0000-0000-000000000000",
    }] });
    orphan
}

/// The namespace.
pub(crate) fn namespace() -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } })
}

fn pod() -> Value {
    json!({ "spec": { "containers": [{ "name": "agent", "image": "agent:1" }] } })
}

/// The template: one container and nothing else.
pub(crate) fn template() -> Value {
    json!({
        "apiVersion": EXTENSIONS, "kind": "SandboxTemplate", "metadata": { "name": TEMPLATE },
        "spec": { "podTemplate": pod() },
    })
}

/// The finalizer that keeps a terminating pool.
pub(crate) const FINALIZER: &str = "paddock.dev/benchmark";

/// The pool. If `held` is true, a deleted pool stays until its finalizer is removed.
pub(crate) fn pool(replicas: u32, held: bool) -> Value {
    let mut metadata = json!({ "name": POOL });
    if held {
        metadata["finalizers"] = json!([FINALIZER]);
    }
    json!({
        "apiVersion": EXTENSIONS, "kind": "SandboxWarmPool", "metadata": metadata,
        "spec": { "sandboxTemplateRef": { "name": TEMPLATE }, "replicas": replicas },
    })
}

/// A claim that names the pool.
pub(crate) fn claim(name: &str) -> Value {
    json!({
        "apiVersion": EXTENSIONS, "kind": "SandboxClaim", "metadata": { "name": name },
        "spec": { "warmPoolRef": { "name": POOL } },
    })
}

/// A sandbox of a pool, for measurements without an operator. Its size and its owners are those of a sandbox that an
/// operator creates, so patches and the garbage collector cost the same.
pub(crate) fn warm_sandbox(name: &str, pool: &Value) -> Value {
    json!({
        "apiVersion": AGENTS, "kind": "Sandbox",
        "metadata": {
            "name": name, "generateName": format!("{POOL}-"), "ownerReferences": [owner(pool)],
            "labels": {
                "agents.x-k8s.io/warm-pool-sandbox": "00000000", "agents.x-k8s.io/launch-type": "warm",
                "agents.x-k8s.io/sandbox-template-hash": "0000000000000000",
                "agents.x-k8s.io/sandbox-template-ref-hash": "00000000",
            },
            "annotations": {
                "agents.x-k8s.io/pod-name": name, "agents.x-k8s.io/sandbox-template-ref": TEMPLATE,
                "policy.paddock.dev/warm-pool": POOL,
            },
        },
        "spec": { "podTemplate": pod(), "operatingMode": "Running", "replicas": 1, "shutdownPolicy": "Retain" },
    })
}

/// The status of a warm sandbox.
pub(crate) fn warm_status() -> Value {
    let condition = |of: &str, status: &str, reason: &str| {
        json!({
            "type": of, "status": status, "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!({ "status": {
        "conditions": [
            condition("Ready", "True", "DependenciesReady"), condition("Suspended", "False", "NotSuspended"),
            condition("PodScheduled", "True", "Scheduled"),
        ],
        "mode": "Running", "replicas": 1, "nodeName": "node-0", "podIPs": ["10.244.0.1"],
        "runtimeClass": { "plugin": "runtime-class-by-label", "reason": "no class was asked for" },
        "selector": "agents.x-k8s.io/sandbox-name-hash=00000000",
    } })
}

/// A reference to an object as the controller of another.
pub(crate) fn owner(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "name": metadata["name"], "uid": metadata["uid"],
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// The pod of a warm sandbox.
pub(crate) fn warm_pod(sandbox: &Value) -> Value {
    let name = &sandbox["metadata"]["name"];
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "ownerReferences": [owner(sandbox)],
            "labels": { "agents.x-k8s.io/warm-pool-sandbox": "00000000" },
            "annotations": { SAFE_TO_EVICT: "true" },
        },
        "spec": pod()["spec"],
    })
}

/// The annotation on warm pods, which is removed from a pod when a claim takes its sandbox.
pub(crate) const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pool_that_is_to_be_held_has_a_finalizer() {
        assert_eq!(pool(7, true)["metadata"]["finalizers"], json!([FINALIZER]));
        assert!(pool(7, false)["metadata"]["finalizers"].is_null());
        assert_eq!(pool(7, false)["spec"]["replicas"], 7);
    }
}
