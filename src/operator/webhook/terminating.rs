//! Recognizes an update of a terminating object that changes only its finalizers, from the bytes of a review and with
//! little memory. A client must be able to remove the finalizers of an object that is too large for a review.
//!
//! The core has the same rule for reviews that are parsed, and the table of the fields that may differ. Both objects come
//! from one serializer, so equal parts have equal bytes. A difference in the bytes of equal parts costs only the
//! exemption.

use std::fmt;

use paddock_core::admission::FINALIZER_UPDATE_FIELDS;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::limits;

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
    object: Fields<'a>,
    #[serde(borrow)]
    old_object: Fields<'a>,
}

/// The only operation that is exempt.
#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Operation {
    Update,
}

/// The fields of an object, each with its text.
struct Fields<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The text of a field.
    fn get(&self, field: &str) -> Option<&'a str> {
        self.0.iter().find(|(name, _)| *name == field).map(|(_, text)| text.get())
    }

    /// The fields of the metadata.
    fn metadata(&self) -> Option<Self> {
        serde_json::from_str(self.get("metadata")?).ok()
    }

    /// All fields but these.
    fn without(&self, fields: &[&str]) -> Vec<(&'a str, &'a str)> {
        let rest = self.0.iter().filter(|(name, _)| !fields.contains(name));
        rest.map(|(name, text)| (*name, text.get())).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            if fields.len() >= limits::UNPARSED_FIELDS {
                return Err(A::Error::custom("too many fields"));
            }
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

/// Whether the review in this body is about an update that changes nothing but the finalizers of a terminating object.
/// The stored object decides whether it is terminating.
pub(super) fn changes_only_finalizers(body: &[u8]) -> bool {
    let Ok(Incoming { request }) = serde_json::from_slice(body) else { return false };
    let Request { operation: Operation::Update, object, old_object } = request;
    let (Some(new), Some(old)) = (object.metadata(), old_object.metadata()) else { return false };
    let is_terminating = old.get("deletionTimestamp").is_some_and(|time| time.starts_with('"'));
    is_terminating
        && object.without(&["metadata"]) == old_object.without(&["metadata"])
        && new.without(&FINALIZER_UPDATE_FIELDS) == old.without(&FINALIZER_UPDATE_FIELDS)
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
        for field in FINALIZER_UPDATE_FIELDS {
            assert!(exempt("UPDATE", |new| new["metadata"][field] = "other".into()), "{field}");
        }
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
    fn object_with_too_many_fields_is_not_exempt() {
        for (fields, is_exempt) in [(limits::UNPARSED_FIELDS, true), (limits::UNPARSED_FIELDS + 1, false)] {
            let mut object = json!({ "metadata": sandbox()["metadata"] });
            (1..fields).for_each(|n| object[format!("f{n}")] = json!(n));
            let request = json!({ "operation": "UPDATE", "object": object, "oldObject": object });
            let body = json!({ "request": request }).to_string();
            assert_eq!(changes_only_finalizers(body.as_bytes()), is_exempt, "{fields}");
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
