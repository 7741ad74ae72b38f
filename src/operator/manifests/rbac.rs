//! The operator's rights: reading the kinds of the table in `paddock-api`, and the writes that plans contain.
//!
//! [`writes`] names the verbs of the operations that plans contain, for each kind. A test compares it with the plans of
//! all scenarios, so the operator gets no right that it does not use.

use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::kind::{ChildKind, Class, Kind, OwnKind};
use paddock_api::names::{group, object};
use serde_json::{Value, json};

use super::common::{Settings, labelled};
use crate::config::OWN_LEASE;
use crate::webhook::{CONFIGURATION, SECRET};

/// A verb that plans use on objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Write {
    /// A POST request.
    Create,
    /// A PATCH request for the object.
    Patch,
    /// A PATCH request for the `status` subresource.
    PatchStatus,
    /// A DELETE request.
    Delete,
}

/// The verbs that plans use on objects of a kind.
#[must_use]
pub fn writes(kind: Kind) -> &'static [Write] {
    match kind.class() {
        // Pools and claims create Sandboxes. Sandboxes are adopted and suspended, and they are deleted when they are
        // surplus or expired.
        Class::Own(OwnKind::Sandbox) => &[Write::Create, Write::Patch, Write::PatchStatus, Write::Delete],
        // A claim gets an annotation with the Sandbox that it takes. An expired claim is deleted.
        Class::Own(OwnKind::Claim(_)) => &[Write::Patch, Write::PatchStatus, Write::Delete],
        Class::Own(OwnKind::Pool(_) | OwnKind::Template(_)) => &[Write::PatchStatus],
        Class::Child(ChildKind::Pod | ChildKind::Service | ChildKind::NetworkPolicy | ChildKind::EndpointSlice) => {
            &[Write::Create, Write::Patch, Write::Delete]
        }
        // The garbage collector deletes these objects together with their Sandbox, and never earlier.
        Class::Child(ChildKind::VolumeClaim) => &[Write::Create, Write::Patch],
        Class::Cluster(_) => &[],
    }
}

/// The objects that define the operator's account and rights.
#[must_use]
pub fn rbac(settings: &Settings) -> Vec<Value> {
    let (name, namespace) = (object::OPERATOR_DEPLOYMENT, settings.namespace.as_str());
    let role = |kind: &str, metadata: ObjectMeta, rules: Vec<PolicyRule>| json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules });
    let binding = |kind: &str, metadata: ObjectMeta, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }],
        })
    };
    let own = || labelled(name, Some(namespace));
    let viewers = for_users("paddock-view", &["admin", "edit", "view"]);
    let editors = for_users("paddock-edit", &["admin", "edit"]);
    let changes = ["create", "delete", "deletecollection", "patch", "update"];
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": own() }),
        role("ClusterRole", labelled(name, None), cluster_rules(settings)),
        binding("ClusterRoleBinding", labelled(name, None), "ClusterRole"),
        role("Role", own(), own_rules()),
        binding("RoleBinding", own(), "Role"),
        role("ClusterRole", labelled("paddock-metrics-reader", None), metrics_rules()),
        role("ClusterRole", viewers, user_rules(&["get", "list", "watch"])),
        role("ClusterRole", editors, user_rules(&changes)),
    ]
}

/// The operator's rights in the whole cluster.
fn cluster_rules(settings: &Settings) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Kind::ALL.into_iter().flat_map(of_kind).collect();
    rules.push(rule("events.k8s.io", &["events"], &["create", "patch"]));
    // The namespace is the owner of the webhook configurations.
    rules.push(named("", "namespaces", &[&settings.namespace], &["get"]));
    // The API server authenticates and authorizes the readers of the metrics. Neither review stores anything.
    rules.push(rule("authentication.k8s.io", &["tokenreviews"], &["create"]));
    rules.push(rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]));
    // A rule for `create` cannot name the object. This grants nothing beyond `patch`, because a right to change the
    // rules of one configuration is already a right to be asked about every object.
    let configurations = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
    rules.push(rule("admissionregistration.k8s.io", &configurations, &["create"]));
    rules.push(PolicyRule {
        resource_names: Some(vec![CONFIGURATION.to_owned()]),
        ..rule("admissionregistration.k8s.io", &configurations, &["delete", "get", "patch"])
    });
    rules
}

fn of_kind(kind: Kind) -> Vec<PolicyRule> {
    let mut verbs = vec!["list", "watch"];
    let mut rules = Vec::new();
    for write in writes(kind) {
        match write {
            Write::Create => verbs.push("create"),
            Write::Patch => verbs.push("patch"),
            Write::Delete => verbs.push("delete"),
            Write::PatchStatus => {
                rules.push(rule(kind.group(), &[&format!("{}/status", kind.plural())], &["patch"]));
            }
        }
    }
    verbs.sort_unstable();
    rules.insert(0, rule(kind.group(), &[kind.plural()], &verbs));
    // Objects of these kinds are named as owners with `blockOwnerDeletion`. Some API servers then demand the right to
    // write the owner's finalizers. The NetworkPolicy of a template outlives the template, so it has no owner.
    if kind.own().is_some_and(|own| !matches!(own, OwnKind::Template(_))) {
        rules.push(rule(kind.group(), &[&format!("{}/finalizers", kind.plural())], &["update"]));
    }
    rules
}

/// The operator's rights in its own namespace.
fn own_rules() -> Vec<PolicyRule> {
    vec![
        // A rule for `create` cannot name the object.
        rule("coordination.k8s.io", &["leases"], &["create"]),
        named("coordination.k8s.io", "leases", &[OWN_LEASE, object::UPSTREAM_LEASE], &["get", "update"]),
        rule("", &["secrets"], &["create"]),
        named("", "secrets", &[SECRET], &["get", "update"]),
        // At a shutdown the operator removes the webhook configurations if its Deployment does not exist any more.
        named("apps", "deployments", &[object::OPERATOR_DEPLOYMENT], &["get"]),
    ]
}

/// The right to read the metrics, for the ServiceAccount of Prometheus.
fn metrics_rules() -> Vec<PolicyRule> {
    vec![PolicyRule {
        non_resource_urls: Some(vec!["/metrics".to_owned()]),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    }]
}

/// Rights on the kinds that Paddock serves, for users with the cluster's usual roles.
fn for_users(name: &str, roles: &[&str]) -> ObjectMeta {
    let mut metadata = labelled(name, None);
    let labels = roles.iter().map(|role| format!("rbac.authorization.k8s.io/aggregate-to-{role}"));
    metadata.labels.get_or_insert_default().extend(labels.map(|label| (label, "true".to_owned())));
    metadata
}

/// The rules of such a role.
fn user_rules(verbs: &[&str]) -> Vec<PolicyRule> {
    [group::AGENTS, group::EXTENSIONS]
        .map(|of| {
            let kinds = Kind::OWN.into_iter().filter(|k| k.group() == of);
            let mut resources: Vec<String> = kinds.clone().map(|kind| kind.plural().to_owned()).collect();
            resources.extend(kinds.filter(|kind| kind.scales()).map(|kind| format!("{}/scale", kind.plural())));
            resources.sort_unstable();
            rule(of, &resources.iter().map(String::as_str).collect::<Vec<_>>(), verbs)
        })
        .to_vec()
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

fn named(group: &str, resource: &str, names: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        resource_names: Some(names.iter().map(|n| (*n).to_owned()).collect()),
        ..rule(group, &[resource], verbs)
    }
}
