//! The spec of a NetworkPolicy: by which labels it selects pods, its digest, and the form that two equal specs share.

use paddock_api::names::{label, name_hash, object as names};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::object::json::JsonText;

/// The most bytes that the spec of a NetworkPolicy may have as JSON. The operator keeps it in an annotation, and the
/// annotations of an object may have 256 KiB together. Earlier versions wrote up to 128 KiB without the digest, which has
/// less than 128 bytes.
pub const MAX_SPEC_BYTES: usize = 128 * 1024 + 128;

/// The labels by which the NetworkPolicy of a template selects pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Selector {
    /// The hash of the template's name and its digest. No other template has both.
    Digest,
    /// The hash alone. A pod of an earlier version has no digest until the operator has added it, and a policy that
    /// selects by the digest does not apply to this pod.
    HashAlone,
}

impl Selector {
    /// The spec of a template's NetworkPolicy with this selector.
    #[must_use]
    pub fn applied(self, template: &str, mut spec: Value) -> Value {
        if let Some(fields) = spec.as_object_mut() {
            fields.insert("podSelector".to_owned(), self.pod_selector(template));
        }
        spec
    }

    fn pod_selector(self, template: &str) -> Value {
        let labels = selection_labels(template).into_iter().filter(|(key, _)| match self {
            Self::Digest => true,
            Self::HashAlone => *key != label::TEMPLATE_DIGEST,
        });
        let labels: Map<String, Value> = labels.map(|(key, value)| (key.to_owned(), value.into())).collect();
        json!({ "matchLabels": labels })
    }
}

/// The labels of the pods of a template by which its NetworkPolicy selects them.
#[must_use]
pub fn selection_labels(template: &str) -> [(&'static str, String); 2] {
    let digest = sha_256_128(template.as_bytes());
    [(label::TEMPLATE_REF_HASH, name_hash(template)), (label::TEMPLATE_DIGEST, format!("{digest:032x}"))]
}

/// The first 128 bits of a SHA-256, so that nobody finds another text with the digest of a given one.
fn sha_256_128(text: &[u8]) -> u128 {
    Sha256::digest(text).iter().take(16).fold(0, |digest, byte| digest << 8 | u128::from(*byte))
}

/// The spec of a NetworkPolicy, and the facts that the World compares. They are computed when the object is read, because
/// nobody else can use the World while it compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySpec {
    /// The spec in the form that two equal specs share. The operator reads each policy that it wrote, because the protocols
    /// that the API server adds are not in this form. Of a foreign policy, and of one that is larger than each of the
    /// operator, it is only the part that selects pods, or a text if that part is too large.
    pub text: JsonText,
    /// The digest of the whole spec, if the text is the whole spec.
    pub(crate) digest: Option<u128>,
    /// Whether the spec selects pods as [`Selector::HashAlone`] does.
    by_hash_alone: bool,
    /// The digests of the spec in the annotation.
    kept: Option<SpecDigests>,
}

impl PolicySpec {
    /// The whole spec of the policy with this name, and the spec that its annotation keeps. `None` if the spec is larger
    /// than the operator makes one.
    #[must_use]
    pub(crate) fn whole(policy: &str, spec: &Value, kept: Option<&str>) -> Option<Self> {
        let spec = normal(spec);
        let text = JsonText::of(&spec);
        if text.as_str().len() > MAX_SPEC_BYTES {
            return None;
        }
        let template = policy.strip_suffix(names::NETWORK_POLICY_SUFFIX).unwrap_or_default();
        Some(Self {
            // As `spec_digest` does, which would compute the form again.
            digest: Some(sha_256_128(text.as_str().as_bytes())),
            text,
            by_hash_alone: selects_by_hash_alone(policy, &spec),
            kept: kept.and_then(kept_spec).map(|kept| SpecDigests::of(template, &kept)),
        })
    }

    /// A part of the spec of the policy with this name. It is equal to no other spec.
    #[must_use]
    pub(crate) fn part(policy: &str, text: JsonText) -> Self {
        let by_hash_alone = selects_by_hash_alone(policy, &text.parse());
        Self { text, digest: None, by_hash_alone, kept: None }
    }

    /// Whether this is the wanted spec, with either selector. Both select each pod of the template.
    #[must_use]
    pub(crate) fn is(&self, wanted: SpecDigests) -> bool {
        self.digest.is_some_and(|digest| [wanted.by_digest, wanted.by_hash_alone].contains(&digest))
    }

    /// Whether the spec selects pods as [`Selector::HashAlone`] does.
    #[must_use]
    pub(crate) fn by_hash_alone(&self) -> bool {
        self.by_hash_alone
    }

    /// The digests of the spec in the annotation, if the annotation can be read.
    #[must_use]
    pub(crate) fn kept(&self) -> Option<SpecDigests> {
        self.kept
    }
}

/// The digests of the spec of a template's NetworkPolicy, with each selector that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpecDigests {
    by_digest: u128,
    by_hash_alone: u128,
}

impl SpecDigests {
    /// The digests of a spec, whatever its selector is.
    #[must_use]
    pub(crate) fn of(template: &str, spec: &Value) -> Self {
        let with = |selector: Selector| spec_digest(&selector.applied(template, spec.clone()));
        Self { by_digest: with(Selector::Digest), by_hash_alone: with(Selector::HashAlone) }
    }
}

/// The spec in the text of an annotation. The operator writes no larger one.
pub(crate) fn kept_spec(text: &str) -> Option<Value> {
    let text = Some(text).filter(|text| text.len() <= MAX_SPEC_BYTES)?;
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// The digest that two specs share if they have the same effect.
pub(crate) fn spec_digest(spec: &Value) -> u128 {
    sha_256_128(normal(spec).to_string().as_bytes())
}

/// Whether the spec of the policy with this name selects pods as [`Selector::HashAlone`] does.
fn selects_by_hash_alone(policy: &str, spec: &Value) -> bool {
    let template = policy.strip_suffix(names::NETWORK_POLICY_SUFFIX);
    template.is_some_and(|template| normal(&spec["podSelector"]) == Selector::HashAlone.pod_selector(template))
}

/// The form of a spec that two equal specs share.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, v)| !is_absent(v)).map(|(name, field)| {
                let field = match (name.as_str(), field) {
                    // An empty map of labels is left out, unlike an empty selector, which selects everything.
                    ("ports", Value::Array(ports)) => Value::Array(ports.iter().map(without_tcp).collect()),
                    (_, field) => normal(field),
                };
                (name.clone(), field)
            });
            let empty_labels = |(name, field): &(String, Value)| {
                name == "matchLabels" && field.as_object().is_some_and(serde_json::Map::is_empty)
            };
            Value::Object(kept.filter(|entry| !empty_labels(entry)).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(normal).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn is_absent(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// A port without the protocol that the API server adds.
fn without_tcp(port: &Value) -> Value {
    let mut port = normal(port);
    if let Some(fields) = port.as_object_mut()
        && fields.get("protocol").is_some_and(|protocol| protocol == "TCP")
    {
        fields.remove("protocol");
    }
    port
}
