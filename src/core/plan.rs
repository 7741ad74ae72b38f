//! The result of a decision: operations with their reasons, a requeue, and Events. A plan contains no choices.

use std::fmt;

use jiff::Timestamp;
use paddock_api::kind::Key;
use serde::Serialize;
use serde_json::Value;

use crate::object::{Object, budget};

/// The result of a decision about one object.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// The steps, in order. The operations of one step are sent concurrently. A step begins only after the API server
    /// has stored every operation of the step before.
    pub steps: Vec<Vec<Op>>,
    /// The time at which the object is reconciled again even if nothing about it changes.
    pub requeue: Option<Requeue>,
    /// Kubernetes Events for the user. The operator sends them in the background and never waits for them.
    pub events: Vec<Event>,
    /// Events about the result of the plan. They are sent only if the API server stored every operation.
    pub results: Vec<Event>,
}

impl Plan {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(Vec::is_empty)
    }

    /// Every operation, in the order of the steps.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.steps.iter().flatten()
    }

    /// Moves the status write before the steps from number `from` on. A write that was refused will probably be refused
    /// again and then ends the plan. The status that reports the refusal is therefore written first.
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

    /// Requests a reconcile at `at`. Of several requests, the plan keeps the earliest.
    pub fn requeue_at(&mut self, at: Timestamp, reason: Reason) {
        if self.requeue.as_ref().is_none_or(|w| at < w.at) {
            self.requeue = Some(Requeue { at, reason });
        }
    }
}

/// A time at which the object is reconciled again, and the reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Requeue {
    /// The time of the reconcile.
    pub at: Timestamp,
    /// The reason for the reconcile, for logs and metrics.
    pub reason: Reason,
}

/// An operation: one write to the API server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Op {
    /// The object that the operation writes.
    pub key: Key,
    /// The reason for the write. The same word appears in logs, Events, metrics and tests.
    pub reason: Reason,
    /// The request, with its preconditions.
    pub action: Action,
}

impl Op {
    /// Creates an object.
    pub(crate) fn create(key: Key, reason: Reason, body: Value) -> Self {
        Self { key, reason, action: Action::Create { body } }
    }

    /// Deletes an object, even if another client has changed it meanwhile.
    pub(crate) fn delete(object: &Object, reason: Reason) -> Self {
        Self::deleting(object, reason, None)
    }

    /// Deletes an object if no client has changed it meanwhile.
    pub(crate) fn delete_if_unchanged(object: &Object, reason: Reason) -> Self {
        Self::deleting(object, reason, Some(object.meta.resource_version.to_string()))
    }

    /// Patches an object, even if another client has changed it meanwhile.
    pub(crate) fn patch(object: &Object, reason: Reason, body: Value) -> Self {
        Self::patching(object, reason, None, body)
    }

    /// Patches an object if no client has changed it meanwhile: compare-and-swap.
    pub(crate) fn patch_if_unchanged(object: &Object, reason: Reason, body: Value) -> Self {
        Self::patching(object, reason, Some(object.meta.resource_version.to_string()), body)
    }

    /// Whether the body of the request is large, so that the request and its reply need much memory.
    #[must_use]
    pub fn is_large(&self) -> bool {
        match &self.action {
            Action::Create { body }
            | Action::Patch { body, .. }
            | Action::Resize { body, .. }
            | Action::Adopt { body, .. } => budget::is_large(body),
            Action::Deliver { data, body, .. } => data.large || budget::is_large(body),
            Action::Delete { .. } => false,
        }
    }

    /// Makes `owner` the controller of an object that no client has changed meanwhile, with the references in `body`.
    pub(crate) fn adopt(owner: &Object, object: &Object, body: Value) -> Self {
        let action = Action::Adopt {
            uid: object.meta.uid.to_string(),
            resource_version: object.meta.resource_version.to_string(),
            owner: owner.key.clone(),
            owner_uid: owner.meta.uid.to_string(),
            body,
        };
        Self { key: object.key.clone(), reason: Reason::Adopted, action }
    }

    /// Patches the status of an object.
    pub(crate) fn patch_status(object: &Object, body: Value) -> Self {
        let uid = object.meta.uid.to_string();
        let action = Action::Patch { uid, resource_version: None, status: true, body };
        Self { key: object.key.clone(), reason: Reason::StatusChanged, action }
    }

    /// Resizes a Pod in place if no client has changed it meanwhile.
    pub(crate) fn resize_if_unchanged(pod: &Object, reason: Reason, body: Value) -> Self {
        let (uid, resource_version) = (pod.meta.uid.to_string(), pod.meta.resource_version.to_string());
        Self { key: pod.key.clone(), reason, action: Action::Resize { uid, resource_version, body } }
    }

    fn deleting(object: &Object, reason: Reason, resource_version: Option<String>) -> Self {
        let action = Action::Delete { uid: object.meta.uid.to_string(), resource_version, foreground: false };
        Self { key: object.key.clone(), reason, action }
    }

    fn patching(object: &Object, reason: Reason, resource_version: Option<String>, body: Value) -> Self {
        let action = Action::Patch { uid: object.meta.uid.to_string(), resource_version, status: false, body };
        Self { key: object.key.clone(), reason, action }
    }
}

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    /// A POST of the whole object.
    Create {
        /// The object.
        body: Value,
    },
    /// A JSON merge patch (RFC 7386). `metadata.uid` is always sent as a precondition.
    Patch {
        /// The UID that the object must still have.
        uid: String,
        /// The `resourceVersion` that the object must still have (compare-and-swap), or `None` if any version will do.
        resource_version: Option<String>,
        /// Whether the request patches the status subresource.
        status: bool,
        /// The patch, without the preconditions.
        body: Value,
    },
    /// A strategic merge patch of the `resize` subresource of a Pod, which changes the resources of the containers that it
    /// names.
    Resize {
        /// The UID that the Pod must still have.
        uid: String,
        /// The `resourceVersion` that the Pod must still have.
        resource_version: String,
        /// The patch, without the preconditions.
        body: Value,
    },
    /// A JSON merge patch that gives an object a controller. The operator first reads the controller from the API server:
    /// an object that is attached while its controller is being deleted is deleted too (ADR 0098).
    Adopt {
        /// The UID that the object must still have.
        uid: String,
        /// The `resourceVersion` that the object must still have.
        resource_version: String,
        /// The new controller, which must not be terminating.
        owner: Key,
        /// The UID that the new controller must still have.
        owner_uid: String,
        /// The patch, without the preconditions.
        body: Value,
    },
    /// Delivers the data of a claim to a pod: the operator reads the claim and the Secrets that it references, creates a
    /// Secret with the data, and then patches the pod. A plan does not contain the data. If the Secret exists, it is
    /// deleted and created again, because only its creator knows what is in it.
    Deliver {
        /// The UID that the pod must still have.
        uid: String,
        /// The claim, and the name of the Secret.
        data: ClaimDelivery,
        /// The merge patch of the pod.
        body: Value,
    },
    /// A DELETE with the UID as a precondition.
    Delete {
        /// The UID that the object must still have.
        uid: String,
        /// The `resourceVersion` that the object must still have, or `None` if any version will do. A pool names the
        /// version, because it must not delete a Sandbox that a claim has just taken.
        resource_version: Option<String>,
        /// Whether the garbage collector deletes the dependents first (foreground deletion).
        foreground: bool,
    },
}

/// The data of a claim, by reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimDelivery {
    /// The claim that brings the data.
    pub claim: Key,
    /// The UID that the claim must still have.
    pub claim_uid: String,
    /// The digest that the data must still have.
    pub digest: String,
    /// The name of the Secret, which is in the spec of the pod.
    pub secret: String,
    /// Whether the pod is held, so that the Secret has the variables in a file of their own too.
    pub held: bool,
    /// Whether the Secret is large, or may be because the claim refers to other Secrets.
    pub large: bool,
}

impl Action {
    /// The value of the label in metrics.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Create { .. } => "create",
            Action::Patch { status: true, .. } => "patch_status",
            Action::Patch { status: false, .. } => "patch",
            Action::Resize { .. } => "resize",
            Action::Adopt { .. } => "adopt",
            Action::Deliver { .. } => "deliver",
            Action::Delete { .. } => "delete",
        }
    }
}

/// The result of an operation.
#[derive(Clone, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Outcome {
    /// The API server stored the write. The object is the one in the reply. A delete has this result if the object
    /// still exists and is terminating.
    Stored(Box<Object>),
    /// The object does not exist, or it does not exist any more (404, or 409 on the UID of a delete).
    Gone,
    /// A precondition did not hold (409). Nothing was stored.
    Conflict,
    /// An object of that name exists (409 `AlreadyExists`). Nothing was stored.
    Exists,
    /// The API server refuses the operation and will refuse it again (400, 403, 422 …). Nothing was stored.
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The API server's message.
        message: String,
        /// Whether an admission policy of the cluster refuses the object.
        by_policy: bool,
    },
    /// The API server refuses the operation for now (429, or 503 with a Status). Nothing was stored.
    Busy,
    /// There was no usable reply. The write may have been stored or not.
    Unknown,
}

impl Outcome {
    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.into()
    }
}

/// A Kubernetes Event for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The object that the Event is about.
    pub regarding: Key,
    /// The UID of that object.
    pub uid: String,
    /// Whether the type of the Event is `Warning`. Otherwise it is `Normal`.
    pub warning: bool,
    /// The reason of the Event.
    pub reason: Reason,
    /// The message of the Event: one sentence.
    pub note: String,
}

impl Event {
    /// An event that is part of the normal life of an object.
    pub(crate) fn normal(object: &Object, reason: Reason, note: impl Into<String>) -> Self {
        let (regarding, uid, note) = (object.key.clone(), object.meta.uid.to_string(), note.into());
        Self { regarding, uid, warning: false, reason, note }
    }

    /// An event about a problem.
    pub(crate) fn warning(object: &Object, reason: Reason, note: impl Into<String>) -> Self {
        Self { warning: true, ..Self::normal(object, reason, note) }
    }
}

/// The reason for an operation, a requeue or an Event. The reason is also the value of a label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::IntoStaticStr)]
pub enum Reason {
    /// A Sandbox that should run has no pod.
    PodMissing,
    /// The pod of a Sandbox failed. If the node or the control plane ended it, it is deleted and replaced.
    PodFailed,
    /// The user suspended the Sandbox.
    Suspended,
    /// The Sandbox is suspended, because it is idle.
    IdleSuspended,
    /// The Sandbox is suspended, because its node is being drained.
    DrainSuspended,
    /// The node of a Sandbox is being drained, and the Sandbox cannot be suspended.
    DrainNotSuspended,
    /// A time of its schedule resumes a Sandbox.
    ScheduledWake,
    /// The schedule of a Sandbox is not valid, so it has no effect.
    WakeScheduleInvalid,
    /// An idle Sandbox is deleted, because its idle policy says so.
    IdleDeleted,
    /// The pod of an idle Sandbox gets less CPU, because its idle policy says so.
    IdleThrottled,
    /// A throttled pod gets back the CPU that it had.
    ThrottleEnded,
    /// A pod could not be throttled, or the node has no room to restore its CPU request.
    ThrottleFailed,
    /// The Sandbox or claim reached its shutdown time.
    Expired,
    /// The Sandbox is being deleted in the foreground, and the garbage collector has missed its pod.
    PodLeftBehind,
    /// The workload finished.
    Finished,
    /// `ttlSecondsAfterFinished` has passed.
    TtlPassed,
    /// The Service that gives the Sandbox its address is missing.
    ServiceMissing,
    /// The Service of the Sandbox differs from the one that the operator made.
    ServiceChanged,
    /// The Sandbox does not want its Service any more.
    ServiceUnwanted,
    /// The EndpointSlice does not contain the address of the Sandbox's pod.
    EndpointsChanged,
    /// A volume claim is missing.
    VolumeClaimMissing,
    /// The labels or annotations of a volume claim differ from those that the operator set.
    VolumeClaimChanged,
    /// The Sandbox adopts an object that the user prepared under the right name.
    Adopted,
    /// A claim takes a warm Sandbox.
    Claimed,
    /// A pod gets the data that the claim of its Sandbox brings.
    ClaimDataDelivered,
    /// The API server refused the data that a claim brings, or a Secret that it refers to is missing.
    ClaimDataNotDelivered,
    /// A pod is written once more after the data of a claim, in case its kubelet had not seen the data.
    ClaimDataRepeated,
    /// A claim found no Ready warm Sandbox, so a Sandbox is created for it.
    ColdStart,
    /// A claim has a second Sandbox after a crash between two writes.
    ClaimSurplus,
    /// The claim records the name of the Sandbox that it is about to take.
    Reserved,
    /// A claim has a Sandbox that was warm.
    SandboxAdopted,
    /// A claim has a Sandbox that was created for it.
    SandboxProvisioned,
    /// A claim reached its end.
    ClaimExpired,
    /// A Sandbox has a pod.
    SandboxPodCreated,
    /// The API server refused the pod of a Sandbox.
    SandboxPodCreateFailed,
    /// A Sandbox became Ready.
    SandboxReady,
    /// A Sandbox is suspended, and its pod does not exist any more.
    SandboxSuspended,
    /// A Sandbox reached its shutdown time.
    SandboxExpired,
    /// The pod of a Sandbox succeeded.
    PodSucceeded,
    /// A Sandbox has more than one pod.
    MultiplePods,
    /// A problem stops a pool.
    WarmPoolNotProgressing,
    /// The problem that stopped a pool is over.
    WarmPoolProgressing,
    /// The metadata of the pod is updated from the Sandbox.
    MetadataChanged,
    /// The observed state is written to the status.
    StatusChanged,
    /// `replicas` and `operatingMode` are changed so that they agree, or the record of who suspended the Sandbox is
    /// removed.
    ModeInStep,
    /// A pool's size changes.
    PoolSized,
    /// A pool has fewer Sandboxes than it should have.
    PoolBelowDesired,
    /// A pool has more Sandboxes than it should have.
    PoolAboveDesired,
    /// A warm Sandbox was made from an older version of the template.
    TemplateChanged,
    /// A warm Sandbox cannot be used any more.
    WarmSandboxUnusable,
    /// Somebody changed a warm Sandbox or its pod, or connected to the pod. No claim gets the Sandbox.
    WarmSandboxTouched,
    /// The template wants a NetworkPolicy, and there is none.
    NetworkPolicyMissing,
    /// The NetworkPolicy differs from the one in the template.
    NetworkPolicyChanged,
    /// The template does not want the operator to manage its NetworkPolicy, or neither the template nor a Sandbox of
    /// it exists any more.
    NetworkPolicyUnwanted,
    /// The NetworkPolicy of the template is not in place, so its Sandboxes wait.
    NetworkPolicyNotReady,
    /// The object cannot be parsed, or it asks for something that is not allowed.
    Invalid,
    /// An admission plugin denies the object.
    AdmissionDenied,
    /// The running pod is not isolated although it should be.
    NotIsolated,
    /// No RuntimeClass is allowed for the pod at this time.
    RuntimeClassRefused,
    /// The answer of a plugin was clamped or refused.
    PluginOverruled,
    /// A plugin did not answer.
    PluginFailed,
    /// It is time to ask the idle policy of the Sandbox.
    IdleCheck,
    /// It is time to ask the pool-size policy of the pool.
    PoolSizeCheck,
    /// The decision waits for a pod or another object to change.
    Waiting,
    /// An operation was refused and is retried later.
    Backoff,
}

impl Reason {
    /// Whether the reason for a refused pod is a policy, and not an error of the operator's work. A plugin that fails
    /// although it must be asked denies the pod.
    #[must_use]
    pub fn denies_by_policy(self) -> bool {
        matches!(
            self,
            Reason::AdmissionDenied | Reason::NotIsolated | Reason::RuntimeClassRefused | Reason::PluginFailed
        )
    }

    /// The word in Events, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Writes one line for each operation, such as `create Pod/ns/name because PodMissing`. Logs, `/debug/seen` and
/// scenarios use it.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match &self.action {
            Action::Create { .. } => "create",
            Action::Patch { status: true, .. } => "patch status of",
            Action::Patch { .. } => "patch",
            Action::Resize { .. } => "resize",
            Action::Adopt { .. } => "adopt",
            Action::Deliver { .. } => "deliver the data of a claim to",
            Action::Delete { .. } => "delete",
        };
        write!(f, "{verb} {} because {}", self.key, self.reason)?;
        match &self.action {
            Action::Create { .. } | Action::Delete { .. } => Ok(()),
            Action::Patch { body, .. }
            | Action::Resize { body, .. }
            | Action::Adopt { body, .. }
            | Action::Deliver { body, .. } => write!(f, ": {body}"),
        }
    }
}
