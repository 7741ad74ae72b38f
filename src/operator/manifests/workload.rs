//! The operator's workload: Namespace, Deployment, PodDisruptionBudget and Services.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction,
    Namespace, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext, Service, ServicePort, ServiceSpec, Volume, VolumeMount,
    WeightedPodAffinityTerm,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use paddock_api::kind::ApiShapes;
use paddock_api::names::object;
use serde_json::Value;

use super::common::{Settings, document, labelled};

/// The name of the Service of the webhook.
pub const WEBHOOK_SERVICE: &str = "paddock-webhook";
const WEBHOOK_PORT: i32 = 9443;
const METRICS_PORT: i32 = 8080;
const HEALTH_PORT: i32 = 8081;
/// The user `nonroot` of distroless images.
const USER: i64 = 65532;
const PLUGINS: &str = "/etc/paddock/plugins";
/// The name of an optional ConfigMap whose `binaryData` contains plugins.
const PLUGINS_CONFIG_MAP: &str = "paddock-plugins";

/// The operator's namespace. It enforces the Pod Security Standard that the operator itself fulfils.
pub(super) fn namespace(settings: &Settings) -> Value {
    let mut metadata = labelled(&settings.namespace, None);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned());
    document(&Namespace { metadata, ..Namespace::default() })
}

/// The operator's Deployment.
pub(super) fn deployment(settings: &Settings) -> Value {
    let spec = DeploymentSpec {
        // One replica reconciles, and all replicas answer the webhook. With a single replica, Pods of generated code
        // would be denied while it restarts.
        replicas: Some(2),
        selector: LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() },
        strategy: Some(DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(IntOrString::Int(1)),
                max_unavailable: Some(IntOrString::Int(0)),
            }),
        }),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels()), ..ObjectMeta::default() }),
            spec: Some(pod(settings)),
        },
        ..DeploymentSpec::default()
    };
    let metadata = labelled(object::OPERATOR_DEPLOYMENT, Some(&settings.namespace));
    document(&Deployment { metadata, spec, status: None })
}

fn pod(settings: &Settings) -> PodSpec {
    PodSpec {
        service_account_name: Some(object::OPERATOR_DEPLOYMENT.to_owned()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        affinity: Some(apart()),
        containers: vec![container(settings)],
        volumes: Some(vec![
            Volume {
                name: "plugins".to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: PLUGINS_CONFIG_MAP.to_owned(),
                    optional: Some(true),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
            Volume {
                name: "tmp".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource {
                    size_limit: Some(Quantity("64Mi".to_owned())),
                    ..EmptyDirVolumeSource::default()
                }),
                ..Volume::default()
            },
        ]),
        // Draining the writes and the reviews takes up to 10 s, and the webhook serves for some seconds before that.
        termination_grace_period_seconds: Some(30),
        ..PodSpec::default()
    }
}

fn container(settings: &Settings) -> Container {
    let mut args = vec!["operator".to_owned(), "--extensions".to_owned(), "--leader-elect=true".to_owned()];
    match settings.shapes {
        ApiShapes::Both => {}
        ApiShapes::Only(_) => args.push(format!("--surface={}", settings.shapes.as_str())),
    }
    args.push(format!("--plugin-dir={PLUGINS}"));
    args.push("--webhook-registration=injected".to_owned());
    let port = |name: &str, number: i32| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let quantities = |cpu: Option<&str>, memory: &str| {
        let cpu = cpu.map(|cpu| ("cpu".to_owned(), Quantity(cpu.to_owned())));
        let memory = ("memory".to_owned(), Quantity(memory.to_owned()));
        Some(cpu.into_iter().chain([memory]).collect::<BTreeMap<_, _>>())
    };
    Container {
        name: "operator".to_owned(),
        image: Some(settings.image.clone()),
        args: Some(args),
        ports: Some(vec![port("webhook", WEBHOOK_PORT), port("metrics", METRICS_PORT), port("health", HEALTH_PORT)]),
        // 2Gi is twice the memory for 50,000 sandboxes with their pods (docs/operations.md). There is no CPU limit:
        // bursts of claims need the processor, and throttling would become latency.
        resources: Some(ResourceRequirements {
            requests: quantities(Some("100m"), "128Mi"),
            limits: quantities(None, "2Gi"),
            ..ResourceRequirements::default()
        }),
        // The list of a large cluster takes time. Until it is complete, the operator is alive and not ready.
        liveness_probe: Some(probe("/healthz", 10, 3)),
        readiness_probe: Some(probe("/readyz", 2, 1)),
        startup_probe: Some(probe("/healthz", 1, 30)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount {
                name: "plugins".to_owned(),
                mount_path: PLUGINS.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            VolumeMount { name: "tmp".to_owned(), mount_path: "/tmp".to_owned(), ..VolumeMount::default() },
        ]),
        ..Container::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("health".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

/// An anti-affinity that places the replicas on different nodes if there are enough nodes.
fn apart() -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() }),
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// A disruption budget, so that draining nodes leaves one replica for the webhook.
pub(super) fn disruption_budget(settings: &Settings) -> Value {
    let spec = PodDisruptionBudgetSpec {
        min_available: Some(IntOrString::Int(1)),
        selector: Some(LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() }),
        ..PodDisruptionBudgetSpec::default()
    };
    let metadata = labelled(object::OPERATOR_DEPLOYMENT, Some(&settings.namespace));
    document(&PodDisruptionBudget { metadata, spec: Some(spec), status: None })
}

/// The Services of the webhook and of the metrics.
pub(super) fn services(settings: &Settings) -> Vec<Value> {
    let service = |name: &str, port_name: &str, port: i32| {
        let spec = ServiceSpec {
            selector: Some(selector()),
            ports: Some(vec![ServicePort {
                name: Some(port_name.to_owned()),
                port,
                target_port: Some(IntOrString::String(port_name.to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        };
        let metadata = labelled(name, Some(&settings.namespace));
        document(&Service { metadata, spec: Some(spec), status: None })
    };
    vec![
        service(WEBHOOK_SERVICE, "webhook", 443),
        service(&format!("{}-metrics", object::OPERATOR_DEPLOYMENT), "metrics", METRICS_PORT),
    ]
}

/// The selector of the Deployment's pods, which is the same as upstream's.
fn selector() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), object::OPERATOR_DEPLOYMENT.to_owned())])
}

fn labels() -> BTreeMap<String, String> {
    let mut labels = super::common::labels();
    labels.extend(selector());
    labels
}
