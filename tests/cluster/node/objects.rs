//! The objects that a cluster with a real node has beside the others.

use kube::Client;
use serde_json::{Value, json};

use super::config::{API_SERVER_PORT, DNS_LABEL, DNS_USER, POLICIES_USER};
use super::{Network, POLL};
use crate::bootstrap::{create, grant_to};
use crate::{Error, Result};

/// Creates the rights of the DNS server and of the program that enforces NetworkPolicies, the Service of the DNS server,
/// and the endpoints of the Service `kubernetes`.
pub(crate) async fn create_node_objects(client: &Client, network: &Network) -> Result<()> {
    let read = |group: &str, resources: &[&str]| json!({ "apiGroups": [group], "resources": resources, "verbs": ["list", "watch"] });
    let dns = [read("", &["namespaces", "pods", "services"]), read("discovery.k8s.io", &["endpointslices"])];
    grant_to(client, DNS_USER, &dns).await?;
    let policies = [read("", &["namespaces", "pods"]), read("networking.k8s.io", &["networkpolicies"])];
    grant_to(client, POLICIES_USER, &policies).await?;

    let port = |name: &str, protocol: &str, port: u16| json!({ "name": name, "protocol": protocol, "port": port });
    let dns_ports = json!([port("dns", "UDP", 53), port("dns-tcp", "TCP", 53)]);
    let service = json!({
        "metadata": { "name": "kube-dns", "labels": { DNS_LABEL.0: DNS_LABEL.1 } },
        "spec": {
            "clusterIP": network.dns_service(),
            "ports": dns_ports,
            "selector": { DNS_LABEL.0: DNS_LABEL.1 },
        },
    });
    in_namespace(client, "/api/v1/namespaces/kube-system/services", &service).await?;
    let slice = json!({
        "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [network.machine()], "conditions": { "ready": true } }],
        "ports": [port("https", "TCP", API_SERVER_PORT)],
    });
    in_namespace(client, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await
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
