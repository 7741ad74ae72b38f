//! The reservation of a warm Sandbox on its claim: an annotation with the name of the Sandbox.
//!
//! The mutating call writes the annotation. It stays only on a claim for which the validating call would report nothing,
//! so that a claim that is denied holds back no Sandbox.

pub(super) mod settle;

use std::sync::Arc;

use paddock_api::names::annotation;
use serde_json::{Map, Value};

use super::review::Review;

/// Reserves warm Sandboxes for the claims that a webhook admits.
pub trait WarmReservations: Send + Sync {
    /// Reserves a Sandbox for the claim of a review, and returns the name of the Sandbox. Returns `None` if the review
    /// is not about a new claim, if no warm Sandbox is Ready, or if this replica does not have the right to write.
    fn reserve(&self, review: &Review) -> Option<Arc<str>>;

    /// Ends the reservation of a Sandbox, because the claim is not stored with it.
    fn release(&self, review: &Review, sandbox: &str);
}

/// Writes the reservation into the annotations of a claim. Without a Sandbox, removes a reservation from them.
pub(super) fn write(annotations: &mut Map<String, Value>, sandbox: Option<&str>) {
    match sandbox {
        Some(name) => annotations.insert(annotation::SANDBOX_NAME.to_owned(), name.into()),
        None => annotations.remove(annotation::SANDBOX_NAME),
    };
}

/// The annotations of an object, which are created if there are none. `None` if the metadata or the annotations are not
/// an object.
pub(super) fn annotations_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let slot = object.get_mut("metadata")?.as_object_mut()?.entry("annotations").or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}
