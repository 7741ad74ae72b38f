//! Creates the webhook configurations, keeps their CA bundle, and removes them together with the Deployment.
//!
//! *Owned*: the operator creates the configurations. *Injected*: manifests create them, and the operator adds only the
//! CA bundle and an owner. It uses server-side apply, so applying the manifests again removes neither.
//!
//! A configuration without its operator would continue to deny Pods. Each configuration therefore names the operator's
//! Namespace as its owner, which is the only cluster-scoped object that belongs to a deployment. Deleting the namespace
//! thus deletes the configurations. In addition, an operator that shuts down checks whether its Deployment still
//! exists, and removes the configurations if it does not.

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
use paddock_kube::tls::CaBundlePublisher;

/// The field manager of the fields that the operator applies.
const FIELD_MANAGER: &str = "paddock-webhook";

/// The creator of the webhook configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The operator creates them.
    Owned,
    /// Manifests create them, and the operator adds the CA bundle.
    Injected,
}

/// The Deployment that the operator runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The namespace of the Deployment.
    pub namespace: String,
    /// The name of the Deployment.
    pub deployment: String,
}

/// Keeps the webhook configurations as they should be.
pub struct WebhookConfigSync {
    client: Client,
    desired: Desired,
    registration: Registration,
    deployed: Option<Deployed>,
    applied: AtomicBool,
}

impl WebhookConfigSync {
    /// Creates a sync for the desired configurations. `deployed` is absent for an operator outside the cluster.
    #[must_use]
    pub fn new(client: Client, desired: Desired, registration: Registration, deployed: Option<Deployed>) -> Self {
        Self { client, desired, registration, deployed, applied: AtomicBool::new(false) }
    }

    /// Removes the webhook configurations if no operator is left to answer them. It is called during a graceful
    /// shutdown.
    ///
    /// # Errors
    /// If a request to the API server fails.
    pub async fn withdraw(&self) -> Result<(), kube::Error> {
        let gone = match &self.deployed {
            // Outside a cluster, the process itself is the deployment.
            None => self.registration == Registration::Owned,
            Some(deployed) => {
                let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &deployed.namespace);
                let found = deployments.get_opt(&deployed.deployment).await?;
                found.is_none_or(|d| d.metadata.deletion_timestamp.is_some())
            }
        };
        if gone {
            info!("removing the webhook configurations, because the Deployment does not exist any more");
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
                // The first time it always writes, because an older version may have left other rules.
                let first = !self.applied.load(Ordering::Relaxed);
                if !first && owned && trusting && names == desired_names {
                    return Ok(true);
                }
                json!(desired)["webhooks"].take()
            }
            Registration::Injected => {
                if found.is_none() {
                    warn!(kind = %K::kind(&()), CONFIGURATION, "the configuration does not exist, so this webhook is not called");
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

/// The common part of both kinds of configuration.
trait Configuration:
    Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
    /// The name and the CA bundle of each webhook.
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
