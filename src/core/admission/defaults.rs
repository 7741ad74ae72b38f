//! The fields that the webhook sets in the kinds that Paddock serves. A second application changes nothing.

use jiff::{SignedDuration, Timestamp};
use paddock_api::OperatingMode;
use paddock_api::kind::{Class, Kind, OwnKind};
use paddock_api::names::annotation;
use serde_json::{Value, json};

use super::reservation::{self, annotations_mut};
use super::review::{Context, Review, Verb};
use crate::model::{desired_mode, replicas_of};

/// The maximum age of a first-observed stamp that an earlier call for the same write may have set (reinvocation). The
/// API server waits at most 30 s for all of its webhooks.
const STAMP_AGE: SignedDuration = SignedDuration::from_secs(30);

/// Sets the defaults of a kind.
pub(super) fn apply(kind: Kind, review: &Review, context: &Context, object: &mut Value) {
    match kind.class() {
        Class::Own(OwnKind::Sandbox) => sync_mode(review, object),
        Class::Own(OwnKind::Claim(_)) if review.operation == Verb::Create => {
            stamp(object, review.now, context.reserved_sandbox.as_deref());
        }
        Class::Own(OwnKind::Claim(_) | OwnKind::Template(_) | OwnKind::Pool(_))
        | Class::Child(_)
        | Class::Cluster(_) => {}
    }
}

/// Sets both mode fields to the same mode.
///
/// A client that knows only one of the fields may drop the other one, and a dropped field gets its old value again. A
/// field that its writer removed asks for its default, which is Running. If the fields disagree, the one that the client
/// changed wins. If that is not clear, the rule of the reconcile decides.
fn sync_mode(review: &Review, object: &mut Value) {
    let old = &review.old_object;
    let (Ok((mode, replicas)), Ok((old_mode, old_replicas))) = (written(object), written(old)) else { return };
    let acted = read_mode(old.pointer("/status/mode")).ok().flatten();
    let last = old_mode.filter(|_| old_mode == old_replicas).or(acted);
    let absent = |field: &str, old: Option<OperatingMode>| {
        if old.is_some() && removed(review, field) { Some(OperatingMode::Running) } else { old }
    };
    let mode = mode.or_else(|| absent("operatingMode", old_mode));
    let replicas = replicas.or_else(|| absent("replicas", old_replicas));
    let decision = desired_mode(mode, replicas, last);
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.insert("operatingMode".to_owned(), json!(decision.mode));
    spec.insert("replicas".to_owned(), replicas_of(decision.mode).into());
    let before = desired_mode(old_mode, old_replicas, acted).mode;
    forget_who_suspended(old, object, (before, decision.mode));
}

/// Removes the record of who suspended the Sandbox if it is about an earlier suspend: the Sandbox is to run, or this write
/// suspends it and does not set the record.
fn forget_who_suspended(old: &Value, object: &mut Value, modes: (OperatingMode, OperatingMode)) {
    let record = |object: &Value| object.pointer("/metadata/annotations")?.get(annotation::SUSPENDED_BY).cloned();
    let Some(new) = record(object) else { return };
    let outdated = match modes {
        (_, OperatingMode::Running) => true,
        (OperatingMode::Running, OperatingMode::Suspended) => record(old).as_ref() == Some(&new),
        (OperatingMode::Suspended, OperatingMode::Suspended) => false,
    };
    if outdated && let Some(annotations) = annotations_mut(object) {
        annotations.remove(annotation::SUSPENDED_BY);
    }
}

/// Whether the client removed a field of the spec that is missing, and did not only omit it because it does not know the
/// field. A PATCH removes a field explicitly, and a PUT removes it if the client's field manager owned it.
fn removed(review: &Review, field: &str) -> bool {
    let owns = |manager: &str| {
        let entries = review.old_object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let owned = format!("/fieldsV1/f:spec/f:{field}");
        entries.into_iter().flatten().any(|entry| entry["manager"] == manager && entry.pointer(&owned).is_some())
    };
    review.write.is_patch || review.write.manager.as_deref().is_some_and(owns)
}

type Modes = (Option<OperatingMode>, Option<OperatingMode>);

/// Returns both mode fields as modes. If one of them is not valid, the result is an error, and the validating call
/// reports it.
fn written(object: &Value) -> Result<Modes, ()> {
    let replicas = match object.pointer("/spec/replicas") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_i64() {
            Some(0) => Some(OperatingMode::Suspended),
            Some(1) => Some(OperatingMode::Running),
            Some(_) | None => return Err(()),
        },
    };
    Ok((read_mode(object.pointer("/spec/operatingMode"))?, replicas))
}

fn read_mode(value: Option<&Value>) -> Result<Option<OperatingMode>, ()> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value.clone()).map(Some).map_err(|_| ()),
    }
}

/// Writes the first-observed stamp and the reserved Sandbox of a claim. A Sandbox name that the user wrote is removed,
/// because only the operator may write the reservation.
fn stamp(object: &mut Value, now: Timestamp, reserved_sandbox: Option<&str>) {
    let observed = first_observed(object, now);
    let Some(annotations) = annotations_mut(object) else { return };
    reservation::write(annotations, reserved_sandbox);
    annotations.insert(annotation::FIRST_OBSERVED_AT.to_owned(), observed.into());
}

/// The time at which a claim under admission was first observed: now, or in an earlier call for the same write.
pub(super) fn first_observed(object: &Value, now: Timestamp) -> String {
    let text = object.pointer("/metadata/annotations").and_then(|all| all.get(annotation::FIRST_OBSERVED_AT)?.as_str());
    let ours = |text: &&str| text.parse::<Timestamp>().is_ok_and(|at| at <= now && now.duration_since(at) <= STAMP_AGE);
    text.filter(ours).map_or_else(|| format!("{now:.6}"), str::to_owned)
}
