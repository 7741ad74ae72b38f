//! Decides about a template: the NetworkPolicy that its sandboxes share, and nothing else.
//!
//! The policy lasts for as long as the template or a Sandbox of it exists. The operator deletes it afterwards, because
//! no owner reference could express that.

use paddock_api::SandboxTemplateStatus;
use paddock_api::names::{condition, reason};
use serde_json::{Map, Value};

use super::adopt::adoptable;
use crate::conditions::{NewCondition, difference, set_conditions, status_patch};
use crate::manifest;
use crate::network_policy::{self as policy, Ownership, is_template, policy_key};
use crate::object::{OF_POLICY, Object};
use crate::plan::{Event, Op, Plan, Reason};
use crate::snapshot::{PolicyUsers, TemplateSnapshot};

/// The NetworkPolicy that a template should have.
enum Wanted {
    /// A policy with this spec.
    Policy(Value),
    /// No policy.
    None,
    /// The policy stays as it is, and none is made. If there is a problem, the text says it.
    Keep(Option<Problem>),
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
    let (op, mut problem) = match wanted(snapshot) {
        Wanted::Policy(spec) => write_policy(snapshot, &spec),
        Wanted::None => (delete_policy(snapshot), None),
        Wanted::Keep(problem) => (None, problem),
    };
    plan.steps.extend(op.map(|op| vec![op]));
    if let Some((_, refusal)) = snapshot.common.refusals.first() {
        problem = problem.or_else(|| Some(Problem::Policy(format!("the API server refused: {}", refusal.message))));
    }
    write_status(snapshot, problem, &mut plan);
    plan
}

fn wanted(snapshot: &TemplateSnapshot) -> Wanted {
    let there = snapshot.network_policy.as_deref().filter(|p| ours(snapshot, p));
    let last = || there.and_then(policy::last_spec).or_else(|| snapshot.last_spec.as_deref().cloned());
    let Some(template) = &snapshot.template else {
        return match snapshot.users {
            PolicyUsers::None => Wanted::None,
            PolicyUsers::Managed => {
                let closed = || manifest::closed_network_policy_spec(&snapshot.key.name);
                Wanted::Policy(last().unwrap_or_else(closed))
            }
            PolicyUsers::Others => there.and_then(policy::last_spec).map_or(Wanted::Keep(None), Wanted::Policy),
        };
    };
    match template.template().map(|t| &t.spec) {
        None => Wanted::Keep(None),
        // The Sandboxes of an invalid template keep their policy, and the template reports the error.
        Some(Err(invalid)) => Wanted::Keep(Some(Problem::Template(format!("the template is not valid: {invalid}")))),
        Some(Ok(model)) => {
            match manifest::network_policy_spec(&template.key.name, &model.network, &snapshot.common.settings.network) {
                None => Wanted::None,
                Some(spec) => match policy::too_large(&spec) {
                    Some(problem) => Wanted::Keep(Some(Problem::Policy(problem))),
                    None => Wanted::Policy(spec),
                },
            }
        }
    }
}

/// Whether the policy belongs to this template.
fn ours(snapshot: &TemplateSnapshot, policy: &Object) -> bool {
    match policy::ownership(policy, &snapshot.key) {
        Ownership::Ours => true,
        // The template that the policy belongs to was deleted, and the template of the same name takes it over.
        Ownership::OfTemplate(_) => snapshot.template.is_some() && !snapshot.other_template_exists,
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
    let damaged = OF_POLICY.into_iter().any(|name| there.meta.annotations.get(name) != wanted[name].as_str());
    if damaged {
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
