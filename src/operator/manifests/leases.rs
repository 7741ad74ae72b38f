//! The policy for the Leases of the operator's names: only somebody who could run an operator may hold one.
//!
//! A leader does not act while somebody holds a Lease of one of its names in any namespace. Users who may edit a
//! namespace may create Leases in it, and could otherwise stop the operator for the whole cluster. The API server
//! evaluates the policy itself, so it holds while the operator is away.

use serde_json::Value;

use super::admission_policies::{bound, operators, rule};
use super::common::Settings;
use crate::config::LEASES;

/// The name of the policy and of its binding, for an operator that serves all namespaces.
const NAME: &str = "paddock-leases";

/// The policy and its binding, for an operator with the name of this user.
pub(super) fn policy(settings: &Settings, user: &str) -> Vec<Value> {
    let mut conditions = vec![("of-an-operator", format!("object.metadata.name in {LEASES:?}"))];
    if settings.served_namespace.is_some() {
        // Operators for single namespaces exist side by side. Each one's policy is about its own Leases.
        conditions.push(("in-the-operators-namespace", format!("request.namespace == {:?}", settings.namespace)));
    }
    // The user is named, because an operator for a single namespace has no rights in the others.
    let validation = (
        operators(user, ""),
        "only an operator of Sandboxes may hold this Lease: the user must be allowed to update sandboxes/status in all \
         namespaces"
            .to_owned(),
    );
    let rule = rule(&["coordination.k8s.io"], &["leases"], &["CREATE", "UPDATE"]);
    bound(&settings.cluster_name(NAME), &[rule], conditions, vec![], vec![validation]).to_vec()
}
