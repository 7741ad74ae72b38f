//! Snapshots: copies of the objects that one decision may depend on, and nothing else.

mod demand;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::TemplateOrigin;
use paddock_api::kind::{Key, Kind};
use paddock_api::names::annotation;
use serde::Serialize;

use crate::binding::Bindings;
use crate::cpu_use::CpuFacts;
use crate::isolation::{Isolation, NamespaceLabels};
use crate::marker::Marker;
use crate::network_policy::{NetworkPolicyState, Selector};
use crate::object::{JsonText, Object};
use crate::open_connections::ConnectionFacts;
use crate::question::RuntimeClassFact;
use crate::settings::Settings;
use crate::tcp_wake::TcpWake;

pub use demand::Demand;

/// One object, with the other objects that a decision about it may depend on.
#[derive(Clone, Debug, Serialize)]
pub enum Snapshot {
    /// The object does not exist, so there is nothing to decide.
    Absent(Key),
    /// The namespace of the object is terminating. Nothing can be created in it, and the namespace controller deletes
    /// the rest.
    Terminating(Key),
    /// An object of a kind that is not reconciled, such as a Pod or a Node. There is nothing to decide about it.
    Observed(Arc<Object>),
    /// A Sandbox.
    Sandbox(Box<SandboxSnapshot>),
    /// A template of either API shape.
    Template(Box<TemplateSnapshot>),
    /// A warm pool of either API shape.
    Pool(Box<PoolSnapshot>),
    /// A claim of either API shape.
    Claim(Box<ClaimSnapshot>),
}

/// The settings, bindings, namespace facts and refusals that every decision may use.
#[derive(Clone, Debug, Serialize)]
pub struct Common {
    /// The settings of the operator.
    #[serde(skip)]
    pub settings: Arc<Settings>,
    /// The bindings in force.
    #[serde(skip)]
    pub bindings: Arc<Bindings>,
    /// The labels of the namespace. They are empty as long as `namespace_known` is false.
    pub namespace_labels: BTreeMap<String, String>,
    /// Whether the labels of the namespace are known. A namespace that no watch has delivered yet may require
    /// isolation.
    pub namespace_known: bool,
    /// Whether the namespace requires that each of its pods is isolated.
    pub namespace_isolates: bool,
    /// The RuntimeClasses, each with the number of nodes that can run it.
    pub classes: Arc<Vec<RuntimeClassFact>>,
    /// The time of our last write of the object's status, or `None` if this process has not written it.
    pub status_written: Option<Timestamp>,
    /// Operations that the API server refused for good, for the objects that the decision is about.
    pub refusals: Vec<(Key, Refusal)>,
    /// The time of the snapshot.
    pub now: Timestamp,
    /// The time that has passed by every clock that this process knows. It is `now` or earlier. Nothing ends at a time
    /// that is later, because one of the clocks may be wrong, and what was deleted does not return.
    pub passed: Timestamp,
}

/// An operation that the API server refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The HTTP status of the reply.
    pub status: u16,
    /// The API server's message.
    pub message: Arc<str>,
    /// Whether an admission policy refuses fields of the object.
    pub by_policy: bool,
    /// The time of the refusal.
    pub at: Timestamp,
}

/// A resize of a Pod that the API server refused.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedResize {
    /// The last refusal.
    pub refusal: Refusal,
    /// The number of refusals in a row.
    pub times: u32,
}

/// A Sandbox and its objects.
#[derive(Clone, Debug, Serialize)]
pub struct SandboxSnapshot {
    /// The Sandbox.
    pub sandbox: Arc<Object>,
    /// The Pods that it controls.
    pub pods: Vec<Arc<Object>>,
    /// The Pod of its name, if the Sandbox does not control that Pod.
    pub other_pod: Option<Arc<Object>>,
    /// The Service of its name, whether the Sandbox controls it or not.
    pub service: Option<Arc<Object>>,
    /// The EndpointSlice of its name, whether the Sandbox controls it or not.
    pub endpoints: Option<Arc<Object>>,
    /// Those volume claims that it may need and that exist, by name.
    pub volume_claims: BTreeMap<String, Arc<Object>>,
    /// The StorageClasses of the cluster.
    pub storage_classes: StorageClasses,
    /// Whether the creation of its pod had no usable reply, for example because the API server could not reach a
    /// webhook.
    pub pod_unanswered: bool,
    /// The age from which a pod that ended is replaced. It grows while pods end in a row.
    pub replaced_from_age: Duration,
    /// The marker of the claim or pool that controls it, and of its template.
    pub inherited_marker: Marker,
    /// The claim that controls it, if a claim does and is not being deleted.
    pub claim: Option<ClaimOfSandbox>,
    /// The template that the Sandbox was made from, if it was made from one.
    pub template: Option<TemplateOrigin>,
    /// Whether the NetworkPolicy of that template is in place.
    pub network_policy: NetworkPolicyState,
    /// If the Sandbox belongs to a pool: what somebody did to the Sandbox or its pod since the pool made them.
    pub touched: Option<Arc<str>>,
    /// The time at which the node of its pod was cordoned, if that was after the pod was created. A drain has begun then.
    pub cordoned: Option<Timestamp>,
    /// Whether a TCP connection resumes the Sandbox.
    pub tcp_wake: TcpWake,
    /// The refusal of the last resize of its pod, if the API server refused it.
    pub refused_resize: Option<RefusedResize>,
    /// The CPU that its pod uses.
    pub cpu: CpuFacts,
    /// The connections that are open to its pod.
    pub connections: ConnectionFacts,
    /// The facts that every decision may use.
    pub common: Common,
}

/// The claim that has a Sandbox.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimOfSandbox {
    /// The claim.
    pub claim: Arc<Object>,
    /// The template that the Sandbox was made from, if it exists.
    pub template: Option<Arc<Object>>,
}

/// The StorageClasses of the cluster, as far as a volume claim that names no class depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum StorageClasses {
    /// The operator sees no StorageClass, so a volume claim would never be provisioned.
    None,
    /// There are StorageClasses, and none is the default. An administrator who changes the default may cause this for a
    /// moment.
    WithoutDefault,
    /// A StorageClass is the default.
    WithDefault,
}

/// A template and its NetworkPolicy.
#[derive(Clone, Debug, Serialize)]
pub struct TemplateSnapshot {
    /// The key of the template.
    pub key: Key,
    /// The template, or `None` if it was deleted and has left a NetworkPolicy or Sandboxes behind.
    pub template: Option<Arc<Object>>,
    /// The NetworkPolicy for the name of the template, whoever made it.
    pub network_policy: Option<Arc<Object>>,
    /// The spec that the NetworkPolicy had when it was last in place.
    pub last_spec: Option<JsonText>,
    /// The users of the NetworkPolicy, beside the template.
    pub users: PolicyUsers,
    /// The labels by which the NetworkPolicy selects pods.
    pub selector: Selector,
    /// Whether the NetworkPolicy was made for the template of the same name in the other API group, and does not pass to
    /// this one.
    pub other_keeps_policy: bool,
    /// The facts that every decision may use.
    pub common: Common,
}

/// The users of the NetworkPolicy of a template, beside the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PolicyUsers {
    /// No Sandbox of the template exists, and the policy selects no pod.
    None,
    /// A Sandbox exists whose template had a NetworkPolicy.
    Managed,
    /// Only Sandboxes of an Unmanaged template exist, or only pods without their Sandboxes.
    Others,
}

/// A Sandbox that a pool controls.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// The Sandbox.
    pub sandbox: Arc<Object>,
    /// The pod of the Sandbox, if it has one.
    pub pod: Option<Arc<Object>>,
    /// Whether a take or a delete of the Sandbox is pending.
    pub leaving: bool,
    /// The state of the node that its pod runs on.
    pub node: NodeState,
    /// What somebody did to the Sandbox or its pod since the pool made them.
    pub touched: Option<Arc<str>>,
}

/// The state of the node that the pod of a pool's Sandbox runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NodeState {
    /// The pod has no node yet.
    None,
    /// The Sandbox can be handed out from this node.
    Fit,
    /// The node was cordoned after the Sandbox was created.
    Cordoned,
    /// The node is not Ready. Kubernetes decides whether its pods are evicted.
    NotReady,
}

/// A pool, its members and its demand.
#[derive(Clone, Debug, Serialize)]
pub struct PoolSnapshot {
    /// The pool.
    pub pool: Arc<Object>,
    /// The template that the pool names, if it exists.
    pub template: Option<Arc<Object>>,
    /// Whether the NetworkPolicy of that template is in place.
    pub network_policy: NetworkPolicyState,
    /// The Sandboxes that the pool controls.
    pub members: Vec<Member>,
    /// The earliest time at which a take or a delete without a reply stops counting.
    pub pending_take: Option<Timestamp>,
    /// The names of Sandboxes whose creation was sent, but has no reply yet or never got one.
    pub creating: Vec<Arc<str>>,
    /// Those names of `creating` whose reply was lost. A retry does no harm, because it uses the same name.
    pub lost: Vec<Arc<str>>,
    /// The number of live Sandboxes that claims took from the pool.
    pub claimed: u32,
    /// The recent demand for the pool.
    pub demand: Demand,
    /// Free names for new members, as many as the pool may create at once.
    pub names: Vec<String>,
    /// The age from which a member whose pod ended is replaced. It grows while pods end in a row.
    pub replaced_from_age: Duration,
    /// The facts that every decision may use.
    pub common: Common,
}

/// A take without a reply: the Sandbox belongs to the claim, or it is unchanged.
#[derive(Clone, Debug, Serialize)]
pub struct PendingTake {
    /// The Sandbox as it was before the take.
    pub sandbox: Arc<Object>,
    /// Whether a conflict has shown that the API server has a newer version, which the watch will deliver.
    pub outdated: bool,
    /// The time from which the Sandbox counts as not taken.
    pub until: Timestamp,
}

/// A claim, the Sandboxes that it controls, and the Sandbox that it could take.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimSnapshot {
    /// The claim.
    pub claim: Arc<Object>,
    /// The Sandboxes that the claim controls. After a crash between two writes there can be more than one.
    pub owned: Vec<Arc<Object>>,
    /// The Sandbox that has the name of the claim, whether the claim controls it or not.
    pub same_name: Option<Arc<Object>>,
    /// The pool that the claim names, if it exists.
    pub named_pool: Option<Arc<Object>>,
    /// The pools in which the claim looks for a warm Sandbox, if it controls no Sandbox yet.
    pub pools: Vec<Key>,
    /// The key of the claim's template. `None` if the claim names only a pool, and the pool is not known or not valid.
    pub template_key: Option<Key>,
    /// That template, if it exists.
    pub template: Option<Arc<Object>>,
    /// Whether the NetworkPolicy of that template is in place.
    pub network_policy: NetworkPolicyState,
    /// The best Sandbox that the claim could take, and the pod of that Sandbox.
    pub candidate: Option<(Arc<Object>, Arc<Object>)>,
    /// The Sandbox that the claim tried to take without a reply so far.
    pub pending_take: Option<PendingTake>,
    /// The Sandbox that the status of the claim names, whether the claim controls it or not.
    pub committed: Option<Arc<Object>>,
    /// The Sandbox that the API server did not let the claim take, and the refusal.
    pub refused_take: Option<(Key, Refusal)>,
    /// A warm Sandbox that no claim may take, because the template has changed since the Sandbox was created.
    pub stale: Option<Arc<Object>>,
    /// The pod of the Sandbox that the claim controls.
    pub pod: Option<Arc<Object>>,
    /// The marker of the claim, its template, and the pool that it names or takes a Sandbox from.
    pub marker: Marker,
    /// The facts that every decision may use.
    pub common: Common,
}

impl Snapshot {
    /// The key of the object that the snapshot is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Snapshot::Absent(key) | Snapshot::Terminating(key) => key,
            Snapshot::Observed(object) => &object.key,
            Snapshot::Sandbox(snapshot) => &snapshot.sandbox.key,
            Snapshot::Template(snapshot) => &snapshot.key,
            Snapshot::Pool(snapshot) => &snapshot.pool.key,
            Snapshot::Claim(snapshot) => &snapshot.claim.key,
        }
    }

    /// The largest number of questions that one decision can ask. A binding is asked at most about a Sandbox or a claim
    /// and about a Pod or another Sandbox.
    #[must_use]
    pub fn most_questions(&self) -> usize {
        let bindings = match self {
            Snapshot::Absent(_) | Snapshot::Terminating(_) | Snapshot::Observed(_) => return 0,
            Snapshot::Sandbox(snapshot) => &snapshot.common.bindings,
            Snapshot::Template(snapshot) => &snapshot.common.bindings,
            Snapshot::Pool(snapshot) => &snapshot.common.bindings,
            Snapshot::Claim(snapshot) => &snapshot.common.bindings,
        };
        bindings.iter().count() * 2
    }

    /// The trace context that the client of a claim or of a Sandbox gave, in the annotation `opentelemetry.io/trace-context`.
    #[must_use]
    pub fn trace_context(&self) -> Option<&str> {
        let meta = match self {
            Snapshot::Sandbox(snapshot) => &snapshot.sandbox.meta,
            Snapshot::Claim(snapshot) => &snapshot.claim.meta,
            Snapshot::Absent(_)
            | Snapshot::Terminating(_)
            | Snapshot::Observed(_)
            | Snapshot::Template(_)
            | Snapshot::Pool(_) => return None,
        };
        meta.annotations.get(annotation::TRACE_CONTEXT)
    }

    /// The same snapshot, for a process whose clocks agree only that this time has passed.
    #[must_use]
    pub fn with_passed(mut self, passed: Timestamp) -> Self {
        let common = match &mut self {
            Snapshot::Absent(_) | Snapshot::Terminating(_) | Snapshot::Observed(_) => return self,
            Snapshot::Sandbox(snapshot) => &mut snapshot.common,
            Snapshot::Template(snapshot) => &mut snapshot.common,
            Snapshot::Pool(snapshot) => &mut snapshot.common,
            Snapshot::Claim(snapshot) => &mut snapshot.common,
        };
        common.passed = passed.min(common.now);
        self
    }
}

impl Common {
    /// The time at which `at` will have passed by every clock. `None` if it has passed.
    #[must_use]
    pub fn wait_until(&self, at: Timestamp) -> Option<Timestamp> {
        let left = at.duration_since(self.passed);
        left.is_positive().then(|| self.now.checked_add(left).unwrap_or(Timestamp::MAX))
    }

    /// The time at which something that ends at `at` ends by every clock. `None` if it has ended. What a replica ended
    /// before stays ended, even if the local clock of this replica is behind.
    #[must_use]
    pub fn ends(&self, at: Timestamp, ended_before: bool) -> Option<Timestamp> {
        if ended_before && at <= self.now { None } else { self.wait_until(at) }
    }

    /// The rule for the isolation of pods.
    #[must_use]
    pub fn isolation(&self) -> Isolation<'_> {
        let labels = &self.namespace_labels;
        let labels =
            if self.namespace_known { NamespaceLabels::Known(labels) } else { NamespaceLabels::Uncertain(labels) };
        Isolation::new(&self.classes, &self.settings).in_namespace(self.bindings.isolation(), &labels)
    }

    /// The refusal of a write to an object of this kind, if there is one.
    #[must_use]
    pub fn refused(&self, kind: Kind) -> Option<&Refusal> {
        self.refusals.iter().find(|(key, _)| key.kind == kind).map(|(_, refusal)| refusal)
    }
}
