//! Conditions: set one, find one, and keep the time of its last transition.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Serialize;
use serde_json::{Map, Value};

/// What a condition says; without the times and generation that are kept for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// `Ready`, `Suspended` …
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl NewCondition {
    /// A condition that holds or not.
    pub fn new(kind: &'static str, holds: bool, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let status = if holds { "True" } else { "False" };
        Self { kind, status, reason: reason.into(), message: message.into() }
    }
}

/// The conditions after this was said: those not mentioned are gone, times stay where the status did not change.
#[must_use]
pub fn set_conditions(
    before: &[Condition],
    says: Vec<NewCondition>,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    says.into_iter()
        .map(|s| {
            let old = find_condition(before, s.kind).filter(|c| c.status == s.status);
            Condition {
                type_: s.kind.to_owned(),
                status: s.status.to_owned(),
                reason: s.reason,
                message: s.message,
                observed_generation: Some(generation),
                last_transition_time: old.map_or_else(|| Time(to_seconds(now)), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The condition of a type.
#[must_use]
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// Whether the condition of a type is true.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find_condition(conditions, kind).is_some_and(|c| c.status == "True")
}

/// The merge patch that turns one status into another; `None` if they are the same.
#[must_use]
pub fn status_patch<S: Serialize>(before: &S, after: &S) -> Option<Value> {
    let patch = difference(&object(before), &object(after));
    (!patch.is_empty()).then(|| serde_json::json!({ "status": patch }))
}

/// A merge patch reaches into objects, so what one of them loses has to be named, at every depth.
fn difference(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
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

/// metav1.Time has whole seconds; what is written must read back the same.
fn to_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
