//! The webhook configurations: the requests that the API server asks the webhook about, and the result without an
//! answer. If a replica answers, it denies a request whose review fails, except for SandboxPolicies.
//!
//! | entry | matched by | without an answer |
//! |---|---|---|
//! | Pods that carry the generated-code label | object labels | denied, or judged by policies alone |
//! | Pods of namespaces that require isolation | namespace labels | denied, or judged by policies alone |
//! | the kinds that Paddock serves | rules | admitted, and asked again before a pod is created |
//! | Sandboxes that get a pool or a claim as an owner | rules, owner references | denied: nothing checks it later |
//! | the operator's own namespace, when it begins to require isolation | its name, its labels | denied |
//! | exec, attach, port-forward | rules | admitted |
//! | SandboxPolicies | rules | admitted, and their settings are checked again before they take effect |
//!
//! An entry combines its selectors with AND, so there are two entries for Pods. kube-system is excluded from all entries.
//! The operator's own user is excluded too, except from the validation of Pods: only that call sees a Pod as it will be
//! stored, after every other webhook. The entry for namespaces also excludes the operator's own namespace, because a
//! webhook that has to admit its own Pod could never start again.
//!
//! The validation of Pods includes the subresources that change a running Pod. Of the writes of `pods/status`, only those
//! that change labels or annotations are sent, so no status write of a kubelet waits for the webhook.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use kube::Resource as _;
use kube::core::ApiResource;
use paddock_api::SandboxPolicy;
use paddock_api::kind::Kind;
use paddock_api::names::{group, label};
use paddock_core::admission::{CONNECTIONS, Entry, Phase};

/// The name of both configurations.
pub const CONFIGURATION: &str = "paddock-webhook";
/// The end of the names of the operator's entries. An entry with another name belongs to somebody else.
pub(super) const ENTRY_SUFFIX: &str = ".paddock.dev";
/// The time for which the API server waits for an answer, in seconds.
const TIMEOUT_SECONDS: i32 = 2;

/// The way in which the API server reaches the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientConfig {
    /// By a Service of the cluster.
    Service {
        /// The namespace of the Service.
        namespace: String,
        /// The name of the Service.
        name: String,
        /// The port of the Service.
        port: u16,
    },
    /// At the URL `https://HOST:PORT`, for an operator outside the cluster.
    Url(String),
}

impl ClientConfig {
    /// The host names or addresses that the certificate has to contain.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        match self {
            ClientConfig::Service { namespace, name, .. } => vec![format!("{name}.{namespace}.svc")],
            ClientConfig::Url(url) => {
                let authority = url.trim_start_matches("https://").split('/').next().unwrap_or_default();
                let host = match authority.rsplit_once(':') {
                    Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
                    Some(_) | None => authority,
                };
                vec![host.trim_start_matches('[').trim_end_matches(']').to_owned()]
            }
        }
    }

    fn for_entry(&self, phase: &str, entry: Entry, bundle: Option<&str>) -> WebhookClientConfig {
        let path = format!("/{phase}/{}", entry.as_str());
        let ca_bundle = bundle.map(|b| ByteString(b.as_bytes().to_vec()));
        match self {
            ClientConfig::Service { namespace, name, port } => WebhookClientConfig {
                ca_bundle,
                service: Some(ServiceReference {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    path: Some(path),
                    port: Some(i32::from(*port)),
                }),
                url: None,
            },
            ClientConfig::Url(url) => WebhookClientConfig {
                ca_bundle,
                service: None,
                url: Some(format!("{}{path}", url.trim_end_matches('/'))),
            },
        }
    }
}

/// The kind of the configuration of a phase.
pub(super) fn resource(phase: Phase) -> ApiResource {
    match phase {
        Phase::Mutate => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        Phase::Validate => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
    }
}

/// The values that the configurations depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The way in which the API server reaches the webhook.
    pub client_config: ClientConfig,
    /// The namespace in which the operator runs, which never requires isolation.
    pub own_namespace: Option<String>,
    /// The operator's user. Of its requests, only Pods are validated.
    pub operator_user: Option<String>,
    /// Whether ValidatingAdmissionPolicies judge Pods too. The API server then admits Pods without an answer.
    pub isolation_policies: bool,
}

/// The label that keeps the admissions enforcer of Azure from changing the selectors of a configuration. Every entry
/// excludes kube-system itself.
const LABEL_WITHOUT_ENFORCER: (&str, &str) = ("admissions.enforcer/disabled", "true");

/// The configurations. Their metadata has only the name and the labels that matter to other programs.
#[must_use]
pub fn configurations(
    desired: &Desired,
    bundle: Option<&str>,
) -> (MutatingWebhookConfiguration, ValidatingWebhookConfiguration) {
    let mutating = [Entry::MarkedPods, Entry::IsolatedNamespaces, Entry::OwnKinds]
        .map(|entry| mutating(desired, entry, bundle))
        .to_vec();
    let applies = |entry: &Entry| *entry != Entry::OwnNamespace || desired.own_namespace.is_some();
    let entries = Entry::ALL.iter().copied().filter(applies);
    let validating = entries.map(|entry| validating(desired, entry, bundle)).collect();
    let (label, value) = LABEL_WITHOUT_ENFORCER;
    let labels = Some([(label.to_owned(), value.to_owned())].into());
    let metadata = ObjectMeta { name: Some(CONFIGURATION.to_owned()), labels, ..ObjectMeta::default() };
    (
        MutatingWebhookConfiguration { metadata: metadata.clone(), webhooks: Some(mutating) },
        ValidatingWebhookConfiguration { metadata, webhooks: Some(validating) },
    )
}

/// The API groups and the resources in the rules of the configurations, each sorted.
#[must_use]
pub fn configured_resources() -> (Vec<String>, Vec<String>) {
    let phases = [Phase::Mutate, Phase::Validate];
    let rules: Vec<RuleWithOperations> =
        Entry::ALL.iter().flat_map(|entry| phases.into_iter().flat_map(|phase| rules(*entry, phase))).collect();
    let sorted = |lists: Vec<&Option<Vec<String>>>| {
        let set: BTreeSet<String> = lists.into_iter().flatten().flatten().cloned().collect();
        set.into_iter().collect()
    };
    (
        sorted(rules.iter().map(|rule| &rule.api_groups).collect()),
        sorted(rules.iter().map(|rule| &rule.resources).collect()),
    )
}

fn mutating(desired: &Desired, entry: Entry, bundle: Option<&str>) -> MutatingWebhook {
    let selection = Selection::of(entry, desired);
    MutatingWebhook {
        name: webhook_name(entry),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: desired.client_config.for_entry("mutate", entry, bundle),
        failure_policy: Some(failure_policy(entry, desired.isolation_policies).to_owned()),
        match_conditions: match_conditions(desired, entry, Phase::Mutate),
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(selection.namespaces),
        object_selector: selection.objects,
        // Another webhook may change an object after our review. If it adds the label to a Pod that did not match before,
        // the API server does not call this entry any more, and the validating entry denies a Pod that is not isolated.
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(rules(entry, Phase::Mutate)),
        side_effects: side_effects(entry, Phase::Mutate).to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    }
}

fn validating(desired: &Desired, entry: Entry, bundle: Option<&str>) -> ValidatingWebhook {
    let selection = Selection::of(entry, desired);
    ValidatingWebhook {
        name: webhook_name(entry),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: desired.client_config.for_entry("validate", entry, bundle),
        failure_policy: Some(failure_policy(entry, desired.isolation_policies).to_owned()),
        match_conditions: match_conditions(desired, entry, Phase::Validate),
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(selection.namespaces),
        object_selector: selection.objects,
        rules: Some(rules(entry, Phase::Validate)),
        side_effects: side_effects(entry, Phase::Validate).to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    }
}

/// The name of an entry, which is the same in both configurations.
pub(super) fn webhook_name(entry: Entry) -> String {
    let about = match entry {
        Entry::OwnKinds | Entry::OwnedSandboxes | Entry::Policies => "",
        Entry::OwnNamespace => ".namespaces",
        Entry::MarkedPods | Entry::IsolatedNamespaces | Entry::Connect => ".pods",
    };
    format!("{}{about}{ENTRY_SUFFIX}", entry.as_str())
}

fn failure_policy(entry: Entry, isolation_policies: bool) -> &'static str {
    let judged_by_policies = isolation_policies && OF_PODS.contains(&entry);
    if fails_closed(entry) && !judged_by_policies { "Fail" } else { "Ignore" }
}

/// The entries for Pods, which may fail open if policies judge Pods too.
const OF_PODS: [Entry; 2] = [Entry::MarkedPods, Entry::IsolatedNamespaces];

/// The names of the entries for Pods.
#[must_use]
pub(crate) fn entries_of_pods() -> [String; 2] {
    OF_PODS.map(webhook_name)
}

/// Whether a request of an entry is denied if no replica answers. Nothing makes up for its review later.
fn fails_closed(entry: Entry) -> bool {
    match entry {
        Entry::MarkedPods | Entry::IsolatedNamespaces | Entry::OwnedSandboxes | Entry::OwnNamespace => true,
        Entry::OwnKinds | Entry::Connect | Entry::Policies => false,
    }
}

fn side_effects(entry: Entry, phase: Phase) -> &'static str {
    match (entry, phase) {
        // `connect` writes an activity record to the Sandbox. The mutating call for our own kinds reserves a Sandbox
        // for a claim.
        (Entry::Connect, _) | (Entry::OwnKinds, Phase::Mutate) => "NoneOnDryRun",
        (Entry::OwnKinds, Phase::Validate)
        | (
            Entry::MarkedPods
            | Entry::IsolatedNamespaces
            | Entry::OwnedSandboxes
            | Entry::OwnNamespace
            | Entry::Policies,
            _,
        ) => "None",
    }
}

fn match_conditions(desired: &Desired, entry: Entry, phase: Phase) -> Option<Vec<MatchCondition>> {
    let condition = |name: &str, expression| MatchCondition { name: name.to_owned(), expression };
    let validates_pods = match (entry, phase) {
        (Entry::MarkedPods | Entry::IsolatedNamespaces, Phase::Validate) => true,
        (Entry::MarkedPods | Entry::IsolatedNamespaces, Phase::Mutate)
        | (Entry::OwnKinds | Entry::OwnedSandboxes | Entry::OwnNamespace | Entry::Connect | Entry::Policies, _) => {
            false
        }
    };
    // Rust's debug format quotes and escapes a string in the same way as CEL.
    let user = desired.operator_user.as_ref().filter(|_| !validates_pods);
    let not_us = user.map(|user| format!("request.userInfo.username != {user:?}"));
    let owned = (entry == Entry::OwnedSandboxes).then(given_to_us);
    let begins = (entry == Entry::OwnNamespace).then(begins_to_require_isolation);
    let conditions = [
        not_us.map(|e| condition("not-the-operator", e)),
        validates_pods.then(|| condition("not-the-status-alone", changes_more_than_the_status())),
        owned.map(|e| condition("given-an-owner", e)),
        begins.map(|e| condition("begins-to-require-isolation", e)),
    ];
    Some(conditions.into_iter().flatten().collect()).filter(|c: &Vec<_>| !c.is_empty())
}

/// A CEL expression that is true except for a write of `pods/status` that changes neither labels nor annotations.
#[must_use]
pub(crate) fn changes_more_than_the_status() -> String {
    let differ = ["labels", "annotations"].map(|field| {
        let of = |object: &str| format!("{object}.metadata.?{field}.orValue({{}})");
        format!("{} != {}", of("object"), of("oldObject"))
    });
    format!("request.?subResource.orValue('') != 'status' || {}", differ.join(" || "))
}

/// A CEL expression that is true if the label of a namespace requires isolation and did not before. The review makes the
/// same check and gives a full message.
fn begins_to_require_isolation() -> String {
    let requires = |of: &str| {
        let none = label::ISOLATION_NONE;
        format!("{of}.metadata.?labels.orValue({{}})[?{:?}].orValue({none:?}) != {none:?}", label::ISOLATION)
    };
    format!("{} && !(oldObject != null && {})", requires("object"), requires("oldObject"))
}

/// A CEL expression that is true if a pool or a claim became an owner in this request. The review makes the same check
/// and gives a full message.
fn given_to_us() -> String {
    let kinds = [Kind::Pool.name(), Kind::Claim.name()];
    let owners = |of: &str| format!("{of}.metadata.?ownerReferences.orValue([])");
    let same = ["apiVersion", "kind", "name", "uid"].map(|field| format!("p.{field} == o.{field}")).join(" && ");
    format!(
        "{}.exists(o, o.kind in {kinds:?} && !(oldObject != null && {}.exists(p, {same} && \
         p.?controller.orValue(false) == o.?controller.orValue(false))))",
        owners("object"),
        owners("oldObject"),
    )
}

/// The selectors of an entry.
struct Selection {
    namespaces: LabelSelector,
    objects: Option<LabelSelector>,
}

impl Selection {
    fn of(entry: Entry, desired: &Desired) -> Self {
        let kube_system = || requirement(label::NAMESPACE_NAME, "NotIn", &["kube-system"]);
        let plain = selector(vec![kube_system()]);
        match entry {
            Entry::MarkedPods => Self {
                namespaces: plain,
                // Any value except "false". A value that is neither "true" nor "false" is denied instead of being
                // overlooked.
                objects: Some(selector(vec![
                    requirement(label::GENERATED_CODE, "Exists", &[]),
                    requirement(label::GENERATED_CODE, "NotIn", &["false"]),
                ])),
            },
            Entry::IsolatedNamespaces => {
                let mut exempt = vec!["kube-system"];
                exempt.extend(desired.own_namespace.as_deref());
                Self {
                    namespaces: selector(vec![
                        requirement(label::NAMESPACE_NAME, "NotIn", &exempt),
                        requirement(label::ISOLATION, "Exists", &[]),
                        requirement(label::ISOLATION, "NotIn", &[label::ISOLATION_NONE]),
                    ]),
                    // The other entry matches Pods with the label "true".
                    objects: Some(selector(vec![requirement(label::GENERATED_CODE, "NotIn", &[label::TRUE])])),
                }
            }
            Entry::OwnNamespace => Self {
                namespaces: selector(vec![requirement(
                    label::NAMESPACE_NAME,
                    "In",
                    &[desired.own_namespace.as_deref().unwrap_or_default()],
                )]),
                objects: None,
            },
            Entry::OwnKinds | Entry::OwnedSandboxes | Entry::Connect | Entry::Policies => {
                Self { namespaces: plain, objects: None }
            }
        }
    }
}

fn selector(requirements: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector { match_expressions: Some(requirements), match_labels: None }
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    let values = (!values.is_empty()).then(|| values.iter().map(|v| (*v).to_owned()).collect());
    LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values }
}

fn rules(entry: Entry, phase: Phase) -> Vec<RuleWithOperations> {
    let rule = |operations: &[&str], groups: &str, versions: &[&str], resources: Vec<String>| RuleWithOperations {
        operations: Some(operations.iter().map(|o| (*o).to_owned()).collect()),
        api_groups: Some(vec![groups.to_owned()]),
        api_versions: Some(versions.iter().map(|v| (*v).to_owned()).collect()),
        resources: Some(resources),
        scope: Some("Namespaced".to_owned()),
    };
    match entry {
        Entry::MarkedPods | Entry::IsolatedNamespaces => {
            let mut rules = vec![rule(&["CREATE", "UPDATE"], "", &["v1"], vec!["pods".to_owned()])];
            if phase == Phase::Validate {
                let changing = ["pods/ephemeralcontainers", "pods/resize", "pods/status"].map(str::to_owned).to_vec();
                rules.push(rule(&["UPDATE"], "", &["v1"], changing));
            }
            rules
        }
        Entry::OwnNamespace => {
            let rule = rule(&["CREATE", "UPDATE"], "", &["v1"], vec!["namespaces".to_owned()]);
            vec![RuleWithOperations { scope: Some("Cluster".to_owned()), ..rule }]
        }
        Entry::OwnKinds => [group::AGENTS, group::EXTENSIONS]
            .map(|of| {
                let mut plurals: Vec<String> =
                    Kind::OWN.into_iter().filter(|k| k.group() == of).map(|k| k.plural().to_owned()).collect();
                plurals.sort_unstable();
                rule(&["CREATE", "UPDATE"], of, &[group::V1ALPHA1, group::V1BETA1], plurals)
            })
            .to_vec(),
        Entry::OwnedSandboxes => {
            let versions = [group::V1ALPHA1, group::V1BETA1];
            vec![rule(&["CREATE", "UPDATE"], group::AGENTS, &versions, vec![Kind::Sandbox.plural().to_owned()])]
        }
        Entry::Connect => {
            let resources = CONNECTIONS.map(|(resource, subresource)| format!("{resource}/{subresource}")).to_vec();
            vec![rule(&["CONNECT"], "", &["v1"], resources)]
        }
        Entry::Policies => {
            let plural = SandboxPolicy::plural(&()).into_owned();
            let rule = rule(&["CREATE", "UPDATE"], group::POLICY, &[group::V1ALPHA1], vec![plural]);
            vec![RuleWithOperations { scope: Some("Cluster".to_owned()), ..rule }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_the_host_that_the_api_server_calls() {
        let service = ClientConfig::Service { namespace: "n".to_owned(), name: "w".to_owned(), port: 443 };
        for (client_config, host) in [
            (service, "w.n.svc"),
            (ClientConfig::Url("https://127.0.0.1:9443".to_owned()), "127.0.0.1"),
            (ClientConfig::Url("https://[::1]:9443/".to_owned()), "::1"),
            (ClientConfig::Url("https://hooks.example.com".to_owned()), "hooks.example.com"),
        ] {
            assert_eq!(client_config.hosts(), [host], "{client_config:?}");
        }
    }

    /// Policies judge nothing but Pods in the place of the webhook.
    #[test]
    fn with_policies_the_entries_for_pods_alone_fail_open() {
        for (policies, open) in [(false, 0), (true, 4)] {
            let desired = Desired {
                client_config: ClientConfig::Url("https://127.0.0.1:9443".to_owned()),
                own_namespace: Some("agent-sandbox-system".to_owned()),
                operator_user: None,
                isolation_policies: policies,
            };
            let (mutating, validating) = configurations(&desired, None);
            let mutating = mutating.webhooks.into_iter().flatten().map(|w| (w.name, w.failure_policy));
            let validating = validating.webhooks.into_iter().flatten().map(|w| (w.name, w.failure_policy));
            let ignored = mutating.chain(validating).filter(|(name, policy)| {
                let of_pods = ["generated-code.pods.paddock.dev", "isolated-namespaces.pods.paddock.dev"];
                policy.as_deref() == Some("Ignore") && of_pods.contains(&name.as_str())
            });
            assert_eq!(ignored.count(), open);
        }
    }

    #[test]
    fn pods_and_foreign_owners_fail_closed_and_everything_else_open() {
        let desired = Desired {
            client_config: ClientConfig::Url("https://127.0.0.1:9443".to_owned()),
            own_namespace: Some("agent-sandbox-system".to_owned()),
            operator_user: Some("system:serviceaccount:agent-sandbox-system:agent-sandbox-controller".to_owned()),
            isolation_policies: false,
        };
        let (mutating, validating) = configurations(&desired, Some("pem"));
        let policy = |name: &str| {
            let webhooks = validating.webhooks.iter().flatten();
            webhooks.filter(|w| w.name == name).filter_map(|w| w.failure_policy.clone()).collect::<String>()
        };
        assert_eq!(policy("generated-code.pods.paddock.dev"), "Fail");
        assert_eq!(policy("isolated-namespaces.pods.paddock.dev"), "Fail");
        assert_eq!(policy("owned-sandboxes.paddock.dev"), "Fail");
        assert_eq!(policy("sandboxes.paddock.dev"), "Ignore");
        assert_eq!(policy("connect.pods.paddock.dev"), "Ignore");
        assert_eq!(policy("policies.paddock.dev"), "Ignore");
        assert_eq!(policy("own-namespace.namespaces.paddock.dev"), "Fail");
        let leaves_us_out = |conditions: &Option<Vec<MatchCondition>>| {
            conditions.iter().flatten().any(|condition| condition.expression.contains("agent-sandbox-controller"))
        };
        for webhook in validating.webhooks.iter().flatten() {
            let pods = ["generated-code.pods.paddock.dev", "isolated-namespaces.pods.paddock.dev"];
            let judges_us = pods.contains(&webhook.name.as_str());
            assert_eq!(leaves_us_out(&webhook.match_conditions), !judges_us, "{}", webhook.name);
            // No annotation or other field of the object keeps a request from being validated.
            let conditions = serde_json::to_string(&webhook.match_conditions).expect("JSON");
            assert!(!conditions.contains("sandbox-name"), "{conditions}");
        }
        let mutating: Vec<_> = mutating.webhooks.into_iter().flatten().collect();
        assert!(mutating.iter().all(|webhook| leaves_us_out(&webhook.match_conditions)));
        assert_eq!(mutating.len(), 3, "a connection is not changed");
        let outside = Desired { own_namespace: None, ..desired.clone() };
        let names = configurations(&outside, None).1.webhooks.into_iter().flatten().map(|webhook| webhook.name);
        assert!(!names.collect::<String>().contains("own-namespace"), "outside a cluster there is no such namespace");
        for webhook in &mutating {
            assert_eq!(webhook.timeout_seconds, Some(2));
            let conditions = serde_json::to_string(&webhook.match_conditions).expect("JSON");
            assert!(conditions.contains("agent-sandbox-controller"), "{conditions}");
            let namespaces = serde_json::to_string(&webhook.namespace_selector).expect("JSON");
            assert!(namespaces.contains("kube-system"), "{namespaces}");
        }
    }
}
