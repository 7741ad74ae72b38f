//! A scripted cluster: all events happen in a fixed order, except those that a test holds back.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use paddock_api::kind::{Key, Kind};
use paddock_core::plan::{Action, Op, Outcome};
use paddock_core::settings::Settings;
use serde::Deserialize;
use serde_json::Value;

use super::answers::PluginClient;
use super::api::{Api, Deletion, Id, Part, Resource};
use super::nodes::{self, NodeFaults};
use super::operator::{Operator, carry_out, resource};

/// A cluster and its operator.
pub(crate) struct ScriptedCluster {
    pub(crate) api: Api,
    pub(crate) operator: Operator,
    /// The kinds whose watches deliver nothing for now.
    held: BTreeSet<Kind>,
    /// Whether the scheduler and the kubelets work.
    pub(crate) nodes_work: bool,
    /// Whether pools are reconciled after everything else. The operator's queue delays them until claims have their
    /// Sandboxes.
    pub(crate) pools_wait: bool,
    /// The requests that were sent, and their replies.
    pub(crate) sent: Vec<(Op, ApiReply)>,
}

/// The API server's reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiReply {
    Stored,
    Gone,
    Conflict,
    Exists,
    Refused,
    Lost,
}

/// The state of the connection for the next requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Requests are served and answered.
    Good,
    /// Requests are served, and their replies are lost.
    RepliesLost,
    /// Requests are lost.
    RequestsLost,
}

const NAMESPACE: &str = "agents";

impl ScriptedCluster {
    /// Creates a cluster at rest with a node, gVisor, a default StorageClass and these manifests.
    pub(crate) fn new(manifests: &str) -> Self {
        let now: Timestamp = "2030-01-01T12:00:00Z".parse().expect("a time");
        let mut api = Api::new(now);
        nodes::put_node(&mut api, "n1");
        let operator = Operator::new(Settings::default(), PluginClient::default(), now);
        let mut cluster =
            Self { api, operator, held: BTreeSet::new(), nodes_work: true, pools_wait: false, sent: vec![] };
        cluster.apply(
            "{ apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: { name: gvisor }, handler: runsc }
---
{ apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: { name: standard, annotations: { storageclass.kubernetes.io/is-default-class: 'true' } } }",
        );
        cluster.apply(manifests);
        cluster.settle();
        cluster
    }

    /// Creates the objects of the manifests in the namespace `agents`.
    pub(crate) fn apply(&mut self, manifests: &str) {
        for document in serde_yaml_ng::Deserializer::from_str(manifests) {
            let mut document = Value::deserialize(document).expect("YAML");
            if document.is_null() {
                continue;
            }
            document["metadata"]["namespace"] = NAMESPACE.into();
            let status = document["status"].take();
            let id = Id::of(Resource::of(&document).expect("a known kind"), &document);
            self.api.create(document).expect("it can be created");
            if !status.is_null() {
                self.api
                    .patch(&id, Part::Whole, &serde_json::json!({ "status": status }))
                    .expect("its status can be set");
            }
        }
    }

    pub(crate) fn id(kind: Kind, name: &str) -> Id {
        Id::new(resource(kind), NAMESPACE, name)
    }

    pub(crate) fn key(kind: Kind, name: &str) -> Key {
        Key::new(kind, if kind.namespaced() { NAMESPACE } else { "" }, name)
    }

    /// The stored object, or null if it does not exist.
    pub(crate) fn get(&self, kind: Kind, name: &str) -> Value {
        self.api.get(&Self::id(kind, name)).map(|o| Value::clone(o)).unwrap_or_default()
    }

    /// The names of all objects of a kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        self.api.list(resource(kind)).map(|(id, _)| id.name.to_string()).collect()
    }

    pub(crate) fn patch(&mut self, kind: Kind, name: &str, patch: &str) {
        let patch: Value = serde_yaml_ng::from_str(patch).expect("YAML");
        self.api.patch(&Self::id(kind, name), Part::Whole, &patch).expect("it can be patched");
    }

    pub(crate) fn delete(&mut self, kind: Kind, name: &str) {
        self.api.delete(&Self::id(kind, name), Deletion::default()).expect("it can be deleted");
    }

    /// The status and the reason of a condition.
    pub(crate) fn condition(&self, kind: Kind, name: &str, condition: &str) -> (String, String) {
        let object = self.get(kind, name);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|c| c["type"] == condition).unwrap_or_default();
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    /// The name and the UID of an object's controller.
    pub(crate) fn controller(&self, kind: Kind, name: &str) -> (String, String) {
        let object = self.get(kind, name);
        let owner = &object["metadata"]["ownerReferences"][0];
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        (text("name"), text("uid"))
    }

    /// Holds back the watch of a kind from now on.
    pub(crate) fn hold(&mut self, kind: Kind) {
        self.held.insert(kind);
    }

    pub(crate) fn release(&mut self, kind: Kind) {
        self.held.remove(&kind);
    }

    /// Runs every event that can happen without time passing.
    pub(crate) fn settle(&mut self) {
        self.settle_over(Link::Good);
    }

    pub(crate) fn settle_over(&mut self, link: Link) {
        // Far more rounds than any script needs. A script that takes longer is in an endless loop.
        for _ in 0..500 {
            self.watch();
            // The operator is faster than its watches: they deliver its writes only after it has finished its queue.
            for _ in 0..20 {
                self.act(link);
            }
            self.cluster();
            let waiting = self.operator.watchable(&self.api).into_iter().any(|k| !self.held.contains(&k));
            if !waiting && self.operator.startable().is_empty() && !self.cluster_busy() {
                return;
            }
        }
        panic!("it never settles; the last that was sent: {:?}", self.sent.iter().rev().take(5).collect::<Vec<_>>());
    }

    /// Delivers the events of all watches that are not held back.
    pub(crate) fn watch(&mut self) {
        loop {
            let kinds: Vec<Kind> =
                self.operator.watchable(&self.api).into_iter().filter(|k| !self.held.contains(k)).collect();
            if kinds.is_empty() {
                return;
            }
            for kind in kinds {
                self.operator.watch_step(kind, &self.api);
            }
        }
    }

    /// The operator reconciles all keys in its queue.
    pub(crate) fn act(&mut self, link: Link) {
        let mut keys = self.operator.startable();
        if self.pools_wait && keys.iter().any(|key| key.kind != Kind::Pool) {
            keys.retain(|key| key.kind != Kind::Pool);
        }
        for key in keys {
            self.operator.start(&key, self.api.now);
        }
        self.run_to_end(link);
    }

    /// Continues the running reconciles until they end.
    pub(crate) fn run_to_end(&mut self, link: Link) {
        loop {
            let keys = self.operator.advanceable();
            if keys.is_empty() && self.operator.flights.is_empty() {
                return;
            }
            for key in keys {
                self.operator.advance(&key, self.api.now);
            }
            self.serve(link);
        }
    }

    /// The API server serves the sent requests, and the replies arrive.
    pub(crate) fn serve(&mut self, link: Link) {
        while !self.operator.flights.is_empty() {
            let op = self.operator.flights[0].op.clone();
            let outcome = match link {
                Link::RequestsLost => Outcome::Unknown,
                Link::Good => carry_out(&mut self.api, &op),
                Link::RepliesLost => {
                    carry_out(&mut self.api, &op);
                    Outcome::Unknown
                }
            };
            let answered = match &outcome {
                Outcome::Stored(_) => ApiReply::Stored,
                Outcome::Gone => ApiReply::Gone,
                Outcome::Conflict => ApiReply::Conflict,
                Outcome::Exists => ApiReply::Exists,
                Outcome::Rejected { .. } | Outcome::Busy => ApiReply::Refused,
                Outcome::Unknown => ApiReply::Lost,
            };
            self.sent.push((op, answered));
            self.operator.flights[0].reply = Some(outcome);
            self.operator.deliver(0, self.api.now);
        }
    }

    fn cluster(&mut self) {
        while self.api.gc_pending() {
            self.api.gc_step(|_| 0);
        }
        if self.nodes_work {
            nodes::step(&mut self.api, &mut fastrand::Rng::with_seed(0), NodeFaults::default());
        }
    }

    fn cluster_busy(&self) -> bool {
        self.api.gc_pending() || (self.nodes_work && nodes::pending(&self.api))
    }

    /// Lets time pass, and runs everything that becomes due.
    pub(crate) fn pass(&mut self, seconds: i64) {
        let until = self.api.now + SignedDuration::from_secs(seconds);
        loop {
            let due = self.operator.next_due().min(until);
            self.api.now = self.api.now.max(due);
            self.operator.tick(self.api.now);
            self.settle();
            if self.api.now >= until {
                return;
            }
        }
    }

    /// The operator dies, and a new one starts without any knowledge.
    pub(crate) fn restart(&mut self) {
        let settings = Settings { seed: 7, ..Settings::default() };
        self.operator = Operator::new(settings, PluginClient::default(), self.api.now);
    }

    /// A second operator that knows the current content of the API server.
    pub(crate) fn another(&self) -> Operator {
        let settings = Settings { seed: 9, ..Settings::default() };
        let mut operator = Operator::new(settings, PluginClient::default(), self.api.now);
        while let Some(kind) = operator.watchable(&self.api).first().copied() {
            operator.watch_step(kind, &self.api);
        }
        operator
    }

    /// The number of requests with this verb that were sent for objects of a kind.
    pub(crate) fn count(&self, kind: Kind, verb: &str) -> usize {
        let is = |op: &Op| match &op.action {
            Action::Create { .. } => verb == "create",
            Action::Patch { .. } => verb == "patch",
            Action::Resize { .. } => verb == "resize",
            Action::Adopt { .. } => verb == "adopt",
            Action::Deliver { .. } => verb == "deliver",
            Action::Delete { .. } => verb == "delete",
        };
        self.sent.iter().filter(|(op, _)| op.key.kind == kind && is(op)).count()
    }
}
