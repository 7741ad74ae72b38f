//! Admission: review, questions, answers, verdict. The same sentence as a reconcile, for an object that is not stored yet.
//!
//! [`questions`] names what is to be asked next, given what was answered so far; when it returns nothing,
//! [`verdict`] is final. Both walk the same path, so an answer is never used for another question than its own.
//! The API server calls twice: to mutate, and, when every webhook has had its turn, to validate. Plugins are asked
//! both times, since another webhook may have changed the object in between; only the first time may they change it.
//! A claim for which a warm Sandbox is reserved is asked about once, where the second call could say nothing else.
//!
//! What the core enforces itself, whatever plugins answer: an object that does not parse is not admitted, and a Pod
//! marked as running generated code names an isolating RuntimeClass.

mod activity;
mod chain;
mod class;
mod defaults;
mod facts;
mod kinds;
mod patch;

mod pods;
mod reservation;
mod state;
mod warnings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

pub use activity::{Activity, activity};
pub use chain::{Chain, PluginFailure, first_answer};
pub use class::accept_class;
pub use facts::reserve;
pub use reservation::WarmReservations;

use crate::binding::Bindings;
use crate::kind::{Key, Kind};
use crate::question::{PluginReply, PluginRequest, RuntimeClassFact};
use crate::settings::Settings;
use state::{Halt, ReviewState};

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

/// The outcome of a review.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReviewVerdict {
    /// Why not, if not.
    pub denial: Option<Denial>,
    /// What to tell the user all the same, each at most 256 characters.
    pub warnings: Vec<String>,
    /// JSON Patch to the object as it came; empty if nothing changes or it is denied.
    pub patch: json_patch::Patch,
    /// Whether the claim is stored with the reservation that it was given.
    pub reservation_kept: bool,
    /// For the audit log: what was chosen and why.
    pub audit: BTreeMap<String, String>,
    /// Plugins that did not answer, or whose answer was refused.
    pub plugin_failures: Vec<PluginFailure>,
}

impl ReviewVerdict {
    /// Whether the object is admitted.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.denial.is_none()
    }
}

/// Why an object is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// In one word: the label of metrics.
    pub why: Why,
    /// For the user: what is wrong and what would be right.
    pub message: String,
    /// The fields at fault.
    pub causes: Vec<Cause>,
}

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The field, as `spec.idleTimeout`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

/// Why an object is not admitted, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// It does not parse, or asks for what cannot be.
    Invalid,
    /// It changes what must not change.
    Immutable,
    /// It would run generated code on the host's kernel.
    NotIsolated,
    /// It claims to have been made by the operator.
    Forged,
    /// A plugin denies it.
    DeniedByPlugin,
    /// A plugin did not answer, and its policy is to deny then.
    PluginFailed,
}

impl Why {
    /// Every word.
    pub const ALL: [Why; 6] =
        [Why::Invalid, Why::Immutable, Why::NotIsolated, Why::Forged, Why::DeniedByPlugin, Why::PluginFailed];

    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Invalid => "invalid",
            Why::Immutable => "immutable",
            Why::NotIsolated => "not-isolated",
            Why::Forged => "forged",
            Why::DeniedByPlugin => "denied-by-plugin",
            Why::PluginFailed => "plugin-failed",
        }
    }

    /// The HTTP status of the denial: 422 where the object is at fault, else 403.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Why::Invalid | Why::Immutable => 422,
            Why::NotIsolated | Why::Forged | Why::DeniedByPlugin | Why::PluginFailed => 403,
        }
    }
}

/// What is to be asked next; empty when [`verdict`] is final.
#[must_use]
pub fn questions(review: &Review, context: &Context, answered: &[PluginReply]) -> Vec<PluginRequest> {
    let mut state = ReviewState::new(review, context, answered);
    match check(&mut state) {
        Err(Halt::Request(ask)) => vec![*ask],
        Err(Halt::Deny(_)) | Ok(()) => Vec::new(),
    }
}

/// The outcome. A question that was left open counts as a plugin that did not answer, and denies.
#[must_use]
pub fn verdict(review: &Review, context: &Context, answered: &[PluginReply]) -> ReviewVerdict {
    let mut state = ReviewState::new(review, context, answered);
    let denial = match check(&mut state) {
        Ok(()) => None,
        Err(Halt::Deny(denial)) => Some(*denial),
        Err(Halt::Request(ask)) => Some(Denial {
            why: Why::PluginFailed,
            message: format!("plugin {} was not asked", ask.plugin.name),
            causes: Vec::new(),
        }),
    };
    state.into_verdict(denial)
}

/// The resource that a review is about.
enum Target {
    /// Decided already, or none of our business.
    Exempt,
    /// A kind that Paddock serves.
    Own(Kind),
    /// A Pod.
    Pod,
}

fn check(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    match subject(state.review, state.context) {
        Target::Exempt => Ok(()),
        Target::Own(kind) => kinds::check(state, kind),
        Target::Pod => pods::check(state),
    }
}

fn subject(review: &Review, context: &Context) -> Target {
    let ours = context.operator_user.as_ref().is_some_and(|user| **user == review.username);
    // kube-system must come up whatever became of this webhook; the registration leaves it out too.
    let system = review.namespace == "kube-system" && !context.in_reconcile;
    if ours || system || review.subresource.is_some() {
        return Target::Exempt;
    }
    match review.operation {
        Verb::Delete | Verb::Connect => return Target::Exempt,
        Verb::Create | Verb::Update => {}
    }
    // An object that is on its way out must be able to lose its finalizers.
    if review.object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string) {
        return Target::Exempt;
    }
    match (review.group.as_str(), review.resource.as_str()) {
        ("", "pods") => Target::Pod,
        (group, resource) => Kind::of_resource(group, resource).map_or(Target::Exempt, Target::Own),
    }
}

#[cfg(test)]
mod tests;
