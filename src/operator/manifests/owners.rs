//! The policy for the children of Sandboxes: only somebody who could run an operator may make a Sandbox their controller,
//! take them away from a Sandbox, or keep them from the garbage collector by an owner.
//!
//! The operator takes a Pod or a volume claim for its own if a Sandbox controls it. Users who may edit a namespace may write
//! owner references. They could otherwise give a waiting Sandbox a pod with their code or a volume with their files, or take
//! a warm pod away, use it, and give it back. A pod without its Sandbox would also run on after the Sandbox expires, is
//! suspended or is deleted. The API server evaluates the policy itself, so it holds while the operator is away.

use paddock_api::kind::Kind;
use paddock_api::names::{group, label};
use serde_json::Value;

use super::admission_policies::{bound, controllers, is_of, operators, rule};
use super::common::Settings;

/// The name of the policy and of its binding, for an operator that serves all namespaces.
const NAME: &str = "paddock-owners";

/// The users of the garbage collector, which takes the children of a Sandbox away if the Sandbox is deleted with the policy
/// `Orphan`. Without `--use-service-account-credentials`, the controller manager has one user for all of its controllers.
const GARBAGE_COLLECTORS: [&str; 2] =
    ["system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"];

/// The policy and its binding, for an operator with the name of this user.
pub(super) fn policy(settings: &Settings, user: &str) -> Vec<Value> {
    let is_sandbox = is_of(group::AGENTS, Kind::Sandbox.name());
    let sandboxes = |of: &str| format!("{}.filter(o, {is_sandbox})", controllers(of));
    // Whether a list has a controller that the other one does not have.
    let lacks =
        |list: &str, other: &str| format!("{list}.exists(o, !{other}.exists(p, p.uid == o.uid && p.name == o.name))");
    let (new, old) = (sandboxes("object"), format!("(oldObject == null ? [] : {})", sandboxes("oldObject")));
    // Whether a child of a Sandbox has a reference that it did not have. The garbage collector keeps an object while one of
    // its owners exists, and while it does not know the version of one.
    let owners = |of: &str| format!("{of}.metadata.?ownerReferences.orValue([])");
    let adds = |old: &str| {
        format!(
            "{old}.size() > 0 && {}.exists(o, !{}.exists(p, p.uid == o.uid && p.name == o.name && p.kind == o.kind && \
             p.apiVersion == o.apiVersion))",
            owners("object"),
            owners("oldObject")
        )
    };
    let changed = format!("{} || {} || ({})", lacks(&new, &old), lacks(&old, &new), adds(&old));
    let mut conditions = vec![("changes-an-owner", changed)];
    if let Some(namespace) = &settings.served_namespace {
        conditions.push(("in-the-served-namespace", format!("request.namespace == {namespace:?}")));
    }
    let operators = operators(user, ".namespace(request.namespace)");
    let variables = vec![("new", new), ("old", old)];
    let given = (
        format!("!({}) || {operators}", lacks("variables.new", "variables.old")),
        format!(
            "only an operator of Sandboxes may make a Sandbox the controller of a Pod or a PersistentVolumeClaim: leave the \
             owner reference out, and offer the object to a stand-alone Sandbox by the label {}: \"true\"",
            label::ADOPTABLE
        ),
    );
    let taken = (
        format!(
            "!({}) || request.userInfo.username in {GARBAGE_COLLECTORS:?} || {operators}",
            lacks("variables.old", "variables.new")
        ),
        "only an operator of Sandboxes may take a Pod or a PersistentVolumeClaim away from its Sandbox: to keep the object, \
         delete the Sandbox with --cascade=orphan"
            .to_owned(),
    );
    let added = (
        format!("!({}) || {operators}", adds("variables.old")),
        "only an operator of Sandboxes may add an owner to a Pod or a PersistentVolumeClaim of a Sandbox, or change an \
         owner: the garbage collector would keep the object without its Sandbox"
            .to_owned(),
    );
    // The API server itself keeps the owner references in writes of the subresources of Pods.
    let resources = ["pods", "persistentvolumeclaims", "persistentvolumeclaims/status"];
    let rule = rule(&[""], &resources, &["CREATE", "UPDATE"]);
    bound(&settings.cluster_name(NAME), &[rule], conditions, variables, vec![given, taken, added]).to_vec()
}
