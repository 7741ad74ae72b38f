//! The manifests of a deployment, generated from the code: `deploy/base` and `paddock manifests`.

mod admission_policies;
mod common;
mod gateway;
mod guards;
mod isolation;
mod leases;
mod network;
mod owners;
mod pods;
pub mod rbac;
#[cfg(test)]
pub(crate) mod tests;
mod workload;

use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use paddock_api::crd::selected;
use paddock_api::kind::Kind;
use paddock_api::names::group;
use serde_json::Value;

pub(crate) use guards::guards;
pub(crate) use isolation::{chosen_classes, isolation_guards};

pub use gateway::guards as gateway_guards;

pub use isolation::{IsolationPolicies, RUNTIME_CLASSES, isolation_policies};

pub use common::{METRICS_NAMESPACE, POD_CIDRS, Settings, Webhook};
pub use workload::{SANDBOX_CONFIG, WEBHOOK_SERVICE};

use common::{document, labels};

use crate::webhook::{ClientConfig, Desired, configurations};

/// All objects, in the order in which they can be applied.
#[must_use]
pub fn all(settings: &Settings) -> Vec<Value> {
    let always = |definition: &CustomResourceDefinition| {
        definition.spec.names.kind == Kind::Sandbox.name() || definition.spec.group == group::POLICY
    };
    let served = selected(settings.shapes).into_iter().filter(|definition| settings.extensions || always(definition));
    let definitions: Vec<Value> = served.map(|definition| document(&definition)).collect();
    definitions.into_iter().chain(files(settings).into_iter().flat_map(|(_, documents)| documents)).collect()
}

/// The files of `deploy/base` without the CRDs: the name and the documents of each.
#[must_use]
pub fn files(settings: &Settings) -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("namespace.yaml", vec![workload::namespace(settings)]),
        ("rbac.yaml", rbac::rbac(settings)),
        ("admissionpolicies.yaml", admission_policies::policies(settings, &settings.user())),
        ("leases.yaml", leases::policy(settings, &settings.user())),
        ("owners.yaml", owners::policy(settings, &settings.user())),
        ("services.yaml", workload::services(settings)),
        ("deployment.yaml", vec![workload::deployment(settings), workload::disruption_budget(settings)]),
        ("networkpolicy.yaml", network::policies(settings)),
        ("gateway.yaml", if settings.gateway { gateway::documents(settings) } else { vec![] }),
        (
            "webhook.yaml",
            match settings.webhook {
                Webhook::Injected | Webhook::Mounted => webhook(settings),
                Webhook::Owned { .. } | Webhook::Off => vec![],
            },
        ),
    ]
}

/// The documents that only an operator with the rights to throttle idle Sandboxes has: the file of an overlay.
#[must_use]
pub fn throttle_rights(settings: &Settings) -> Vec<Value> {
    added_rights(|throttle| Settings { throttle, ..settings.clone() })
}

/// The Secret with credentials for registries that the overlay names.
pub const PLUGIN_PULL_SECRET: &str = "plugin-registry";

/// The documents that only an operator with the right to read the pull Secret of plugins has: the file of an overlay.
#[must_use]
pub fn plugin_pull_secret_rights(settings: &Settings) -> Vec<Value> {
    let secrets = |is_on: bool| is_on.then(|| PLUGIN_PULL_SECRET.to_owned()).into_iter().collect();
    added_rights(|is_on| Settings { plugin_pull_secrets: secrets(is_on), ..settings.clone() })
}

/// The documents that only an operator with the rights to deliver the data of claims has: the file of an overlay.
#[must_use]
pub fn claim_data_rights(settings: &Settings) -> Vec<Value> {
    added_rights(|claim_data| Settings { claim_data, ..settings.clone() })
}

/// The documents of the rights that a setting adds when it is on.
fn added_rights(with: impl Fn(bool) -> Settings) -> Vec<Value> {
    let without = rbac::rbac(&with(false));
    rbac::rbac(&with(true)).into_iter().filter(|document| !without.contains(document)).collect()
}

/// The webhook configurations without a CA bundle. The operator or another program adds the bundle.
fn webhook(settings: &Settings) -> Vec<Value> {
    let desired = Desired {
        client_config: ClientConfig::Service {
            namespace: settings.namespace.clone(),
            name: WEBHOOK_SERVICE.to_owned(),
            port: 443,
        },
        own_namespace: Some(settings.namespace.clone()),
        operator_user: Some(settings.user()),
        isolation_policies: settings.isolation_policies,
    };
    let (mut mutating, mut validating): (
        admission::MutatingWebhookConfiguration,
        admission::ValidatingWebhookConfiguration,
    ) = configurations(&desired, None);
    for metadata in [&mut mutating.metadata, &mut validating.metadata] {
        metadata.labels.get_or_insert_default().extend(labels());
    }
    vec![document(&mutating), document(&validating)]
}
