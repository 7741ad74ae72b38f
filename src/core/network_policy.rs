//! The NetworkPolicy of a template: whose it is, whether its spec is the wanted one, and whether it is in place.
//!
//! The policy has no owner reference, because it must outlive its template for as long as a Sandbox of the template
//! exists. An annotation names the template instead. Another annotation keeps the spec that the operator wrote last,
//! which is the wanted spec when the template does not exist any more.

use paddock_api::kind::{Key, Kind, OwnKind};
use paddock_api::names::{annotation, object as names};
use serde::Serialize;
use serde_json::Value;

use crate::model::{FieldError, StoredSpec};
use crate::object::{Body, Object};
pub(crate) use crate::policy_spec::SpecDigests;
pub use crate::policy_spec::{MAX_SPEC_BYTES, PolicySpec, Selector, selection_labels};
use crate::policy_spec::{kept_spec, spec_digest};

/// Whether the NetworkPolicy of a Sandbox's template is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum NetworkPolicyState {
    /// The Sandbox was made from no template, or its template is Unmanaged.
    NotNeeded,
    /// The policy exists, belongs to the operator, and has the wanted spec.
    InPlace,
    /// The policy is missing or differs, and the operator is about to write it. The text says what is missing.
    Pending(String),
    /// The policy is missing or differs, and the operator cannot write it. The text says why.
    Blocked(String),
}

impl NetworkPolicyState {
    /// The reason why no pod may be created and no claim may take the Sandbox, if there is one.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match self {
            NetworkPolicyState::NotNeeded | NetworkPolicyState::InPlace => None,
            NetworkPolicyState::Pending(problem) | NetworkPolicyState::Blocked(problem) => Some(problem),
        }
    }

    /// The reason why the operator cannot write the policy, if there is one.
    #[must_use]
    pub fn blocked(&self) -> Option<&str> {
        match self {
            NetworkPolicyState::NotNeeded | NetworkPolicyState::InPlace | NetworkPolicyState::Pending(_) => None,
            NetworkPolicyState::Blocked(problem) => Some(problem),
        }
    }
}

/// The owner of an existing NetworkPolicy, from the point of view of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The operator made the policy for the template.
    Ours,
    /// The operator made the policy for the template of the same name in the other API group.
    OfTemplate(Key),
    /// Somebody else made the policy.
    Foreign,
}

/// The key of the NetworkPolicy of a template.
#[must_use]
pub fn policy_key(template: &Key) -> Key {
    template.sibling(Kind::NetworkPolicy, names::network_policy(&template.name).as_str())
}

/// The value of the annotation that names the template of a policy: `RESOURCE.GROUP/NAME`.
#[must_use]
pub fn template_reference(template: &Key) -> String {
    format!("{}.{}/{}", template.kind.plural(), template.kind.group(), template.name)
}

/// The template that a NetworkPolicy belongs to. Versions before the annotations made the template the controller of
/// its policy.
#[must_use]
pub fn template_of(policy: &Object) -> Option<Key> {
    let name = policy.key.name.strip_suffix(names::NETWORK_POLICY_SUFFIX)?;
    let annotated = policy.meta.annotations.get(annotation::POLICY_TEMPLATE).and_then(|reference| {
        let kinds = [Kind::Template, Kind::SeedTemplate].into_iter();
        kinds.map(|kind| policy.key.sibling(kind, name)).find(|key| template_reference(key) == *reference)
    });
    annotated.or_else(|| policy.owner_key().filter(|key| is_template(key.kind) && *key.name == *name))
}

/// Whether a kind is a template of either API shape.
#[must_use]
pub fn is_template(kind: Kind) -> bool {
    matches!(kind.own(), Some(OwnKind::Template(_)))
}

/// Whose policy this is, from the point of view of `template`.
#[must_use]
pub fn ownership(policy: &Object, template: &Key) -> Ownership {
    match template_of(policy) {
        Some(owner) if owner == *template => Ownership::Ours,
        Some(owner) => Ownership::OfTemplate(owner),
        // The annotation with the spec remains if somebody damages the one with the name.
        None if policy.meta.controller.is_none() && last_spec(policy).is_some() => Ownership::Ours,
        None => Ownership::Foreign,
    }
}

/// The spec that the operator wrote last, from the annotation of the policy.
#[must_use]
pub fn last_spec(policy: &Object) -> Option<Value> {
    policy.meta.annotations.get(annotation::POLICY_SPEC).and_then(kept_spec)
}

/// Whether the annotation of a policy keeps this spec.
#[must_use]
pub fn keeps_spec(policy: &Object, wanted: &Value) -> bool {
    last_spec(policy).is_some_and(|kept| spec_digest(&kept) == spec_digest(wanted))
}

/// Whether a policy has exactly this spec. Two specs are equal if they have the same effect: the API server leaves out
/// empty lists, and fills in the protocol of a port.
#[must_use]
pub fn has_spec(policy: &Object, wanted: &Value) -> bool {
    spec(policy).and_then(|spec| spec.digest).is_some_and(|digest| digest == spec_digest(wanted))
}

/// The error of a template whose rules are too large to be kept, if that is the case.
#[must_use]
pub fn too_large(spec: &Value) -> Option<FieldError> {
    let size = spec.to_string().len();
    (size > MAX_SPEC_BYTES).then(|| {
        let message = format!("the rules have {size} bytes as JSON and may have {MAX_SPEC_BYTES} at most");
        FieldError::new("spec.networkPolicy", message)
    })
}

/// The reason why no NetworkPolicy applies to a pod, if there is one.
#[must_use]
pub fn bypass(pod: &StoredSpec) -> Option<&'static str> {
    pod.host_network()
        .then_some("spec.hostNetwork is true, and a NetworkPolicy does not apply to a pod on the network of its node")
}

/// The spec of a NetworkPolicy, as it was read.
#[must_use]
pub fn spec(policy: &Object) -> Option<&PolicySpec> {
    if let Body::NetworkPolicy(spec) = &policy.body { Some(spec) } else { None }
}

/// The spec of a NetworkPolicy.
#[must_use]
pub fn spec_of(policy: &Object) -> Option<Value> {
    spec(policy).map(|spec| spec.text.parse())
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;
    use serde_json::json;

    use super::*;

    fn policy(spec: Value) -> Object {
        let metadata = json!({
            "name": "t-network-policy", "namespace": "ns", "annotations": { annotation::POLICY_SPEC: "{}" },
        });
        let document = json!({ "metadata": metadata, "spec": spec });
        Object::from_json(Kind::NetworkPolicy, document).unwrap()
    }

    fn full() -> Value {
        json!({
            "podSelector": { "matchLabels": { "a": "b" } },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{
                "from": [{ "namespaceSelector": { "matchLabels": { "n": "m" } }, "podSelector": { "matchLabels": { "c": "d" } } }],
                "ports": [{ "protocol": "UDP", "port": 53, "endPort": 60 }],
            }],
            "egress": [{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"] } }] }],
        })
    }

    #[test]
    fn specs_with_the_same_effect_are_equal() {
        for (actual, wanted) in [
            (json!({ "ingress": [] }), json!({})),
            (json!({ "podSelector": {} }), json!({ "podSelector": { "matchLabels": {}, "matchExpressions": [] } })),
            (
                json!({ "egress": [{ "ports": [{ "port": 443, "protocol": "TCP" }] }] }),
                json!({ "egress": [{ "ports": [{ "port": 443 }], "to": [] }] }),
            ),
        ] {
            assert!(has_spec(&policy(actual.clone()), &wanted), "{actual} {wanted}");
        }
    }

    #[test]
    fn names_with_one_hash_have_digests_of_their_own() {
        let [own, other] = ["t", "xlgqwaaol"].map(selection_labels);
        assert_eq!(own[0], other[0], "the 32-bit hash of both names");
        assert_ne!(own[1], other[1]);
        assert_eq!(own[1], ("policy.paddock.dev/template-digest", "e3b98a4da31a127d4bde6e43033f66ba".to_owned()));
        let selected = Selector::Digest.applied("t", json!({}));
        assert_eq!(selected["podSelector"]["matchLabels"], json!(std::collections::BTreeMap::from(own)));
    }

    #[test]
    fn a_spec_larger_than_the_operator_writes_is_not_kept() {
        let with = |bytes: usize| json!({ "egress": [{ "to": [{ "ipBlock": { "cidr": "x".repeat(bytes) } }] }] });
        let (own, large) = (with(MAX_SPEC_BYTES - 100), with(MAX_SPEC_BYTES));
        assert!(has_spec(&policy(own.clone()), &own));
        let read = policy(large.clone());
        assert!(!has_spec(&read, &large));
        let kept = spec(&read).unwrap().text.as_str();
        assert!(kept.len() < 100, "{kept}");
        for (selector, by_hash_alone) in [(Selector::HashAlone, true), (Selector::Digest, false)] {
            let read = policy(selector.applied("t", large.clone()));
            assert_eq!(spec(&read).unwrap().by_hash_alone(), by_hash_alone, "{selector:?}");
        }
    }

    #[test]
    fn protocols_that_the_api_server_adds_do_not_make_rules_too_large() {
        // 11 bytes each, and 28 with the protocol.
        let ports = |count: usize, port: Value| json!({ "egress": [{ "ports": vec![port; count] }] });
        let written = ports(11_000, json!({ "port": 1 }));
        assert_eq!(too_large(&written), None);
        assert!(has_spec(&policy(ports(11_000, json!({ "port": 1, "protocol": "TCP" }))), &written));
        let error = too_large(&ports(12_000, json!({ "port": 1 }))).unwrap();
        assert_eq!(error.path, "spec.networkPolicy");
    }

    #[test]
    fn an_empty_selector_is_not_the_same_as_none() {
        let from = |peer: Value| json!({ "ingress": [{ "from": [peer] }] });
        let narrow = from(json!({ "podSelector": { "matchLabels": { "a": "b" } } }));
        let wide = from(json!({ "podSelector": { "matchLabels": { "a": "b" } }, "namespaceSelector": {} }));
        assert!(!has_spec(&policy(wide.clone()), &narrow) && !has_spec(&policy(narrow), &wide));
    }

    /// Each field of the spec is changed and removed, and a field is added in each object. All of it counts.
    #[test]
    fn every_difference_counts() {
        let wanted = full();
        assert!(has_spec(&policy(full()), &wanted));
        let mut changed = Vec::new();
        changes(&wanted, &mut |other| changed.push(other));
        assert!(changed.len() > 30, "{}", changed.len());
        for other in changed {
            assert!(!has_spec(&policy(other.clone()), &wanted), "{other}");
        }
    }

    /// Calls `found` with each value that differs from `of` in one place.
    fn changes(of: &Value, found: &mut dyn FnMut(Value)) {
        match of {
            Value::Object(fields) => {
                found(with(of, |o| o.as_object_mut().unwrap().insert("added".to_owned(), json!({ "x": 1 })).is_none()));
                for (name, field) in fields {
                    found(with(of, |o| o.as_object_mut().unwrap().remove(name).is_some()));
                    changes(field, &mut |new| {
                        found(with(of, |o| {
                            o[name] = new.clone();
                            true
                        }))
                    });
                }
            }
            Value::Array(values) => {
                found(with(of, |o| {
                    o.as_array_mut().unwrap().push(json!({ "x": 1 }));
                    true
                }));
                for (at, value) in values.iter().enumerate() {
                    found(with(of, |o| {
                        o.as_array_mut().unwrap().remove(at);
                        true
                    }));
                    changes(value, &mut |new| {
                        found(with(of, |o| {
                            o[at] = new.clone();
                            true
                        }))
                    });
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => found(json!("other")),
        }
    }

    fn with(of: &Value, change: impl FnOnce(&mut Value) -> bool) -> Value {
        let mut copy = of.clone();
        assert!(change(&mut copy));
        copy
    }

    #[test]
    fn owner_is_read_from_the_annotation_or_the_old_controller_reference() {
        let of = |metadata: Value| {
            let mut document = json!({ "metadata": { "name": "t-network-policy", "namespace": "ns" }, "spec": {} });
            json_patch::merge(&mut document["metadata"], &metadata);
            ownership(&Object::from_json(Kind::NetworkPolicy, document).unwrap(), &Key::new(Kind::Template, "ns", "t"))
        };
        let named = |reference: &str| json!({ "annotations": { "policy.paddock.dev/template": reference } });
        let controller = |api: &str| json!({ "ownerReferences": [{ "apiVersion": api, "kind": "SandboxTemplate", "name": "t", "uid": "u", "controller": true }] });
        assert_eq!(of(named("sandboxtemplates.extensions.agents.x-k8s.io/t")), Ownership::Ours);
        let other = Ownership::OfTemplate(Key::new(Kind::SeedTemplate, "ns", "t"));
        assert_eq!(of(named("sandboxtemplates.agents.x-k8s.io/t")), other);
        assert_eq!(of(named("sandboxtemplates.extensions.agents.x-k8s.io/u")), Ownership::Foreign);
        assert_eq!(of(controller("extensions.agents.x-k8s.io/v1beta1")), Ownership::Ours);
        assert_eq!(of(controller("agents.x-k8s.io/v1alpha1")), other);
        assert_eq!(of(json!({})), Ownership::Foreign);
        let kept = json!({ "annotations": { "policy.paddock.dev/network-policy-spec": "{}" } });
        assert_eq!(of(kept), Ownership::Ours, "a damaged name does not make the policy foreign");
    }
}
