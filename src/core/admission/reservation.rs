//! The reservation of a warm Sandbox, as the claim carries it: an annotation with the Sandbox's name.
//!
//! The mutating call writes the annotation. The API server then leaves the claim out of the validating call, so the
//! annotation may stay only on a claim about which validation would have nothing to say.

pub(super) mod settle;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::review::Review;
use crate::names::annotation;

/// Reserves warm Sandboxes for the claims that a webhook admits.
pub trait WarmReservations: Send + Sync {
    /// Reserves a Sandbox for the claim of a review. Returns its name, or `None` where the review is of something else, no
    /// Sandbox is warm, or this replica may not write.
    fn reserve(&self, review: &Review) -> Option<Arc<str>>;

    /// Ends the reservation: the claim is not stored with it.
    fn release(&self, review: &Review, sandbox: &str);
}

/// Writes the reservation among a claim's annotations, or removes what is there.
pub(super) fn write(annotations: &mut Map<String, Value>, sandbox: Option<&str>) {
    match sandbox {
        Some(name) => annotations.insert(annotation::SANDBOX_NAME.to_owned(), name.into()),
        None => annotations.remove(annotation::SANDBOX_NAME),
    };
}

/// The annotations of an object, made where there are none. `None` if the metadata is not an object.
pub(super) fn annotations_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let slot = object.get_mut("metadata")?.as_object_mut()?.entry("annotations").or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}
