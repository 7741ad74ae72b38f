//! The policy for the children of Sandboxes: only somebody who could run an operator may make a Sandbox their controller.
//!
//! The operator takes a Pod or a volume claim for its own if a Sandbox controls it. Users who may edit a namespace may write
//! owner references. They could otherwise give a waiting Sandbox a pod with their code or a volume with their files, or take
//! a warm pod away, use it, and give it back. The API server evaluates the policy itself, so it holds while the operator is
//! away.

use paddock_api::kind::Kind;
use paddock_api::names::{group, label};
use serde_json::Value;

use super::admission_policies::{bound, controllers, is_of, operators, rule};
use super::common::Settings;

/// The name of the policy and of its binding, for an operator that serves all namespaces.
const NAME: &str = "paddock-owners";

/// The policy and its binding, for an operator with the name of this user.
pub(super) fn policy(settings: &Settings, user: &str) -> Vec<Value> {
    let is_sandbox = is_of(group::AGENTS, Kind::Sandbox.name());
    let sandboxes = |of: &str| format!("{}.filter(o, {is_sandbox})", controllers(of));
    let known = format!("{}.exists(p, p.uid == o.uid && p.name == o.name)", sandboxes("oldObject"));
    let given = format!("{}.exists(o, !(oldObject != null && {known}))", sandboxes("object"));
    let mut conditions = vec![("given-to-a-sandbox", given)];
    if let Some(namespace) = &settings.served_namespace {
        conditions.push(("in-the-served-namespace", format!("request.namespace == {namespace:?}")));
    }
    let validation = (
        operators(user, ".namespace(request.namespace)"),
        format!(
            "only an operator of Sandboxes may make a Sandbox the controller of a Pod or a PersistentVolumeClaim: leave the \
             owner reference out, and offer the object to a stand-alone Sandbox by the label {}: \"true\"",
            label::ADOPTABLE
        ),
    );
    // The API server itself keeps the owner references in writes of the subresources of Pods.
    let resources = ["pods", "persistentvolumeclaims", "persistentvolumeclaims/status"];
    let rule = rule(&[""], &resources, &["CREATE", "UPDATE"]);
    bound(&settings.cluster_name(NAME), &[rule], conditions, vec![], vec![validation]).to_vec()
}
