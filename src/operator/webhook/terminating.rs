//! Recognizes an update of a terminating object that changes only its finalizers, from the bytes of a review and with
//! little memory. A client must be able to remove the finalizers of an object that is too large for a review.
//!
//! The core has the same rule for reviews that are parsed. Both objects come from one serializer, so equal parts have
//! equal bytes. A difference in the bytes of equal parts costs only the exemption.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    operation: Operation,
    #[serde(borrow)]
    object: Object<'a>,
    #[serde(borrow)]
    old_object: Object<'a>,
}

/// The only operation that is exempt.
#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Operation {
    Update,
}

/// The parts of an object, as text. A field that is not listed here is an error, so that it cannot differ unseen.
#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow, default)]
    api_version: Part<'a>,
    #[serde(borrow, default)]
    kind: Part<'a>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    spec: Part<'a>,
    #[serde(borrow, default)]
    status: Part<'a>,
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Part<'a>,
    #[serde(borrow, default)]
    generate_name: Part<'a>,
    #[serde(borrow, default)]
    namespace: Part<'a>,
    #[serde(borrow, default)]
    self_link: Part<'a>,
    #[serde(borrow, default)]
    uid: Part<'a>,
    #[serde(borrow, default)]
    creation_timestamp: Part<'a>,
    #[serde(borrow, default)]
    deletion_timestamp: Part<'a>,
    #[serde(borrow, default)]
    deletion_grace_period_seconds: Part<'a>,
    #[serde(borrow, default)]
    labels: Part<'a>,
    #[serde(borrow, default)]
    annotations: Part<'a>,
    #[serde(borrow, default)]
    owner_references: Part<'a>,
    #[serde(default)]
    finalizers: Any,
    // The API server changes the other three with every write.
    #[serde(default)]
    managed_fields: Any,
    #[serde(default)]
    resource_version: Any,
    #[serde(default)]
    generation: Any,
}

/// The text of a field.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Part<'a>(#[serde(borrow)] Option<&'a RawValue>);

impl PartialEq for Part<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.map(RawValue::get) == other.0.map(RawValue::get)
    }
}

/// A field that may differ.
#[derive(Default, PartialEq)]
struct Any;

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Any)
    }
}

/// Whether the review in this body is about an update that changes nothing but the finalizers of a terminating object.
/// The stored object decides whether it is terminating.
pub(super) fn changes_only_finalizers(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|Incoming { request }| {
        let Request { operation: Operation::Update, object, old_object } = request;
        let is_terminating = old_object.metadata.deletion_timestamp.0.is_some_and(|time| time.get().starts_with('"'));
        is_terminating && object == old_object
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sandbox() -> Value {
        json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1,
                "creationTimestamp": "2026-11-30T12:00:00Z", "deletionTimestamp": "2026-11-30T12:00:00Z",
                "deletionGracePeriodSeconds": 0, "finalizers": ["example.com/a"], "labels": { "a": "b" },
                "managedFields": [{ "manager": "kubectl" }],
            },
            "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
            "status": { "conditions": [] },
        })
    }

    /// Whether an update is exempt that makes this change.
    fn exempt(operation: &str, change: impl Fn(&mut Value)) -> bool {
        let (old, mut new) = (sandbox(), sandbox());
        change(&mut new);
        let request = json!({ "uid": "1", "operation": operation, "object": new, "oldObject": old, "options": {} });
        changes_only_finalizers(json!({ "kind": "AdmissionReview", "request": request }).to_string().as_bytes())
    }

    #[test]
    fn only_finalizers_of_a_terminating_object_may_differ() {
        let without = |new: &mut Value| {
            new["metadata"]["finalizers"] = json!([]);
            new["metadata"]["resourceVersion"] = "2".into();
            new["metadata"]["managedFields"] = json!([]);
        };
        assert!(exempt("UPDATE", without));
        assert!(exempt("UPDATE", |new| drop(new["metadata"].as_object_mut().unwrap().remove("finalizers"))));
        assert!(!exempt("CREATE", without));
        for change in
            ["/spec/podTemplate", "/metadata/labels", "/metadata/uid", "/metadata/deletionTimestamp", "/status"]
        {
            let with_change = |new: &mut Value| {
                without(new);
                *new.pointer_mut(change).unwrap() = json!({ "other": 1 });
            };
            assert!(!exempt("UPDATE", with_change), "{change}");
        }
        for unknown in ["/metadata", ""] {
            let with_field = |new: &mut Value| {
                without(new);
                new.pointer_mut(unknown).unwrap()["unknown"] = json!(1);
            };
            assert!(!exempt("UPDATE", with_field), "{unknown}");
        }
    }

    #[test]
    fn the_stored_object_decides_whether_it_is_terminating() {
        let mut stored = sandbox();
        stored["metadata"]["deletionTimestamp"] = Value::Null;
        let request = json!({ "operation": "UPDATE", "object": sandbox(), "oldObject": stored });
        assert!(!changes_only_finalizers(json!({ "request": request }).to_string().as_bytes()));
        let request = json!({ "operation": "UPDATE", "object": stored, "oldObject": stored });
        assert!(!changes_only_finalizers(json!({ "request": request }).to_string().as_bytes()));
        for body in ["", "{}", "[", r#"{"request":{"operation":"UPDATE","object":null,"oldObject":null}}"#] {
            assert!(!changes_only_finalizers(body.as_bytes()), "{body}");
        }
    }
}
