//! The ValidatingAdmissionPolicies that limit the operator's own credential beyond RBAC.
//!
//! RBAC grants a verb on all objects of a kind. The operator needs it only for the objects that belong to a Sandbox or a
//! template, and often for a few fields of them. Each policy is about one kind and applies to requests of the operator's
//! user alone. A stolen token therefore changes no existing workload of somebody else. An expression cannot read another
//! object, so the owner of a new object may be made up. SECURITY.md lists what that leaves open.

use paddock_api::claim_data;
use paddock_api::kind::{ApiShape, Kind};
use paddock_api::names::object::NETWORK_POLICY_SUFFIX;
use paddock_api::names::{annotation, group, label, object};
use serde_json::{Value, json};

use super::common::{CONFIGURATIONS, Settings, Webhook, labelled};
use super::workload::WEBHOOK_SERVICE;
use crate::config::LEASES;
use crate::webhook::{CONFIGURATION, SECRET, configured_resources, entries_of_pods};

/// A policy about one kind. The name of the policy ends with the resource.
struct Policy {
    groups: Vec<&'static str>,
    resource: &'static str,
    operations: &'static [&'static str],
    /// Expressions with a name, which other expressions use.
    variables: Vec<(&'static str, String)>,
    /// Expressions that have to be true, and the message if they are not.
    validations: Vec<(String, String)>,
}

impl Policy {
    fn new(
        groups: &[&'static str],
        resource: &'static str,
        operations: &'static [&'static str],
        validations: Vec<(String, String)>,
    ) -> Self {
        Self { groups: groups.to_vec(), resource, operations, variables: Vec::new(), validations }
    }

    fn of(kind: Kind, operations: &'static [&'static str], validations: Vec<(String, String)>) -> Self {
        Self::new(&[kind.group()], kind.plural(), operations, validations)
    }
}

/// The policies about the requests of a user, each followed by its binding.
pub(super) fn policies(settings: &Settings, user: &str) -> Vec<Value> {
    let mut policies = vec![
        child_with_fixed_spec(settings, Kind::Pod),
        resizes(settings),
        services(settings),
        child_with_fixed_spec(settings, Kind::VolumeClaim),
        endpoint_slices(settings),
        sandboxes(settings),
    ];
    if settings.extensions {
        policies.extend([network_policies(settings), claims()]);
    }
    policies.push(leases());
    policies.extend(secrets(settings));
    match &settings.webhook {
        Webhook::Injected => policies.extend(CONFIGURATIONS.map(injected)),
        Webhook::Owned { host } => {
            policies.extend(CONFIGURATIONS.map(|kind| owned(kind, settings, host.as_deref())));
        }
        Webhook::Mounted | Webhook::Off => {}
    }
    policies.into_iter().flat_map(|policy| documents(policy, settings, user)).collect()
}

fn documents(policy: Policy, settings: &Settings, user: &str) -> [Value; 2] {
    let Policy { groups, resource, operations, variables, validations } = policy;
    let name = settings.cluster_name(&format!("{}-{}", object::OPERATOR_DEPLOYMENT, resource.replace('/', "-")));
    let of_the_operator = ("the-operator", is_user(user));
    bound(&name, &[rule(&groups, &[resource], operations)], vec![of_the_operator], variables, validations)
}

pub(super) fn rule(groups: &[&str], resources: &[&str], operations: &[&str]) -> Value {
    json!({ "apiGroups": groups, "apiVersions": ["*"], "operations": operations, "resources": resources })
}

/// A policy and its binding. Requests that meet all `conditions` are denied unless every validation is true.
pub(super) fn bound(
    name: &str,
    rules: &[Value],
    conditions: Vec<(&str, String)>,
    variables: Vec<(&str, String)>,
    validations: Vec<(String, String)>,
) -> [Value; 2] {
    let named = |expressions: Vec<(&str, String)>| -> Vec<Value> {
        expressions.into_iter().map(|(name, expression)| json!({ "name": name, "expression": expression })).collect()
    };
    let validations: Vec<Value> = validations
        .into_iter()
        .map(|(expression, message)| json!({ "expression": expression, "message": message, "reason": "Forbidden" }))
        .collect();
    let mut spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": { "resourceRules": rules },
        "validations": validations,
    });
    for (field, expressions) in [("matchConditions", conditions), ("variables", variables)] {
        if !expressions.is_empty() {
            spec[field] = named(expressions).into();
        }
    }
    let document = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": labelled(name, None),
            "spec": spec,
        })
    };
    [
        document("ValidatingAdmissionPolicy", spec),
        document("ValidatingAdmissionPolicyBinding", json!({ "policyName": name, "validationActions": ["Deny"] })),
    ]
}

/// The owner references of an object that make their owner the controller.
pub(super) fn controllers(of: &str) -> String {
    format!("{of}.metadata.?ownerReferences.orValue([]).filter(o, o.?controller.orValue(false))")
}

/// The condition that the owner reference `o` names an object of a kind.
pub(super) fn is_of(group: &str, kind: &str) -> String {
    format!("o.kind == {kind:?} && o.apiVersion.startsWith({:?})", format!("{group}/"))
}

fn of_kind(list: &str, group: &str, kind: &str) -> String {
    format!("{list}.exists(o, {})", is_of(group, kind))
}

/// The condition that this user makes the request.
pub(super) fn is_user(user: &str) -> String {
    format!("request.userInfo.username == {user:?}")
}

/// The condition that this user makes the request, or somebody who could run an operator of Sandboxes: every such
/// operator, also upstream's, writes the status of Sandboxes. `scope` limits this right to a namespace. If `scope` is
/// empty, the right has to be for all namespaces.
pub(super) fn operators(user: &str, scope: &str) -> String {
    let may = |verb: &str| {
        format!(
            "authorizer.group({:?}).resource('sandboxes').subresource('status'){scope}.check({verb:?}).allowed()",
            group::AGENTS
        )
    };
    format!("{} || {} || {}", is_user(user), may("update"), may("patch"))
}

/// The value of a label or an annotation, or an empty text.
pub(super) fn entry(of: &str, field: &str, key: &str) -> String {
    format!("{of}.metadata.?{field}.orValue({{}})[?{key:?}].orValue(\"\")")
}

/// The condition for every operation but this one.
fn unless(operation: &str, condition: &str) -> String {
    format!("request.operation == {operation:?} || {condition}")
}

/// The operator makes and changes nothing in kube-system, and nothing but its own objects in its own namespace.
fn outside_of_the_system(settings: &Settings, kind: &str) -> (String, String) {
    let mut namespaces = vec!["kube-system"];
    // An operator for a single namespace may run in it.
    if settings.served_namespace.as_ref() != Some(&settings.namespace) {
        namespaces.push(&settings.namespace);
    }
    let expression = unless("DELETE", &format!("!(request.namespace in {namespaces:?})"));
    (expression, format!("the operator makes and changes no {kind} in {}", namespaces.join(" and ")))
}

/// A policy about the children of Sandboxes. The Sandbox has to be the controller, before and after a change. An object
/// without a controller is adopted if a label allows it.
fn child(settings: &Settings, kind: Kind) -> Policy {
    let name = kind.name();
    let is_sandbox = |list: &str| of_kind(list, group::AGENTS, Kind::Sandbox.name());
    let offered = format!(
        "variables.former.size() == 0 && ({} == {:?} || {} != \"\")",
        entry("oldObject", "labels", label::ADOPTABLE),
        label::TRUE,
        entry("oldObject", "labels", label::SANDBOX_NAME_HASH),
    );
    let validations = vec![
        outside_of_the_system(settings, name),
        (
            is_sandbox("variables.controllers"),
            format!("the operator may write a {name} only if a Sandbox is its controller"),
        ),
        (
            format!("request.operation != \"UPDATE\" || {} || ({offered})", is_sandbox("variables.former")),
            format!("the operator may take over a {name} only if it has no controller and a label that allows it"),
        ),
    ];
    Policy {
        variables: vec![
            ("subject", "request.operation == \"DELETE\" ? oldObject : object".to_owned()),
            ("controllers", controllers("variables.subject")),
            ("former", format!("oldObject == null ? [] : {}", controllers("oldObject"))),
        ],
        ..Policy::of(kind, &["CREATE", "UPDATE", "DELETE"], validations)
    }
}

/// A validation of the fields that an update must leave alone.
fn unchanged(fields: &[&str], message: String) -> (String, String) {
    let same: Vec<String> = fields.iter().map(|field| format!("object.{field} == oldObject.{field}")).collect();
    (format!("request.operation != \"UPDATE\" || ({})", same.join(" && ")), message)
}

/// A child whose metadata alone the operator changes.
fn child_with_fixed_spec(settings: &Settings, kind: Kind) -> Policy {
    let mut policy = child(settings, kind);
    let message = format!("the operator may change only the metadata of a {}", kind.name());
    policy.validations.push(unchanged(&["spec"], message));
    policy
}

/// The operator throttles the pods of idle Sandboxes and restores their CPU. It changes no other resource.
///
/// The policy is the same whether the operator has the right or not, so that an overlay can add it.
fn resizes(settings: &Settings) -> Policy {
    let resources = |container: &str, field: &str| format!("{container}.?resources.?{field}.orValue({{}})");
    let same_but_cpu = ["requests", "limits"].map(|field| {
        let (new, old) = (resources("c", field), resources("o", field));
        format!("{new}.all(k, k == \"cpu\" || {new}[?k] == {old}[?k]) && {old}.all(k, k == \"cpu\" || k in {new})")
    });
    let validations = vec![
        outside_of_the_system(settings, Kind::Pod.name()),
        (
            of_kind("variables.controllers", group::AGENTS, Kind::Sandbox.name()),
            "the operator may resize a Pod only if a Sandbox is its controller".to_owned(),
        ),
        (
            format!(
                "object.spec.?resources == oldObject.spec.?resources && variables.new.all(c, variables.old.exists(o, \
                 o.name == c.name && o.?resizePolicy == c.?resizePolicy && {}))",
                same_but_cpu.join(" && "),
            ),
            "the operator may change only the CPU of a Pod".to_owned(),
        ),
    ];
    let containers = |of: &str| format!("{of}.spec.containers + {of}.spec.?initContainers.orValue([])");
    Policy {
        variables: vec![
            ("controllers", controllers("oldObject")),
            ("new", containers("object")),
            ("old", containers("oldObject")),
        ],
        ..Policy::new(&[""], "pods/resize", &["UPDATE"], validations)
    }
}

fn services(settings: &Settings) -> Policy {
    let mut policy = child(settings, Kind::Service);
    policy.validations.extend([
        (
            unless(
                "DELETE",
                "object.spec.?type.orValue(\"ClusterIP\") == \"ClusterIP\" || \
                 (oldObject != null && object.spec.?type == oldObject.spec.?type)",
            ),
            "the operator may give a Service no other type than ClusterIP".to_owned(),
        ),
        (
            unless(
                "DELETE",
                "object.spec.?externalIPs.orValue([]).all(ip, \
                 oldObject != null && ip in oldObject.spec.?externalIPs.orValue([]))",
            ),
            "the operator may add no external address to a Service".to_owned(),
        ),
    ]);
    policy
}

fn endpoint_slices(settings: &Settings) -> Policy {
    let mut policy = child(settings, Kind::EndpointSlice);
    let service = entry("object", "labels", "kubernetes.io/service-name");
    policy.validations.extend([
        (
            unless(
                "DELETE",
                &format!(
                    "variables.controllers.exists(o, o.kind == {:?} && o.name == {service})",
                    Kind::Sandbox.name(),
                ),
            ),
            "the operator may write an EndpointSlice only for the Service of its Sandbox".to_owned(),
        ),
        // The owner may be made up, and the clients of this Service send their tokens to its addresses.
        (
            unless("DELETE", &format!("request.namespace != \"default\" || {service} != \"kubernetes\"")),
            "the operator may write no EndpointSlice for the Service of the API server".to_owned(),
        ),
    ]);
    policy
}

/// The NetworkPolicy of a template has no owner, because it outlives the template. Annotations say whose it is.
fn network_policies(settings: &Settings) -> Policy {
    let kind = Kind::NetworkPolicy;
    let annotated = |of: &str, key: &str| format!("{} != \"\"", entry(of, "annotations", key));
    let of_template = |group: &str| of_kind("variables.former", group, Kind::template(ApiShape::Upstream).name());
    let former = [
        annotated("oldObject", annotation::POLICY_TEMPLATE),
        annotated("oldObject", annotation::POLICY_SPEC),
        // Earlier versions made the template the controller.
        of_template(group::AGENTS),
        of_template(group::EXTENSIONS),
        format!(
            "(request.operation == \"UPDATE\" && variables.former.size() == 0 && {} == {:?})",
            entry("oldObject", "labels", label::ADOPTABLE),
            label::TRUE,
        ),
    ];
    let validations = vec![
        outside_of_the_system(settings, kind.name()),
        (
            unless("CREATE", &former.join(" || ")),
            "the operator may change only the NetworkPolicy of a template".to_owned(),
        ),
        (
            unless(
                "DELETE",
                &format!(
                    "(object.metadata.name.endsWith({NETWORK_POLICY_SUFFIX:?}) && {} \
                     && object.spec.podSelector.?matchLabels.orValue({{}})[?{:?}].orValue(\"\") != \"\")",
                    annotated("object", annotation::POLICY_TEMPLATE),
                    label::TEMPLATE_REF_HASH,
                ),
            ),
            "the operator may write only a NetworkPolicy that names its template and selects its pods".to_owned(),
        ),
    ];
    Policy {
        variables: vec![("former", format!("oldObject == null ? [] : {}", controllers("oldObject")))],
        ..Policy::of(kind, &["CREATE", "UPDATE", "DELETE"], validations)
    }
}

/// Sandboxes are made for pools and claims. Later changes concern the mode and the metadata, and never what runs.
fn sandboxes(settings: &Settings) -> Policy {
    let owners = [Kind::Pool, Kind::Claim].map(Kind::name);
    let groups = [group::AGENTS, group::EXTENSIONS].map(|group| format!("o.apiVersion.startsWith(\"{group}/\")"));
    let what_runs = ["?podTemplate.?spec", "?template.?spec", "?runtimeClassName", "?volumeClaimTemplates"]
        .map(|f| format!("spec.{f}"));
    let what_runs: Vec<&str> = what_runs.iter().map(String::as_str).collect();
    let (expression, message) = outside_of_the_system(settings, Kind::Sandbox.name());
    let validations = vec![
        // The Sandboxes that users have there can still be changed and deleted.
        (unless("UPDATE", &format!("({expression})")), message),
        (
            unless(
                "UPDATE",
                &format!("{}.exists(o, o.kind in {owners:?} && ({}))", controllers("object"), groups.join(" || ")),
            ),
            "the operator may make a Sandbox only for a pool or a claim".to_owned(),
        ),
        unchanged(&what_runs, "the operator may not change what a Sandbox runs".to_owned()),
    ];
    Policy::of(Kind::Sandbox, &["CREATE", "UPDATE"], validations)
}

fn claims() -> Policy {
    let validation = unchanged(
        &["spec", "metadata.?ownerReferences"],
        "the operator may change only the labels and annotations of a SandboxClaim".to_owned(),
    );
    Policy::new(&[group::AGENTS, group::EXTENSIONS], Kind::Claim.plural(), &["UPDATE"], vec![validation])
}

fn leases() -> Policy {
    let validation = (
        format!("object.metadata.name in {LEASES:?}"),
        format!("the operator may write only the Leases {}", LEASES.join(" and ")),
    );
    Policy::new(&["coordination.k8s.io"], "leases", &["CREATE", "UPDATE"], vec![validation])
}

/// The Secret with the certificate, and the Secrets with the data of claims. A Secret of another type would give its
/// reader the token of a ServiceAccount.
///
/// The policy is the same whether the operator may deliver the data of claims or not. Only the rights differ, so that an
/// overlay can add them.
fn secrets(settings: &Settings) -> Option<Policy> {
    let (certificate, claim_data) = match settings.webhook {
        Webhook::Injected | Webhook::Owned { .. } => (true, settings.extensions),
        Webhook::Mounted | Webhook::Off => (false, settings.extensions),
    };
    let mut kinds = Vec::new();
    let mut may_be = Vec::new();
    if certificate {
        kinds.push(format!(
            "(request.operation != \"DELETE\" && request.namespace == {:?} && \
             variables.subject.metadata.name == {SECRET:?} && \
             variables.subject.type != \"kubernetes.io/service-account-token\")",
            settings.namespace,
        ));
        may_be.push(format!("the Secret {SECRET} with its certificate"));
    }
    if claim_data {
        kinds.push(format!(
            "(request.operation != \"UPDATE\" && {} == {:?} && variables.subject.type == \"Opaque\" && \
             variables.controllers.exists(o, o.kind == {:?} && o.apiVersion == \"v1\" && \
             variables.subject.metadata.name.startsWith({:?} + o.name + \"-\") && \
             variables.subject.metadata.name.size() == o.name.size() + {} && \
             variables.subject.metadata.name.matches(\"-[0-9a-f]{{{}}}$\")))",
            entry("variables.subject", "labels", label::CLAIM_DATA),
            label::TRUE,
            Kind::Pod.name(),
            format!("{}-", claim_data::SECRET),
            claim_data::SECRET.len() + 2 + claim_data::SECRET_SUFFIX,
            claim_data::SECRET_SUFFIX,
        ));
        may_be.push("Secrets with the data of a claim, which belong to a Pod".to_owned());
    }
    if kinds.is_empty() {
        return None;
    }
    let mut validations = vec![(kinds.join(" || "), format!("the operator may write only {}", may_be.join(" and ")))];
    if claim_data {
        let (elsewhere, message) = outside_of_the_system(settings, "Secret with the data of a claim");
        validations.push((format!("variables.subject.metadata.name == {SECRET:?} || ({elsewhere})"), message));
    }
    let variables = vec![
        ("subject", "request.operation == \"DELETE\" ? oldObject : object".to_owned()),
        ("controllers", controllers("variables.subject")),
    ];
    Some(Policy { variables, ..Policy::new(&[""], "secrets", &["CREATE", "UPDATE", "DELETE"], validations) })
}

fn configuration(resource: &'static str, validations: Vec<(String, String)>) -> Policy {
    let name = (
        format!("(request.operation == \"DELETE\" ? oldObject : object).metadata.name == {CONFIGURATION:?}"),
        format!("the operator may write only the webhook configurations {CONFIGURATION}"),
    );
    let validations = [name].into_iter().chain(validations).collect();
    Policy::new(&["admissionregistration.k8s.io"], resource, &["CREATE", "UPDATE", "DELETE"], validations)
}

/// The operator adds the CA bundle and the owner of a configuration that the manifests contain.
fn injected(resource: &'static str) -> Policy {
    const FIELDS: [&str; 9] = [
        "clientConfig.?service",
        "clientConfig.?url",
        "?rules",
        "?matchPolicy",
        "?matchConditions",
        "?namespaceSelector",
        "?objectSelector",
        "?sideEffects",
        "?timeoutSeconds",
    ];
    let of_mutation = (resource == "mutatingwebhookconfigurations").then_some("?reinvocationPolicy");
    let same = FIELDS.into_iter().chain(of_mutation).map(|field| format!("w.{field} == o.{field}"));
    let same: Vec<String> = same.collect();
    // Without the policies about isolation, the operator closes the entries for Pods.
    let closed = format!("(w.name in {:?} && w.?failurePolicy.orValue('') == 'Fail')", entries_of_pods());
    let only_the_bundle = format!(
        "(oldObject != null && object.?webhooks.orValue([]).size() == oldObject.?webhooks.orValue([]).size() && \
         object.?webhooks.orValue([]).all(w, oldObject.?webhooks.orValue([]).exists(o, w.name == o.name && \
         (w.?failurePolicy == o.?failurePolicy || {closed}) && {})))",
        same.join(" && "),
    );
    let message = "the operator may change only the CA bundle of a webhook configuration, and close entries for Pods";
    configuration(resource, vec![(unless("DELETE", &only_the_bundle), message.to_owned())])
}

/// The operator makes the configurations. They may send it the kinds that its own configurations name, and nothing to
/// anybody else.
fn owned(resource: &'static str, settings: &Settings, host: Option<&str>) -> Policy {
    let (groups, resources) = configured_resources();
    let reached = match host {
        Some(host) => format!("url(w.clientConfig.?url.orValue(\"https:///\")).getHostname() == {host:?}"),
        None => format!(
            "w.clientConfig.?service.?namespace.orValue(\"\") == {:?} && \
             w.clientConfig.?service.?name.orValue(\"\") == {WEBHOOK_SERVICE:?}",
            settings.namespace
        ),
    };
    // An entry that somebody else added stays as it is.
    let kept = "(oldObject != null && oldObject.?webhooks.orValue([]).exists(o, o == w))";
    let all =
        |condition: &str| unless("DELETE", &format!("object.?webhooks.orValue([]).all(w, {kept} || ({condition}))"));
    let known = format!(
        "w.?rules.orValue([]).all(r, r.?apiGroups.orValue([]).all(g, g in {groups:?}) && \
         r.?resources.orValue([]).all(k, k in {resources:?}))"
    );
    configuration(
        resource,
        vec![
            (all(&reached), "a webhook of the operator may lead only to the operator".to_owned()),
            (all(&known), "a webhook of the operator may name only the kinds that the operator reviews".to_owned()),
        ],
    )
}
