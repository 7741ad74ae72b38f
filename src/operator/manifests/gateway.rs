//! The gateway: its account and rights, the policy that limits them, and its workload.
//!
//! The names are those of upstream's router, so that existing clients and NetworkPolicies find it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::PortRange;
use paddock_api::kind::{ApiShape, ApiShapes, Kind};
use paddock_api::names::{annotation, condition, group, label, object, reason};
use paddock_api::open_connections::PORT;
use serde_json::{Value, json};

use super::admission_policies::{bound, entry, is_user, rule};
use super::common::Settings;
use super::network::outside;
use super::rbac::{self, Grant, Scope};
use super::{pods, workload};

/// The name of the gateway's Deployment and ServiceAccount.
const NAME: &str = object::GATEWAY_DEPLOYMENT;
const PROXY_PORT: i32 = 8080;
const HEALTH_PORT: i32 = 8081;
const METRICS_PORT: i32 = 9090;

/// The fields of a Sandbox's spec that the gateway may change. Everything else stays.
const MODE_FIELDS: [&str; 2] = ["operatingMode", "replicas"];
/// The annotations that the gateway may change. It may only remove the second one. It writes the last two for a sandbox that
/// asks for it.
const ANNOTATIONS: [&str; 4] =
    [annotation::LAST_ACTIVITY, annotation::SUSPENDED_BY, annotation::KEEP_AWAKE_UNTIL, annotation::IDLE_SINCE];

/// The rights on the objects that it serves: it watches Sandboxes and their pods, and wakes and marks Sandboxes.
fn served_rules() -> Vec<PolicyRule> {
    vec![
        rbac::rule(group::AGENTS, &["sandboxes"], &["list", "patch", "watch"]),
        rbac::rule("", &["pods"], &["list", "watch"]),
    ]
}

/// All objects of the gateway.
pub(super) fn documents(settings: &Settings) -> Vec<Value> {
    let mut documents = rights(settings);
    documents.extend(policy(settings, &settings.user_of(NAME)));
    let budget = pods::disruption_budget(&labelled(NAME, Some(&settings.namespace)), &selector());
    let services = [service(settings), metrics_service(settings)];
    documents.extend(services.into_iter().chain([deployment(settings), autoscaler(settings), budget]));
    documents.extend(network_policies(settings));
    documents
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/component".to_owned(), NAME.to_owned()),
        ("app.kubernetes.io/name".to_owned(), NAME.to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "paddock".to_owned()),
    ])
}

fn labelled(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta { labels: Some(labels()), ..super::common::labelled(name, namespace) }
}

/// The selector of its pods. The default NetworkPolicy of templates admits pods with this label.
fn selector() -> Value {
    json!({ "app": object::ROUTER_APP })
}

/// The ValidatingAdmissionPolicies and their bindings, for a gateway with the name of this user that serves this namespace,
/// or all. The gateway compares them with the stored ones.
#[must_use]
pub fn guards(served_namespace: Option<&str>, user: &str) -> Vec<[Value; 2]> {
    let served_namespace = served_namespace.map(str::to_owned);
    vec![policy(&Settings { served_namespace, ..Settings::default() }, user)]
}

/// The ServiceAccount and its roles.
fn rights(settings: &Settings) -> Vec<Value> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": labelled(NAME, Some(&settings.namespace)),
    });
    let granted = |name: &str, scope, rules| {
        rbac::documents(Grant { name: name.to_owned(), scope, rules }, settings, NAME, labelled)
    };
    let mut cluster_wide = vec![rbac::guard_rule(&[policy(settings, &settings.user_of(NAME))])];
    let mut documents = vec![account];
    match settings.served_namespace.as_deref() {
        None => cluster_wide.extend(served_rules()),
        Some(namespace) => documents.extend(granted(NAME, Scope::Namespace(namespace), served_rules())),
    }
    documents.extend(granted(NAME, Scope::Cluster, cluster_wide));
    // The gateway asks the API server about clients.
    documents.extend(granted(REVIEWERS, Scope::Cluster, rbac::review_rules()));
    documents
}

/// The name of the role for reviews. An overlay for anonymous clients deletes it.
const REVIEWERS: &str = "sandbox-router-auth-delegator";

/// The policy that limits the right to patch Sandboxes. The gateway resumes a Sandbox that the operator suspended, if a
/// request may resume it. Of the annotations, the gateway writes `last-activity`, `keep-awake-until` and `idle-since`,
/// and removes `suspended-by`. A stolen token changes nothing else of a Sandbox.
fn policy(settings: &Settings, user: &str) -> [Value; 2] {
    let annotations = |of: &str| format!("{of}.metadata.?annotations.orValue({{}})");
    let (new, old) = (annotations("object"), annotations("oldObject"));
    let same = |fields: &[String]| -> String {
        fields.iter().map(|field| format!("object.{field} == oldObject.{field}")).collect::<Vec<_>>().join(" && ")
    };
    let rest = ["labels", "finalizers", "ownerReferences"].map(|field| format!("metadata.?{field}"));
    let protected = SPEC_FIELDS.iter().filter(|field| !MODE_FIELDS.contains(&field.as_str()));
    let spec: Vec<String> = protected.map(|field| format!("spec.?{field}")).collect();
    let mode: Vec<String> = MODE_FIELDS.iter().map(|field| format!("spec.?{field}")).collect();
    let by = entry("oldObject", "annotations", annotation::SUSPENDED_BY);
    let validations = vec![
        (same(&spec), "the gateway may change only the mode of a Sandbox".to_owned()),
        (
            format!(
                "({}) || (object.spec.?operatingMode.orValue(\"\") == \"Running\" && \
                 object.spec.?replicas.orValue(1) == 1 && \
                 oldObject.spec.?resumePolicy.orValue(\"Manual\") == \"OnDemand\" && {by} in [\"Idle\", \"Drain\"] && \
                 !oldObject.?status.?conditions.orValue([]).exists(c, c.type == {:?} && c.?reason.orValue(\"\") == {:?}))",
                same(&mode),
                condition::READY,
                reason::SANDBOX_EXPIRED,
            ),
            "the gateway may only resume a Sandbox, and only one with the resumePolicy OnDemand that the operator \
             suspended and that has not expired"
                .to_owned(),
        ),
        (
            format!(
                "{} && {new}.all(k, k in {ANNOTATIONS:?} || {old}[?k] == {new}[?k]) && \
                 {old}.all(k, k in {ANNOTATIONS:?} || k in {new})",
                same(&rest)
            ),
            format!("the gateway may change only the annotations {} of a Sandbox", ANNOTATIONS.join(", ")),
        ),
        (
            format!("!({0:?} in {new}) || {old}[?{0:?}] == {new}[?{0:?}]", annotation::SUSPENDED_BY),
            format!("the gateway may only remove the annotation {}", annotation::SUSPENDED_BY),
        ),
    ];
    let of_the_gateway = ("the-gateway", is_user(user));
    let rule = rule(&[group::AGENTS], &[Kind::Sandbox.plural()], &["UPDATE"]);
    let name = settings.cluster_name(&format!("{NAME}-sandboxes"));
    let mut documents = bound(&name, &[rule], vec![of_the_gateway], vec![], validations);
    for document in &mut documents {
        document["metadata"]["labels"] = json!(labels());
    }
    documents
}

/// The fields of a Sandbox's spec, from its CRD, which takes a moment to generate.
static SPEC_FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let definition = paddock_api::crd::of(Kind::Sandbox);
    let schema = definition.as_ref().and_then(|d| d.spec.versions.first()).and_then(|v| v.schema.as_ref());
    let spec = schema.and_then(|s| s.open_api_v3_schema.as_ref()?.properties.as_ref()?.get("spec"));
    spec.and_then(|spec| spec.properties.as_ref()).into_iter().flatten().map(|(name, _)| name.clone()).collect()
});

/// The Service that upstream's clients look for.
fn service(settings: &Settings) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": labelled(object::GATEWAY_SERVICE, Some(&settings.namespace)),
        "spec": {
            "selector": selector(),
            "ports": [{ "name": "proxy", "port": PROXY_PORT, "targetPort": "proxy", "protocol": "TCP" }],
        },
    })
}

/// The Service whose EndpointSlices name every gateway to the operator, with the port of the lists of open connections. Clients
/// have no use for the port.
fn metrics_service(settings: &Settings) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": labelled(object::GATEWAY_METRICS_SERVICE, Some(&settings.namespace)),
        "spec": {
            "selector": selector(),
            "ports": [{ "name": PORT, "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP" }],
        },
    })
}

fn deployment(settings: &Settings) -> Value {
    let mut pod_labels = labels();
    pod_labels.insert("app".to_owned(), object::ROUTER_APP.to_owned());
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": labelled(NAME, Some(&settings.namespace)),
        // The autoscaler sets the number of replicas.
        "spec": {
            "selector": { "matchLabels": selector() },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": { "metadata": { "labels": pod_labels }, "spec": pod(settings) },
        },
    })
}

fn pod(settings: &Settings) -> Value {
    let ports = [("proxy", PROXY_PORT), ("health", HEALTH_PORT), ("metrics", METRICS_PORT)];
    let mut container = pods::container(settings, "router", &arguments(settings), &ports);
    // A proxied connection needs little, and a held request some 50 kB. There is no CPU limit: throttling would become
    // latency.
    container["resources"] = json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "1Gi" } });
    let mut pod = pods::pod(NAME, &selector(), container);
    // Streams may go on for a while after the pod has left its Service.
    pod["terminationGracePeriodSeconds"] = 45.into();
    pod
}

fn arguments(settings: &Settings) -> Vec<String> {
    let mut args = vec!["gateway".to_owned()];
    if settings.shapes == ApiShapes::Only(ApiShape::Upstream) {
        // Upstream's clients send no credential through a tunnel or a Gateway.
        args.push("--allow-unauthenticated=true".to_owned());
    }
    args.extend(settings.served_namespace.as_ref().map(|namespace| format!("--namespace={namespace}")));
    args
}

/// Streams outlive the work of opening them, so that replicas are removed slowly.
fn autoscaler(settings: &Settings) -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": labelled(NAME, Some(&settings.namespace)),
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": NAME },
            "minReplicas": 2,
            "maxReplicas": 10,
            "metrics": [{
                "type": "Resource",
                "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 300 } },
            }],
            "behavior": { "scaleDown": {
                "stabilizationWindowSeconds": 600,
                "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 300 }],
            } },
        },
    })
}

/// Clients reach the proxy alone, and the gateway reaches the API server, the DNS and the pods of Sandboxes. The metrics
/// have a policy of their own, so that an overlay can replace it.
fn network_policies(settings: &Settings) -> Vec<Value> {
    let tcp =
        |ports: &[i32]| -> Vec<Value> { ports.iter().map(|port| json!({ "port": port, "protocol": "TCP" })).collect() };
    // The operator asks for the open connections at the same port.
    let readers = json!([
        { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": settings.metrics_namespace } } },
        { "podSelector": { "matchLabels": workload::selector() } },
    ]);
    let document = |name: &str, mut spec: Value| {
        spec["podSelector"] = json!({ "matchLabels": selector() });
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": labelled(name, Some(&settings.namespace)),
            "spec": spec,
        })
    };
    let mut metrics = json!({ "ports": tcp(&[METRICS_PORT]) });
    if settings.secures_metrics() {
        metrics["from"] = readers;
    }
    let sandboxes = json!({
        "namespaceSelector": {},
        "podSelector": { "matchExpressions": [{ "key": label::SANDBOX_NAME_HASH, "operator": "Exists" }] },
    });
    // Sandboxed code must not reach the Sandboxes of others past their own policies.
    let mut clients = vec![json!({
        "namespaceSelector": {},
        "podSelector": { "matchExpressions": [{ "key": label::SANDBOX_NAME_HASH, "operator": "DoesNotExist" }] },
    })];
    clients.extend(outside(settings).as_array().into_iter().flatten().cloned());
    // The ports that stand for ports of Sandboxes.
    let (first, last) = (PortRange::DEFAULT.first(), PortRange::DEFAULT.last());
    let mut proxied = tcp(&[PROXY_PORT]);
    proxied.push(json!({ "port": first, "endPort": last, "protocol": "TCP" }));
    let dns = json!([{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }]);
    vec![
        document(
            NAME,
            json!({
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    { "ports": proxied, "from": clients },
                    { "ports": tcp(&[HEALTH_PORT]), "from": outside(settings) },
                ],
                "egress": [
                    { "to": [sandboxes] },
                    { "ports": dns },
                    // An API server is no pod, so no selector can name it.
                    { "ports": tcp(&[443, 6443]) },
                ],
            }),
        ),
        document(&format!("{NAME}-metrics"), json!({ "policyTypes": ["Ingress"], "ingress": [metrics] })),
    ]
}

#[cfg(test)]
mod tests;
