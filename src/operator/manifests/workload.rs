//! The operator's workload: Namespace, Deployment, PodDisruptionBudget and Services.

use paddock_api::kind::{ApiShape, ApiShapes};
use paddock_api::names::object;
use serde_json::{Value, json};

use super::common::{Settings, Webhook, labelled, labels};
use super::pods;
use crate::webhook::SECRET;

/// The name of the Service of the webhook.
pub const WEBHOOK_SERVICE: &str = "paddock-webhook";
pub(super) const WEBHOOK_PORT: i32 = 9443;
pub(super) const METRICS_PORT: i32 = 8080;
pub(super) const HEALTH_PORT: i32 = 8081;
const PLUGINS: &str = "/etc/paddock/plugins";
/// The directory for the last good version of each plugin.
const PLUGIN_CACHE: &str = "/var/cache/paddock/plugins";
/// The directory of a certificate that another program issues.
const WEBHOOK_CERTIFICATE: &str = "/etc/paddock/webhook";
/// The name of an optional ConfigMap whose `binaryData` contains plugins.
const PLUGINS_CONFIG_MAP: &str = "paddock-plugins";

/// The operator's namespace. It enforces the Pod Security Standard that the operator itself fulfils.
pub(super) fn namespace(settings: &Settings) -> Value {
    let mut metadata = json!(labelled(&settings.namespace, None));
    metadata["labels"]["pod-security.kubernetes.io/enforce"] = "restricted".into();
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })
}

/// The operator's Deployment.
pub(super) fn deployment(settings: &Settings) -> Value {
    let mut pod_labels = labels();
    pod_labels.insert("app".to_owned(), object::OPERATOR_DEPLOYMENT.to_owned());
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": labelled(object::OPERATOR_DEPLOYMENT, Some(&settings.namespace)),
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": selector() },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": { "metadata": { "labels": pod_labels }, "spec": pod(settings) },
        },
    })
}

fn pod(settings: &Settings) -> Value {
    let mut volumes = vec![
        json!({ "name": "plugins", "configMap": { "name": PLUGINS_CONFIG_MAP, "optional": true } }),
        // A few components of the largest size. The volume outlives a restart of the container.
        json!({ "name": "plugin-cache", "emptyDir": { "sizeLimit": "512Mi" } }),
        json!({ "name": "tmp", "emptyDir": { "sizeLimit": "64Mi" } }),
    ];
    if settings.webhook == Webhook::Mounted {
        volumes.push(json!({ "name": "webhook-certificate", "secret": { "secretName": SECRET } }));
    }
    let mut pod = pods::pod(object::OPERATOR_DEPLOYMENT, &selector(), container(settings));
    pod["volumes"] = volumes.into();
    pod["terminationGracePeriodSeconds"] = 30.into();
    pod
}

/// The flag that lets idle plugins throttle Sandboxes. A process gets one millisecond of each tenth of a second then, which
/// is the least that the kernel gives.
pub(super) const THROTTLE_CPU: &str = "--throttle-cpu=10m";

fn arguments(settings: &Settings) -> Vec<String> {
    let extensions = if settings.extensions { "--extensions" } else { "--extensions=false" };
    let mut args = vec!["operator".to_owned(), extensions.to_owned(), "--leader-elect=true".to_owned()];
    match settings.shapes {
        ApiShapes::Both => {}
        ApiShapes::Only(_) => args.push(format!("--surface={}", settings.shapes.as_str())),
    }
    if settings.shapes == ApiShapes::Only(ApiShape::Upstream) {
        // Claims of existing users add annotations of their own domains.
        args.push("--claim-annotation-domain=*".to_owned());
    }
    args.push(format!("--plugin-dir={PLUGINS}"));
    args.push(format!("--plugin-cache-dir={PLUGIN_CACHE}"));
    if settings.throttle {
        args.push(THROTTLE_CPU.to_owned());
    }
    if settings.isolation_policies {
        args.push("--isolation-policies".to_owned());
    }
    if !settings.cpu_metrics {
        args.push("--cpu-metrics-interval=0s".to_owned());
    }
    args.push(match settings.webhook {
        Webhook::Injected => "--webhook-registration=injected".to_owned(),
        Webhook::Owned { .. } => "--webhook-registration=owned".to_owned(),
        Webhook::Mounted => format!("--webhook-cert-dir={WEBHOOK_CERTIFICATE}"),
        Webhook::Off => "--webhook-bind-address=0".to_owned(),
    });
    if !settings.gateway {
        args.push("--tcp-wake=false".to_owned());
    }
    if settings.secures_metrics() {
        args.push("--metrics-secure=true".to_owned());
    }
    args.extend(settings.served_namespace.as_ref().map(|namespace| format!("--namespace={namespace}")));
    args
}

fn container(settings: &Settings) -> Value {
    let webhook = (settings.webhook != Webhook::Off).then_some(("webhook", WEBHOOK_PORT));
    let ports: Vec<_> = webhook.into_iter().chain([("metrics", METRICS_PORT), ("health", HEALTH_PORT)]).collect();
    let mut mounts = vec![
        json!({ "name": "plugins", "mountPath": PLUGINS, "readOnly": true }),
        json!({ "name": "plugin-cache", "mountPath": PLUGIN_CACHE }),
        json!({ "name": "tmp", "mountPath": "/tmp" }),
    ];
    if settings.webhook == Webhook::Mounted {
        mounts.push(json!({ "name": "webhook-certificate", "mountPath": WEBHOOK_CERTIFICATE, "readOnly": true }));
    }
    let mut container = pods::container(settings, "operator", &arguments(settings), &ports);
    // The host's name is not the pod's in every network.
    container["env"] = json!([{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]);
    // 2Gi is twice the memory for 50,000 sandboxes with their pods (docs/operations.md). There is no CPU limit: bursts of
    // claims need the processor, and throttling would become latency.
    container["resources"] = json!({ "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "2Gi" } });
    container["volumeMounts"] = mounts.into();
    container
}

/// A disruption budget, so that draining nodes leaves one replica for the webhook.
pub(super) fn disruption_budget(settings: &Settings) -> Value {
    pods::disruption_budget(&labelled(object::OPERATOR_DEPLOYMENT, Some(&settings.namespace)), &selector())
}

/// The Services of the webhook and of the metrics.
pub(super) fn services(settings: &Settings) -> Vec<Value> {
    let service = |name: &str, port: &str, number: i32| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": labelled(name, Some(&settings.namespace)),
            "spec": {
                "selector": selector(),
                "ports": [{ "name": port, "port": number, "targetPort": port, "protocol": "TCP" }],
            },
        })
    };
    let metrics = service(&format!("{}-metrics", object::OPERATOR_DEPLOYMENT), "metrics", METRICS_PORT);
    let webhook = (settings.webhook != Webhook::Off).then(|| service(WEBHOOK_SERVICE, "webhook", 443));
    webhook.into_iter().chain([metrics]).collect()
}

/// The selector of the Deployment's pods, which is the same as upstream's.
pub(super) fn selector() -> Value {
    json!({ "app": object::OPERATOR_DEPLOYMENT })
}
