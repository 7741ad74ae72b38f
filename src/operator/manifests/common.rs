//! The settings, labels and metadata that all manifests share.

use std::collections::BTreeMap;

use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::kind::{ApiShape, ApiShapes};
use paddock_api::names::object;
use paddock_kube::user::service_account_user;
use serde::Serialize;
use serde_json::{Value, json};

/// Who keeps the webhook configurations and the certificate of the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// The manifests contain the configurations. The operator issues the certificate, and adds its CA and an owner to
    /// them.
    Injected,
    /// The operator creates the configurations and issues the certificate.
    Owned {
        /// The host at which API servers reach an operator outside the cluster. If absent, they use the Service.
        host: Option<String>,
    },
    /// The manifests contain the configurations. Another program issues the certificate, and makes API servers trust it.
    Mounted,
    /// There is no webhook.
    Off,
}

/// The values that the manifests depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's namespace.
    pub namespace: String,
    /// The only namespace whose Sandboxes the operator serves. If absent, all namespaces.
    pub served_namespace: Option<String>,
    /// Whether the operator serves templates, pools and claims.
    pub extensions: bool,
    /// Who keeps the webhook.
    pub webhook: Webhook,
    /// Whether the gateway is installed, which routes requests to Sandboxes and wakes them.
    pub gateway: bool,
    /// Whether the operator may deliver the data of claims, for which it creates and deletes Secrets.
    pub claim_data: bool,
    /// Whether the operator may throttle idle Sandboxes, for which it resizes their pods.
    pub throttle: bool,
    /// Whether the policies of `paddock generate vap` judge Pods too, so that isolated Pods start while no replica of the
    /// webhook answers.
    pub isolation_policies: bool,
    /// Whether the operator may read the CPU use of pods, which metrics-server serves.
    pub cpu_metrics: bool,
    /// The Secrets in the operator's namespace with credentials for registries, which the operator may read.
    pub plugin_pull_secrets: Vec<String>,
    /// The operator's container image.
    pub image: String,
    /// The API shapes to install.
    pub shapes: ApiShapes,
    /// The address ranges of the cluster's pods, which the NetworkPolicy keeps from the webhook and the probes.
    pub pod_cidrs: Vec<String>,
    /// The namespace of Prometheus, which the NetworkPolicy admits to the metrics.
    pub metrics_namespace: String,
}

/// The resources of the webhook configurations.
pub(super) const CONFIGURATIONS: [&str; 2] = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];

/// The resources of the admission policies and their bindings.
pub(super) const POLICIES: [&str; 2] = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];

/// The ranges of kubeadm's, kind's and Flannel's documentation.
pub const POD_CIDRS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];

/// The namespace of the Prometheus operator's documentation.
pub const METRICS_NAMESPACE: &str = "monitoring";

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: object::OPERATOR_NAMESPACE.to_owned(),
            served_namespace: None,
            extensions: true,
            webhook: Webhook::Injected,
            gateway: true,
            claim_data: false,
            throttle: false,
            isolation_policies: false,
            cpu_metrics: true,
            plugin_pull_secrets: Vec::new(),
            image: concat!("paddock:v", env!("CARGO_PKG_VERSION")).to_owned(),
            shapes: ApiShapes::Both,
            pod_cidrs: POD_CIDRS.map(str::to_owned).to_vec(),
            metrics_namespace: METRICS_NAMESPACE.to_owned(),
        }
    }
}

impl Settings {
    /// The user of the operator's ServiceAccount.
    pub(super) fn user(&self) -> String {
        self.user_of(object::OPERATOR_DEPLOYMENT)
    }

    /// The user of a ServiceAccount in the operator's namespace.
    pub(super) fn user_of(&self, account: &str) -> String {
        service_account_user(&self.namespace, account)
    }

    /// The name of a cluster-scoped object of this operator alone. Operators for single namespaces exist side by side, so
    /// the name contains the served namespace. A dot separates them, which no name of a namespace contains.
    pub(super) fn cluster_name(&self, name: &str) -> String {
        match &self.served_namespace {
            None => name.to_owned(),
            Some(served) => format!("{name}.{served}"),
        }
    }

    /// Whether the metrics are for authorized readers alone. Upstream's tooling scrapes them without TLS, and from any
    /// namespace.
    pub(super) fn secures_metrics(&self) -> bool {
        self.shapes != ApiShapes::Only(ApiShape::Upstream)
    }
}

/// An object as a document, with the `apiVersion` and the `kind` of its type.
pub(super) fn document<K: Resource + Serialize>(object: &K) -> Value {
    let mut document = json!(object);
    document["apiVersion"] = K::API_VERSION.into();
    document["kind"] = K::KIND.into();
    document
}

pub(super) fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), object::OPERATOR_DEPLOYMENT.to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "paddock".to_owned()),
    ])
}

pub(super) fn labelled(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}
