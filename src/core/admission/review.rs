//! A review: one call of the webhook by the API server, and the facts about the cluster that the review uses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::Key;
use serde_json::Value;

use crate::binding::Bindings;
use crate::isolation::{Isolation, NamespaceLabels};
use crate::model::FieldError;
use crate::object::TextMap;
use crate::question::RuntimeClassFact;
use crate::settings::Settings;

/// One call of the webhook by the API server.
#[derive(Clone, Debug)]
pub struct Review {
    /// The phase, which decides whether the object may still be changed.
    pub phase: Phase,
    /// The entry of the webhook configuration that matched the object.
    pub entry: Entry,
    /// The operation of the request.
    pub operation: Verb,
    /// The API group. It is empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The kind of the object. For a CONNECT, it is the kind of the options.
    pub kind: String,
    /// The plural name of the resource.
    pub resource: String,
    /// The subresource, such as `exec`.
    pub subresource: Option<String>,
    /// The namespace. It is empty for cluster-scoped objects.
    pub namespace: String,
    /// The name. It is empty if the API server has not generated a name from `generateName` yet.
    pub name: String,
    /// The object that is to be stored, or null if there is none.
    pub object: Value,
    /// The object that is stored now, or null for a create.
    pub old_object: Value,
    /// The way in which the client wrote the object.
    pub write: Write,
    /// Whether the request is a dry run. Nothing is stored, so the review must have no effects.
    pub dry_run: bool,
    /// The user of the request.
    pub username: String,
    /// The groups of the user.
    pub groups: Vec<String>,
    /// The time of the review.
    pub now: Timestamp,
}

/// The two calls of the API server for one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The object may be changed.
    Mutate,
    /// The object is as it will be stored.
    Validate,
}

/// The entries of the webhook configuration. Each has selectors of its own, so the entry is a fact about the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Entry {
    /// Pods that have the generated-code label.
    #[strum(serialize = "generated-code")]
    MarkedPods,
    /// Pods of namespaces that require isolation. The API server has matched the label of the namespace, even if the
    /// World does not contain it yet.
    IsolatedNamespaces,
    /// The kinds that Paddock serves.
    #[strum(serialize = "sandboxes")]
    OwnKinds,
    /// Sandboxes with an owner reference to a pool or a claim. A forged reference cannot be recognized afterwards, so
    /// this entry is separate from the other kinds: if the webhook does not answer, the API server denies the write.
    OwnedSandboxes,
    /// The namespace in which the operator runs, if its labels begin to require isolation.
    OwnNamespace,
    /// Exec, attach, port-forward and proxy.
    Connect,
    /// SandboxPolicies, whose plugin checks their settings.
    Policies,
}

impl Entry {
    /// All entries.
    pub const ALL: &'static [Entry] = <Entry as strum::VariantArray>::VARIANTS;

    /// The last part of the path and the name of the entry, which is also its label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The way in which a client wrote an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Whether the request is a PATCH, which includes every kind of apply. A PATCH does not mention a field that the
    /// client does not know, so a field that is missing after it was removed on purpose.
    pub is_patch: bool,
    /// The field manager that the client named.
    pub manager: Option<String>,
}

/// The operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// A create of a new object.
    Create,
    /// An update of an object.
    Update,
    /// A delete of an object.
    Delete,
    /// A connection to a subresource.
    Connect,
}

/// A fact about the cluster that no watch has delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The labels of the review's namespace. A watch may deliver them in a moment.
    Namespace,
    /// The present labels of the review's namespace: its watch has failed for a while.
    FreshLabels,
    /// The Pod or the Service of a connection, or the Sandbox that controls it.
    Connected,
}

/// The facts about the cluster that a review uses.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The labels of the review's namespace. If the namespace is [`missing`](Self::missing), only the label with its name
    /// is known.
    pub namespace_labels: BTreeMap<String, String>,
    /// The fact about the cluster that the review needs and that is not known.
    pub missing: Option<Missing>,
    /// The RuntimeClasses of the cluster.
    pub classes: Arc<Vec<RuntimeClassFact>>,
    /// The bindings of plugins.
    pub bindings: Arc<Bindings>,
    /// The settings of the operator.
    pub settings: Arc<Settings>,
    /// The user of the operator itself. Its writes were decided already and are exempt, except from the validation of
    /// Pods.
    pub operator_user: Option<Arc<str>>,
    /// Whether a reconcile makes the review, about a stored object or about a pod that it is going to create. Nothing is
    /// exempt in that case.
    pub in_reconcile: bool,
    /// For a create of a claim, the Sandbox that is reserved for it.
    pub reserved_sandbox: Option<Arc<str>>,
    /// For a create or an update of a claim with files, the problems of its files with its template. Empty if the
    /// template is not known.
    pub claim_problems: Vec<FieldError>,
    /// For a claim, the name of the Sandbox that belongs to it, even if the status of the claim does not name it yet.
    pub sandbox_of_claim: Option<Arc<str>>,
    /// For an update of a Sandbox, the parts of its running pod that break the isolation of the pod, as in
    /// [`Isolation::broken_by`]. `None` if it has no running pod, or if that is isolated.
    pub exposed_by: Option<String>,
    /// For a CONNECT, the Sandbox that controls the Pod or the Service of the review's name, if there is one.
    pub sandbox: Option<ConnectedSandbox>,
}

impl Context {
    /// Whether the operator itself makes the request.
    #[must_use]
    pub fn is_operator(&self, review: &Review) -> bool {
        self.operator_user.as_ref().is_some_and(|user| **user == review.username)
    }

    /// The rule for the isolation of pods.
    #[must_use]
    pub fn isolation(&self) -> Isolation<'_> {
        Isolation::new(&self.classes, &self.settings).in_namespace(self.bindings.isolation(), &self.namespace())
    }

    /// The labels of the namespace, as far as they are known.
    pub(super) fn namespace(&self) -> NamespaceLabels<'_, BTreeMap<String, String>> {
        match self.missing {
            Some(Missing::Namespace | Missing::FreshLabels) => NamespaceLabels::Uncertain(&self.namespace_labels),
            Some(Missing::Connected) | None => NamespaceLabels::Known(&self.namespace_labels),
        }
    }
}

/// The Sandbox that controls the Pod or the Service to which a user connects.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectedSandbox {
    /// The key of the Sandbox.
    pub key: Key,
    /// The UID of the Sandbox.
    pub uid: Arc<str>,
    /// The `resourceVersion` of the Sandbox.
    pub resource_version: Arc<str>,
    /// Whether a pool controls the Sandbox.
    pub in_pool: bool,
    /// Whether a pool controls the Sandbox, and nobody changed its spec.
    pub untouched_in_pool: bool,
    /// The `idleTimeout` of the Sandbox. Without one, its activity is not recorded.
    pub idle_timeout: Option<Duration>,
    /// The time since which the Sandbox is throttled, if it is.
    pub throttled: Option<jiff::Timestamp>,
    /// The annotations of the Sandbox.
    pub annotations: TextMap,
}
