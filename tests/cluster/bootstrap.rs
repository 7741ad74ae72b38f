//! The objects of a new cluster, and the wait until the cluster can be used.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::Options;
use crate::components::{KWOK_USER, PROVISIONER, PROVISIONER_USER};
use crate::{Error, Result};

/// The interval of the readiness checks.
const POLL: Duration = Duration::from_millis(50);

/// Creates the RBAC rules that kwok and the provisioner need before they start.
pub(crate) async fn grant(client: &Client) -> Result<()> {
    let all = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| json!({ "apiGroups": groups, "resources": resources, "verbs": verbs });
    let kwok = [
        rule(&[""], &["nodes"], &["get", "list", "watch"]),
        rule(&[""], &["pods"], &["delete", "get", "list", "patch", "update", "watch"]),
        rule(&[""], &["nodes/status", "pods/status"], &["patch", "update"]),
        rule(&["coordination.k8s.io"], &["leases"], &all),
        rule(&["", "events.k8s.io"], &["events"], &all),
    ];
    let provisioner = [
        rule(&[""], &["persistentvolumes"], &all),
        rule(&[""], &["persistentvolumeclaims"], &["get", "list", "patch", "update", "watch"]),
        rule(&[""], &["nodes"], &["get", "list", "watch"]),
        rule(&["storage.k8s.io"], &["storageclasses"], &["get", "list", "watch"]),
        rule(&["", "events.k8s.io"], &["events"], &all),
    ];
    grant_to(client, KWOK_USER, &kwok).await?;
    grant_to(client, PROVISIONER_USER, &provisioner).await
}

/// Creates a ClusterRole with these rules, and binds it to a user. Both have the name of the user.
pub(crate) async fn grant_to(client: &Client, user: &str, rules: &[Value]) -> Result<()> {
    let group = "rbac.authorization.k8s.io";
    let role = json!({ "metadata": { "name": user }, "rules": rules });
    create(client, &format!("/apis/{group}/v1/clusterroles"), &role).await?;
    let binding = json!({
        "metadata": { "name": user },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": user },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
    });
    create(client, &format!("/apis/{group}/v1/clusterrolebindings"), &binding).await
}

/// Creates nodes, RuntimeClasses and StorageClasses.
pub(crate) async fn create_cluster_objects(client: &Client, options: &Options) -> Result<()> {
    // `standard` waits for a pod, as in clouds and in kind. The other class binds at once.
    for (name, default, mode) in
        [("standard", "true", "WaitForFirstConsumer"), ("standard-immediate", "false", "Immediate")]
    {
        let class = json!({
            "metadata": {
                "name": name,
                "annotations": { "storageclass.kubernetes.io/is-default-class": default },
            },
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": mode,
        });
        create(client, "/apis/storage.k8s.io/v1/storageclasses", &class).await?;
    }
    for class in &options.runtime_classes {
        let object = json!({ "metadata": { "name": class.name }, "handler": class.handler });
        create(client, "/apis/node.k8s.io/v1/runtimeclasses", &object).await?;
    }
    for n in 0..options.nodes {
        create(client, "/api/v1/nodes", &node(n, options)).await?;
    }
    Ok(())
}

fn node(n: u32, options: &Options) -> Value {
    let name = format!("node-{n}");
    // Plain numbers, because kwok prints 1000 as 1k, which some tools cannot read.
    let room = json!({ "cpu": "32", "memory": "256Gi", "pods": "1100", "ephemeral-storage": "1Ti" });
    let mut node = json!({
        "metadata": {
            "name": name,
            "annotations": { "kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0" },
            "labels": {
                "type": "kwok",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": "kwok",
            },
        },
        "status": { "allocatable": room, "capacity": room },
    });
    if !options.runtime_classes.is_empty() {
        // A kubelet lists its default handler under the empty name.
        let handlers = std::iter::once("").chain(options.runtime_classes.iter().map(|c| c.handler.as_str()));
        node["status"]["runtimeHandlers"] = handlers.map(|name| json!({ "name": name })).collect();
    }
    node
}

/// Creates an object.
pub(crate) async fn create(client: &Client, path: &str, object: &Value) -> Result<()> {
    let what = format!("creating {} at {path}", object["metadata"]["name"]);
    let body = serde_json::to_vec(object).map_err(Error::format(what.clone()))?;
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(Error::format(what.clone()))?;
    client.request::<Value>(request).await.map_err(Error::kube(what))?;
    Ok(())
}

/// Waits until a server answers with status 200 at `path`.
pub(crate) async fn healthy(client: &Client, path: &str) -> Result<()> {
    loop {
        let request = http::Request::get(path).body(Vec::new()).map_err(Error::format("asking for health"))?;
        if client.request_text(request).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until a pod can be scheduled: the nodes are ready and have no taints, and the default ServiceAccount exists.
pub(crate) async fn schedulable(client: &Client, nodes: u32) -> Result<()> {
    let there: Api<Node> = Api::all(client.clone());
    loop {
        let list = there.list(&ListParams::default()).await.map_err(Error::kube("listing nodes"))?;
        if list.items.len() >= nodes as usize && list.items.iter().all(usable) {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    while accounts.get_opt("default").await.map_err(Error::kube("looking for the default account"))?.is_none() {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Whether the node is ready and has no taints.
pub(crate) fn usable(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && node.spec.as_ref().and_then(|s| s.taints.as_ref()).is_none_or(Vec::is_empty)
}

/// Runs `work` with a time limit.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    logs: std::path::PathBuf,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let began = Instant::now();
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::Late { what: what.to_owned(), seconds: began.elapsed().as_secs(), logs }))
}
