//! All ValidatingAdmissionPolicies of an operator. The operator reads them, and reports those that are not in force.

use serde_json::Value;

use super::admission_policies;
use super::common::Settings;
use super::leases;
use super::owners;

/// The ValidatingAdmissionPolicies and their bindings, for an operator with the name of this user. Each pair has one
/// name.
pub(crate) fn guards(settings: &Settings, user: &str) -> Vec<[Value; 2]> {
    let policies = [admission_policies::policies, leases::policy, owners::policy];
    let documents: Vec<Value> = policies.iter().flat_map(|policies| policies(settings, user)).collect();
    documents.as_chunks().0.to_vec()
}
