//! Warnings about objects that are valid but may surprise their user. They never deny an object.

use jiff::{SignedDuration, Timestamp};
use paddock_api::kind::{Kind, OwnKind};
use paddock_api::names::annotation;
use serde_json::Value;

use super::state::ReviewState;
use crate::object::allows_volume_loss;
use crate::object::json::string_map;

/// The time by which a heartbeat may be in the future. The clocks of machines that synchronize their time differ much
/// less.
const CLOCK_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// The fields of a spec that contain the pod, one for each API shape.
const PODS: [&str; 2] = ["podTemplate", "template"];

/// Adds all warnings about an object.
pub(super) fn add(state: &mut ReviewState<'_>, kind: Kind) {
    let sandbox = kind == Kind::Sandbox;
    if sandbox {
        heartbeat(state);
    }
    // The annotations of a template are not copied to its Sandboxes, so they allow no loss of files.
    let template = matches!(kind.own(), Some(OwnKind::Template(_)));
    if template || sandbox && !ephemeral(state) {
        never_suspended(state);
    }
    if sandbox {
        needs_new_pod(state);
    }
}

/// Warns about a heartbeat that has no effect because it is not a time. Also warns about a heartbeat in the future,
/// which prevents a suspend until that time.
fn heartbeat(state: &mut ReviewState<'_>) {
    let (name, now) = (annotation::LAST_ACTIVITY, state.review.now);
    let at = "/metadata/annotations";
    let Some(text) = string_map(&state.object, at).remove(name) else { return };
    if string_map(&state.review.old_object, at).get(name) == Some(&text) {
        return;
    }
    let problem = match text.parse::<Timestamp>() {
        Ok(time) if time.duration_since(now) <= CLOCK_AHEAD => return,
        Ok(_) => format!("is later than the present time, {now:.0}, and keeps the Sandbox running until then"),
        Err(_) => "must be a time in RFC 3339 format, and is ignored".to_owned(),
    };
    state.warn(&format!("metadata.annotations[{name}]: {problem}; the value must be the time of the last activity"));
}

/// Warns that a Sandbox with an `emptyDir` in memory is never suspended when idle, because the suspend would lose its
/// files.
fn never_suspended(state: &mut ReviewState<'_>) {
    if state.object.pointer("/spec/idleTimeout").is_none_or(Value::is_null) {
        return;
    }
    let found = empty_dirs(state).find(|(_, dir)| in_memory(dir)).map(|(path, _)| path);
    if let Some(path) = found {
        state.warn(&format!(
            "{path} is in memory, and its files are lost with the pod: idleTimeout does not suspend the Sandbox unless it has the annotation {}: \"true\"",
            annotation::EPHEMERAL_VOLUMES
        ));
    }
}

/// Warns that a new `idleTimeout` has no effect on the running pod. An `emptyDir` on disk becomes a volume claim only
/// when a pod is created.
fn needs_new_pod(state: &mut ReviewState<'_>) {
    let old = &state.review.old_object;
    let runs = old["status"]["replicas"].as_i64().is_some_and(|n| n > 0);
    let new = old["spec"]["idleTimeout"].is_null() && state.object["spec"]["idleTimeout"].is_string();
    let becomes_a_volume_claim = empty_dirs(state).any(|(_, dir)| !in_memory(dir));
    if runs && new && !ephemeral(state) && becomes_a_volume_claim {
        state.warn(
            "spec.idleTimeout: the pod was created without it and has an emptyDir, so the Sandbox is not suspended when idle; suspend and resume the Sandbox once",
        );
    }
}

fn in_memory(dir: &Value) -> bool {
    dir["medium"] == "Memory"
}

fn ephemeral(state: &ReviewState<'_>) -> bool {
    allows_volume_loss(&string_map(&state.object, "/metadata/annotations"))
}

/// The `emptyDir` volumes of the pod, with their paths.
fn empty_dirs<'a>(state: &'a ReviewState<'_>) -> impl Iterator<Item = (String, &'a Value)> {
    PODS.into_iter().flat_map(move |pod| {
        let volumes = state.object.pointer(&format!("/spec/{pod}/spec/volumes")).and_then(Value::as_array);
        volumes.into_iter().flatten().enumerate().filter_map(move |(i, volume)| {
            let dir = volume.get("emptyDir").filter(|dir| dir.is_object())?;
            Some((format!("spec.{pod}.spec.volumes[{i}].emptyDir"), dir))
        })
    })
}
