//! The policy for the Leases of the operator's names: only somebody who could run an operator may hold one.
//!
//! A leader does not act while somebody holds a Lease of one of its names in any namespace. Users who may edit a
//! namespace may create Leases in it, and could otherwise stop the operator for the whole cluster. The API server
//! evaluates the policy itself, so it holds while the operator is away.

use paddock_api::names::group;
use serde_json::{Value, json};

use super::common::{Settings, labelled};
use super::rbac::LEASES;

/// The name of the policy and of its binding, for an operator that serves all namespaces.
const NAME: &str = "paddock-leases";

/// The policy and its binding.
pub(super) fn policy(settings: &Settings) -> Vec<Value> {
    let name = settings.cluster_name(NAME);
    let mut conditions =
        vec![json!({ "name": "of-an-operator", "expression": format!("object.metadata.name in {LEASES:?}") })];
    if settings.served_namespace.is_some() {
        // Operators for single namespaces exist side by side. Each one's policy is about its own Leases.
        let expression = format!("request.namespace == {:?}", settings.namespace);
        conditions.push(json!({ "name": "in-the-operators-namespace", "expression": expression }));
    }
    // An operator for a single namespace has no rights in the others.
    let operator = format!("request.userInfo.username == {:?}", settings.user());
    // Every other operator of Sandboxes, also upstream's, writes the status of Sandboxes in all namespaces.
    let may = |verb: &str| {
        format!(
            "authorizer.group({:?}).resource('sandboxes').subresource('status').check({verb:?}).allowed()",
            group::AGENTS
        )
    };
    vec![
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": labelled(&name, None),
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": ["coordination.k8s.io"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["leases"],
                }] },
                "matchConditions": conditions,
                "validations": [{
                    "expression": format!("{operator} || {} || {}", may("update"), may("patch")),
                    "message": "only an operator of Sandboxes may hold this Lease: the user must be allowed to update \
                                sandboxes/status in all namespaces",
                    "reason": "Forbidden",
                }],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": labelled(&name, None),
            "spec": { "policyName": name, "validationActions": ["Deny"] },
        }),
    ]
}
