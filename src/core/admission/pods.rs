//! Reviews of Pods that are marked as running generated code or are in a namespace that requires isolation.
//!
//! A new Pod without a RuntimeClass gets one. A new Pod that is not isolated is denied. An update of a Pod is judged by
//! what it changes:
//!
//! - The marker cannot be added to a Pod that is not isolated.
//! - The marker cannot be removed from a Pod, because generated code may have run in it.
//! - The marker cannot get a value other than `true` or `false`.
//! - No change may break the isolation of the Pod.
//! - A Pod that is not isolated gets no new code: no other image, no ephemeral container and no other resources. Such a
//!   Pod is older than the label of its namespace.
//!
//! These rules also apply to the subresources of a Pod, and to Pods of the operator. Plugins are asked about the
//! subresources that change the spec of a Pod. The reconcile has asked them about the Pods of the operator.

use paddock_api::names::label;
use serde_json::{Map, Value};

use super::outcome::Why;
use super::review::{Phase, Verb};
use super::state::{Halt, ReviewState, Subject, deny_fields};
use crate::isolation::{ClassRule, PodFields};
use crate::marker::Marker;
use crate::model::FieldError;

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
    if asks_plugins(state) {
        let subject = subject(state);
        state.ask_admission(&subject)?;
        // A plugin may have set the marker or removed the class.
        check_marker(state)?;
        isolate(state)?;
    }
    enforce(state)
}

fn update(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    check_update(state)?;
    if asks_plugins(state) {
        let subject = subject(state);
        state.ask_admission(&subject)?;
        check_update(state)?;
    }
    Ok(())
}

/// Whether the review of a Pod asks admission plugins.
pub(super) fn asks_plugins(state: &ReviewState<'_>) -> bool {
    changes_spec(state) && !state.context.is_operator(state.review)
}

/// Whether the review judges the isolation of the Pod: a new Pod, an update that brings code, or a new marker. Other
/// updates keep what the Pod had.
pub(super) fn judges_isolation(state: &ReviewState<'_>) -> bool {
    let (old, new) = (&state.review.old_object, &state.object);
    let judged = match state.review.operation {
        Verb::Create => true,
        Verb::Update => {
            brings_code(old, new, false) || Marker::at(old, "/metadata/labels") != Marker::of(&state.labels())
        }
        Verb::Delete | Verb::Connect => false,
    };
    judged && changes_spec(state) && subject(state).generated_code
}

fn changes_spec(state: &ReviewState<'_>) -> bool {
    match state.review.subresource.as_deref() {
        None | Some("ephemeralcontainers" | "resize") => true,
        Some(_) => false,
    }
}

fn check_update(state: &ReviewState<'_>) -> Result<(), Halt> {
    let old = &state.review.old_object;
    let before = Marker::at(old, "/metadata/labels");
    let after = Marker::of(&state.labels());
    match (before, after) {
        (Marker::Unmarked | Marker::Unclear, Marker::Marked) => return enforce(state),
        (Marker::Marked | Marker::Unclear, Marker::Unmarked) => {
            return Err(deny_fields(
                Why::Immutable,
                vec![FieldError {
                    path: format!("metadata.labels[{}]", label::GENERATED_CODE),
                    message:
                        "must not be removed from a Pod, because generated code may have run in it; delete the Pod \
                              instead"
                            .to_owned(),
                }],
            ));
        }
        (Marker::Unmarked | Marker::Marked, Marker::Unclear) => return unclear_marker(),
        (Marker::Marked, Marker::Marked)
        | (Marker::Unmarked, Marker::Unmarked)
        | (Marker::Unclear, Marker::Unclear) => {}
    }
    if !subject(state).generated_code {
        return Ok(());
    }
    let new = PodFields::of_pod(&state.object);
    let (isolation, remedy) = (state.context.isolation(), remedy(state));
    // The operator restores the CPU of a throttled pod, which may not be isolated.
    let by_operator = state.context.is_operator(state.review) && state.review.subresource.as_deref() == Some("resize");
    let denied = if brings_code(old, &state.object, by_operator) {
        isolation.judge(&new, ClassRule::Required, &remedy)
    } else {
        isolation.judge_change(&PodFields::of_pod(old), &new, ClassRule::Required, &remedy)
    };
    deny(state, denied)
}

/// The fields of a PodSpec that an update may change although the Pod is not isolated: they only end a Pod or allow
/// another node.
pub const ENDS_OR_MOVES: [&str; 3] = ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations"];

/// Whether an update can make a Pod run other code, or more of it. The API server does not allow changes of most fields.
/// If the operator `resized` the Pod, its resources do not count.
fn brings_code(old: &Value, new: &Value, resized: bool) -> bool {
    let (Some(old), Some(new)) = (old["spec"].as_object(), new["spec"].as_object()) else {
        return old["spec"] != new["spec"];
    };
    let same = |field: &str, value: &Value, other: &Value| {
        let lists = resized && matches!(field, "containers" | "initContainers");
        if lists { same_but_for_resources(value, other) } else { value == other }
    };
    let changed = |(field, value): (&String, &Value), other: &Map<String, Value>| {
        !ENDS_OR_MOVES.contains(&field.as_str()) && !other.get(field).is_some_and(|other| same(field, value, other))
    };
    new.iter().any(|field| changed(field, old))
        || old.keys().any(|field| !new.contains_key(field) && !ENDS_OR_MOVES.contains(&field.as_str()))
}

/// Whether two lists have the same containers, whatever their resources are.
fn same_but_for_resources(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_array(), other.as_array()) else {
        return one == other;
    };
    let same = |(one, other): (&Value, &Value)| {
        let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
            return one == other;
        };
        let fields = |container: &Map<String, Value>| container.keys().filter(|field| *field != "resources").count();
        let kept = |(field, value): (&String, &Value)| field == "resources" || other.get(field) == Some(value);
        fields(one) == fields(other) && one.iter().all(kept)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

/// Sets a class for a pod that must be isolated and names none. In the validating call, [`enforce`] denies such a pod.
fn isolate(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    if state.review.phase == Phase::Validate || !subject(state).generated_code || names_class(state) {
        return Ok(());
    }
    let chosen = state.choose_isolating_class()?;
    if let Some(spec) = state.object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("runtimeClassName".to_owned(), chosen.into());
    }
    Ok(())
}

/// Denies a pod that must be isolated and is not, whatever the plugins answered.
fn enforce(state: &ReviewState<'_>) -> Result<(), Halt> {
    if !subject(state).generated_code {
        return Ok(());
    }
    let pod = PodFields::of_pod(&state.object);
    deny(state, state.context.isolation().judge(&pod, ClassRule::Required, &remedy(state)))
}

/// The remedy for a Pod without a RuntimeClass that isolates.
fn remedy(state: &ReviewState<'_>) -> String {
    match state.review.operation {
        Verb::Update => {
            "the RuntimeClass of a Pod cannot change; delete the Pod and create it again with the label".to_owned()
        }
        Verb::Create | Verb::Delete | Verb::Connect => state.what_to_set(),
    }
}

fn deny(state: &ReviewState<'_>, problems: Vec<FieldError>) -> Result<(), Halt> {
    if problems.is_empty() {
        return Ok(());
    }
    let why = if state.namespace_isolates() {
        "this namespace requires isolation"
    } else {
        "this Pod is marked as running generated code"
    };
    let halt = deny_fields(Why::NotIsolated, problems);
    Err(match halt {
        Halt::Deny(mut denial) => {
            denial.message = format!("{why}, and the Pod is not isolated: {}", denial.message);
            Halt::Deny(denial)
        }
        Halt::Request(_) => halt,
    })
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

fn names_class(state: &ReviewState<'_>) -> bool {
    state.object.pointer("/spec/runtimeClassName").and_then(Value::as_str).is_some_and(|class| !class.is_empty())
}
