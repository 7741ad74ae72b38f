//! Writes the status of plugins and policies.
//!
//! Each replica applies its own entry of a status with a field manager of its own, so that no replica overwrites another.
//! A leader applies the conditions, which follow from the entries. Operators for single namespaces share the objects, and
//! one of them writes the conditions (`status::writes_conditions`). It also removes the entries of replicas that do not
//! exist any more. A replica that is stopped removes its entry itself.
//!
//! While the watch of the objects fails, the entry says so, and a leader writes nothing of its own: it would repeat what it
//! saw before.
//!
//! Nothing is written when nothing differs, with two exceptions: the numbers of calls are written once a minute if they
//! changed, and an entry is renewed every five minutes.

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use paddock_api::document::Document;
use paddock_api::names::{condition, object, reason};
use paddock_api::{SandboxPluginStatus, SandboxPolicyStatus};
use paddock_core::conditions::find_condition;
use paddock_kube::clock::Clock;
use paddock_kube::pace::Pace;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::feed::{CONFIG_MAPS, Outages, PLUGINS, POLICIES, SeenObjects};
use super::follow::{Followed, Update, follow};
use super::status::{self, ReplicaEntry, Replicas};
use super::usage::CallCounts;
use super::{BoundState, Fault, LoadedState, ObjectStates};
use crate::limits;
use crate::write::{new_event, publish, reporter};

/// The replica that reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replica {
    /// A Pod of the operator's Deployment.
    Pod {
        /// The namespace of the Pod.
        namespace: String,
        /// The name of the Pod.
        name: String,
    },
    /// A process outside of a cluster, by its identity.
    Process(String),
}

impl Replica {
    /// The name in a status.
    fn name(&self) -> String {
        match self {
            Replica::Pod { namespace, name } => format!("{namespace}/{name}"),
            Replica::Process(identity) => identity.clone(),
        }
    }

    /// The field manager of the entries.
    fn manager(&self) -> String {
        let (Replica::Pod { name, .. } | Replica::Process(name)) = self;
        manager(name)
    }
}

/// The field manager of the entries of a Pod or process. The API server accepts 128 characters.
fn manager(name: &str) -> String {
    let start = name.char_indices().rev().nth(99).map_or(0, |(at, _)| at);
    format!("{}-{}", object::POLICY_STATUS_MANAGER, name.get(start..).unwrap_or_default())
}

/// The parts of the operator that the reports use.
pub struct Reporter {
    /// The client that writes.
    pub client: Client,
    /// The replica that reports.
    pub replica: Replica,
    /// The objects with their status.
    pub seen: watch::Receiver<SeenObjects>,
    /// The state of the objects on this replica.
    pub states: watch::Receiver<ObjectStates>,
    /// The kinds whose watch fails.
    pub outages: watch::Receiver<Outages>,
    /// Whether this replica leads.
    pub leading: watch::Receiver<bool>,
    /// The numbers of calls.
    pub calls: CallCounts,
    /// The clock of conditions.
    pub clock: Clock,
}

/// The memory of the reports.
struct StatusReports {
    reporter: Reporter,
    /// The Pods of the operator, once they are listed.
    replicas: Option<Replicas>,
    /// Limits the conditions of each object, in case that two operators disagree about it.
    pace: Pace<(String, String)>,
}

impl Reporter {
    /// Reports until `stop`, and then removes the entries of this replica.
    pub async fn run(self, stop: CancellationToken) {
        let mut pods = self.pods().boxed();
        let mut reports = StatusReports::new(self);
        loop {
            let complete = reports.write().await;
            let pause = if complete { limits::PLUGIN_CALLS_INTERVAL } else { limits::PLUGIN_REPORT_RETRY };
            let Reporter { seen, states, outages, leading, .. } = &mut reports.reporter;
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = seen.changed() => {}
                Ok(()) = states.changed() => {}
                Ok(()) = outages.changed() => {}
                Ok(()) = leading.changed() => {}
                Some(replicas) = pods.next() => reports.replicas = Some(replicas),
                () = sleep(pause) => {}
            }
        }
        let _ = timeout(limits::PLUGIN_REPORT_END, reports.withdraw()).await;
    }

    /// The Pods of the operator's Deployment, each time that they change. Nothing outside of a cluster.
    fn pods(&self) -> impl Stream<Item = Replicas> + Send + use<> {
        let namespace = match &self.replica {
            Replica::Pod { namespace, .. } => Some(namespace.clone()),
            Replica::Process(_) => None,
        };
        let client = self.client.clone();
        let own = self.replica.name();
        let streams = namespace.map(move |namespace| {
            let labels = Some(format!("app.kubernetes.io/name={}", object::OPERATOR_DEPLOYMENT));
            let followed =
                Followed { resource: ApiResource::erase::<Pod>(&()), namespace: Some(namespace.clone()), labels };
            follow(client, followed, is_ready).filter_map(move |update| {
                let replicas: Option<Replicas> = match update {
                    Update::Objects(pods) => {
                        Some(pods.into_iter().map(|(pod, ready)| (format!("{namespace}/{pod}"), ready)).collect())
                    }
                    Update::Fault { .. } => None,
                };
                // A Deployment with other labels has other Pods, about which nothing is known.
                let known = replicas.filter(|replicas| replicas.contains_key(&own));
                async move { known }
            })
        });
        futures::stream::iter(streams).flatten()
    }
}

/// Whether a Pod is Ready.
fn is_ready(pod: &Document) -> bool {
    let status: Value = serde_json::from_str(pod.status()).unwrap_or_default();
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == condition::READY && condition["status"] == "True")
}

impl StatusReports {
    fn new(reporter: Reporter) -> Self {
        Self { reporter, replicas: None, pace: Pace::new(limits::PLUGIN_CONDITIONS) }
    }

    /// Writes what differs. Returns whether all of it was written.
    async fn write(&mut self) -> bool {
        let Reporter { seen, states, outages, leading, .. } = &mut self.reporter;
        let outages = outages.borrow_and_update().clone();
        let seen = seen.borrow_and_update().clone();
        let states = states.borrow_and_update().clone();
        let leads = *leading.borrow_and_update();
        let (own, now) = (self.reporter.replica.name(), self.reporter.clock.now());
        let mut complete = true;
        for (name, plugin) in &seen.plugins {
            let state = states.plugins.get(name).filter(|state| plugin.uid().as_ref() == Some(&state.uid));
            let Some(state) = state else { continue };
            let before = plugin.status.clone().unwrap_or_default();
            let of_maps = outages.get(CONFIG_MAPS).filter(|_| plugin.spec.source.config_map.is_some());
            let is_unseen = outages.contains_key(PLUGINS);
            let fault = Fault::during(outages.get(PLUGINS).or(of_maps), state.fault.as_ref());
            let state = LoadedState { fault, ..state.clone() };
            let entry = status::plugin_entry(&own, &state, self.reporter.calls.of(name), now);
            let of_leader = |replicas: Option<&Replicas>| {
                let after = status::of_plugin(plugin, replicas, now);
                let differs = after != SandboxPluginStatus { replicas: Vec::new(), ..before.clone() };
                differs.then(|| OfLeader::new(json!(after), [&before.conditions, &after.conditions]))
            };
            let subject = Subject::new(name, &**plugin);
            let leads = leads && !is_unseen;
            complete &= self.write_object(&subject, (&before.replicas[..], &entry), (leads, now), of_leader).await;
        }
        for (name, policy) in &seen.policies {
            let state = states.policies.get(name).filter(|state| policy.uid().as_ref() == Some(&state.uid));
            let Some(state) = state else { continue };
            let before = policy.status.clone().unwrap_or_default();
            let outage = outages.get(POLICIES);
            let state = BoundState { fault: Fault::during(outage, state.fault.as_ref()), ..state.clone() };
            let entry = status::policy_entry(&own, &state, now);
            let of_leader = |replicas: Option<&Replicas>| {
                let after = status::of_policy(policy, replicas, now);
                let differs = after != SandboxPolicyStatus { replicas: Vec::new(), ..before.clone() };
                differs.then(|| OfLeader::new(json!(after), [&before.conditions, &after.conditions]))
            };
            let subject = Subject::new(name, &**policy);
            let leads = leads && outage.is_none();
            complete &= self.write_object(&subject, (&before.replicas[..], &entry), (leads, now), of_leader).await;
        }
        complete
    }

    /// Writes the entry of this replica to the status of an object. A leader also removes entries that stay behind, and
    /// writes its own part of the status: `of_leader` returns that part, unless the status has it.
    async fn write_object<E: ReplicaEntry>(
        &mut self,
        subject: &Subject<'_>,
        (entries, entry): (&[E], &E),
        (leads, now): (bool, Timestamp),
        of_leader: impl FnOnce(Option<&Replicas>) -> Option<OfLeader>,
    ) -> bool {
        let mut complete = self.write_entry(subject, entries, entry).await;
        if !leads {
            return complete;
        }
        let writes = self.writes_conditions(entries, now);
        complete &= self.remove_gone(subject, entries, writes.then_some(now)).await;
        let part = if writes { of_leader(self.replicas.as_ref()) } else { None };
        if let Some(part) = part {
            complete &= self.apply_conditions(subject, part).await;
        }
        complete
    }

    /// Whether this operator writes the conditions of an object with these entries.
    fn writes_conditions<E: ReplicaEntry>(&self, entries: &[E], now: Timestamp) -> bool {
        let live = status::live(entries, self.replicas.as_ref(), now);
        status::writes_conditions(&self.reporter.replica.name(), live.iter().map(|entry| entry.name))
    }

    /// Writes the entry of this replica if it differs from the one among these, or has to be renewed.
    async fn write_entry<E: ReplicaEntry>(&self, subject: &Subject<'_>, entries: &[E], entry: &E) -> bool {
        let renewed = entry.reported().renewed.unwrap_or_default();
        let seen = entries.iter().find(|seen| seen.reported().name == entry.reported().name);
        let is_due = match seen {
            Some(seen) if seen.lasting() == entry.lasting() => {
                let age = seen.reported().renewed.map(|before| status::age(before, renewed));
                let has_news = seen.without_time() != entry.without_time();
                let interval = if has_news { limits::PLUGIN_CALLS_INTERVAL } else { limits::PLUGIN_ENTRY_RENEWAL };
                age.is_none_or(|age| age >= interval)
            }
            Some(_) | None => true,
        };
        let manager = self.reporter.replica.manager();
        !is_due || self.apply(subject, &manager, json!({ "replicas": [entry] })).await
    }

    /// Applies what only the leader writes, and reports a change of the condition Ready in an Event.
    async fn apply_conditions(&mut self, subject: &Subject<'_>, part: OfLeader) -> bool {
        if !self.pace.take((subject.resource.plural.clone(), subject.name.to_owned()), Instant::now()) {
            return false;
        }
        let OfLeader { status, ready: [was, ready] } = part;
        let applied = self.apply(subject, object::POLICY_STATUS_MANAGER, status).await;
        if let Some(ready) = ready.filter(|ready| applied && is_news(was.as_ref(), ready)) {
            let kind = if ready.status == "True" { EventType::Normal } else { EventType::Warning };
            let event = new_event(kind, &ready.reason, &ready.message);
            let regarding = ObjectReference {
                api_version: Some(subject.resource.api_version.clone()),
                kind: Some(subject.resource.kind.clone()),
                name: Some(subject.name.to_owned()),
                uid: Some(subject.uid.clone()),
                ..ObjectReference::default()
            };
            // A recorder keeps the first note of a series, so each note has a recorder of its own.
            publish(&Recorder::new(self.reporter.client.clone(), reporter(None)), &event, &regarding).await;
        }
        applied
    }

    /// Removes the entries of replicas that do not exist any more, as their own field managers. With a time, these include
    /// the entries of other operators that were not renewed.
    async fn remove_gone<E: ReplicaEntry>(&self, subject: &Subject<'_>, entries: &[E], now: Option<Timestamp>) -> bool {
        let mut complete = true;
        for entry in entries.iter().map(ReplicaEntry::reported) {
            let is_stale = now.is_some_and(|now| status::is_stale(&entry, now));
            if is_stale || status::is_gone(entry.name, self.replicas.as_ref()) {
                let name = entry.name.split_once('/').map_or(entry.name, |(_, pod)| pod);
                complete &= self.apply(subject, &manager(name), json!({})).await;
            }
        }
        complete
    }

    /// Removes the entries of this replica.
    async fn withdraw(&self) {
        let seen = self.reporter.seen.borrow().clone();
        let (own, manager) = (self.reporter.replica.name(), self.reporter.replica.manager());
        let plugins = seen.plugins.iter().map(|(name, plugin)| {
            let mut entries = plugin.status.iter().flat_map(|status| &status.replicas);
            (Subject::new(name, &**plugin), entries.any(|entry| entry.name == own))
        });
        let policies = seen.policies.iter().map(|(name, policy)| {
            let mut entries = policy.status.iter().flat_map(|status| &status.replicas);
            (Subject::new(name, &**policy), entries.any(|entry| entry.name == own))
        });
        for (subject, _) in plugins.chain(policies).filter(|(_, has_entry)| *has_entry) {
            self.apply(&subject, &manager, json!({})).await;
        }
    }

    /// Applies a part of a status. The UID keeps it from an object of the same name that is newer.
    async fn apply(&self, subject: &Subject<'_>, manager: &str, status: Value) -> bool {
        let body = json!({
            "apiVersion": subject.resource.api_version,
            "kind": subject.resource.kind,
            "metadata": { "name": subject.name, "uid": subject.uid },
            "status": status,
        });
        let params = PatchParams::apply(manager).force();
        let done = self.api(subject).patch_status(subject.name, &params, &Patch::Apply(&body)).await;
        match done {
            Ok(_) => true,
            // The object does not exist any more, or another one has its name. The watch will show it.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {
                debug!(name = subject.name, message = status.message, "the status was not written");
                true
            }
            Err(error) => {
                warn!(name = subject.name, %error, "the status of a plugin or policy cannot be written");
                false
            }
        }
    }

    fn api(&self, subject: &Subject<'_>) -> Api<DynamicObject> {
        Api::all_with(self.reporter.client.clone(), &subject.resource)
    }
}

/// The part of a status that the leader writes.
struct OfLeader {
    status: Value,
    /// The condition Ready before the write and after it.
    ready: [Option<Condition>; 2],
}

impl OfLeader {
    fn new(status: Value, conditions: [&[Condition]; 2]) -> Self {
        Self { status, ready: conditions.map(|of| find_condition(of, condition::READY).cloned()) }
    }
}

/// Whether a condition is worth an Event. Every change includes a wait for the other replicas or for an image, so this wait
/// gets no Event.
fn is_news(was: Option<&Condition>, now: &Condition) -> bool {
    let same =
        was.is_some_and(|was| (&was.status, &was.reason, &was.message) == (&now.status, &now.reason, &now.message));
    !same && ![reason::WAITING_FOR_REPLICAS, reason::PULLING].contains(&now.reason.as_str())
}

/// The object of a write.
struct Subject<'a> {
    resource: ApiResource,
    name: &'a str,
    uid: String,
}

impl<'a> Subject<'a> {
    fn new<K: Resource<DynamicType = ()>>(name: &'a str, object: &K) -> Self {
        Self { resource: ApiResource::erase::<K>(&()), name, uid: object.uid().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests;
