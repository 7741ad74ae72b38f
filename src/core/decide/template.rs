//! Decides about a template: the NetworkPolicy that its sandboxes share, and nothing else.
//!
//! The policy lasts for as long as the template or a Sandbox of it exists. The operator deletes it afterwards, because
//! no owner reference could express that.

use paddock_api::SandboxTemplateStatus;
use paddock_api::names::{annotation, condition, reason};
use serde_json::{Map, Value};

use super::adopt::adoptable;
use crate::conditions::{NewCondition, difference, set_conditions, status_patch};
use crate::manifest;
use crate::network_policy::{self as policy, Ownership, is_template, policy_key};
use crate::object::{JsonText, Object};
use crate::plan::{Event, Op, Plan, Reason};
use crate::snapshot::{PolicyUsers, TemplateSnapshot};

/// The NetworkPolicy that a template should have.
enum Wanted {
    /// A policy with this spec.
    Policy(Value),
    /// No policy.
    None,
    /// The policy stays as it is, and none is made.
    Keep,
}

/// A problem that the status of a template reports.
enum Problem {
    /// The template is wrong.
    Template(String),
    /// The NetworkPolicy is not in place, so the Sandboxes of the template wait.
    Policy(String),
}

pub(super) fn decide(snapshot: &TemplateSnapshot) -> Plan {
    let mut plan = Plan::default();
    let (wanted, of_template) = wanted(snapshot);
    let (op, of_policy) = match wanted {
        Wanted::Policy(spec) => write_policy(snapshot, &snapshot.selector.applied(&snapshot.key.name, spec)),
        Wanted::None => (delete_policy(snapshot), None),
        Wanted::Keep => (None, None),
    };
    let mut problem = of_template.or(of_policy);
    plan.steps.extend(op.map(|op| vec![op]));
    if let Some((_, refusal)) = snapshot.common.refusals.first() {
        problem = problem.or_else(|| Some(Problem::Policy(format!("the API server refused: {}", refusal.message))));
    }
    write_status(snapshot, problem, &mut plan);
    plan
}

/// The NetworkPolicy that the template should have, and the error of the template.
fn wanted(snapshot: &TemplateSnapshot) -> (Wanted, Option<Problem>) {
    let Some(template) = &snapshot.template else { return (last_made(snapshot), None) };
    match template.template().map(|t| &t.spec) {
        None => (Wanted::Keep, None),
        // The Sandboxes of an invalid template keep their policy, and the template reports the error.
        Some(Err(invalid)) => {
            let problem = Problem::Template(format!("the template is not valid: {invalid}"));
            (last_made(snapshot), Some(problem))
        }
        Some(Ok(model)) => {
            match manifest::network_policy_spec(&template.key.name, &model.network, &snapshot.common.settings.network) {
                None => (Wanted::None, None),
                Some(spec) => match policy::too_large(&spec) {
                    Some(problem) => (last_made(snapshot), Some(Problem::Policy(problem.to_string()))),
                    None => (Wanted::Policy(spec), None),
                },
            }
        }
    }
}

/// The NetworkPolicy of a template that was deleted or has no usable rules: the spec that was made last. If nobody knows
/// it, the Sandboxes of a template with a policy get one that allows nothing.
fn last_made(snapshot: &TemplateSnapshot) -> Wanted {
    let there = snapshot.network_policy.as_deref().filter(|p| ours(snapshot, p));
    // Users may write the annotation of the policy.
    let seen = || snapshot.last_spec.as_ref().map(JsonText::parse::<Value>);
    let last = || seen().or_else(|| there.and_then(policy::last_spec));
    match snapshot.users {
        PolicyUsers::None if snapshot.template.is_none() => Wanted::None,
        PolicyUsers::None | PolicyUsers::Others => there.and_then(|_| last()).map_or(Wanted::Keep, Wanted::Policy),
        PolicyUsers::Managed => {
            let closed = || manifest::closed_network_policy_spec(&snapshot.key.name);
            Wanted::Policy(last().unwrap_or_else(closed))
        }
    }
}

/// Whether the policy belongs to this template.
fn ours(snapshot: &TemplateSnapshot, policy: &Object) -> bool {
    match policy::ownership(policy, &snapshot.key) {
        Ownership::Ours => true,
        // The template that the policy was made for and its Sandboxes were deleted, so this template takes it over.
        Ownership::OfTemplate(_) => snapshot.template.is_some() && !snapshot.other_keeps_policy,
        Ownership::Foreign => false,
    }
}

/// Creates the policy, or changes it to the wanted spec.
fn write_policy(snapshot: &TemplateSnapshot, spec: &Value) -> (Option<Op>, Option<Problem>) {
    let key = policy_key(&snapshot.key);
    let Some(there) = snapshot.network_policy.as_deref() else {
        let body = manifest::network_policy(&snapshot.key, spec);
        return (Some(Op::create(key, Reason::NetworkPolicyMissing, body)), None);
    };
    if there.meta.deletion_timestamp.is_some() {
        return (None, None);
    }
    if !ours(snapshot, there) && !adoptable(there) {
        let problem = format!("NetworkPolicy {} exists and belongs to another owner, who keeps it", key.name);
        return (None, Some(Problem::Policy(problem)));
    }
    let patch = policy_patch(snapshot, there, spec);
    let reason = if ours(snapshot, there) { Reason::NetworkPolicyChanged } else { Reason::Adopted };
    ((!patch.is_empty()).then(|| Op::patch_if_unchanged(there, reason, patch.into())), None)
}

/// The merge patch that gives a policy our annotations and the wanted spec.
fn policy_patch(snapshot: &TemplateSnapshot, there: &Object, spec: &Value) -> Map<String, Value> {
    let mut metadata = Map::new();
    let wanted = manifest::network_policy_annotations(&snapshot.key, spec);
    let named = there.meta.annotations.get(annotation::POLICY_TEMPLATE) == wanted[annotation::POLICY_TEMPLATE].as_str();
    if !(named && policy::keeps_spec(there, spec)) {
        metadata.insert("annotations".to_owned(), wanted);
    }
    if let Some(owner) = there.owner_key().filter(|owner| is_template(owner.kind)) {
        // Earlier versions made the template the owner, and the garbage collector would delete the policy with it.
        debug_assert_eq!(owner.namespace, snapshot.key.namespace);
        metadata.insert("ownerReferences".to_owned(), manifest::other_owners(there));
    }
    let mut patch = Map::new();
    if !metadata.is_empty() {
        patch.insert("metadata".to_owned(), metadata.into());
    }
    if !policy::has_spec(there, spec) {
        let changed = match (policy::spec_of(there).as_ref(), spec) {
            (Some(Value::Object(actual)), Value::Object(wanted)) => difference(actual, wanted).into(),
            (_, wanted) => wanted.clone(),
        };
        patch.insert("spec".to_owned(), changed);
    }
    patch
}

/// Deletes the policy, if it belongs to this template.
fn delete_policy(snapshot: &TemplateSnapshot) -> Option<Op> {
    let there = snapshot.network_policy.as_deref()?;
    let deletes = there.meta.deletion_timestamp.is_none() && ours(snapshot, there);
    deletes.then(|| Op::delete(there, Reason::NetworkPolicyUnwanted))
}

fn write_status(snapshot: &TemplateSnapshot, problem: Option<Problem>, plan: &mut Plan) {
    let Some(template) = &snapshot.template else { return };
    let Some(parsed) = template.template() else { return };
    let generation = template.meta.generation;
    let note = problem.as_ref().and_then(|problem| match problem {
        Problem::Template(_) => None,
        Problem::Policy(problem) => Some(format!("The NetworkPolicy of this template is not in place: {problem}")),
    });
    let ready = problem.map(|(Problem::Template(p) | Problem::Policy(p))| {
        NewCondition::new(condition::READY, false, reason::RECONCILER_ERROR, p)
    });
    let bypass = parsed.spec.as_ref().ok().and_then(|model| {
        policy::bypass(&model.pod.spec).filter(|_| model.network != crate::model::NetworkPolicy::Unmanaged)
    });
    let after = SandboxTemplateStatus {
        observed_generation: (ready.is_some() || bypass.is_some()).then_some(generation),
        conditions: set_conditions(
            &parsed.status.conditions,
            ready.into_iter().collect(),
            generation,
            snapshot.common.now,
        ),
        network_policy_bypass: bypass.map(str::to_owned),
    };
    let Some(body) = status_patch(&*parsed.status, &after) else { return };
    if let Some(note) = note {
        plan.events.push(Event::warning(template, Reason::NetworkPolicyNotReady, note));
    }
    plan.steps.push(vec![Op::patch_status(template, body)]);
    if !snapshot.common.refusals.is_empty() {
        plan.status_first(0);
    }
}
