//! Reviews of Pods that are marked as running generated code or are in a namespace that requires isolation.
//!
//! A new Pod without a RuntimeClass gets one. A new Pod with a class that does not isolate is denied. The class of a
//! Pod cannot be changed afterwards, so only updates of the marker matter:
//!
//! - The marker cannot be added to a Pod that is not isolated.
//! - The marker cannot be removed from a Pod, because generated code may have run in it.
//! - The marker cannot get a value other than `true` or `false`.
//!
//! Ephemeral containers and in-place resizes use the runtime of the pod and need no review.

use paddock_api::names::label;

use super::outcome::Why;
use super::review::{Phase, Verb};
use super::state::{Halt, ReviewState, Subject, deny_fields, not_isolated};
use crate::marker::Marker;
use crate::model::FieldError;
use crate::object::json::string_map;

pub(super) fn check(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    match state.review.operation {
        Verb::Create => create(state),
        Verb::Update => update(state),
        Verb::Delete | Verb::Connect => Ok(()),
    }
}

fn create(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    check_marker(state)?;
    isolate(state)?;
    let subject = subject(state);
    state.ask_admission(&subject)?;
    // A plugin may have set the marker or removed the class.
    check_marker(state)?;
    isolate(state)?;
    enforce(state)
}

fn update(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    let before = Marker::of(&string_map(&state.review.old_object, "/metadata/labels"));
    check_update(state, before)?;
    let subject = subject(state);
    state.ask_admission(&subject)?;
    check_update(state, before)
}

fn check_update(state: &ReviewState<'_>, before: Marker) -> Result<(), Halt> {
    match (before, Marker::of(&state.labels())) {
        (Marker::Unmarked | Marker::Unclear, Marker::Marked) => enforce(state),
        (Marker::Marked, Marker::Unmarked) => Err(deny_fields(
            Why::Immutable,
            vec![FieldError::new(
                format!("metadata.labels[{}]", label::GENERATED_CODE),
                "must not be removed from a Pod, because generated code may have run in it; delete the Pod instead",
            )],
        )),
        (Marker::Unmarked | Marker::Marked, Marker::Unclear) => unclear_marker(),
        (Marker::Marked, Marker::Marked)
        | (Marker::Unmarked, Marker::Unmarked)
        | (Marker::Unclear, Marker::Unmarked | Marker::Unclear) => Ok(()),
    }
}

/// Sets a class for a pod that must be isolated and names none. In the validating call, [`enforce`] denies such a pod.
fn isolate(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    if state.review.phase == Phase::Validate || !subject(state).generated_code || class(state).is_some() {
        return Ok(());
    }
    let chosen = state.choose_isolating_class()?;
    if let Some(spec) = state.object.get_mut("spec").and_then(serde_json::Value::as_object_mut) {
        spec.insert("runtimeClassName".to_owned(), chosen.into());
    }
    Ok(())
}

/// Denies a pod that must be isolated and is not, whatever the plugins answered.
fn enforce(state: &ReviewState<'_>) -> Result<(), Halt> {
    if !subject(state).generated_code {
        return Ok(());
    }
    let why = if state.namespace_isolates() {
        "this namespace requires isolation"
    } else {
        "this Pod is marked as running generated code"
    };
    let remedy = match state.review.operation {
        Verb::Update => {
            "the RuntimeClass of a Pod cannot change; delete the Pod and create it again with the label".to_owned()
        }
        Verb::Create | Verb::Delete | Verb::Connect => state.what_to_set(),
    };
    let Some(class) = class(state) else {
        return Err(not_isolated(format!("{why} and names no RuntimeClass; {remedy}")));
    };
    match state.context.classes.iter().find(|c| c.name == class) {
        Some(fact) if fact.isolated => Ok(()),
        Some(_) => {
            Err(not_isolated(format!("{why}, and RuntimeClass {class:?} runs it on the host's kernel; {remedy}")))
        }
        None => Err(not_isolated(format!("{why}, and there is no RuntimeClass {class:?}; {remedy}"))),
    }
}

fn check_marker(state: &ReviewState<'_>) -> Result<(), Halt> {
    match Marker::of(&state.labels()) {
        Marker::Marked | Marker::Unmarked => Ok(()),
        Marker::Unclear => unclear_marker(),
    }
}

fn unclear_marker() -> Result<(), Halt> {
    Err(deny_fields(Why::Invalid, vec![unclear("metadata.labels")]))
}

/// The error of a marker that is neither `true` nor `false`.
pub(super) fn unclear(labels: &str) -> FieldError {
    FieldError::new(format!("{labels}[{}]", label::GENERATED_CODE), "must be \"true\" or \"false\"")
}

fn subject(state: &ReviewState<'_>) -> Subject {
    Subject::new(state.labels(), state.namespace_isolates())
}

fn class<'a>(state: &'a ReviewState<'_>) -> Option<&'a str> {
    state.object.pointer("/spec/runtimeClassName")?.as_str().filter(|c| !c.is_empty())
}
