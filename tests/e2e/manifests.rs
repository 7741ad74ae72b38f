//! The objects that tests create, with defaults for all fields that do not matter.

use serde_json::{Value, json};

use super::kinds::{CLAIM, Kind, POOL, SANDBOX, TEMPLATE};

/// A pod template with one container.
pub(crate) fn pod() -> Value {
    json!({ "spec": { "containers": [{ "name": "agent", "image": "agent:1" }] } })
}

/// A pod template with a container and a volume on the node's disk.
pub(crate) fn pod_with_workspace() -> Value {
    json!({
        "spec": {
            "containers": [{
                "name": "agent", "image": "agent:1",
                "volumeMounts": [{ "name": "workspace", "mountPath": "/workspace" }],
            }],
            "volumes": [{ "name": "workspace", "emptyDir": { "sizeLimit": "2Gi" } }],
        },
    })
}

/// An object of any kind.
pub(crate) fn object(kind: Kind, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": kind.0, "kind": kind.1, "metadata": { "name": name }, "spec": spec })
}

/// A v1beta1 Sandbox in the upstream shape.
pub(crate) fn sandbox(name: &str, with: Value) -> Value {
    let mut spec = json!({ "podTemplate": pod() });
    merge(&mut spec, &with);
    object(SANDBOX, name, spec)
}

/// A v1beta1 template in the upstream shape.
pub(crate) fn template(name: &str, with: Value) -> Value {
    let mut spec = json!({ "podTemplate": pod() });
    merge(&mut spec, &with);
    object(TEMPLATE, name, spec)
}

/// The same object, marked as generated code.
pub(crate) fn marked(mut object: Value) -> Value {
    object["metadata"]["labels"] = json!({ "policy.paddock.dev/generated-code": "true" });
    object
}

/// A v1beta1 pool in the upstream shape.
pub(crate) fn pool(name: &str, template: &str, with: Value) -> Value {
    let mut spec = json!({ "sandboxTemplateRef": { "name": template } });
    merge(&mut spec, &with);
    object(POOL, name, spec)
}

/// A v1beta1 claim in the upstream shape.
pub(crate) fn claim(name: &str, pool: &str, with: Value) -> Value {
    let mut spec = json!({ "warmPoolRef": { "name": pool } });
    merge(&mut spec, &with);
    object(CLAIM, name, spec)
}

/// One volume claim template.
pub(crate) fn disk(name: &str, size: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } },
    })
}

/// Merges JSON recursively. Lists are replaced.
pub(crate) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// A time this number of seconds from now, in the API's format.
pub(crate) fn seconds_from_now(seconds: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    jiff::Timestamp::from_second(at.as_second()).expect("a time").to_string()
}
