//! The manifests of a deployment, generated from the code: `deploy/base` and `paddock manifests`.

pub mod rbac;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Resource, api::admissionregistration::v1 as admission};
use paddock_api::crd::selected;
use paddock_core::kind::ApiShapes;
use paddock_core::names::object;
use serde::Serialize;
use serde_json::{Value, json};

pub use workload::WEBHOOK_SERVICE;

use crate::webhook::{ClientConfig, Desired, configurations};

/// The values that the manifests depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's namespace.
    pub namespace: String,
    /// The operator's container image.
    pub image: String,
    /// The API shapes to install.
    pub shapes: ApiShapes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: object::OPERATOR_NAMESPACE.to_owned(),
            image: concat!("paddock:v", env!("CARGO_PKG_VERSION")).to_owned(),
            shapes: ApiShapes::Both,
        }
    }
}

/// All objects, in the order in which they can be applied.
#[must_use]
pub fn all(settings: &Settings) -> Vec<Value> {
    let definitions = selected(settings.shapes).iter().map(document).collect::<Vec<_>>();
    definitions.into_iter().chain(files(settings).into_iter().flat_map(|(_, documents)| documents)).collect()
}

/// The files of `deploy/base` without the CRDs: the name and the documents of each.
#[must_use]
pub fn files(settings: &Settings) -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("namespace.yaml", vec![workload::namespace(settings)]),
        ("rbac.yaml", rbac::rbac(settings)),
        ("services.yaml", workload::services(settings)),
        ("deployment.yaml", vec![workload::deployment(settings), workload::disruption_budget(settings)]),
        ("webhook.yaml", webhook(settings)),
    ]
}

/// The webhook configurations without a CA bundle. The operator adds the bundle.
fn webhook(settings: &Settings) -> Vec<Value> {
    let desired = Desired {
        client_config: ClientConfig::Service {
            namespace: settings.namespace.clone(),
            name: WEBHOOK_SERVICE.to_owned(),
            port: 443,
        },
        own_namespace: Some(settings.namespace.clone()),
        operator_user: Some(format!("system:serviceaccount:{}:{}", settings.namespace, object::OPERATOR_DEPLOYMENT)),
    };
    let (mut mutating, mut validating): (
        admission::MutatingWebhookConfiguration,
        admission::ValidatingWebhookConfiguration,
    ) = configurations(&desired, None);
    mutating.metadata.labels = Some(labels());
    validating.metadata.labels = Some(labels());
    vec![document(&mutating), document(&validating)]
}

/// An object as a document, with the `apiVersion` and the `kind` of its type.
fn document<K: Resource + Serialize>(object: &K) -> Value {
    let mut document = json!(object);
    document["apiVersion"] = K::API_VERSION.into();
    document["kind"] = K::KIND.into();
    document
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), object::OPERATOR_DEPLOYMENT.to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "paddock".to_owned()),
    ])
}

fn labelled(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}
