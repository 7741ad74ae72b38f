//! The adoption of an object that a user prepared under the right name.

use paddock_api::names::label;
use serde_json::{Value, json};

use crate::manifest::taken_over_by;
use crate::object::Object;
use crate::plan::{Op, Reason};

/// Makes `owner` the controller of an adoptable object.
pub(super) fn adopt(owner: &Object, object: &Object, labels: Value) -> Op {
    let body = json!({ "metadata": { "ownerReferences": taken_over_by(owner, object), "labels": labels } });
    Op::patch_if_unchanged(object, Reason::Adopted, body)
}

/// Whether an object may be adopted: it has the label that allows it and no controller, and it is not terminating.
pub(super) fn adoptable(object: &Object) -> bool {
    object.meta.controller.is_none()
        && object.meta.deletion_timestamp.is_none()
        && object.meta.labels.get(label::ADOPTABLE).is_some_and(|v| v == label::TRUE)
}
