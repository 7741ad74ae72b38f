//! Compares the webhook configurations with the desired ones, restores the operator's own entries, and removes the
//! configurations together with the Deployment.
//!
//! | who registers | missing or changed entries | the CA bundle |
//! |---|---|---|
//! | *owned*: the operator | restored | restored |
//! | *injected*: manifests | shown | restored |
//! | *external*: manifests, and another program for the CA bundle | shown | not compared |
//!
//! What is shown is a metric of each entry, a Warning Event and a line of `/readyz?verbose`. Entries that belong to
//! somebody else stay as they are, and so does a configuration that the operator of another namespace owns.
//!
//! A configuration without its operator would continue to deny Pods. Each configuration therefore names the operator's
//! Namespace as its owner, which is the only cluster-scoped object that belongs to a deployment. Deleting the namespace
//! thus deletes the configurations. In addition, an operator that shuts down removes the configurations if the
//! Deployment that owns its pod is gone.

use std::fmt::Debug;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use paddock_core::admission::Phase;
use paddock_kube::leader::Fence;
use paddock_kube::tls::CaBundlePublisher;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::metrics::Reviews;
use super::own_deployment::{Deployed, OwnDeployment};
use super::registered::{EntryState, RegisteredEntry, compare, of_all};
use super::registration::{CONFIGURATION, Desired, ENTRY_SUFFIX, configurations};
use super::registration_events::RegistrationEvents;
use crate::limits;

/// The field manager of the fields that the operator writes.
const FIELD_MANAGER: &str = "paddock-webhook";

/// The creator of the webhook configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The operator creates them.
    Owned,
    /// Manifests create them, and the operator adds the CA bundle.
    Injected,
    /// Manifests create them, and another program adds the CA bundle.
    External,
}

/// Keeps the webhook configurations as they should be.
pub struct WebhookConfigSync {
    client: Client,
    desired: Desired,
    registration: Registration,
    deployment: Option<OwnDeployment>,
    /// The owner reference to the operator's Namespace, once it was read.
    owner: OnceCell<Value>,
    /// Open while this replica leads.
    fence: Fence,
    events: RegistrationEvents,
    metrics: Reviews,
    entries: watch::Sender<Vec<RegisteredEntry>>,
    registered_once: watch::Sender<bool>,
}

impl WebhookConfigSync {
    /// Creates a sync for the desired configurations, which reports the state of each entry to `entries`. `deployed` is
    /// absent for an operator outside the cluster.
    #[must_use]
    pub fn new(
        client: Client,
        (desired, registration): (Desired, Registration),
        deployed: Option<Deployed>,
        (fence, metrics, entries): (Fence, Reviews, watch::Sender<Vec<RegisteredEntry>>),
    ) -> Self {
        Self {
            deployment: deployed.map(|deployed| OwnDeployment::new(client.clone(), deployed)),
            events: RegistrationEvents::new(client.clone()),
            client,
            desired,
            registration,
            owner: OnceCell::new(),
            fence,
            metrics,
            entries,
            registered_once: watch::Sender::new(false),
        }
    }

    /// Waits until every entry was registered once, if the operator registers them itself.
    pub async fn registered_once(&self) {
        if self.registration == Registration::Owned {
            // The sender is a field of this object.
            let _ = self.registered_once.subscribe().wait_for(|registered| *registered).await;
        }
    }

    /// Checks the configurations periodically, until the future is dropped. It is for configurations whose CA bundle
    /// another program adds. The others are checked whenever [`CaBundlePublisher::trust`] is called.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.check(None).await {
                warn!(%error, "the webhook configurations could not be checked");
            }
            sleep(limits::REGISTRATION_CHECK_INTERVAL).await;
        }
    }

    /// Removes the webhook configurations if no operator is left to answer them. It is called during a graceful
    /// shutdown.
    ///
    /// # Errors
    /// If a request to the API server fails.
    pub async fn withdraw(&self) -> Result<(), kube::Error> {
        let gone = match (self.registration, &self.deployment) {
            // Outside a cluster, the process itself is the deployment.
            (Registration::Owned, None) => true,
            (Registration::Owned | Registration::Injected, Some(deployment)) => deployment.is_gone().await?,
            (Registration::Injected, None) | (Registration::External, _) => false,
        };
        if gone {
            info!("removing the webhook configurations, because the operator's Deployment does not exist any more");
            self.remove::<MutatingWebhookConfiguration>().await?;
            self.remove::<ValidatingWebhookConfiguration>().await?;
        }
        Ok(())
    }

    /// Compares both configurations, restores what is the operator's own, and reports the state of every entry. Returns
    /// whether every entry has the CA bundle.
    async fn check(&self, bundle: Option<&str>) -> Result<bool, kube::Error> {
        if let (Some(deployment), true) = (&self.deployment, self.registration != Registration::External) {
            deployment.find().await;
        }
        let (mutating, validating) = configurations(&self.desired, bundle);
        let results = [self.keep(&mutating, bundle).await, self.keep(&validating, bundle).await];
        let (mut entries, mut trusting) = (Vec::new(), true);
        for result in results {
            let kept = result?;
            entries.extend(kept.entries);
            trusting &= kept.trusting;
        }
        self.report(entries).await;
        Ok(trusting)
    }

    async fn report(&self, entries: Vec<RegisteredEntry>) {
        for entry in &entries {
            self.metrics.registered(entry);
        }
        if entries.iter().all(|entry| entry.state == EntryState::Registered) {
            self.registered_once.send_replace(true);
        }
        self.entries.send_if_modified(|before| {
            let changed = *before != entries;
            before.clone_from(&entries);
            changed
        });
        self.events.faults(&entries).await;
    }

    async fn keep<K: Configuration>(&self, desired: &K, bundle: Option<&str>) -> Result<Kept, kube::Error> {
        let api: Api<K> = Api::all(self.client.clone());
        let owner = self.owner().await?;
        let entries = desired.webhooks();
        let found = match api.get_opt(CONFIGURATION).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let state = |_: &Value| EntryState::Unreadable(status.message.clone());
                return Ok(Kept { entries: of_all(K::PHASE, &entries, state), trusting: false });
            }
            Err(error) => return Err(error),
        };
        let compares_only = self.registration == Registration::External;
        if let Some(namespace) =
            found.as_ref().and_then(|found| other_operator(found, owner)).filter(|_| !compares_only)
        {
            let state = |_: &Value| EntryState::OfAnotherOperator(namespace.to_owned());
            return Ok(Kept { entries: of_all(K::PHASE, &entries, state), trusting: false });
        }
        let stored = match (self.registration, found) {
            (Registration::Owned, None) => Some(self.create(&api, desired, owner).await?),
            (Registration::Owned, Some(found)) => Some(self.restore(&api, desired, found, owner).await?),
            (Registration::Injected, Some(found)) => Some(self.inject(&api, found, bundle, owner).await?),
            (Registration::External, Some(found)) => Some(found),
            (Registration::Injected | Registration::External, None) => None,
        };
        let mut stored = stored.map(|stored| stored.webhooks()).unwrap_or_default();
        let trusting = stored.iter().filter(|entry| is_ours(entry)).all(|entry| has_bundle(entry, bundle));
        if compares_only {
            stored.iter_mut().for_each(without_bundle);
        }
        Ok(Kept { entries: compare(K::PHASE, &entries, &stored), trusting })
    }

    async fn create<K: Configuration>(
        &self,
        api: &Api<K>,
        desired: &K,
        owner: Option<&Value>,
    ) -> Result<K, kube::Error> {
        let mut new = json!(desired);
        new["metadata"]["ownerReferences"] = owner.into_iter().cloned().collect();
        let new = serde_json::from_value(new).map_err(kube::Error::SerdeError)?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&params, &new).await {
            // Another replica came first.
            Err(kube::Error::Api(status)) if status.code == 409 => return api.get(CONFIGURATION).await,
            created => created.inspect(|_| {
                info!(kind = %K::kind(&()), CONFIGURATION, "the webhook configuration was created");
            }),
        }
    }

    /// Replaces the entries of the operator if one differs. Returns the stored configuration.
    ///
    /// A replica does that once after its start, because another version may have left other entries. After that, the
    /// leader does it, so that the replicas of two versions do not take turns for longer than a rollout. Every replica
    /// adds the CA bundle, of which all have the same.
    async fn restore<K: Configuration>(
        &self,
        api: &Api<K>,
        desired: &K,
        found: K,
        owner: Option<&Value>,
    ) -> Result<K, kube::Error> {
        let there = found.webhooks();
        let decides = !*self.registered_once.borrow() || self.fence.remaining().is_some();
        let webhooks: Vec<Value> = if decides {
            let others = there.iter().filter(|entry| !is_ours(entry)).cloned();
            desired.webhooks().into_iter().chain(others).collect()
        } else {
            let wanted = desired.webhooks();
            let bundle = wanted.first().map(|entry| entry["clientConfig"]["caBundle"].clone()).unwrap_or_default();
            let with_bundle = |mut entry: Value| {
                if is_ours(&entry) {
                    entry["clientConfig"]["caBundle"] = bundle.clone();
                }
                entry
            };
            there.iter().cloned().map(with_bundle).collect()
        };
        let same = there.len() == webhooks.len() && changes(K::PHASE, &webhooks, &there).is_empty();
        if same && has_owner(&found, owner) {
            return Ok(found);
        }
        let mut owners = json!(found.owner_references());
        if let (Some(owners), Some(owner), false) = (owners.as_array_mut(), owner, has_owner(&found, owner)) {
            owners.push(owner.clone());
        }
        // The whole list is replaced: server-side apply would keep what others added to an entry.
        let patch = json!({
            "metadata": { "resourceVersion": found.resource_version(), "ownerReferences": owners },
            "webhooks": webhooks,
        });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(CONFIGURATION, &params, &Patch::Merge(patch)).await {
            Ok(stored) => {
                info!(kind = %K::kind(&()), CONFIGURATION, "the webhook configuration was restored");
                if *self.registered_once.borrow() {
                    self.events.restored(&changes(K::PHASE, &webhooks, &there)).await;
                }
                Ok(stored)
            }
            // Another writer came first, which may be another replica.
            Err(kube::Error::Api(status)) if status.code == 409 => api.get(CONFIGURATION).await,
            Err(error) => Err(error),
        }
    }

    /// Adds the CA bundle and the owner, by server-side apply, so applying the manifests again removes neither.
    async fn inject<K: Configuration>(
        &self,
        api: &Api<K>,
        found: K,
        bundle: Option<&str>,
        owner: Option<&Value>,
    ) -> Result<K, kube::Error> {
        let there: Vec<Value> = found.webhooks().into_iter().filter(is_ours).collect();
        if has_owner(&found, owner) && there.iter().all(|entry| has_bundle(entry, bundle)) {
            return Ok(found);
        }
        let bundle = json!(bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec())));
        let entry = |entry: &Value| json!({ "name": entry["name"], "clientConfig": { "caBundle": bundle } });
        let mut patch = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "name": CONFIGURATION },
            "webhooks": there.iter().map(entry).collect::<Vec<_>>(),
        });
        if let Some(owner) = owner {
            patch["metadata"]["ownerReferences"] = json!([owner]);
        }
        let stored = api.patch(CONFIGURATION, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch)).await?;
        info!(kind = %K::kind(&()), CONFIGURATION, "the CA bundle was added to the webhook configuration");
        Ok(stored)
    }

    /// The owner reference to the operator's Namespace. Absent outside a cluster, and if the operator only compares.
    async fn owner(&self) -> Result<Option<&Value>, kube::Error> {
        let Some(deployment) = self.deployment.as_ref().filter(|_| self.registration != Registration::External) else {
            return Ok(None);
        };
        let name = deployment.namespace();
        let read = async || {
            let namespace = Api::<Namespace>::all(self.client.clone()).get(name).await?;
            Ok(json!({ "apiVersion": "v1", "kind": "Namespace", "name": name, "uid": namespace.uid() }))
        };
        self.owner.get_or_try_init(read).await.map(Some)
    }

    /// Deletes a configuration, unless the operator of another namespace owns it.
    async fn remove<K: Configuration>(&self) -> Result<(), kube::Error> {
        let api: Api<K> = Api::all(self.client.clone());
        let owner = self.owner().await?;
        let Some(found) = api.get_opt(CONFIGURATION).await?.filter(|found| other_operator(found, owner).is_none())
        else {
            return Ok(());
        };
        let preconditions = Some(Preconditions { uid: found.uid(), resource_version: None });
        match api.delete(CONFIGURATION, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl CaBundlePublisher for WebhookConfigSync {
    async fn trust(&self, bundle: &str) -> Result<bool, kube::Error> {
        self.check(Some(bundle)).await
    }
}

/// The result of the comparison of one configuration.
struct Kept {
    entries: Vec<RegisteredEntry>,
    /// Whether every entry has the CA bundle.
    trusting: bool,
}

/// Whether the name of an entry is one of the operator's.
fn is_ours(entry: &Value) -> bool {
    entry["name"].as_str().is_some_and(|name| name.ends_with(ENTRY_SUFFIX))
}

/// The entries that differ.
fn changes(phase: Phase, wanted: &[Value], there: &[Value]) -> Vec<RegisteredEntry> {
    compare(phase, wanted, there).into_iter().filter(|entry| entry.state != EntryState::Registered).collect()
}

fn has_bundle(entry: &Value, bundle: Option<&str>) -> bool {
    let wanted = json!(bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec())));
    entry["clientConfig"]["caBundle"] == wanted
}

fn without_bundle(entry: &mut Value) {
    if let Some(client_config) = entry["clientConfig"].as_object_mut() {
        client_config.remove("caBundle");
    }
}

fn has_owner<K: Configuration>(found: &K, owner: Option<&Value>) -> bool {
    owner.is_none_or(|owner| found.owner_references().iter().any(|o| Some(o.uid.as_str()) == owner["uid"].as_str()))
}

/// The namespace of another operator that owns a configuration.
fn other_operator<'a, K: Configuration>(found: &'a K, owner: Option<&Value>) -> Option<&'a str> {
    let ours = owner.and_then(|owner| owner["uid"].as_str());
    if has_owner(found, owner) && owner.is_some() {
        return None;
    }
    let mut namespaces = found.owner_references().iter().filter(|o| o.kind == "Namespace" && o.api_version == "v1");
    namespaces.find(|o| Some(o.uid.as_str()) != ours).map(|o| o.name.as_str())
}

/// The common part of both kinds of configuration.
trait Configuration:
    Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
    /// The phase of its entries.
    const PHASE: Phase;

    /// The entries, in JSON.
    fn webhooks(&self) -> Vec<Value> {
        json!(self)["webhooks"].as_array().cloned().unwrap_or_default()
    }
}

impl Configuration for MutatingWebhookConfiguration {
    const PHASE: Phase = Phase::Mutate;
}

impl Configuration for ValidatingWebhookConfiguration {
    const PHASE: Phase = Phase::Validate;
}
