//! The operator's rights: reading the kinds of the table in `paddock-api`, and the writes that plans contain.
//!
//! [`writes`] names the verbs of the operations that plans contain, for each kind. A test compares it with the plans of
//! all scenarios, so the operator gets no right that it does not use. Each part of the operator that can be switched off
//! has a role of its own: the kinds of each API shape, the data of claims, the throttle of idle Sandboxes, the CPU use of pods,
//! the questions to the gateways, the credentials for registries, the protection of the metrics, and the webhook. Plugins and policies are not
//! reconciled, so their kinds are not in the table.

use std::borrow::Cow;

use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use paddock_api::kind::{ApiShape, ChildKind, Class, Kind, OwnKind};
use paddock_api::names::{group, object, right};
use paddock_api::{SandboxPlugin, SandboxPolicy, open_connections, pod_metrics};
use serde_json::{Value, json};

use super::common::{CONFIGURATIONS, POLICIES, Settings, Webhook, labelled};
use super::guards::guards;
use super::isolation::{IsolationPolicies, isolation_guards};
use crate::config::LEASES;
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

impl Write {
    /// The verb of a rule for the object itself. `None` for a write of a subresource.
    fn verb(self) -> Option<&'static str> {
        match self {
            Write::Create => Some("create"),
            Write::Patch => Some("patch"),
            Write::Delete => Some("delete"),
            Write::PatchStatus => None,
        }
    }
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

/// Whether only pools, claims and templates cause a write. An operator that serves Sandboxes alone never makes it.
fn is_of_extensions(kind: Kind, write: Write) -> bool {
    match kind.class() {
        // Users make the other Sandboxes, and the operator changes and deletes them too.
        Class::Own(OwnKind::Sandbox) => write == Write::Create,
        Class::Child(ChildKind::NetworkPolicy) => true,
        Class::Own(OwnKind::Claim(_) | OwnKind::Pool(_) | OwnKind::Template(_))
        | Class::Child(ChildKind::Pod | ChildKind::Service | ChildKind::VolumeClaim | ChildKind::EndpointSlice)
        | Class::Cluster(_) => false,
    }
}

/// The objects of a role.
pub(super) enum Scope<'a> {
    /// Those of the whole cluster: a ClusterRole.
    Cluster,
    /// Those of one namespace: a Role.
    Namespace(&'a str),
}

/// One role of a process. An overlay that does not need a role deletes it with its binding.
pub(super) struct Grant<'a> {
    pub(super) name: String,
    pub(super) scope: Scope<'a>,
    pub(super) rules: Vec<PolicyRule>,
}

/// The objects that define the operator's account and rights, and the roles for users.
#[must_use]
pub fn rbac(settings: &Settings) -> Vec<Value> {
    let account = labelled(object::OPERATOR_DEPLOYMENT, Some(&settings.namespace));
    let documents = |grant| documents(grant, settings, object::OPERATOR_DEPLOYMENT, labelled);
    let granted = grants(settings).into_iter().flat_map(documents);
    let changes = ["create", "delete", "deletecollection", "patch", "update"];
    let viewers = for_users("paddock-view", &["admin", "edit", "view"]);
    let uses =
        || rule(group::AGENTS, &[&format!("{}/{}", right::USE_RESOURCE, right::USE_SUBRESOURCE)], &[right::USE_VERB]);
    let mut edits = user_rules(&changes);
    edits.push(uses());
    let for_users = [
        // For the ServiceAccount of Prometheus.
        role("ClusterRole", labelled("paddock-metrics-reader", None), path_rules("/metrics")),
        role("ClusterRole", viewers, user_rules(&["get", "list", "watch"])),
        role("ClusterRole", for_users("paddock-edit", &["admin", "edit"]), edits),
        // The account of clients has this right and no other one.
        role("ClusterRole", labelled(object::USER_ROLE, None), vec![uses()]),
    ];
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": account });
    let unbound = delivers_claim_data(settings).then(|| claim_secrets_role(settings));
    std::iter::once(account).chain(granted).chain(unbound).chain(for_users).collect()
}

/// The role of a grant, and its binding to a ServiceAccount.
pub(super) fn documents(
    grant: Grant<'_>,
    settings: &Settings,
    account: &str,
    labelled: fn(&str, Option<&str>) -> ObjectMeta,
) -> [Value; 2] {
    let Grant { name, scope, rules } = grant;
    let (kind, namespace, name) = match scope {
        Scope::Cluster => ("ClusterRole", None, settings.cluster_name(&name)),
        Scope::Namespace(namespace) => ("Role", Some(namespace), name),
    };
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": format!("{kind}Binding"),
        "metadata": labelled(&name, namespace),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": settings.namespace }],
    });
    [role(kind, labelled(&name, namespace), rules), binding]
}

fn role(kind: &str, metadata: ObjectMeta, rules: Vec<PolicyRule>) -> Value {
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules })
}

/// The operator's roles: one for each part of it that can be switched off, and for each scope.
fn grants(settings: &Settings) -> Vec<Grant<'_>> {
    let grant =
        |suffix: &str, scope, rules| Grant { name: format!("{}{suffix}", object::OPERATOR_DEPLOYMENT), scope, rules };
    let served = || settings.served_namespace.as_deref().map_or(Scope::Cluster, Scope::Namespace);
    let own = || Scope::Namespace(&settings.namespace);
    let (mut cluster_wide, mut of_namespaces) = (Vec::new(), Vec::new());
    for kind in Kind::ALL.into_iter().filter(|kind| kind.shape().is_none()) {
        let rules = if kind.namespaced() { &mut of_namespaces } else { &mut cluster_wide };
        rules.extend(of_kind(kind, |write| !is_of_extensions(kind, write)));
    }
    // The flag --isolation-policies needs the policies about isolation, which exist once in a cluster.
    let isolation = isolation_guards(&IsolationPolicies::default(), "");
    cluster_wide.push(guard_rule(&[guards(settings, &settings.user()), isolation].concat()));
    cluster_wide.extend(plugin_rules());
    of_namespaces.push(event_rule());
    let mut grants = match served() {
        Scope::Cluster => {
            cluster_wide.append(&mut of_namespaces);
            // A leader does not act while somebody else holds a Lease of one of its names in any namespace.
            cluster_wide.push(named("coordination.k8s.io", &["leases"], &LEASES, &["list", "watch"]));
            vec![grant("", Scope::Cluster, cluster_wide)]
        }
        Scope::Namespace(_) => {
            vec![grant("", Scope::Cluster, cluster_wide), grant("-sandboxes", served(), of_namespaces)]
        }
    };
    for (shape, suffix) in [(ApiShape::Upstream, "-extensions"), (ApiShape::Seed, "-seed")] {
        if settings.extensions && settings.shapes.contains(shape) {
            grants.push(grant(suffix, served(), extension_rules(shape)));
        }
    }
    if delivers_claim_data(settings) {
        grants.push(grant("-claim-data", served(), claim_data_rules(settings)));
    }
    if settings.throttle {
        grants.push(grant("-throttle", served(), throttle_rules()));
    }
    if settings.cpu_metrics {
        grants.push(grant("-cpu-metrics", served(), cpu_metrics_rules()));
    }
    if settings.gateway {
        // The gateways ask for the right.
        grants.push(grant("-connections", Scope::Cluster, path_rules(open_connections::PATH)));
    }
    if !settings.plugin_pull_secrets.is_empty() {
        grants.push(grant("-plugin-registry", own(), vec![pull_secret_rule(settings)]));
    }
    let mut of_process = lease_rules();
    of_process.push(component_rule());
    // The replicas of the operator. An operator reads every Pod of the namespaces that it serves anyway.
    if settings.served_namespace.as_ref().is_some_and(|served| *served != settings.namespace) {
        of_process.push(rule(Kind::Pod.group(), &[Kind::Pod.plural()], &["list", "watch"]));
        if settings.gateway {
            // So are the EndpointSlices of the gateways.
            of_process.push(rule(Kind::EndpointSlice.group(), &[Kind::EndpointSlice.plural()], &["list"]));
        }
    }
    grants.push(grant("", own(), of_process));
    if settings.secures_metrics() {
        // The readers of the metrics.
        grants.push(grant("-metrics", Scope::Cluster, review_rules()));
    }
    match settings.webhook {
        Webhook::Injected | Webhook::Owned { .. } => {
            let mut rules = configuration_rules(settings);
            if let Webhook::Owned { .. } = settings.webhook {
                // A rule for `create` cannot name the object. The admission policy does.
                rules.push(rule("admissionregistration.k8s.io", &CONFIGURATIONS, &["create"]));
            }
            grants.push(grant("-webhook", Scope::Cluster, rules));
            grants.push(grant("-webhook", own(), certificate_rules()));
        }
        // Another program issues the certificate and maintains the configurations. The operator compares them.
        Webhook::Mounted => {
            let compared = named("admissionregistration.k8s.io", &CONFIGURATIONS, &[CONFIGURATION], &["get"]);
            grants.push(grant("-webhook", Scope::Cluster, vec![compared]));
        }
        Webhook::Off => {}
    }
    // The webhook configurations are cluster-scoped, so Events about them are in this namespace.
    if settings.served_namespace.is_some() && settings.webhook != Webhook::Off {
        grants.push(grant("-webhook-events", Scope::Namespace(CLUSTER_EVENTS), vec![event_rule()]));
    }
    // So are plugins and policies. Operators for single namespaces exist side by side, each with a role of its own.
    if let Some(served) = &settings.served_namespace {
        grants.push(grant(&format!("-plugin-events.{served}"), Scope::Namespace(CLUSTER_EVENTS), vec![event_rule()]));
    }
    grants
}

/// The right to read the policies of a process, because it reports those that are not in force.
pub(super) fn guard_rule(guards: &[[Value; 2]]) -> PolicyRule {
    let names: Vec<&str> = guards.iter().filter_map(|[policy, _]| policy["metadata"]["name"].as_str()).collect();
    named("admissionregistration.k8s.io", &POLICIES, &names, &["get"])
}

/// The rights to read plugins and policies, and to write their status.
fn plugin_rules() -> [PolicyRule; 2] {
    let plurals = [SandboxPlugin::plural(&()), SandboxPolicy::plural(&())];
    let [statuses, objects] =
        [plurals.each_ref().map(|plural| format!("{plural}/status")), plurals.map(Cow::into_owned)];
    let rule =
        |resources: &[String; 2], verbs: &[&str]| rule(group::POLICY, &resources.each_ref().map(String::as_str), verbs);
    [rule(&objects, &["list", "watch"]), rule(&statuses, &["patch"])]
}

/// The right to read the ConfigMaps with the components of plugins. It is for the operator's own namespace alone: whoever
/// writes a component decides about the Sandboxes of all namespaces.
fn component_rule() -> PolicyRule {
    rule("", &["configmaps"], &["list", "watch"])
}

/// The right to read the credentials for registries: these Secrets of the operator's own namespace, and no other ones.
fn pull_secret_rule(settings: &Settings) -> PolicyRule {
    let names: Vec<&str> = settings.plugin_pull_secrets.iter().map(String::as_str).collect();
    named("", &["secrets"], &names, &["get"])
}

/// The right to report Events.
fn event_rule() -> PolicyRule {
    rule("events.k8s.io", &["events"], &["create", "patch"])
}

/// The rights that the templates, pools and claims of a shape need.
fn extension_rules(shape: ApiShape) -> Vec<PolicyRule> {
    let of_shape = Kind::ALL.into_iter().filter(|kind| kind.shape() == Some(shape));
    let mut rules: Vec<PolicyRule> = of_shape.flat_map(|kind| of_kind(kind, |_| true)).collect();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.shape().is_none()) {
        let verbs = verbs(kind, |write| is_of_extensions(kind, write));
        if !verbs.is_empty() {
            rules.push(rule(kind.group(), &[kind.plural()], &verbs));
        }
    }
    rules
}

/// Whether the operator has the rights to deliver the data of claims.
fn delivers_claim_data(settings: &Settings) -> bool {
    settings.claim_data && settings.extensions
}

/// The rights to deliver the data of claims: to read the claim, and to create the Secret of a pod. The operator deletes
/// such a Secret only to create it again, and it reads none. The admission policy limits both to its own.
fn claim_data_rules(settings: &Settings) -> Vec<PolicyRule> {
    let shapes = [ApiShape::Upstream, ApiShape::Seed].into_iter().filter(|shape| settings.shapes.contains(*shape));
    let claims = shapes.map(|shape| match shape {
        ApiShape::Upstream => Kind::Claim,
        ApiShape::Seed => Kind::SeedClaim,
    });
    let mut rules: Vec<PolicyRule> = claims.map(|kind| rule(kind.group(), &[kind.plural()], &["get"])).collect();
    rules.push(rule("", &["secrets"], &["create", "delete"]));
    rules
}

/// The right to resize pods in place. The admission policy limits it to the CPU of the pods of Sandboxes.
fn throttle_rules() -> Vec<PolicyRule> {
    vec![rule("", &["pods/resize"], &["patch"])]
}

/// The right to read the CPU use of pods. The API has no watch.
fn cpu_metrics_rules() -> Vec<PolicyRule> {
    vec![rule(pod_metrics::GROUP, &[pod_metrics::RESOURCE], &["list"])]
}

/// The role for Secrets to which claims refer. Nothing binds it for the whole cluster: a RoleBinding in a namespace lets
/// the operator read the Secrets of that namespace.
fn claim_secrets_role(settings: &Settings) -> Value {
    let name = settings.cluster_name(&format!("{}-claim-secrets", object::OPERATOR_DEPLOYMENT));
    role("ClusterRole", labelled(&name, None), vec![rule("", &["secrets"], &["get"])])
}

/// The namespace of the Events about objects without a namespace.
const CLUSTER_EVENTS: &str = "default";

/// The rights to keep the webhook configurations.
fn configuration_rules(settings: &Settings) -> Vec<PolicyRule> {
    vec![
        // The namespace is the owner of the webhook configurations.
        named("", &["namespaces"], &[&settings.namespace], &["get"]),
        named("admissionregistration.k8s.io", &CONFIGURATIONS, &[CONFIGURATION], &["delete", "get", "patch"]),
    ]
}

/// The rights to keep the certificate, in the operator's namespace.
fn certificate_rules() -> Vec<PolicyRule> {
    vec![
        // A rule for `create` cannot name the object. The admission policy does.
        rule("", &["secrets"], &["create"]),
        named("", &["secrets"], &[SECRET], &["get", "update"]),
        // At a shutdown the operator removes the webhook configurations if the Deployment that owns its pod is gone. The
        // owners say which Deployment that is.
        rule("", &["pods"], &["get"]),
        rule("apps", &["deployments", "replicasets"], &["get"]),
    ]
}

/// The API server authenticates and authorizes clients. Neither review stores anything.
pub(super) fn review_rules() -> Vec<PolicyRule> {
    vec![
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
    ]
}

/// The verbs on the object itself for those writes of a kind that `granted` selects.
fn verbs(kind: Kind, granted: impl Fn(Write) -> bool) -> Vec<&'static str> {
    writes(kind).iter().copied().filter(|write| granted(*write)).filter_map(Write::verb).collect()
}

/// The rights to read a kind, and to make those writes of it that `granted` selects.
fn of_kind(kind: Kind, granted: impl Fn(Write) -> bool) -> Vec<PolicyRule> {
    let mut verbs = verbs(kind, &granted);
    verbs.extend(["list", "watch"]);
    // Before a Sandbox adopts an object, the operator reads the Sandbox anew.
    verbs.extend((kind.own() == Some(OwnKind::Sandbox)).then_some("get"));
    verbs.sort_unstable();
    let mut rules = vec![rule(kind.group(), &[kind.plural()], &verbs)];
    if writes(kind).contains(&Write::PatchStatus) && granted(Write::PatchStatus) {
        rules.push(rule(kind.group(), &[&format!("{}/status", kind.plural())], &["patch"]));
    }
    // Objects of these kinds are named as owners with `blockOwnerDeletion`. Some API servers then demand the right to
    // write the owner's finalizers. The NetworkPolicy of a template outlives the template, so it has no owner.
    if kind.own().is_some_and(|own| !matches!(own, OwnKind::Template(_))) {
        rules.push(rule(kind.group(), &[&format!("{}/finalizers", kind.plural())], &["update"]));
    }
    rules
}

/// The rights of the leader election, in the operator's namespace.
fn lease_rules() -> Vec<PolicyRule> {
    vec![
        // A rule for `create` cannot name the object. The admission policy does.
        rule("coordination.k8s.io", &["leases"], &["create"]),
        named("coordination.k8s.io", &["leases"], &LEASES, &["get", "update"]),
    ]
}

/// The right to read a path of a process, which is protected like a path of the API server.
fn path_rules(path: &str) -> Vec<PolicyRule> {
    vec![PolicyRule {
        non_resource_urls: Some(vec![path.to_owned()]),
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

pub(super) fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

fn named(group: &str, resources: &[&str], names: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        resource_names: Some(names.iter().map(|n| (*n).to_owned()).collect()),
        ..rule(group, resources, verbs)
    }
}
