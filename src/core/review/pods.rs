//! Pods that opted in: marked as running generated code, or in a namespace that requires isolation.
//!
//! A new Pod that names no class gets one; one that names a class that does not isolate is denied. A Pod's class
//! cannot change afterwards, so of updates only those to the marker matter: it cannot be added to a Pod that is not
//! isolated, nor taken from any Pod, since what generated code has run in stays what it is. Ephemeral containers and
//! in-place resizes happen inside the pod's own runtime and need no review.

use super::draft::{About, Draft, Stop, deny_fields, not_isolated, strings};
use super::marker::Marker;
use super::{Phase, Verb, Why};
use crate::model::FieldError;
use crate::names::label;

pub(super) fn walk(draft: &mut Draft<'_>) -> Result<(), Stop> {
    match draft.review.operation {
        Verb::Create => create(draft),
        Verb::Update => update(draft),
        Verb::Delete | Verb::Connect => Ok(()),
    }
}

fn create(draft: &mut Draft<'_>) -> Result<(), Stop> {
    check_marker(draft)?;
    isolate(draft)?;
    let about = about(draft);
    draft.ask_admission(&about)?;
    // A plugin may have set the marker, or taken the class away.
    check_marker(draft)?;
    isolate(draft)?;
    enforce(draft)
}

fn update(draft: &mut Draft<'_>) -> Result<(), Stop> {
    let before = Marker::of(&strings(&draft.review.old_object, "/metadata/labels"));
    check_update(draft, before)?;
    let about = about(draft);
    draft.ask_admission(&about)?;
    check_update(draft, before)
}

fn check_update(draft: &Draft<'_>, before: Marker) -> Result<(), Stop> {
    match (before, Marker::of(&draft.labels())) {
        (Marker::Unmarked | Marker::Unclear, Marker::Marked) => enforce(draft),
        (Marker::Marked, Marker::Unmarked) => Err(deny_fields(
            Why::Immutable,
            vec![FieldError {
                path: format!("metadata.labels[{}]", label::GENERATED_CODE),
                message: "stays for as long as the Pod lives, since generated code may have run in it; delete the Pod instead"
                    .to_owned(),
            }],
        )),
        (Marker::Unmarked | Marker::Marked, Marker::Unclear) => unclear_marker(),
        (Marker::Marked, Marker::Marked)
        | (Marker::Unmarked, Marker::Unmarked)
        | (Marker::Unclear, Marker::Unmarked | Marker::Unclear) => Ok(()),
    }
}

/// Gives a class to a pod that must be isolated and names none. While validating, that is a denial instead.
fn isolate(draft: &mut Draft<'_>) -> Result<(), Stop> {
    if draft.review.phase == Phase::Validate || !about(draft).generated_code || class(draft).is_some() {
        return Ok(());
    }
    let chosen = draft.choose_isolating_class()?;
    if let Some(spec) = draft.object.get_mut("spec").and_then(serde_json::Value::as_object_mut) {
        spec.insert("runtimeClassName".to_owned(), chosen.into());
    }
    Ok(())
}

/// What holds whatever plugins answered.
fn enforce(draft: &Draft<'_>) -> Result<(), Stop> {
    if !about(draft).generated_code {
        return Ok(());
    }
    let why = if draft.namespace_isolates() {
        "this namespace requires isolation"
    } else {
        "this Pod is marked as running generated code"
    };
    let remedy = match draft.review.operation {
        Verb::Update => {
            "the class of a Pod cannot change: delete the Pod and make it again with the label, and it gets one"
                .to_owned()
        }
        Verb::Create | Verb::Delete | Verb::Connect => draft.what_to_set(),
    };
    let Some(class) = class(draft) else {
        return Err(not_isolated(format!("{why} and names no RuntimeClass; {remedy}")));
    };
    match draft.context.classes.iter().find(|c| c.name == class) {
        Some(fact) if fact.isolated => Ok(()),
        Some(_) => {
            Err(not_isolated(format!("{why}, and RuntimeClass {class:?} runs it on the host's kernel; {remedy}")))
        }
        None => Err(not_isolated(format!("{why}, and there is no RuntimeClass {class:?}; {remedy}"))),
    }
}

fn check_marker(draft: &Draft<'_>) -> Result<(), Stop> {
    match Marker::of(&draft.labels()) {
        Marker::Marked | Marker::Unmarked => Ok(()),
        Marker::Unclear => unclear_marker(),
    }
}

fn unclear_marker() -> Result<(), Stop> {
    Err(deny_fields(Why::Invalid, vec![unclear("metadata.labels")]))
}

/// The error of a marker that is neither `true` nor `false`.
pub(super) fn unclear(labels: &str) -> FieldError {
    FieldError {
        path: format!("{labels}[{}]", label::GENERATED_CODE),
        message: "must be \"true\" or \"false\"".to_owned(),
    }
}

fn about(draft: &Draft<'_>) -> About {
    About::new(draft.labels(), draft.namespace_isolates())
}

fn class<'a>(draft: &'a Draft<'_>) -> Option<&'a str> {
    draft.object.pointer("/spec/runtimeClassName")?.as_str().filter(|c| !c.is_empty())
}
