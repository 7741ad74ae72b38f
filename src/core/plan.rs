//! What is to be done: operations with their reasons, and when to look again. A plan contains no choices.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::kind::Key;
use crate::object::Object;

/// The outcome of a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Steps follow one another, and a step begins only when all of the one before was stored;
    /// the operations of one step go out together.
    pub steps: Vec<Vec<Op>>,
    /// When to look again even if nothing is observed.
    pub requeue: Option<Requeue>,
    /// What to tell the user in Events; sent off the path and never waited for.
    pub events: Vec<Event>,
}

impl Plan {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(Vec::is_empty)
    }

    /// Every operation, first to last.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.steps.iter().flatten()
    }

    /// Moves the status write before the steps from number `from` on. A write that was refused will probably be refused
    /// again, and ends the plan, so the status that reports the refusal comes before it.
    pub fn status_first(&mut self, from: usize) {
        let writes_status =
            |step: &Vec<Op>| step.iter().any(|op| matches!(op.action, Action::Patch { status: true, .. }));
        if let Some(steps) = self.steps.get_mut(from..)
            && let Some(at) = steps.iter().position(writes_status)
            && let Some(moved) = steps.get_mut(..=at)
        {
            moved.rotate_right(1);
        }
    }

    /// Looks again at `at` unless something earlier is already due.
    pub fn requeue_at(&mut self, at: Timestamp, reason: Reason) {
        if self.requeue.as_ref().is_none_or(|w| at < w.at) {
            self.requeue = Some(Requeue { at, reason });
        }
    }
}

/// A time to look again, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Requeue {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Op {
    /// The object written.
    pub key: Key,
    /// Why: the same word in logs, events, metrics and tests.
    pub reason: Reason,
    /// What is sent.
    pub action: Action,
}

impl Op {
    /// Creates an object.
    pub(crate) fn create(key: Key, reason: Reason, body: Value) -> Self {
        Self { key, reason, action: Action::Create { body } }
    }

    /// Deletes an object, whoever changed it meanwhile.
    pub(crate) fn delete(object: &Object, reason: Reason) -> Self {
        let action = Action::Delete { uid: object.meta.uid.to_string(), resource_version: None, foreground: false };
        Self { key: object.key.clone(), reason, action }
    }

    /// Deletes an object if nobody changed it meanwhile.
    pub(crate) fn delete_if_unchanged(object: &Object, reason: Reason) -> Self {
        let action = Action::Delete {
            uid: object.meta.uid.to_string(),
            resource_version: Some(object.meta.resource_version.to_string()),
            foreground: false,
        };
        Self { key: object.key.clone(), reason, action }
    }

    /// Patches an object, whoever changed it meanwhile.
    pub(crate) fn patch(object: &Object, reason: Reason, body: Value) -> Self {
        let uid = object.meta.uid.to_string();
        let action = Action::Patch { uid, resource_version: None, status: false, body };
        Self { key: object.key.clone(), reason, action }
    }

    /// Patches an object if nobody changed it meanwhile: compare-and-swap.
    pub(crate) fn patch_if_unchanged(object: &Object, reason: Reason, body: Value) -> Self {
        let action = Action::Patch {
            uid: object.meta.uid.to_string(),
            resource_version: Some(object.meta.resource_version.to_string()),
            status: false,
            body,
        };
        Self { key: object.key.clone(), reason, action }
    }

    /// Patches the status of an object.
    pub(crate) fn patch_status(object: &Object, body: Value) -> Self {
        let uid = object.meta.uid.to_string();
        let action = Action::Patch { uid, resource_version: None, status: true, body };
        Self { key: object.key.clone(), reason: Reason::StatusChanged, action }
    }
}

/// The verbs that the writer knows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    /// POST of the whole object.
    Create {
        /// The object.
        body: Value,
    },
    /// JSON merge patch (RFC 7386). `metadata.uid` is always sent as a precondition.
    Patch {
        /// UID that the object must still have.
        uid: String,
        /// Version that the object must still have: compare-and-swap.
        resource_version: Option<String>,
        /// Whether the status subresource is patched.
        status: bool,
        /// The patch, without the preconditions.
        body: Value,
    },
    /// DELETE with the UID as a precondition.
    Delete {
        /// UID that the object must still have.
        uid: String,
        /// Version that the object must still have: a pool must not delete what a claim has just taken.
        resource_version: Option<String>,
        /// Whether dependents go first.
        foreground: bool,
    },
}

impl Action {
    /// The label of metrics.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Create { .. } => "create",
            Action::Patch { status: true, .. } => "patch_status",
            Action::Patch { status: false, .. } => "patch",
            Action::Delete { .. } => "delete",
        }
    }
}

/// What became of an operation.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Stored; the object as the API server answered it (for a delete: still there, terminating).
    Stored(Box<Object>),
    /// The object is no more, or was not there (404, or 409 on a delete's UID).
    Gone,
    /// The preconditions did not hold (409): nothing was stored.
    Conflict,
    /// An object of that name exists (409 `AlreadyExists`): nothing was stored.
    Exists,
    /// Refused for good (400, 403, 422 …): nothing was stored.
    Rejected {
        /// HTTP status.
        status: u16,
        /// The API server's message.
        message: String,
    },
    /// Refused for now (429, 503 with a Status): nothing was stored.
    Busy,
    /// No usable reply: it may have been stored or not.
    Unknown,
}

impl Outcome {
    /// The label of metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Stored(_) => "stored",
            Outcome::Gone => "gone",
            Outcome::Conflict => "conflict",
            Outcome::Exists => "exists",
            Outcome::Rejected { .. } => "rejected",
            Outcome::Busy => "busy",
            Outcome::Unknown => "unknown",
        }
    }
}

/// An Event for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The object it is about.
    pub regarding: Key,
    /// Its UID.
    pub uid: String,
    /// A warning, or the normal course of things.
    pub warning: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// A sentence.
    pub note: String,
}

impl Event {
    /// An Event about an object.
    pub(crate) fn about(object: &Object, warning: bool, reason: Reason, note: String) -> Self {
        Self { regarding: object.key.clone(), uid: object.meta.uid.to_string(), warning, reason, note }
    }
}

/// Why something is written, waited for or told. Labels of metrics come from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// A Sandbox that should run has no pod.
    PodMissing,
    /// A pod that failed is replaced.
    PodFailed,
    /// The Sandbox is suspended by its user.
    Suspended,
    /// The Sandbox is suspended because it is idle.
    IdleSuspended,
    /// An idle Sandbox is deleted, as its idle policy says.
    IdleDeleted,
    /// The Sandbox or claim reached its shutdown time.
    Expired,
    /// The Sandbox goes once its pod has, and the garbage collector does not see the pod.
    PodLeftBehind,
    /// The workload came to its end.
    Finished,
    /// `ttlSecondsAfterFinished` has passed.
    TtlPassed,
    /// The Service that gives the address is missing.
    ServiceMissing,
    /// The Service is not wanted any more.
    ServiceUnwanted,
    /// The endpoints do not say where the sandbox is.
    EndpointsChanged,
    /// A volume claim is missing.
    VolumeClaimMissing,
    /// An object made ready by the user under the right name is taken over.
    Adopted,
    /// A warm Sandbox goes to a claim.
    Claimed,
    /// A claim found no warm Sandbox and gets a new one.
    ColdStart,
    /// A claim has a second Sandbox, from a crash between two writes.
    ClaimSurplus,
    /// The claim says which Sandbox it takes.
    Reserved,
    /// Pod metadata follows the Sandbox.
    MetadataChanged,
    /// Observed state is written to status.
    StatusChanged,
    /// `replicas` and `operatingMode` are brought in step.
    ModeInStep,
    /// A pool's size changes.
    PoolSized,
    /// A pool has too few.
    PoolBelowDesired,
    /// A pool has too many.
    PoolAboveDesired,
    /// A warm Sandbox was made from an older template.
    TemplateChanged,
    /// A warm Sandbox is of no use any more.
    WarmSandboxUnusable,
    /// The template wants a network policy.
    NetworkPolicyMissing,
    /// The template's network policy changed.
    NetworkPolicyChanged,
    /// The template does not want its network policy managed.
    NetworkPolicyUnwanted,
    /// The object cannot be parsed, or asks for what is not allowed.
    Invalid,
    /// Admission plugins deny it.
    AdmissionDenied,
    /// No RuntimeClass may be given to it now.
    RuntimeClassRefused,
    /// A plugin's answer was clamped or refused.
    PluginOverruled,
    /// A plugin did not answer.
    PluginFailed,
    /// Its idle policy is due to be asked.
    IdleCheck,
    /// Its pool-size policy is due to be asked.
    PoolSizeCheck,
    /// Waiting for a pod or another object to change.
    Waiting,
    /// An operation was refused and is tried later.
    Backoff,
}

impl Reason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::PodMissing => "PodMissing",
            Reason::PodFailed => "PodFailed",
            Reason::Suspended => "Suspended",
            Reason::IdleSuspended => "IdleSuspended",
            Reason::IdleDeleted => "IdleDeleted",
            Reason::Expired => "Expired",
            Reason::PodLeftBehind => "PodLeftBehind",
            Reason::Finished => "Finished",
            Reason::TtlPassed => "TtlPassed",
            Reason::ServiceMissing => "ServiceMissing",
            Reason::ServiceUnwanted => "ServiceUnwanted",
            Reason::EndpointsChanged => "EndpointsChanged",
            Reason::VolumeClaimMissing => "VolumeClaimMissing",
            Reason::Adopted => "Adopted",
            Reason::Claimed => "Claimed",
            Reason::ColdStart => "ColdStart",
            Reason::ClaimSurplus => "ClaimSurplus",
            Reason::Reserved => "Reserved",
            Reason::MetadataChanged => "MetadataChanged",
            Reason::StatusChanged => "StatusChanged",
            Reason::ModeInStep => "ModeInStep",
            Reason::PoolSized => "PoolSized",
            Reason::PoolBelowDesired => "PoolBelowDesired",
            Reason::PoolAboveDesired => "PoolAboveDesired",
            Reason::TemplateChanged => "TemplateChanged",
            Reason::WarmSandboxUnusable => "WarmSandboxUnusable",
            Reason::NetworkPolicyMissing => "NetworkPolicyMissing",
            Reason::NetworkPolicyChanged => "NetworkPolicyChanged",
            Reason::NetworkPolicyUnwanted => "NetworkPolicyUnwanted",
            Reason::Invalid => "Invalid",
            Reason::AdmissionDenied => "AdmissionDenied",
            Reason::RuntimeClassRefused => "RuntimeClassRefused",
            Reason::PluginOverruled => "PluginOverruled",
            Reason::PluginFailed => "PluginFailed",
            Reason::IdleCheck => "IdleCheck",
            Reason::PoolSizeCheck => "PoolSizeCheck",
            Reason::Waiting => "Waiting",
            Reason::Backoff => "Backoff",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `create Pod/ns/name because PodMissing`: one line an operation, for logs, `/debug/seen` and scenarios.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match &self.action {
            Action::Create { .. } => "create",
            Action::Patch { status: true, .. } => "patch status of",
            Action::Patch { .. } => "patch",
            Action::Delete { .. } => "delete",
        };
        write!(f, "{verb} {} because {}", self.key, self.reason)?;
        match &self.action {
            Action::Patch { body, .. } => write!(f, ": {body}"),
            Action::Create { .. } | Action::Delete { .. } => Ok(()),
        }
    }
}
