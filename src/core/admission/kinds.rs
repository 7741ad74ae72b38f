//! Reviews of the kinds that Paddock serves. The review uses the parsers of the reconcile, so the webhook admits
//! nothing that cannot be reconciled.
//!
//! An update may keep an existing error. The webhook reports the error as a warning and does not deny the update. A
//! client can therefore still label an object that an older version admitted, and remove its finalizers. References may
//! name objects that do not exist.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use paddock_api::kind::{Class, Kind, OwnKind};
use paddock_api::names::{label, reason};
use serde::Deserialize;
use serde_json::Value;

use super::outcome::Why;
use super::reservation::settle::ClaimBeforePlugins;
use super::review::{Entry, Phase, Verb};
use super::state::{Halt, ReviewState, Subject, deny_fields};
use super::{defaults, pods, warnings};
use crate::awake::Wishes;
use crate::isolation::{ClassRule, PodFields};
use crate::manifest;
use crate::marker::{MARKER_PLACES, Marker, marker_of_object};
use crate::model::{self, FieldError, FieldErrors};
use crate::network_policy;
use crate::object::budget;
use crate::object::json::string_map;
use crate::settings::NetworkSettings;

pub(super) fn check(state: &mut ReviewState<'_>, kind: Kind) -> Result<(), Halt> {
    if state.review.entry == Entry::OwnedSandboxes {
        // The entry `OwnKinds` makes the other checks. If the webhook does not answer there, the API server admits the
        // object.
        return not_forged(state, kind);
    }
    within_budget(state)?;
    match state.review.phase {
        Phase::Mutate => {
            warnings::before_defaults(state, kind);
            defaults::apply(kind, state.review, state.context, &mut state.object);
        }
        Phase::Validate => {
            not_forged(state, kind)?;
            unchanged(state, kind)?;
            marker_stays(state, kind)?;
            marked_in_time(state, kind)?;
            parses(state, kind)?;
            warnings::add(state, kind);
        }
    }
    let subject = subject(state);
    let reservation = ClaimBeforePlugins::of(state);
    state.ask_admission(&subject)?;
    if state.review.phase == Phase::Mutate {
        // A plugin may have changed one of two fields that must agree.
        defaults::apply(kind, state.review, state.context, &mut state.object);
        reservation.settle(state, &subject, |state| is_valid(state, kind));
    }
    Ok(())
}

/// Asks the plugins of users about an object that is stored. The webhook may not have asked them: the operator's own
/// writes are exempt, the webhook may have been unavailable, and the policy may be newer than the object. The built-in
/// is asked only beside other plugins, because the reconcile makes its checks for every pod.
pub(super) fn ask_again(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    let subject = subject(state);
    if state.has_custom_plugins(&subject) { state.ask_admission(&subject) } else { Ok(()) }
}

/// Whether validation of a claim would neither deny it nor add a warning.
fn is_valid(state: &ReviewState<'_>, kind: Kind) -> bool {
    let read = read(kind, &state.object);
    problems(state, kind, &read, &state.object).is_empty()
        && read.claim.is_some_and(|claim| errors_of_status(state, &claim).is_empty())
}

/// The labels with which selectors are compared: those of the pod template, overridden by those of the object. A `false`
/// of the object does not override the marker of the pod template.
fn subject(state: &ReviewState<'_>) -> Subject {
    let mut labels = string_map(&state.object, "/spec/podTemplate/metadata/labels");
    labels.extend(string_map(&state.object, "/spec/template/metadata/labels"));
    labels.extend(state.labels());
    let marker = marker_of_object(&state.object);
    if marker.is_generated_code() && !Marker::of(&labels).is_generated_code() {
        labels.insert(label::GENERATED_CODE.to_owned(), label::TRUE.to_owned());
    }
    Subject::new(labels, marker.is_generated_code() || state.namespace_isolates())
}

/// Denies a new owner reference to a pool or a claim, because only the operator creates their Sandboxes. A claim could
/// take a forged Sandbox of a pool.
fn not_forged(state: &ReviewState<'_>, kind: Kind) -> Result<(), Halt> {
    if kind != Kind::Sandbox {
        return Ok(());
    }
    // The garbage collector may change `blockOwnerDeletion`, so it is not compared.
    fn whose(owner: &OwnerReference) -> (&str, Option<bool>, &str, &str, &str) {
        let OwnerReference { api_version, block_owner_deletion: _, controller, kind, name, uid } = owner;
        (api_version, *controller, kind, name, uid)
    }
    let old = owners(&state.review.old_object);
    let known: BTreeSet<_> = old.iter().map(whose).collect();
    let forged: Vec<FieldError> = owners(&state.object)
        .into_iter()
        .enumerate()
        .filter(|(_, owner)| matches!(owner.kind.as_str(), "SandboxWarmPool" | "SandboxClaim"))
        // The whole reference is compared: an existing one must not change its kind or become a controller reference.
        .filter(|(_, owner)| !known.contains(&whose(owner)))
        .map(|(i, owner)| {
            FieldError::new(
                format!("metadata.ownerReferences[{i}]"),
                format!("must be left out: only the operator creates a Sandbox that belongs to a {}", owner.kind),
            )
        })
        .collect();
    if forged.is_empty() { Ok(()) } else { Err(deny_fields(Why::Forged, model::shortened(forged))) }
}

fn owners(object: &Value) -> Vec<OwnerReference> {
    object
        .pointer("/metadata/ownerReferences")
        .and_then(|owners| serde_json::from_value(owners.clone()).ok())
        .unwrap_or_default()
}

/// Denies changes of immutable fields.
fn unchanged(state: &ReviewState<'_>, kind: Kind) -> Result<(), Halt> {
    if state.review.operation != Verb::Update {
        return Ok(());
    }
    match kind.own() {
        Some(OwnKind::Sandbox) => sandbox_unchanged(state),
        Some(OwnKind::Claim(_)) => bound_claim_unchanged(state),
        Some(OwnKind::Template(_) | OwnKind::Pool(_)) | None => Ok(()),
    }
}

/// Denies changes of a claim that has its Sandbox, if they could only be made to another Sandbox.
fn bound_claim_unchanged(state: &ReviewState<'_>) -> Result<(), Halt> {
    const FIELDS: [&str; 7] =
        ["env", "files", "sandboxTemplateRef", "templateRef", "volumeClaimTemplates", "warmPoolRef", "warmpool"];
    let (old, new) = (&state.review.old_object, &state.object);
    let named = old.pointer("/status/sandbox/name").and_then(Value::as_str);
    let Some(sandbox) = named.or(state.context.sandbox_of_claim.as_deref()) else { return Ok(()) };
    let value = |object: &Value, field: &str| {
        let value = &object["spec"][field];
        if value.as_array().is_some_and(Vec::is_empty) { Value::Null } else { value.clone() }
    };
    let changed = FIELDS.into_iter().filter(|field| value(old, field) != value(new, field));
    let mut errors: Vec<FieldError> = changed
        .map(|field| FieldError {
            path: format!("spec.{field}"),
            message: format!(
                "is immutable, because the claim has Sandbox {sandbox} and the change would not reach it; create another claim"
            ),
        })
        .collect();
    let conditions = old.pointer("/status/conditions").and_then(Value::as_array);
    let ended = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["reason"] == reason::CLAIM_EXPIRED);
    if ended && value(old, "lifecycle") != value(new, "lifecycle") {
        errors.push(FieldError {
            path: "spec.lifecycle".to_owned(),
            message: format!(
                "is immutable, because the claim has ended and Sandbox {sandbox} was deleted; create another claim"
            ),
        });
    }
    if errors.is_empty() { Ok(()) } else { Err(deny_fields(Why::Immutable, errors)) }
}

fn sandbox_unchanged(state: &ReviewState<'_>) -> Result<(), Halt> {
    let (old, new) = (&state.review.old_object["spec"], &state.object["spec"]);
    let mut errors = Vec::new();
    let listed = |spec: &Value| spec["volumeClaimTemplates"].as_array().cloned().unwrap_or_default();
    if listed(old) != listed(new) {
        let message = "volumeClaimTemplates is immutable; create another Sandbox, or change the PersistentVolumeClaims themselves";
        errors.push(FieldError::new("spec.volumeClaimTemplates", message));
    }
    let resume = |spec: &Value| spec["resumePolicy"].as_str().unwrap_or("Manual").to_owned();
    if resume(old) != resume(new) {
        errors.push(FieldError::new(
            "spec.resumePolicy",
            format!(
                "resumePolicy is immutable, because it determines the kind of the Service; it must stay {}",
                resume(old)
            ),
        ));
    }
    if errors.is_empty() { Ok(()) } else { Err(deny_fields(Why::Immutable, errors)) }
}

/// Denies an update that takes the marker of generated code from a Sandbox. Such code may have run in it, and its
/// volumes keep what that code wrote.
fn marker_stays(state: &ReviewState<'_>, kind: Kind) -> Result<(), Halt> {
    if kind != Kind::Sandbox || state.review.operation != Verb::Update {
        return Ok(());
    }
    let old = &state.review.old_object;
    if !marker_of_object(old).is_generated_code() || marker_of_object(&state.object).is_generated_code() {
        return Ok(());
    }
    let places = MARKER_PLACES.iter().filter(|place| Marker::at(old, place).is_generated_code());
    let errors = places.map(|place| FieldError {
        path: format!("{}[{}]", dotted(place), label::GENERATED_CODE),
        message:
            "must not be removed from a Sandbox, because generated code may have run in it; delete the Sandbox instead"
                .to_owned(),
    });
    Err(deny_fields(Why::Immutable, errors.collect()))
}

/// Denies the marker of generated code on a running Sandbox whose pod is not isolated, because the pod would keep running
/// without isolation.
fn marked_in_time(state: &ReviewState<'_>, kind: Kind) -> Result<(), Halt> {
    if kind != Kind::Sandbox || state.review.operation != Verb::Update {
        return Ok(());
    }
    let old = &state.review.old_object;
    if marker_of_object(old).is_generated_code() || !marker_of_object(&state.object).is_generated_code() {
        return Ok(());
    }
    let status = &old["status"];
    let class = status["runtimeClass"]["name"].as_str();
    let isolated = class.is_some_and(|name| state.context.classes.iter().any(|c| c.name == name && c.isolated));
    let runs = warnings::runs(old);
    let how = match &state.context.exposed_by {
        Some(part) => format!("with {part},"),
        None if runs && !isolated => "without isolation".to_owned(),
        None => return Ok(()),
    };
    Err(deny_fields(
        Why::NotIsolated,
        vec![FieldError::new(
            format!("metadata.labels[{}]", label::GENERATED_CODE),
            format!(
                "the pod of the Sandbox runs {how} and cannot be isolated later; suspend the Sandbox, set the label, and \
                 resume it"
            ),
        )],
    ))
}

/// Denies an object that the reconcile would not read, because it is too large. An update of such an object is admitted if
/// it hardly makes the object larger, so that a client can label it and remove its finalizers.
fn within_budget(state: &mut ReviewState<'_>) -> Result<(), Halt> {
    match budget::too_large_to_admit(&state.object) {
        Some(error) if budget::size(&state.object) <= budget::size(&state.review.old_object) + budget::SLACK => {
            state.warn(&format!("the object was invalid before this change: {error}"));
            Ok(())
        }
        Some(error) => Err(deny_fields(Why::Invalid, vec![error])),
        None => Ok(()),
    }
}

fn parses(state: &mut ReviewState<'_>, kind: Kind) -> Result<(), Halt> {
    let read = read(kind, &state.object);
    let old = match state.review.operation {
        Verb::Update => {
            let old = &state.review.old_object;
            problems(state, kind, &self::read(kind, old), old)
        }
        Verb::Create | Verb::Delete | Verb::Connect => Vec::new(),
    };
    // An object can have an error in each of its fields.
    let old: BTreeSet<FieldError> = old.into_iter().collect();
    let (existing, new): (Vec<_>, Vec<_>) =
        problems(state, kind, &read, &state.object).into_iter().partition(|error| old.contains(error));
    if !new.is_empty() {
        return Err(deny_fields(Why::Invalid, model::shortened(new)));
    }
    for error in model::shortened(existing) {
        state.warn(&format!("the object was invalid before this change: {error}"));
    }
    let (old, spec) = (&state.review.old_object["spec"], &state.object["spec"]);
    let bounded = spec["minReady"].is_number() || spec["maxReady"].is_number();
    if state.review.operation == Verb::Update && bounded && old["replicas"] != spec["replicas"] {
        state.warn(
            "spec.replicas has no effect while minReady or maxReady is set; change minReady and maxReady instead",
        );
    }
    if let Some(claim) = read.claim {
        // This is not a denial. Clients expect the problem in the status of the claim, where the template is known too.
        let of_template = state.context.claim_problems.iter().cloned();
        for error in errors_of_status(state, &claim).into_iter().chain(of_template) {
            state.warn(&format!("{error}; the claim will not become Ready"));
        }
    }
    Ok(())
}

/// The errors of an object: those of its parser, of the wishes about its idle policy, and of its isolation.
fn problems(state: &ReviewState<'_>, kind: Kind, read: &Read, object: &Value) -> Vec<FieldError> {
    let mut errors = read.errors.clone();
    if kind == Kind::Sandbox {
        // A wish that is not allowed has no effect in a reconcile, and nobody may write it.
        let annotations = string_map(object, "/metadata/annotations");
        errors.extend(Wishes::of(&annotations, &state.context.settings, state.review.now).errors);
    }
    errors.extend(isolation(state, object));
    errors
}

/// What keeps a claim from its Sandbox whatever its template contains: labels and annotations that it may not add to its
/// pod, and variables and volume claims that are not valid.
fn errors_of_status(state: &ReviewState<'_>, claim: &model::Claim) -> Vec<FieldError> {
    let checked = model::check_claim_metadata(claim, &model::Pod::default(), &state.context.settings);
    let kept = [&claim.env_errors, &claim.volume_errors].into_iter().flatten().flat_map(FieldErrors::as_slice);
    checked.err().map(FieldErrors::into_vec).unwrap_or_default().into_iter().chain(kept.cloned()).collect()
}

/// The path of a field from its JSON pointer.
fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// The isolation errors: a marker with an invalid value, and the fields that break the isolation of a workload that must
/// be isolated. A class that does not exist is not an error, because it may be created later. The pod waits for it.
fn isolation(state: &ReviewState<'_>, object: &Value) -> Vec<FieldError> {
    let mut errors = marker_errors(object);
    if must_be_isolated(state, object) {
        let isolation = state.context.isolation();
        for pod in PodFields::of_own(object) {
            errors.extend(isolation.judge(&pod, ClassRule::IfKnown, &isolation.what_to_set()));
        }
    }
    errors
}

/// Whether a review judges the isolation of a pod. An update may keep what the object had.
pub(super) fn judges_isolation(state: &ReviewState<'_>) -> bool {
    let (old, new) = (&state.review.old_object, &state.object);
    let same = |place: &str| old.pointer(place) == new.pointer(place);
    let keeps = state.review.operation == Verb::Update
        && ["/spec/podTemplate", "/spec/template", "/spec/runtimeClassName"].into_iter().all(same)
        && marker_of_object(old) == marker_of_object(new);
    state.review.entry != Entry::OwnedSandboxes
        && must_be_isolated(state, new)
        && !keeps
        && !PodFields::of_own(new).is_empty()
}

/// Whether the pods of an object have to be isolated.
fn must_be_isolated(state: &ReviewState<'_>, object: &Value) -> bool {
    marker_of_object(object).is_generated_code() || state.namespace_isolates()
}

/// The errors of the markers of an object that are neither `true` nor `false`.
#[must_use]
pub fn marker_errors(object: &Value) -> Vec<FieldError> {
    let unclear = MARKER_PLACES.iter().filter(|place| Marker::at(object, place) == Marker::Unclear);
    unclear.map(|place| pods::unclear(&dotted(place))).collect()
}

/// The errors for which a review denies an object without a look at the cluster: those of its size and of its parser. The
/// isolation of its pods is not among them.
#[must_use]
pub fn invalid_fields(kind: Kind, object: &Value) -> Vec<FieldError> {
    budget::too_large_to_admit(object).map_or_else(|| model::shortened(read(kind, object).errors), |error| vec![error])
}

/// The result of a parser: the errors, or the parts of the model that a review uses.
#[derive(Default)]
struct Read {
    errors: Vec<FieldError>,
    claim: Option<model::Claim>,
}

fn read(kind: Kind, object: &Value) -> Read {
    let read = match kind.class() {
        Class::Own(OwnKind::Sandbox) => parse(object, model::parse_sandbox).map(|sandbox| {
            // A schedule that is not valid has no effect in a reconcile, and nobody may write it.
            let errors = sandbox.schedule_errors().map(|errors| errors.as_slice().to_vec());
            Read { errors: errors.unwrap_or_default(), ..Read::default() }
        }),
        Class::Own(OwnKind::Template(shape)) => {
            parse(object, |_, spec| model::parse_template(shape, spec)).map(|template| {
                // The size depends neither on the name nor on the settings, which concern the default rules.
                let rules = manifest::network_policy_spec("", &template.network, &NetworkSettings::default());
                let errors = rules.as_ref().and_then(network_policy::too_large).into_iter().collect();
                Read { errors, ..Read::default() }
            })
        }
        Class::Own(OwnKind::Pool(shape)) => {
            parse(object, |_, spec| model::parse_pool(shape, spec)).map(|_| Read::default())
        }
        Class::Own(OwnKind::Claim(shape)) => parse(object, |_, spec| model::parse_claim(shape, spec))
            .map(|claim| Read { claim: Some(claim), ..Read::default() }),
        Class::Child(_) | Class::Cluster(_) => Ok(Read::default()),
    };
    read.unwrap_or_else(|errors| Read { errors: errors.into_vec(), ..Read::default() })
}

/// Parses an object to its wire type, and that to its model. The API server has checked the schema before the call.
fn parse<'a, W: Deserialize<'a>, M>(
    object: &'a Value,
    model: impl FnOnce(&ObjectMeta, &W) -> Result<M, FieldErrors>,
) -> Result<M, FieldErrors> {
    let of_meta = |e: serde_json::Error| FieldErrors::one("metadata", e.to_string());
    let meta = Option::<ObjectMeta>::deserialize(&object["metadata"]).map_err(of_meta)?.unwrap_or_default();
    let spec = serde_path_to_error::deserialize(&object["spec"]).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => "spec".to_owned(),
            path => format!("spec.{path}"),
        };
        FieldErrors::one(path, error.into_inner().to_string())
    })?;
    model(&meta, &spec)
}
