//! Conditions of a status: set them, find one, and compare two statuses.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::text::elide;

/// The longest message of a condition, in bytes: half of what the schemas of Kubernetes' conditions allow. A list of all
/// invalid fields of an object is usually below a tenth of it.
const CONDITION_BYTES: usize = 16 * 1024;

/// A condition to set. [`set_conditions`] adds the generation and the time of the last transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// The type of the condition, such as `Ready` or `Suspended`.
    pub kind: &'static str,
    /// The status: `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// The reason: one word in CamelCase.
    pub reason: String,
    /// The message: a sentence for people.
    pub message: String,
}

impl NewCondition {
    /// Returns a condition whose status is `True` if `holds`, and `False` otherwise.
    pub fn new(kind: &'static str, holds: bool, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let status = if holds { "True" } else { "False" };
        Self { kind, status, reason: reason.into(), message: message.into() }
    }
}

/// Returns the conditions of the new status. A condition that is not in `new` is removed. The time of the last
/// transition changes only if the status of the condition changes. Messages are shortened: those of invalid objects and of
/// pods contain texts of users.
#[must_use]
pub fn set_conditions(before: &[Condition], new: Vec<NewCondition>, generation: i64, now: Timestamp) -> Vec<Condition> {
    new.into_iter()
        .map(|condition| {
            let old = find_condition(before, condition.kind).filter(|c| c.status == condition.status);
            Condition {
                type_: condition.kind.to_owned(),
                status: condition.status.to_owned(),
                reason: condition.reason,
                message: elide(condition.message, CONDITION_BYTES),
                observed_generation: Some(generation),
                last_transition_time: old.map_or_else(|| Time(to_seconds(now)), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// Returns the condition of a type, if there is one.
#[must_use]
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// Whether the condition of a type exists and its status is `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find_condition(conditions, kind).is_some_and(|c| c.status == "True")
}

/// Returns the merge patch that turns one status into another, or `None` if they are equal.
#[must_use]
pub fn status_patch<S: Serialize + PartialEq>(before: &S, after: &S) -> Option<Value> {
    // Most decisions change nothing.
    if before == after {
        return None;
    }
    let patch = difference(&object(before), &object(after));
    (!patch.is_empty()).then(|| serde_json::json!({ "status": patch }))
}

/// Returns a merge patch of the differences. A merge patch keeps a field that it does not mention, so a field that is
/// removed is set to null, at every depth.
pub(crate) fn difference(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (field, value) in after {
        match (before.get(field), value) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                patch.insert(field.clone(), difference(old, new).into());
            }
            (Some(_) | None, new) => {
                patch.insert(field.clone(), new.clone());
            }
        }
    }
    for field in before.keys().filter(|f| !after.contains_key(*f)) {
        patch.insert(field.clone(), Value::Null);
    }
    patch
}

fn object(of: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// Drops the fraction of a second: `metav1.Time` has whole seconds, and a time must be the same after it is read back.
fn to_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_a_condition_is_shortened() {
        let message = "x".repeat(1024 * 1024);
        let new = vec![NewCondition::new("Ready", false, "Invalid", message)];
        let conditions = set_conditions(&[], new, 1, Timestamp::UNIX_EPOCH);
        assert!(conditions[0].message.len() <= CONDITION_BYTES, "{}", conditions[0].message.len());
    }
}
