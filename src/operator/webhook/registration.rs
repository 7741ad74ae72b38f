//! The webhook configurations: what the API server asks us about, and what it does when we do not answer.
//!
//! | entry | matched by | without an answer |
//! |---|---|---|
//! | Pods that carry the generated-code label | object labels | denied |
//! | Pods of namespaces that require isolation | namespace labels | denied |
//! | the kinds that Paddock serves | rules | admitted; asked again before a pod is made |
//! | Sandboxes that somebody gives to a pool or a claim | rules, owner references | denied: who they are from is not seen later |
//! | exec, attach, port-forward | rules | admitted |
//!
//! An entry's selectors are ANDed, hence two entries for Pods. kube-system and the operator itself are never asked
//! about; nor, for the namespace entry, the operator's own namespace: a webhook that is needed to start the webhook
//! would never start again.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use paddock_core::admission::{Entry, Phase};
use paddock_core::kind::Kind;
use paddock_core::names::{annotation, group, label};

/// Name of both configurations.
pub const CONFIGURATION: &str = "paddock-webhook";
/// The API server's wait for an answer, in seconds.
const TIMEOUT_SECONDS: i32 = 2;
/// The label that every namespace has with its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// How the API server reaches the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientConfig {
    /// By a Service of the cluster.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// At `https://HOST:PORT`, for an operator outside of the cluster.
    Url(String),
}

impl ClientConfig {
    /// The names that a certificate has to be for.
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

/// What the configurations depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// How the webhook is reached.
    pub client_config: ClientConfig,
    /// The operator's own namespace, where it has one.
    pub own_namespace: Option<String>,
    /// The operator's user, which is not asked about.
    pub operator_user: Option<String>,
}

/// The configurations, without metadata other than their name.
#[must_use]
pub fn configurations(
    desired: &Desired,
    bundle: Option<&str>,
) -> (MutatingWebhookConfiguration, ValidatingWebhookConfiguration) {
    let mutating = [Entry::MarkedPods, Entry::IsolatedNamespaces, Entry::OwnKinds]
        .map(|entry| mutating(desired, entry, bundle))
        .to_vec();
    let validating = Entry::ALL.map(|entry| validating(desired, entry, bundle)).to_vec();
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
        // Another webhook may mark a Pod after we looked at it.
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
        // The first writes the activity to the Sandbox. The second reserves a Sandbox for a claim.
        (Entry::Connect, _) | (Entry::OwnKinds, Phase::Mutate) => "NoneOnDryRun",
        (Entry::MarkedPods | Entry::IsolatedNamespaces | Entry::OwnKinds | Entry::OwnedSandboxes, _) => "None",
    }
}

fn match_conditions(desired: &Desired, entry: Entry, phase: Phase) -> Option<Vec<MatchCondition>> {
    let condition = |name: &str, expression| MatchCondition { name: name.to_owned(), expression };
    // Debug's quotes and escapes are CEL's.
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

/// In CEL: everything but the creation of a claim that carries a reservation.
///
/// The mutating call writes the reservation only on a claim about which validation has nothing to say. It removes a name
/// that the user wrote, and the API server repeats it when another webhook changes the claim. A second call would cost most
/// of a millisecond on the way to a Sandbox and would say nothing new.
fn carries_no_reservation() -> String {
    format!(
        "!(request.operation == 'CREATE' && request.resource.resource == {:?} && {:?} in \
         object.metadata.?annotations.orValue({{}}))",
        Kind::Claim.plural(),
        annotation::SANDBOX_NAME
    )
}

/// In CEL: a pool or a claim is an owner that was none before. The webhook says the same in more words.
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

/// The labels that an entry looks at.
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
                // Any other value than "false": one that is neither is denied, not overlooked.
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
                    // Those that the other entry has already.
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
        // Only a claim that the mutating call has reviewed carries a reservation.
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
