//! The NetworkPolicies of the operator: who may connect to which of its ports.

use paddock_api::names::object;
use serde_json::{Value, json};

use super::common::{Settings, Webhook, labelled};
use super::workload::{HEALTH_PORT, METRICS_PORT, WEBHOOK_PORT, selector};

/// The policies. The metrics have one of their own, so that an overlay can replace it.
pub(super) fn policies(settings: &Settings) -> Vec<Value> {
    let metrics = format!("{}-metrics", object::OPERATOR_DEPLOYMENT);
    let prometheus = json!([{
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": settings.metrics_namespace } },
    }]);
    let prometheus = settings.secures_metrics().then_some(prometheus);
    let webhook = (settings.webhook != Webhook::Off).then_some(WEBHOOK_PORT);
    let from_outside: Vec<i32> = webhook.into_iter().chain([HEALTH_PORT]).collect();
    vec![
        policy(settings, object::OPERATOR_DEPLOYMENT, &from_outside, Some(outside(settings))),
        policy(settings, &metrics, &[METRICS_PORT], prometheus),
    ]
}

/// Every address except those of pods. An API server and a kubelet are no pods, so no selector can name them.
pub(super) fn outside(settings: &Settings) -> Value {
    let all = |cidr: &str, is_ipv6: bool| {
        let except: Vec<&String> = settings.pod_cidrs.iter().filter(|cidr| cidr.contains(':') == is_ipv6).collect();
        let block = if except.is_empty() { json!({ "cidr": cidr }) } else { json!({ "cidr": cidr, "except": except }) };
        json!({ "ipBlock": block })
    };
    json!([all("0.0.0.0/0", false), all("::/0", true)])
}

/// A policy for these ports. Without `from`, every address is admitted.
fn policy(settings: &Settings, name: &str, ports: &[i32], from: Option<Value>) -> Value {
    let ports: Vec<Value> = ports.iter().map(|port| json!({ "port": port, "protocol": "TCP" })).collect();
    let mut rule = json!({ "ports": ports });
    if let Some(from) = from {
        rule["from"] = from;
    }
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": labelled(name, Some(&settings.namespace)),
        "spec": {
            "podSelector": { "matchLabels": selector() },
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        },
    })
}
