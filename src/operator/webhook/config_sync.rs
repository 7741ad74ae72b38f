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
//! The entries for Pods fail open only while the policies about isolation are in force, if the operator has the flag
//! `--isolation-policies`. Otherwise the desired entries are those without the flag. An *injected* entry for Pods that fails
//! open is closed if the policies are not in force for a while, and manifests alone can open it again.
//!
//! What is shown is what was found, also if a write of the operator fails. If somebody undoes every restoration, the
//! operator restores seldom, so that two programs do not write against each other for ever.
//!
//! A configuration without its operator would continue to deny Pods. Each configuration therefore names the operator's
//! Namespace as its owner, which is the only cluster-scoped object that belongs to a deployment. Deleting the namespace
//! thus deletes the configurations. In addition, an operator that shuts down removes the configurations if the
//! Deployment that owns its pod is gone.

mod isolation;
mod restores;
mod stored;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use paddock_core::admission::Phase;
use paddock_kube::guard::Guards;
use paddock_kube::leader::Fence;
use paddock_kube::tls::CaBundlePublisher;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use self::isolation::Isolation;
use self::restores::{Restoration, Restores, Turn};
use self::stored::{
    changes, encoded, has_bundle, has_labels, has_owner, is_ours, other_operator, owners, webhooks, without_bundle,
};
use super::metrics::Reviews;
use super::own_deployment::{Deployed, OwnDeployment};
use super::registered::{EntryState, RegisteredEntry, compare, of_all};
use super::registration::{CONFIGURATION, Desired, configurations, resource};
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
    owner: OnceCell<OwnerReference>,
    /// What happened to the MutatingWebhookConfiguration, and to the ValidatingWebhookConfiguration.
    histories: [Mutex<History>; 2],
    /// Open while this replica leads.
    fence: Fence,
    events: RegistrationEvents,
    metrics: Reviews,
    entries: watch::Sender<Vec<RegisteredEntry>>,
    registered_once: watch::Sender<bool>,
    isolation: Isolation,
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
            histories: Default::default(),
            fence,
            metrics,
            entries,
            registered_once: watch::Sender::new(false),
            isolation: Isolation::default(),
        }
    }

    /// The same sync, whose entries for Pods fail open while these policies are in force.
    #[must_use]
    pub fn with_isolation(self, isolation: Option<watch::Receiver<Guards>>) -> Self {
        Self { isolation: Isolation::new(isolation), ..self }
    }

    /// Waits until the API server has accepted every entry once, if the operator registers them itself.
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
            self.remove(Phase::Mutate).await?;
            self.remove(Phase::Validate).await?;
        }
        Ok(())
    }

    /// Compares both configurations, restores what is the operator's own, and reports the state of every entry. Returns
    /// whether every entry has the CA bundle. An error of one configuration is returned after the report of both.
    async fn check(&self, bundle: Option<&str>) -> Result<bool, kube::Error> {
        if let (Some(deployment), true) = (&self.deployment, self.registration != Registration::External) {
            deployment.find().await;
        }
        let mut desired = Desired { isolation_policies: false, ..self.desired.clone() };
        if let Some((in_force, faults)) = self.isolation.look().await {
            desired.isolation_policies = in_force;
            self.events.isolation(&faults).await;
        }
        let (mutating, validating) = configurations(&desired, bundle);
        let desired = |phase, metadata, webhooks: Value| {
            let new = DynamicObject::new(CONFIGURATION, &resource(phase)).data(json!({ "webhooks": webhooks }));
            DynamicObject { metadata, ..new }
        };
        let mutating = desired(Phase::Mutate, mutating.metadata, json!(mutating.webhooks));
        let validating = desired(Phase::Validate, validating.metadata, json!(validating.webhooks));
        let results =
            [self.keep(Phase::Mutate, &mutating, bundle).await, self.keep(Phase::Validate, &validating, bundle).await];
        let (mut entries, mut trusting, mut errors) = (Vec::new(), true, Vec::new());
        for kept in results {
            entries.extend(kept.entries);
            trusting &= kept.trusting;
            errors.extend(kept.error);
        }
        self.report(entries).await;
        let mut errors = errors.into_iter();
        let first = errors.next();
        for error in errors {
            warn!(%error, "the second webhook configuration could not be kept either");
        }
        first.map_or(Ok(trusting), Err)
    }

    async fn report(&self, entries: Vec<RegisteredEntry>) {
        for entry in &entries {
            self.metrics.registered(entry);
        }
        if self.histories.iter().all(|history| history.lock().accepted) {
            self.registered_once.send_replace(true);
        }
        self.entries.send_if_modified(|before| {
            let changed = *before != entries;
            before.clone_from(&entries);
            changed
        });
        self.events.faults(&entries).await;
    }

    /// Compares one configuration, and restores what is the operator's own.
    async fn keep(&self, phase: Phase, desired: &DynamicObject, bundle: Option<&str>) -> Kept {
        let wanted = webhooks(desired);
        let unkept = |entries, error| Kept { entries, trusting: false, error };
        let found = match self.api(phase).get_opt(CONFIGURATION).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let state = |_: &Value| EntryState::Unreadable(status.message.clone());
                return unkept(of_all(phase, &wanted, state), None);
            }
            Err(error) => {
                let state = |_: &Value| EntryState::Unreadable(error.to_string());
                return unkept(of_all(phase, &wanted, state), Some(error));
            }
        };
        let compares_only = self.registration == Registration::External;
        let state = |seen: Option<&DynamicObject>| {
            let mut stored = seen.map(webhooks).unwrap_or_default();
            if compares_only {
                stored.iter_mut().for_each(without_bundle);
            }
            compare(phase, &wanted, &stored)
        };
        let owner = match self.owner().await {
            Ok(owner) => owner,
            Err(error) => return unkept(state(found.as_ref()), Some(error)),
        };
        let another = found.as_ref().and_then(|found| other_operator(found, owner));
        if let Some(namespace) = another.filter(|_| !compares_only) {
            let state = |_: &Value| EntryState::OfAnotherOperator(namespace.to_owned());
            return unkept(of_all(phase, &wanted, state), None);
        }
        let written = match (self.registration, &found) {
            (Registration::Owned, None) => self.create(phase, desired, owner).await,
            (Registration::Owned, Some(found)) => self.restore(phase, desired, found, owner).await,
            (Registration::Injected, Some(found)) => self.inject(phase, desired, found, bundle, owner).await,
            (Registration::Injected | Registration::External, None) | (Registration::External, Some(_)) => {
                Ok(Written::nothing())
            }
        };
        let Written { stored, accepted, shown_as_written } = match written {
            Ok(written) => written,
            Err(error) => return unkept(state(found.as_ref()), Some(error)),
        };
        let stored = stored.or_else(|| found.clone());
        let entries = state(if shown_as_written { stored.as_ref() } else { found.as_ref() });
        if accepted || entries.iter().all(RegisteredEntry::is_registered) {
            self.history(phase).lock().accepted = true;
        }
        let ours: Vec<Value> = stored.iter().flat_map(webhooks).filter(is_ours).collect();
        let trusting = ours.iter().all(|entry| has_bundle(entry, bundle));
        Kept { entries, trusting, error: None }
    }

    async fn create(
        &self,
        phase: Phase,
        desired: &DynamicObject,
        owner: Option<&OwnerReference>,
    ) -> Result<Written, kube::Error> {
        let mut new = desired.clone();
        new.metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.api(phase).create(&params, &new).await {
            // Another replica came first.
            Err(kube::Error::Api(status)) if status.code == 409 => self.read_again(phase).await,
            created => {
                let stored = created?;
                info!(kind = resource(phase).kind, CONFIGURATION, "the webhook configuration was created");
                Ok(Written { stored: Some(stored), accepted: true, shown_as_written: true })
            }
        }
    }

    /// Replaces the entries of the operator if one differs.
    ///
    /// A replica does that once after its start, because another version may have left other entries. After that, the
    /// leader does it, so that the replicas of two versions do not take turns for longer than a rollout. Every replica
    /// adds the CA bundle, of which all have the same.
    async fn restore(
        &self,
        phase: Phase,
        desired: &DynamicObject,
        found: &DynamicObject,
        owner: Option<&OwnerReference>,
    ) -> Result<Written, kube::Error> {
        let (there, wanted) = (webhooks(found), webhooks(desired));
        let decides = !*self.registered_once.borrow() || self.fence.remaining().is_some();
        let webhooks: Vec<Value> = if decides {
            let others = there.iter().filter(|entry| !is_ours(entry));
            wanted.iter().chain(others).cloned().collect()
        } else {
            let bundle = wanted.first().map(|entry| entry["clientConfig"]["caBundle"].clone()).unwrap_or_default();
            let with_bundle = |mut entry: Value| {
                if is_ours(&entry) {
                    entry["clientConfig"]["caBundle"] = bundle.clone();
                }
                entry
            };
            there.iter().cloned().map(with_bundle).collect()
        };
        let differ = changes(phase, &webhooks, &there);
        let same = there.len() == webhooks.len() && differ.is_empty();
        let labelled = !decides || has_labels(found, desired);
        if same && labelled && has_owner(found, owner) {
            return Ok(Written::nothing());
        }
        let mut metadata = json!({ "resourceVersion": found.resource_version() });
        if let Some(owner) = owner.filter(|_| !has_owner(found, owner)) {
            metadata["ownerReferences"] = json!(owners(found, owner));
        }
        if !labelled {
            metadata["labels"] = json!(desired.labels());
        }
        // The whole list is replaced: server-side apply would keep what others added to an entry.
        let patch = json!({ "metadata": metadata, "webhooks": webhooks });
        let ours = webhooks.iter().filter(|entry| is_ours(entry)).cloned().collect();
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let restoration = Restoration { entries: ours, differ: differ.clone() };
        let written = self.in_turn(phase, restoration, (&params, &Patch::Merge(patch))).await?;
        if written.accepted && *self.registered_once.borrow() && !self.isolation.has_changed() {
            self.events.restored(&differ).await;
        }
        Ok(written)
    }

    /// Adds the CA bundle and the owner, by server-side apply, so applying the manifests again removes neither. Closes the
    /// entries for Pods that must not fail open.
    async fn inject(
        &self,
        phase: Phase,
        desired: &DynamicObject,
        found: &DynamicObject,
        bundle: Option<&str>,
        owner: Option<&OwnerReference>,
    ) -> Result<Written, kube::Error> {
        let there: Vec<Value> = webhooks(found).into_iter().filter(is_ours).collect();
        let wanted = webhooks(desired);
        let closes = |entry: &Value| self.isolation.closes(&wanted, entry);
        if has_owner(found, owner) && there.iter().all(|entry| has_bundle(entry, bundle) && !closes(entry)) {
            return Ok(Written::nothing());
        }
        let encoded = encoded(bundle);
        let entry = |entry: &Value| {
            let mut ours = json!({ "name": entry["name"], "clientConfig": { "caBundle": encoded } });
            if closes(entry) {
                ours["failurePolicy"] = "Fail".into();
            }
            ours
        };
        let entries: Vec<Value> = there.iter().map(entry).collect();
        let kind = resource(phase);
        let mut patch = json!({
            "apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": { "name": CONFIGURATION },
            "webhooks": entries,
        });
        if let Some(owner) = owner {
            patch["metadata"]["ownerReferences"] = json!([owner]);
        }
        let restoration = Restoration { entries, differ: changes(phase, &wanted, &there) };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.in_turn(phase, restoration, (&params, &Patch::Apply(patch))).await
    }

    /// Sends a patch of a configuration, unless somebody undid the last ones.
    async fn in_turn(
        &self,
        phase: Phase,
        restoration: Restoration,
        (params, patch): (&PatchParams, &Patch<Value>),
    ) -> Result<Written, kube::Error> {
        let kind = resource(phase).kind;
        let turn = self.history(phase).lock().restores.turn(&restoration);
        let shown_as_written = match turn {
            Turn::Restore => true,
            Turn::RestoreAndShow => false,
            Turn::Show => return Ok(Written::nothing()),
        };
        match self.api(phase).patch(CONFIGURATION, params, patch).await {
            Ok(stored) => {
                info!(kind, CONFIGURATION, "the webhook configuration was restored");
                self.history(phase).lock().restores.restored(restoration);
                Ok(Written { stored: Some(stored), accepted: true, shown_as_written })
            }
            // Another writer came first, which may be another replica.
            Err(kube::Error::Api(status)) if status.code == 409 => self.read_again(phase).await,
            Err(error) => Err(error),
        }
    }

    async fn read_again(&self, phase: Phase) -> Result<Written, kube::Error> {
        let stored = self.api(phase).get(CONFIGURATION).await?;
        Ok(Written { stored: Some(stored), accepted: false, shown_as_written: true })
    }

    fn api(&self, phase: Phase) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(phase))
    }

    fn history(&self, phase: Phase) -> &Mutex<History> {
        let [mutating, validating] = &self.histories;
        match phase {
            Phase::Mutate => mutating,
            Phase::Validate => validating,
        }
    }

    /// The owner reference to the operator's Namespace. Absent outside a cluster, and if the operator only compares.
    async fn owner(&self) -> Result<Option<&OwnerReference>, kube::Error> {
        let Some(deployment) = self.deployment.as_ref().filter(|_| self.registration != Registration::External) else {
            return Ok(None);
        };
        let name = deployment.namespace();
        let read = async || {
            let namespace = Api::<Namespace>::all(self.client.clone()).get(name).await?;
            Ok(OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Namespace".to_owned(),
                name: name.to_owned(),
                uid: namespace.uid().unwrap_or_default(),
                ..OwnerReference::default()
            })
        };
        self.owner.get_or_try_init(read).await.map(Some)
    }

    /// Deletes a configuration, unless the operator of another namespace owns it.
    async fn remove(&self, phase: Phase) -> Result<(), kube::Error> {
        let api = self.api(phase);
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

/// What happened to one configuration.
#[derive(Default)]
struct History {
    restores: Restores,
    /// Whether every entry was registered once, or the API server has accepted the operator's write of all. Another
    /// program may change the entries in the same request.
    accepted: bool,
}

/// The result of the comparison of one configuration.
struct Kept {
    entries: Vec<RegisteredEntry>,
    /// Whether every entry has the CA bundle.
    trusting: bool,
    /// The request that failed.
    error: Option<kube::Error>,
}

/// The result of a write.
struct Written {
    /// The configuration after the write. `None` if it was not written.
    stored: Option<DynamicObject>,
    /// Whether the API server has accepted a write.
    accepted: bool,
    /// Whether the entries are reported as they are after the write.
    shown_as_written: bool,
}

impl Written {
    fn nothing() -> Self {
        Self { stored: None, accepted: false, shown_as_written: true }
    }
}

#[cfg(test)]
mod tests;
