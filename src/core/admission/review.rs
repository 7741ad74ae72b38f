//! A review: one call of the API server, and what is known of the cluster where it happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::binding::Bindings;
use crate::kind::Key;
use crate::question::RuntimeClassFact;
use crate::settings::Settings;

/// One call of the API server.
#[derive(Clone, Debug)]
pub struct Review {
    /// Whether the object may still be changed.
    pub phase: Phase,
    /// The webhook entry through which it came.
    pub entry: Entry,
    /// What is being done.
    pub operation: Verb,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind of the object; of a CONNECT, of its options.
    pub kind: String,
    /// Plural of the resource.
    pub resource: String,
    /// Subresource, as `exec`.
    pub subresource: Option<String>,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name; empty where `generateName` has yet to make one.
    pub name: String,
    /// The object to be stored; null where there is none.
    pub object: Value,
    /// The object as it is stored; null on create.
    pub old_object: Value,
    /// Nothing will be stored, so nothing may follow.
    pub dry_run: bool,
    /// User that asks.
    pub username: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// The time of asking.
    pub now: Timestamp,
}

/// The two calls for one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The object may be changed.
    Mutate,
    /// The object is as it will be stored.
    Validate,
}

/// The webhook entries: each has its own selectors, and so tells something about the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// Pods that carry the generated-code label.
    MarkedPods,
    /// Pods of namespaces that require isolation. The API server saw the namespace's label even where we do not yet.
    IsolatedNamespaces,
    /// The kinds that Paddock serves.
    OwnKinds,
    /// Sandboxes that somebody gives to a pool or a claim. Apart from the other kinds, since nobody sees it afterwards: without
    /// an answer it is denied.
    OwnedSandboxes,
    /// Exec, attach and port-forward.
    Connect,
}

impl Entry {
    /// Every entry.
    pub const ALL: [Entry; 5] =
        [Entry::MarkedPods, Entry::IsolatedNamespaces, Entry::OwnKinds, Entry::OwnedSandboxes, Entry::Connect];

    /// The last part of the entry's path and name, and its label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Entry::MarkedPods => "generated-code",
            Entry::IsolatedNamespaces => "isolated-namespaces",
            Entry::OwnKinds => "sandboxes",
            Entry::OwnedSandboxes => "owned-sandboxes",
            Entry::Connect => "connect",
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// An object goes.
    Delete,
    /// A connection to a subresource.
    Connect,
}

/// What is known of the cluster where the review happens.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Labels of the review's namespace, as far as watched.
    pub namespace_labels: BTreeMap<String, String>,
    /// The RuntimeClasses there are.
    pub classes: Arc<Vec<RuntimeClassFact>>,
    /// Which plugin judges what.
    pub bindings: Arc<Bindings>,
    /// What the operator was told.
    pub settings: Arc<Settings>,
    /// The operator's own user: what it writes was decided already.
    pub operator_user: Option<Arc<str>>,
    /// The operator itself asks, about a pod that it would make: nothing is exempt.
    pub in_reconcile: bool,
    /// For the creation of a claim: the Sandbox that is reserved for it.
    pub reserved_sandbox: Option<Arc<str>>,
    /// For a CONNECT: the Sandbox that controls the Pod of the review's name, if one does.
    pub sandbox: Option<ConnectedSandbox>,
}

/// The Sandbox behind a Pod that somebody connects to.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectedSandbox {
    /// Its key.
    pub key: Key,
    /// Its UID.
    pub uid: Arc<str>,
    /// How long it may go unused; without, nobody asks when it was used.
    pub idle_timeout: Option<Duration>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}
