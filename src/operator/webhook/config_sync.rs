//! Puts the webhook configurations in place, keeps their bundle, and takes them away with the deployment.
//!
//! *Owned*: the operator makes the configurations. *Injected*: manifests make them, and only the bundle and an owner are
//! added, by server-side apply, so that applying the manifests again takes nothing away.
//!
//! A configuration that stays behind without its operator would go on denying Pods. So each names the operator's
//! Namespace as its owner (the one cluster-scoped object that goes with a deployment): deleting the namespace deletes it.
//! And an operator that is shut down looks whether its Deployment still exists; if not, it takes them away itself.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::registration::{CONFIGURATION, Desired, configurations};
use crate::tls::CaBundlePublisher;

/// Owns the fields that we apply.
const FIELD_MANAGER: &str = "paddock-webhook";

/// Who makes the configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The operator.
    Owned,
    /// Manifests; the operator adds the bundle.
    Injected,
}

/// Where the operator is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Its namespace.
    pub namespace: String,
    /// Its Deployment.
    pub deployment: String,
}

/// Keeps the configurations.
pub struct WebhookConfigSync {
    client: Client,
    desired: Desired,
    registration: Registration,
    deployed: Option<Deployed>,
    applied: AtomicBool,
}

impl WebhookConfigSync {
    /// Keeps what is desired. `deployed`: absent for an operator outside of the cluster.
    #[must_use]
    pub fn new(client: Client, desired: Desired, registration: Registration, deployed: Option<Deployed>) -> Self {
        Self { client, desired, registration, deployed, applied: AtomicBool::new(false) }
    }

    /// At a graceful shutdown: takes the configurations away if nobody is left to answer them.
    ///
    /// # Errors
    /// When the API server does not tell, or does not do it.
    pub async fn withdraw(&self) -> Result<(), kube::Error> {
        let gone = match &self.deployed {
            // Outside of the cluster, the process is the deployment.
            None => self.registration == Registration::Owned,
            Some(deployed) => {
                let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &deployed.namespace);
                let found = deployments.get_opt(&deployed.deployment).await?;
                found.is_none_or(|d| d.metadata.deletion_timestamp.is_some())
            }
        };
        if gone {
            info!("taking the webhook configurations away: the deployment is gone");
            remove::<MutatingWebhookConfiguration>(&self.client).await?;
            remove::<ValidatingWebhookConfiguration>(&self.client).await?;
        }
        Ok(())
    }

    async fn keep<K: Configuration>(&self, desired: &K, bundle: &str) -> Result<bool, kube::Error> {
        let api: Api<K> = Api::all(self.client.clone());
        let found = api.get_opt(CONFIGURATION).await?;
        let there = found.as_ref().map(|f| f.webhooks()).unwrap_or_default();
        let names: BTreeSet<&str> = there.iter().map(|(name, _)| *name).collect();
        let trusting = there.iter().all(|(_, b)| b.is_some_and(|b| b.0 == bundle.as_bytes()));
        let desired_webhooks = desired.webhooks();
        let desired_names: BTreeSet<&str> = desired_webhooks.iter().map(|(name, _)| *name).collect();
        let owner = self.owner().await?;
        let owned = owner.as_ref().is_none_or(|owner| {
            let uid = owner["uid"].as_str();
            found.as_ref().is_some_and(|f| f.owner_references().iter().any(|o| Some(o.uid.as_str()) == uid))
        });

        let webhooks: Value = match self.registration {
            Registration::Owned => {
                // Once at the start whatever is there: an older version may have left other rules.
                let first = !self.applied.load(Ordering::Relaxed);
                if !first && owned && trusting && names == desired_names {
                    return Ok(true);
                }
                json!(desired)["webhooks"].take()
            }
            Registration::Injected => {
                if found.is_none() {
                    warn!(kind = %K::kind(&()), CONFIGURATION, "not there: nobody asks this webhook");
                    return Ok(true);
                }
                if owned && trusting {
                    return Ok(true);
                }
                let bundle = json!(ByteString(bundle.as_bytes().to_vec()));
                names.iter().map(|name| json!({ "name": name, "clientConfig": { "caBundle": bundle } })).collect()
            }
        };
        let mut patch = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "name": CONFIGURATION },
            "webhooks": webhooks,
        });
        if let Some(owner) = owner {
            patch["metadata"]["ownerReferences"] = json!([owner]);
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let stored = api.patch(CONFIGURATION, &params, &Patch::Apply(patch)).await?;
        info!(kind = %K::kind(&()), CONFIGURATION, "webhook configuration applied");
        Ok(stored.webhooks().iter().all(|(_, b)| b.is_some_and(|b| b.0 == bundle.as_bytes())))
    }

    /// The owner reference to the operator's Namespace.
    async fn owner(&self) -> Result<Option<Value>, kube::Error> {
        let Some(deployed) = &self.deployed else { return Ok(None) };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = namespaces.get(&deployed.namespace).await?;
        Ok(Some(json!({ "apiVersion": "v1", "kind": "Namespace", "name": deployed.namespace, "uid": namespace.uid() })))
    }
}

impl CaBundlePublisher for WebhookConfigSync {
    async fn trust(&self, bundle: &str) -> Result<bool, kube::Error> {
        let (mutating, validating) = configurations(&self.desired, Some(bundle));
        let trusted = self.keep(&mutating, bundle).await? & self.keep(&validating, bundle).await?;
        self.applied.store(true, Ordering::Relaxed);
        Ok(trusted)
    }
}

async fn remove<K: Configuration>(client: &Client) -> Result<(), kube::Error> {
    let api: Api<K> = Api::all(client.clone());
    match api.delete(CONFIGURATION, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the two kinds of configuration have in common.
trait Configuration:
    Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
    /// Names and bundles of its webhooks.
    fn webhooks(&self) -> Vec<(&str, Option<&ByteString>)>;
}

impl Configuration for MutatingWebhookConfiguration {
    fn webhooks(&self) -> Vec<(&str, Option<&ByteString>)> {
        self.webhooks.iter().flatten().map(|w| (w.name.as_str(), w.client_config.ca_bundle.as_ref())).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn webhooks(&self) -> Vec<(&str, Option<&ByteString>)> {
        self.webhooks.iter().flatten().map(|w| (w.name.as_str(), w.client_config.ca_bundle.as_ref())).collect()
    }
}
