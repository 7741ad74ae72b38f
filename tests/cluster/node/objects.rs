//! The objects that a cluster with a real node has beside the others.

use kube::Client;
use serde_json::{Value, json};

use super::config::{API_SERVER_PORT, DNS_USER};
use super::{Network, POLL};
use crate::bootstrap::create;
use crate::{Error, Result};

/// Creates the rights of the DNS server, its Service, and the endpoints of the Service `kubernetes`.
pub(crate) async fn create_node_objects(client: &Client, network: &Network) -> Result<()> {
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "metadata": { "name": DNS_USER },
        "rules": [
            { "apiGroups": [""], "resources": ["namespaces", "pods", "services"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        ],
    });
    create(client, &format!("/apis/{group}/v1/clusterroles"), &role).await?;
    let binding = json!({
        "metadata": { "name": DNS_USER },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": DNS_USER },
        "subjects": [{ "apiGroup": group, "kind": "User", "name": DNS_USER }],
    });
    create(client, &format!("/apis/{group}/v1/clusterrolebindings"), &binding).await?;

    let port = |name: &str, protocol: &str, port: u16| json!({ "name": name, "protocol": protocol, "port": port });
    let dns_ports = json!([port("dns", "UDP", 53), port("dns-tcp", "TCP", 53)]);
    let service = json!({
        "metadata": { "name": "kube-dns", "labels": { "k8s-app": "kube-dns" } },
        "spec": { "clusterIP": network.dns_service(), "ports": dns_ports },
    });
    in_namespace(client, "/api/v1/namespaces/kube-system/services", &service).await?;
    let slice = |service: &str, address: String, ports: Value| {
        json!({
            "metadata": { "name": service, "labels": { "kubernetes.io/service-name": service } },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
            "ports": ports,
        })
    };
    let slices = |namespace: &str| format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let dns = slice("kube-dns", network.node().to_string(), dns_ports);
    in_namespace(client, &slices("kube-system"), &dns).await?;
    let ports = json!([port("https", "TCP", API_SERVER_PORT)]);
    in_namespace(client, &slices("default"), &slice("kubernetes", network.machine().to_string(), ports)).await
}

/// Creates an object in a namespace that the API server itself makes, a moment after it is ready.
async fn in_namespace(client: &Client, path: &str, object: &Value) -> Result<()> {
    loop {
        match create(client, path, object).await {
            Err(Error::Kube { cause, .. }) if matches!(&*cause, kube::Error::Api(status) if status.code == 404) => {
                tokio::time::sleep(POLL).await;
            }
            other => return other,
        }
    }
}
