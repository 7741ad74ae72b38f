//! The operator's workload: Namespace, Deployment, PodDisruptionBudget and Services.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::kind::{ApiShape, ApiShapes};
use paddock_api::names::object;
use paddock_api::open_connections::AUDIENCE;
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
/// The directory of the token for the gateways.
const CONNECTIONS_TOKEN: &str = "/var/run/secrets/paddock.dev/connections";
/// The directory of a certificate that another program issues.
const WEBHOOK_CERTIFICATE: &str = "/etc/paddock/webhook";
/// The directory of the ConfigMap of upstream's controller, with the list of the domains of claims' labels.
pub const SANDBOX_CONFIG: &str = "/etc/sandbox-config";
/// The name of that ConfigMap, which is optional.
const SANDBOX_CONFIG_MAP: &str = "agent-sandbox-config";
/// The name of an optional ConfigMap whose `binaryData` contains plugins.
const PLUGINS_CONFIG_MAP: &str = "paddock-plugins";

/// The operator's namespace. It enforces the Pod Security Standard that the operator itself fulfils.
pub(super) fn namespace(settings: &Settings) -> Value {
    let mut metadata = json!(labelled(&settings.namespace, None));
    metadata["labels"]["pod-security.kubernetes.io/enforce"] = "restricted".into();
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })
}

/// The labels of the pods and of the objects that upstream's tooling selects.
fn app_labels() -> BTreeMap<String, String> {
    let mut all = labels();
    all.insert("app".to_owned(), object::OPERATOR_DEPLOYMENT.to_owned());
    all
}

/// The metadata of an object that upstream's tooling selects.
fn app(name: &str, settings: &Settings) -> ObjectMeta {
    ObjectMeta { labels: Some(app_labels()), ..labelled(name, Some(&settings.namespace)) }
}

/// The operator's Deployment.
pub(super) fn deployment(settings: &Settings) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": app(object::OPERATOR_DEPLOYMENT, settings),
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": selector() },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": { "metadata": { "labels": app_labels() }, "spec": pod(settings) },
        },
    })
}

fn pod(settings: &Settings) -> Value {
    let mut volumes = vec![
        json!({ "name": "plugins", "configMap": { "name": PLUGINS_CONFIG_MAP, "optional": true } }),
        json!({ "name": "sandbox-config", "configMap": { "name": SANDBOX_CONFIG_MAP, "optional": true } }),
        // A few components of the largest size. The volume outlives a restart of the container.
        json!({ "name": "plugin-cache", "emptyDir": { "sizeLimit": "512Mi" } }),
        json!({ "name": "tmp", "emptyDir": { "sizeLimit": "64Mi" } }),
    ];
    if settings.gateway {
        // The gateways get a token that nobody else accepts.
        let token = json!({ "audience": AUDIENCE, "expirationSeconds": 3600, "path": "token" });
        let sources = json!([{ "serviceAccountToken": token }]);
        volumes.push(json!({ "name": "connections-token", "projected": { "sources": sources } }));
    }
    if settings.webhook == Webhook::Mounted {
        volumes.push(json!({ "name": "webhook-certificate", "secret": { "secretName": SECRET } }));
    }
    let mut pod = pods::pod(object::OPERATOR_DEPLOYMENT, &selector(), container(settings));
    pod["volumes"] = volumes.into();
    pod["terminationGracePeriodSeconds"] = 30.into();
    pod
}

/// The variable that lets idle plugins throttle Sandboxes. A process gets one millisecond of each tenth of a second then,
/// which is the least that the kernel gives.
pub(super) const THROTTLE_CPU: [&str; 2] = ["PADDOCK_THROTTLE_CPU", "10m"];

/// The flags that upstream's manifests have too.
fn arguments(settings: &Settings) -> [&'static str; 2] {
    [if settings.extensions { "--extensions" } else { "--extensions=false" }, "--leader-elect=true"]
}

/// All other settings, as the variables of the flags. Upstream's documented patches replace the whole list of arguments,
/// and these settings stay.
fn environment(settings: &Settings) -> Vec<Value> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: &str| variables.push(json!({ "name": name, "value": value }));
    match settings.shapes {
        ApiShapes::Both => {}
        ApiShapes::Only(_) => set("PADDOCK_SURFACE", settings.shapes.as_str()),
    }
    if settings.shapes == ApiShapes::Only(ApiShape::Upstream) {
        // Claims of existing users add annotations of their own domains.
        set("PADDOCK_CLAIM_ANNOTATION_DOMAIN", "*");
    }
    set("PADDOCK_PLUGIN_DIR", PLUGINS);
    set("PADDOCK_PLUGIN_CACHE_DIR", PLUGIN_CACHE);
    if settings.throttle {
        let [name, value] = THROTTLE_CPU;
        set(name, value);
    }
    if settings.isolation_policies {
        set("PADDOCK_ISOLATION_POLICIES", "true");
    }
    if !settings.cpu_metrics {
        set("PADDOCK_CPU_METRICS_INTERVAL", "0s");
    }
    match settings.webhook {
        Webhook::Injected => set("PADDOCK_WEBHOOK_REGISTRATION", "injected"),
        Webhook::Owned { .. } => set("PADDOCK_WEBHOOK_REGISTRATION", "owned"),
        Webhook::Mounted => set("PADDOCK_WEBHOOK_CERT_DIR", WEBHOOK_CERTIFICATE),
        Webhook::Off => set("PADDOCK_WEBHOOK_BIND_ADDRESS", "0"),
    }
    if !settings.gateway {
        set("PADDOCK_TCP_WAKE", "false");
    }
    if settings.secures_metrics() {
        set("PADDOCK_METRICS_SECURE", "true");
    }
    if settings.gateway {
        let service = format!("{}/{}", settings.namespace, object::GATEWAY_METRICS_SERVICE);
        set("PADDOCK_CONNECTIONS_SERVICE", &service);
        set("PADDOCK_CONNECTIONS_TOKEN_FILE", &format!("{CONNECTIONS_TOKEN}/token"));
    }
    if let Some(namespace) = &settings.served_namespace {
        set("PADDOCK_NAMESPACE", namespace);
    }
    // The host's name is not the pod's in every network.
    let pod_name = json!({ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    [pod_name].into_iter().chain(variables).collect()
}

fn container(settings: &Settings) -> Value {
    let webhook = (settings.webhook != Webhook::Off).then_some(("webhook", WEBHOOK_PORT));
    let ports: Vec<_> = webhook.into_iter().chain([("metrics", METRICS_PORT), ("health", HEALTH_PORT)]).collect();
    let mut mounts = vec![
        json!({ "name": "plugins", "mountPath": PLUGINS, "readOnly": true }),
        json!({ "name": "sandbox-config", "mountPath": SANDBOX_CONFIG, "readOnly": true }),
        json!({ "name": "plugin-cache", "mountPath": PLUGIN_CACHE }),
        json!({ "name": "tmp", "mountPath": "/tmp" }),
    ];
    if settings.gateway {
        mounts.push(json!({ "name": "connections-token", "mountPath": CONNECTIONS_TOKEN, "readOnly": true }));
    }
    if settings.webhook == Webhook::Mounted {
        mounts.push(json!({ "name": "webhook-certificate", "mountPath": WEBHOOK_CERTIFICATE, "readOnly": true }));
    }
    // Upstream's documented patches name the container and replace its arguments, so the subcommand is none of them.
    let args = arguments(settings).map(str::to_owned);
    let mut container = pods::container(settings, object::OPERATOR_DEPLOYMENT, &args, &ports);
    container["command"] = json!(["/paddock", "operator"]);
    container["env"] = environment(settings).into();
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
            "metadata": app(name, settings),
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
