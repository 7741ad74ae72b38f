//! What one reconcile sees: a snapshot of the objects that its decision depends on, and nothing else.

mod demand;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::binding::Bindings;
use crate::kind::{Key, Kind};
use crate::marker::requires_isolation;
use crate::object::Object;
use crate::question::RuntimeClassFact;
use crate::settings::Settings;

pub use demand::Demand;

/// What is seen of one object and its surroundings.
#[derive(Clone, Debug, Serialize)]
pub enum Snapshot {
    /// The object is not there: nothing to decide.
    Absent(Key),
    /// Its namespace is being deleted, and it with it: nothing can be created there, and nothing is ours to delete.
    Terminating(Key),
    /// A Sandbox.
    Sandbox(Box<SandboxSnapshot>),
    /// A template of either group.
    Template(Box<TemplateSnapshot>),
    /// A warm pool of either group.
    Pool(Box<PoolSnapshot>),
    /// A claim of either group.
    Claim(Box<ClaimSnapshot>),
}

/// What every decision may use.
#[derive(Clone, Debug, Serialize)]
pub struct Common {
    /// What the operator was told.
    #[serde(skip)]
    pub settings: Arc<Settings>,
    /// The bindings in force.
    #[serde(skip)]
    pub bindings: Arc<Bindings>,
    /// Labels of the namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Whether those labels are known: a namespace that is not watched yet may demand isolation.
    pub namespace_known: bool,
    /// RuntimeClasses and how many nodes run them.
    pub classes: Arc<Vec<RuntimeClassFact>>,
    /// When we last wrote the object's status.
    pub status_written: Option<Timestamp>,
    /// What the API server refused for good, of the objects involved.
    pub refusals: Vec<(Key, Refusal)>,
    /// The time of looking.
    pub now: Timestamp,
}

/// An operation that the API server refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The API server's message.
    pub message: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// A Sandbox and what it owns.
#[derive(Clone, Debug, Serialize)]
pub struct SandboxSnapshot {
    /// The Sandbox.
    pub sandbox: Arc<Object>,
    /// Pods that it controls.
    pub pods: Vec<Arc<Object>>,
    /// The Pod of its name, where the Sandbox does not control it.
    pub other_pod: Option<Arc<Object>>,
    /// The Service of its name, whoever controls it.
    pub service: Option<Arc<Object>>,
    /// Its EndpointSlice.
    pub endpoints: Option<Arc<Object>>,
    /// The volume claims that it could need, by name, where they exist.
    pub volume_claims: BTreeMap<String, Arc<Object>>,
    /// Whether the cluster has a default StorageClass.
    pub default_storage_class: bool,
    /// The rest.
    pub common: Common,
}

/// A template and its NetworkPolicy.
#[derive(Clone, Debug, Serialize)]
pub struct TemplateSnapshot {
    /// The template.
    pub template: Arc<Object>,
    /// The NetworkPolicy of its name, whoever controls it.
    pub network_policy: Option<Arc<Object>>,
    /// The rest.
    pub common: Common,
}

/// A Sandbox of a pool, as the pool sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// The Sandbox.
    pub sandbox: Arc<Object>,
    /// Its pod.
    pub pod: Option<Arc<Object>>,
    /// A claim is taking it, or it is being deleted.
    pub leaving: bool,
    /// How its pod's node stands.
    pub node: NodeState,
}

/// The node of a pool's Sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NodeState {
    /// It has none yet.
    None,
    /// Nothing speaks against it.
    Fit,
    /// It was cordoned since the Sandbox was made.
    Cordoned,
    /// It is not ready: Kubernetes decides whether its pods go.
    Silent,
}

/// A pool, its members and its demand.
#[derive(Clone, Debug, Serialize)]
pub struct PoolSnapshot {
    /// The pool.
    pub pool: Arc<Object>,
    /// Its template.
    pub template: Option<Arc<Object>>,
    /// Sandboxes that the pool controls.
    pub members: Vec<Member>,
    /// When the first of those that are spoken for without a reply counts as not.
    pub pending_take: Option<Timestamp>,
    /// Names of Sandboxes whose creation was sent without a reply so far.
    pub creating: Vec<Arc<str>>,
    /// Of `creating`, those whose reply was lost: sending them again is harmless, their names are the same.
    pub lost: Vec<Arc<str>>,
    /// Live Sandboxes that claims took from it.
    pub claimed: u32,
    /// Its demand.
    pub demand: Demand,
    /// Names that new members may have, as many as it may make at once.
    pub names: Vec<String>,
    /// The rest.
    pub common: Common,
}

/// A Sandbox that is a claim's, or as it was before the claim took it.
#[derive(Clone, Debug, Serialize)]
pub struct PendingTake {
    /// As it was then.
    pub sandbox: Arc<Object>,
    /// Whether the API server has said that it has a newer version, which the watch will bring.
    pub outdated: bool,
    /// From when on it counts as not taken.
    pub until: Timestamp,
}

/// A claim, what it has and what it could get.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimSnapshot {
    /// The claim.
    pub claim: Arc<Object>,
    /// Sandboxes that it controls: one, but for a crash between two writes.
    pub owned: Vec<Arc<Object>>,
    /// The Sandbox of its own name, whoever controls it.
    pub same_name: Option<Arc<Object>>,
    /// The pool that it names, where it names one.
    pub named_pool: Option<Arc<Object>>,
    /// Key of the template that it comes to, if the way there is known.
    pub template_key: Option<Key>,
    /// That template.
    pub template: Option<Arc<Object>>,
    /// The best Sandbox that it could take, and its pod.
    pub candidate: Option<(Arc<Object>, Arc<Object>)>,
    /// The Sandbox that it took without hearing whether it got it.
    pub pending_take: Option<PendingTake>,
    /// The Sandbox that the claim's status names, whoever controls it.
    pub committed: Option<Arc<Object>>,
    /// The Sandbox that the API server does not let it take, and what it says.
    pub refused_take: Option<(Key, Refusal)>,
    /// A warm Sandbox that nobody may take because its template changed since.
    pub stale: Option<Arc<Object>>,
    /// Pod of the Sandbox that it has.
    pub pod: Option<Arc<Object>>,
    /// The rest.
    pub common: Common,
}

impl Snapshot {
    /// The object that is looked at.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Snapshot::Absent(key) | Snapshot::Terminating(key) => key,
            Snapshot::Sandbox(snapshot) => &snapshot.sandbox.key,
            Snapshot::Template(snapshot) => &snapshot.template.key,
            Snapshot::Pool(snapshot) => &snapshot.pool.key,
            Snapshot::Claim(snapshot) => &snapshot.claim.key,
        }
    }
}

impl Common {
    /// Whether the namespace demands isolation.
    #[must_use]
    pub fn isolation_required(&self) -> bool {
        requires_isolation(&self.namespace_labels)
    }

    /// What the API server refused of this kind.
    #[must_use]
    pub fn refused(&self, kind: Kind) -> Option<&Refusal> {
        self.refusals.iter().find(|(key, _)| key.kind == kind).map(|(_, refusal)| refusal)
    }
}
