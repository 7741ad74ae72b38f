//! Decides about a template: the NetworkPolicy that its sandboxes share, and nothing else.

use paddock_api::SandboxTemplateStatus;
use paddock_api::kind::Kind;
use paddock_api::names::{condition, object as names, reason};
use serde_json::{Value, json};

use super::adopt::{adopt, adoptable};
use crate::conditions::{NewCondition, set_conditions, status_patch};
use crate::manifest;
use crate::object::{Body, Object};
use crate::plan::{Op, Plan, Reason};
use crate::snapshot::TemplateSnapshot;

pub(super) fn decide(snapshot: &TemplateSnapshot) -> Plan {
    let template = &snapshot.template;
    let mut plan = Plan::default();
    let Some(parsed) = template.template().filter(|_| template.meta.deletion_timestamp.is_none()) else { return plan };
    let mut problem = None;
    match &parsed.spec {
        Err(invalid) => problem = Some(format!("the template is not valid: {invalid}")),
        Ok(model) => {
            let wanted = manifest::network_policy_spec(&template.key.name, &model.network);
            let name = names::network_policy(&template.key.name);
            let key = template.key.sibling(Kind::NetworkPolicy, name.as_str());
            let op = match (&snapshot.network_policy, wanted) {
                (None, None) => None,
                (None, Some(spec)) => {
                    let mut body = manifest::owned(template, Kind::NetworkPolicy, &name, json!({}));
                    body["spec"] = spec;
                    Some(Op::create(key, Reason::NetworkPolicyMissing, body))
                }
                (Some(there), _) if there.meta.deletion_timestamp.is_some() => None,
                (Some(there), Some(_)) if adoptable(there) => Some(adopt(template, there, json!({}))),
                (Some(there), wanted) if !there.controlled_by(&template.meta.uid) => {
                    problem = wanted
                        .map(|_| format!("NetworkPolicy {name} exists and belongs to another owner, who keeps it"));
                    None
                }
                (Some(there), None) => Some(Op::delete(there, Reason::NetworkPolicyUnwanted)),
                (Some(there), Some(spec)) => (!holds(there, &spec))
                    .then(|| Op::patch(there, Reason::NetworkPolicyChanged, json!({ "spec": spec }))),
            };
            plan.steps.extend(op.map(|op| vec![op]));
        }
    }
    if let Some((_, refusal)) = snapshot.common.refusals.first() {
        problem = problem.or_else(|| Some(format!("the API server refused: {}", refusal.message)));
    }
    let generation = template.meta.generation;
    let ready = problem.map(|p| NewCondition::new(condition::READY, false, reason::RECONCILER_ERROR, p));
    let after = SandboxTemplateStatus {
        observed_generation: ready.is_some().then_some(generation),
        conditions: set_conditions(
            &parsed.status.conditions,
            ready.into_iter().collect(),
            generation,
            snapshot.common.now,
        ),
    };
    if let Some(body) = status_patch(&*parsed.status, &after) {
        plan.steps.push(vec![Op::patch_status(template, body)]);
        if !snapshot.common.refusals.is_empty() {
            plan.status_first(0);
        }
    }
    plan
}

fn holds(policy: &Object, spec: &Value) -> bool {
    if let Body::NetworkPolicy(actual) = &policy.body { covers(actual, spec) } else { false }
}

/// Whether the actual value contains the wanted one. Fields that only the actual value has were set by the API server.
fn covers(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => {
            wanted.iter().all(|(k, w)| covers(actual.get(k).unwrap_or(&Value::Null), w))
        }
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(a, w)| covers(a, w))
        }
        // The API server removes empty lists and objects.
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (Value::Null, Value::Object(wanted)) => wanted.is_empty(),
        (actual, wanted) => actual == wanted,
    }
}
