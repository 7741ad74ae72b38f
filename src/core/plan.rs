//! The result of a decision: operations with their reasons, a requeue, and Events. A plan contains no choices.

mod event;
mod line;
mod reason;
mod start;

use jiff::Timestamp;
use paddock_api::kind::Key;
use serde::Serialize;
use serde_json::Value;

pub use self::event::Event;
pub use self::reason::Reason;
pub use self::start::{ClaimStart, StartKind};
use crate::object::{Object, budget};
use crate::text::{MESSAGE_BYTES, elide};

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
    /// How the claim of the plan gets its Sandbox, if an operation of the plan gives it one.
    pub start: Option<ClaimStart>,
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

    /// An estimate of the memory that the bodies of the operations need, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ops().filter_map(Op::body).map(budget::memory).sum()
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

    /// The object or the patch that the request sends.
    fn body(&self) -> Option<&Value> {
        match &self.action {
            Action::Create { body }
            | Action::Patch { body, .. }
            | Action::Resize { body, .. }
            | Action::Adopt { body, .. }
            | Action::Deliver { body, .. } => Some(body),
            Action::Delete { .. } => None,
        }
    }

    /// Whether the body of the request is large, so that the request and its reply need much memory.
    #[must_use]
    pub fn is_large(&self) -> bool {
        let brings_large = matches!(&self.action, Action::Deliver { data, .. } if data.large);
        brings_large || self.body().is_some_and(budget::is_large)
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
        Self::patching_status(object, None, body)
    }

    /// Patches the status of an object if no client has changed the object meanwhile.
    pub(crate) fn patch_status_if_unchanged(object: &Object, body: Value) -> Self {
        Self::patching_status(object, Some(object.meta.resource_version.to_string()), body)
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

    fn patching_status(object: &Object, resource_version: Option<String>, body: Value) -> Self {
        let action = Action::Patch { uid: object.meta.uid.to_string(), resource_version, status: true, body };
        Self { key: object.key.clone(), reason: Reason::StatusChanged, action }
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
        /// The API server's message, of at most [`MESSAGE_BYTES`] bytes. [`Outcome::rejected`] shortens it.
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
    /// A refusal of the API server. Its message repeats the refused value, which may have the size of the object, and the
    /// World, the log, Events and statuses keep the message.
    #[must_use]
    pub fn rejected(status: u16, message: impl Into<String>, by_policy: bool) -> Self {
        Outcome::Rejected { status, message: elide(message, MESSAGE_BYTES), by_policy }
    }

    /// The word in metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_keeps_the_beginning_and_the_end_of_a_long_message() {
        let message = format!("spec.dnsConfig.searches: Invalid value: {:?}: must have at most 32", ["a"; 20_000]);
        let Outcome::Rejected { message, .. } = Outcome::rejected(422, message, false) else { panic!("a refusal") };
        assert!(message.len() <= MESSAGE_BYTES, "{}", message.len());
        assert!(message.starts_with("spec.dnsConfig.searches: "), "{message}");
        assert!(message.ends_with(": must have at most 32"), "{message}");
    }
}
