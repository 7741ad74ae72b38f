//! The Events of a plan.

use paddock_api::kind::Key;
use serde::Serialize;

use super::reason::Reason;
use crate::object::Object;
use crate::text::{MESSAGE_BYTES, elide};

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
    /// The message of the Event: one sentence of at most [`MESSAGE_BYTES`] bytes.
    pub note: String,
}

impl Event {
    /// An event that is part of the normal life of an object.
    pub(crate) fn normal(object: &Object, reason: Reason, note: impl Into<String>) -> Self {
        let (regarding, uid) = (object.key.clone(), object.meta.uid.to_string());
        let note = elide(note, MESSAGE_BYTES);
        Self { regarding, uid, warning: false, reason, note }
    }

    /// An event about a problem.
    pub(crate) fn warning(object: &Object, reason: Reason, note: impl Into<String>) -> Self {
        Self { warning: true, ..Self::normal(object, reason, note) }
    }
}
