//! Resizes of Pods by the operator's credential.

use http::Method;
use serde_json::{Value, json};

use super::super::json::text;
use super::super::kinds::POD;
use super::super::manifests::object;
use super::{Table, TestNamespace, owned_by, with};

/// A Pod whose containers have limits, so that they can be resized.
fn limited_pod(name: &str) -> Value {
    let resources = json!({
        "requests": { "cpu": "50m", "memory": "16Mi" }, "limits": { "cpu": "500m", "memory": "64Mi" },
    });
    let container = |name: &str| json!({ "name": name, "image": "agent:1", "resources": resources });
    object(POD, name, json!({ "containers": [container("agent"), container("helper")] }))
}

/// The CPU of the pods of Sandboxes, and nothing else.
pub(super) async fn rows(table: &mut Table, ns: &TestNamespace, owner: &Value) {
    for pod in [owned_by(owner, limited_pod("limited")), limited_pod("foreign-limited")] {
        let name = text(&ns.create(pod).await, "/metadata/name").to_owned();
        let pod = ns.until(POD, &name, "running", |pod| text(pod, "/status/phase") == "Running").await;
        ns.report_resources(&pod).await;
    }
    let resize = |pod: &str, container: Value| -> (String, Value) {
        let path = format!("{}/{pod}/resize", POD.path(&ns.namespace));
        (path, json!({ "spec": { "containers": [with(json!({ "name": "agent" }), container)] } }))
    };
    let low = json!({ "resources": { "requests": { "cpu": "5m" }, "limits": { "cpu": "10m" } } });
    let memory = json!({ "resources": { "limits": { "memory": "128Mi" } } });
    let request = json!({ "resources": { "requests": { "memory": "32Mi" } } });
    for (what, pod, container, refused) in [
        ("the CPU of a sandbox's Pod", "limited", low.clone(), None),
        ("the memory limit of a sandbox's Pod", "limited", memory, Some("only the CPU")),
        ("the memory request of a sandbox's Pod", "limited", request, Some("only the CPU")),
        ("the CPU of a foreign Pod", "foreign-limited", low, Some("a Sandbox is its controller")),
    ] {
        let (path, body) = resize(pod, container);
        table.row(what, Method::PATCH, path, body, refused);
    }
}
