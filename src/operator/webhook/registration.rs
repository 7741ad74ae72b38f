//! The webhook configurations: the requests that the API server asks the webhook about, and the result without an
//! answer.
//!
//! | entry | matched by | without an answer |
//! |---|---|---|
//! | Pods that carry the generated-code label | object labels | denied |
//! | Pods of namespaces that require isolation | namespace labels | denied |
//! | the kinds that Paddock serves | rules | admitted, and asked again before a pod is created |
//! | Sandboxes that get a pool or a claim as an owner | rules, owner references | denied: nothing checks it later |
//! | exec, attach, port-forward | rules | admitted |
//!
//! An entry combines its selectors with AND, so there are two entries for Pods. kube-system and the operator's own user
//! are excluded from all entries. The entry for namespaces also excludes the operator's own namespace, because a
//! webhook that has to admit its own Pod could never start again.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use paddock_api::kind::Kind;
use paddock_api::names::{annotation, group, label};
use paddock_core::admission::{Entry, Phase};

/// The name of both configurations.
pub const CONFIGURATION: &str = "paddock-webhook";
/// The time for which the API server waits for an answer, in seconds.
const TIMEOUT_SECONDS: i32 = 2;
/// The label of every namespace that holds its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

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

/// The values that the configurations depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The way in which the API server reaches the webhook.
    pub client_config: ClientConfig,
    /// The operator's own namespace, if it runs in the cluster.
    pub own_namespace: Option<String>,
    /// The operator's user. Requests of this user are not reviewed.
    pub operator_user: Option<String>,
}

/// The configurations. Their metadata has only the name.
#[must_use]
pub fn configurations(
    desired: &Desired,
    bundle: Option<&str>,
) -> (MutatingWebhookConfiguration, ValidatingWebhookConfiguration) {
    let mutating = [Entry::MarkedPods, Entry::IsolatedNamespaces, Entry::OwnKinds]
        .map(|entry| mutating(desired, entry, bundle))
        .to_vec();
    let validating = Entry::ALL.iter().map(|&entry| validating(desired, entry, bundle)).collect();
    let metadata = ObjectMeta { name: Some(CONFIGURATION.to_owned()), ..ObjectMeta::default() };
    (
        MutatingWebhookConfiguration { metadata: metadata.clone(), webhooks: Some(mutating) },
        ValidatingWebhookConfiguration { metadata, webhooks: Some(validating) },
    )
}

fn mutating(desired: &Desired, entry: Entry, bundle: Option<&str>) -> MutatingWebhook {
    let selection = Selection::of(entry, desired);
    MutatingWebhook {
        name: webhook_name(entry),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: desired.client_config.for_entry("mutate", entry, bundle),
        failure_policy: Some(failure_policy(entry).to_owned()),
        match_conditions: match_conditions(desired, entry, Phase::Mutate),
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(selection.namespaces),
        object_selector: selection.objects,
        // Another webhook may add the label to a Pod after our review.
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(rules(entry)),
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
        failure_policy: Some(failure_policy(entry).to_owned()),
        match_conditions: match_conditions(desired, entry, Phase::Validate),
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(selection.namespaces),
        object_selector: selection.objects,
        rules: Some(rules(entry)),
        side_effects: side_effects(entry, Phase::Validate).to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    }
}

fn webhook_name(entry: Entry) -> String {
    match entry {
        Entry::OwnKinds | Entry::OwnedSandboxes => format!("{}.paddock.dev", entry.as_str()),
        Entry::MarkedPods | Entry::IsolatedNamespaces | Entry::Connect => {
            format!("{}.pods.paddock.dev", entry.as_str())
        }
    }
}

fn failure_policy(entry: Entry) -> &'static str {
    match entry {
        Entry::MarkedPods | Entry::IsolatedNamespaces | Entry::OwnedSandboxes => "Fail",
        Entry::OwnKinds | Entry::Connect => "Ignore",
    }
}

fn side_effects(entry: Entry, phase: Phase) -> &'static str {
    match (entry, phase) {
        // `connect` writes an activity record to the Sandbox. The mutating call for our own kinds reserves a Sandbox
        // for a claim.
        (Entry::Connect, _) | (Entry::OwnKinds, Phase::Mutate) => "NoneOnDryRun",
        (Entry::MarkedPods | Entry::IsolatedNamespaces | Entry::OwnKinds | Entry::OwnedSandboxes, _) => "None",
    }
}

fn match_conditions(desired: &Desired, entry: Entry, phase: Phase) -> Option<Vec<MatchCondition>> {
    let condition = |name: &str, expression| MatchCondition { name: name.to_owned(), expression };
    // Rust's debug format quotes and escapes a string in the same way as CEL.
    let not_us = desired.operator_user.as_ref().map(|user| format!("request.userInfo.username != {user:?}"));
    let owned = (entry == Entry::OwnedSandboxes).then(given_to_us);
    let without_reservation = ((entry, phase) == (Entry::OwnKinds, Phase::Validate)).then(carries_no_reservation);
    let conditions = [
        not_us.map(|e| condition("not-the-operator", e)),
        owned.map(|e| condition("given-an-owner", e)),
        without_reservation.map(|e| condition("without-a-reservation", e)),
    ];
    Some(conditions.into_iter().flatten().collect()).filter(|c: &Vec<_>| !c.is_empty())
}

/// A CEL expression that is true except for the creation of a claim with a reservation.
///
/// The mutating call adds a reservation only to a claim that validation accepts without a message. It removes a name
/// that the user wrote, and the API server repeats the call when another webhook changes the claim. A validating call
/// would add most of a millisecond before the client gets a Sandbox, and its result is already known.
fn carries_no_reservation() -> String {
    format!(
        "!(request.operation == 'CREATE' && request.resource.resource == {:?} && {:?} in \
         object.metadata.?annotations.orValue({{}}))",
        Kind::Claim.plural(),
        annotation::SANDBOX_NAME
    )
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
        let kube_system = || requirement(NAMESPACE_NAME, "NotIn", &["kube-system"]);
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
                        requirement(NAMESPACE_NAME, "NotIn", &exempt),
                        requirement(label::ISOLATION, "Exists", &[]),
                        requirement(label::ISOLATION, "NotIn", &[label::ISOLATION_NONE]),
                    ]),
                    // The other entry matches Pods with the label "true".
                    objects: Some(selector(vec![requirement(label::GENERATED_CODE, "NotIn", &[label::TRUE])])),
                }
            }
            Entry::OwnKinds | Entry::OwnedSandboxes | Entry::Connect => Self { namespaces: plain, objects: None },
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

fn rules(entry: Entry) -> Vec<RuleWithOperations> {
    let rule = |operations: &[&str], groups: &str, versions: &[&str], resources: Vec<String>| RuleWithOperations {
        operations: Some(operations.iter().map(|o| (*o).to_owned()).collect()),
        api_groups: Some(vec![groups.to_owned()]),
        api_versions: Some(versions.iter().map(|v| (*v).to_owned()).collect()),
        resources: Some(resources),
        scope: Some("Namespaced".to_owned()),
    };
    match entry {
        Entry::MarkedPods | Entry::IsolatedNamespaces => {
            vec![rule(&["CREATE", "UPDATE"], "", &["v1"], vec!["pods".to_owned()])]
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
            let resources = ["pods/attach", "pods/exec", "pods/portforward"].map(str::to_owned).to_vec();
            vec![rule(&["CONNECT"], "", &["v1"], resources)]
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

    #[test]
    fn pods_and_foreign_owners_fail_closed_and_everything_else_open() {
        let desired = Desired {
            client_config: ClientConfig::Url("https://127.0.0.1:9443".to_owned()),
            own_namespace: Some("agent-sandbox-system".to_owned()),
            operator_user: Some("system:serviceaccount:agent-sandbox-system:agent-sandbox-controller".to_owned()),
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
        // Only the mutating call adds a reservation, so such a claim has been reviewed.
        let spared = |conditions: &Option<Vec<MatchCondition>>| {
            conditions.iter().flatten().any(|condition| condition.name == "without-a-reservation")
        };
        for webhook in validating.webhooks.iter().flatten() {
            assert_eq!(spared(&webhook.match_conditions), webhook.name == "sandboxes.paddock.dev", "{}", webhook.name);
        }
        let mutating: Vec<_> = mutating.webhooks.into_iter().flatten().collect();
        assert!(!mutating.iter().any(|webhook| spared(&webhook.match_conditions)));
        assert_eq!(mutating.len(), 3, "a connection is not changed");
        for webhook in &mutating {
            assert_eq!(webhook.timeout_seconds, Some(2));
            let conditions = serde_json::to_string(&webhook.match_conditions).expect("JSON");
            assert!(conditions.contains("agent-sandbox-controller"), "{conditions}");
            let namespaces = serde_json::to_string(&webhook.namespace_selector).expect("JSON");
            assert!(namespaces.contains("kube-system"), "{namespaces}");
        }
    }
}
