//! An object as the API server sends it: its metadata, and its JSON text.
//!
//! The text is not parsed further here. The reader of a kind parses the fields that it needs, so that an object never
//! costs more memory than its text and these fields. Parsed as a generic JSON value, an object of many small fields
//! would cost more than twenty times its text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::api::ApiResource;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// One object of any kind. It is read from JSON text only, and in a watch event the type has to come first, as every API
/// server writes it.
#[derive(Clone, Debug)]
pub struct Document {
    /// The metadata. Its managed fields name their managers and operations, and not the fields.
    pub metadata: ObjectMeta,
    /// The whole object as JSON.
    pub text: Box<RawValue>,
    /// The bytes of the text that users wrote: without the managed fields and the status.
    pub bytes: usize,
    /// The places of the spec and of the status in the text.
    parts: [Option<Range<usize>>; 2],
}

impl Document {
    /// Reads a document from its JSON text.
    ///
    /// # Errors
    /// The text is not JSON, or it has no metadata of an object.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        Self::of(serde_json::from_str(text)?)
    }

    fn of(text: Box<RawValue>) -> Result<Self, serde_json::Error> {
        let Head { metadata, spec, status } = serde_json::from_str(text.get())?;
        let others = [metadata.managed_fields, status].into_iter().flatten().map(|part| part.get().len());
        let bytes = text.get().len() - others.sum::<usize>();
        let parts = [spec, status].map(|part| part.map(|part| place(text.get(), part.get())));
        Ok(Self { metadata: metadata.read()?, bytes, parts, text })
    }

    /// The JSON text of the spec, or `null` without one.
    #[must_use]
    pub fn spec(&self) -> &str {
        self.part(0)
    }

    /// The JSON text of the status, or `null` without one.
    #[must_use]
    pub fn status(&self) -> &str {
        self.part(1)
    }

    fn part(&self, part: usize) -> &str {
        self.parts[part].clone().and_then(|place| self.text.get().get(place)).unwrap_or("null")
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Box::<RawValue>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The kind is known at run time only, as for `kube::api::DynamicObject`.
impl Resource for Document {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The place of a part of a text, which borrows from the text.
fn place(text: &str, part: &str) -> Range<usize> {
    let begin = part.as_ptr().addr() - text.as_ptr().addr();
    begin..begin + part.len()
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

/// The fields of `ObjectMeta` that are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

/// The author of managed fields. The fields themselves are skipped.
#[derive(Deserialize)]
struct Manager {
    manager: Option<String>,
    operation: Option<String>,
}

impl Metadata<'_> {
    fn read(self) -> Result<ObjectMeta, serde_json::Error> {
        let managers: Vec<Manager> = match self.managed_fields {
            Some(entries) => serde_json::from_str::<Option<_>>(entries.get())?.unwrap_or_default(),
            None => Vec::new(),
        };
        let entry =
            |Manager { manager, operation }| ManagedFieldsEntry { manager, operation, ..ManagedFieldsEntry::default() };
        Ok(ObjectMeta {
            name: self.name,
            generate_name: self.generate_name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            generation: self.generation,
            creation_timestamp: self.creation_timestamp,
            deletion_timestamp: self.deletion_timestamp,
            finalizers: self.finalizers,
            labels: self.labels,
            annotations: self.annotations,
            owner_references: self.owner_references,
            managed_fields: Some(managers.into_iter().map(entry).collect()),
            ..ObjectMeta::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};
    use serde_json::{Value, json};

    use super::*;

    fn object() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": null, "labels": { "a": "b" },
                "annotations": null, "finalizers": ["f"],
                "ownerReferences": [{ "apiVersion": "v1", "kind": "K", "name": "o", "uid": "o-1", "controller": true }],
                "managedFields": [{ "manager": "m", "operation": "Apply", "fieldsV1": { "f:spec": { "f:a": {} } } }],
            },
            "spec": { "containers": [] }, "status": { "phase": "Running" },
        })
    }

    #[test]
    fn a_document_of_a_list_or_an_event_has_its_metadata_and_its_text() {
        let text = object().to_string();
        let list = format!(r#"{{"apiVersion":"v1","kind":"PodList","metadata":{{}},"items":[{text}]}}"#);
        let list: ObjectList<Document> = serde_json::from_str(&list).unwrap();
        let event = format!(r#"{{"type":"MODIFIED","object":{text}}}"#);
        let WatchEvent::Modified(event) = serde_json::from_str::<WatchEvent<Document>>(&event).unwrap() else {
            panic!("an event of another type")
        };
        for document in [&list.items[0], &event] {
            let mut whole: ObjectMeta = serde_json::from_value(object()["metadata"].clone()).unwrap();
            for entry in whole.managed_fields.iter_mut().flatten() {
                entry.fields_v1 = None;
            }
            assert_eq!(document.metadata, whole);
            assert_eq!(document.text.get(), text);
            assert_eq!((document.spec(), document.status()), (r#"{"containers":[]}"#, r#"{"phase":"Running"}"#));
            let others = object()["metadata"]["managedFields"].to_string() + &object()["status"].to_string();
            assert_eq!(document.bytes, text.len() - others.len(), "managed fields and status do not count");
        }
    }

    #[test]
    fn an_absent_part_is_null() {
        let document = Document::parse(r#"{"metadata":{},"status":null}"#).unwrap();
        assert_eq!((document.spec(), document.status()), ("null", "null"));
    }

    #[test]
    fn a_text_without_metadata_is_an_error() {
        for text in ["", "[]", "{}", r#"{"metadata":[]}"#, r#"{"metadata":{"name":1}}"#] {
            assert!(Document::parse(text).is_err(), "{text}");
        }
    }
}
