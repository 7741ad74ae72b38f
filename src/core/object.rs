//! Observed objects: the metadata and the parts of the body that decisions use.
//!
//! Reading an object never fails. If a spec does not parse, the object keeps the errors, so that an invalid object
//! affects only itself. Parts that no decision uses, such as managed fields and most of a Pod, are dropped here. Of an
//! object that is not Paddock's and that Paddock did not make, only the identity is kept.

pub(crate) mod budget;
mod cluster;
mod cpu;
pub(crate) mod hash;
pub mod json;
mod managed_fields;
mod meta;
mod pod;
mod text_map;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api as api;
use paddock_api::document::Document;
use paddock_api::kind::{ChildKind, Class, ClusterKind, Key, Kind, OwnKind};
use paddock_api::names::{annotation, label};
use paddock_api::{SandboxClaimStatus, SandboxStatus, SandboxTemplateStatus, SandboxWarmPoolStatus};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model;
use crate::policy_spec::PolicySpec;

pub use cluster::{Node, RuntimeClass, ServiceEndpoints};
pub use cpu::{ContainerCpu, ContainerList, PodCpu};
pub use json::JsonText;
pub use meta::{Meta, Owner, VolumeLoss};
pub(crate) use meta::{OF_POLICY, is_ours};
pub use pod::{ChangedContainer, ChangedPod, ConditionStatus, LostSource, LostVolume, Pod, PodCondition};
pub use text_map::{TextMap, Texts, side_by_side};

/// The fields of a Service's spec that the operator sets.
const SERVICE_FIELDS: [&str; 4] = ["clusterIP", "ports", "selector", "type"];

/// One object, as the last watch event or the last reply to a write showed it.
#[derive(Clone, Debug)]
pub struct Object {
    /// The kind, namespace and name of the object.
    pub key: Key,
    /// The parts of the metadata that decisions use.
    pub meta: Meta,
    /// The parts of the spec and the status that decisions use.
    pub body: Body,
    /// The template that a Sandbox was made from. The [`World`](crate::world::World) finds it out.
    pub template: Option<Arc<Key>>,
}

/// The form in `/debug/seen`: the key and the metadata as data, and the body in its `Debug` form.
impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut object = serializer.serialize_struct("Object", 3)?;
        object.serialize_field("key", &self.key.to_string())?;
        object.serialize_field("meta", &self.meta)?;
        object.serialize_field("body", &format!("{:?}", self.body))?;
        object.end()
    }
}

/// A custom object: the spec, parsed into the model, and the status as it is on the wire.
#[derive(Clone, Debug)]
pub struct Parsed<M, S> {
    /// The model, or the errors of each field that is not valid.
    pub spec: Result<Arc<M>, model::FieldErrors>,
    /// The status. It is empty if it cannot be read.
    pub status: Arc<S>,
}

/// The body of an object, by its kind.
#[derive(Clone, Debug)]
pub enum Body {
    /// The body of a Sandbox.
    Sandbox(Parsed<model::Sandbox, SandboxStatus>),
    /// The body of a SandboxTemplate of either shape, and the hash of the fields that define its sandboxes.
    Template(Box<(Parsed<model::Template, SandboxTemplateStatus>, Arc<str>)>),
    /// The body of a SandboxWarmPool of either shape.
    Pool(Parsed<model::Pool, SandboxWarmPoolStatus>),
    /// The body of a SandboxClaim of either shape.
    Claim(Parsed<model::Claim, SandboxClaimStatus>),
    /// The parts of a Pod, or `None` if the Pod is foreign.
    Pod(Option<Arc<Pod>>),
    /// The fields of a Service's spec that the operator sets, for comparison. Only of a Service that a Sandbox owns or
    /// may adopt.
    Service(Option<Arc<Value>>),
    /// The spec of a PersistentVolumeClaim as JSON, if a Sandbox may adopt it.
    VolumeClaim(Option<Arc<str>>),
    /// The spec of a NetworkPolicy.
    NetworkPolicy(Arc<PolicySpec>),
    /// The endpoints, ports and address type of an EndpointSlice, for comparison. Null if the EndpointSlice is foreign.
    EndpointSlice(JsonText),
    /// The addresses of an EndpointSlice that is not ours. The World keeps those of the gateway's Service.
    ServiceEndpoints(Arc<ServiceEndpoints>),
    /// A Namespace. Decisions use only its metadata.
    Namespace,
    /// The parts of a Node.
    Node(Arc<Node>),
    /// The parts of a RuntimeClass.
    RuntimeClass(Arc<RuntimeClass>),
    /// A StorageClass. Decisions use only its metadata: an annotation marks the default class.
    StorageClass,
}

impl Object {
    /// Reads an object from its document.
    #[must_use]
    pub fn read(kind: Kind, document: Document) -> Self {
        let key = key(kind, &document.metadata);
        let mut document = document;
        let mut meta = std::mem::take(&mut document.metadata);
        let only_our_manager = managed_fields::only_our_manager(&meta.managed_fields.take().unwrap_or_default());
        let body = match kind.class() {
            Class::Own(own) => own_body(own, &meta, &document),
            // The policy of a template is recognized by its name, even if a stranger has removed its labels.
            Class::Child(child) if child != ChildKind::NetworkPolicy && meta::is_foreign(&meta) => {
                let service = wire::service_of(child, &meta);
                meta::keep_identity(&mut meta);
                match service {
                    Some(service) => {
                        let Fields { address_type, endpoints, .. } = Fields::of(document.text.get());
                        Body::ServiceEndpoints(Arc::new(wire::service_endpoints(service, &address_type, &endpoints)))
                    }
                    None => foreign_body(child),
                }
            }
            Class::Child(child) => {
                let body = child_body(child, &meta, Fields::read(child, &document));
                // The body has the list, which many pods share.
                meta.annotations.iter_mut().for_each(|annotations| drop(annotations.remove(annotation::PLUGINS)));
                if !meta::is_owned(&meta) {
                    meta::keep_our_annotations(child, &mut meta);
                }
                body
            }
            Class::Cluster(cluster) => cluster_body(cluster, &Fields::of(document.text.get())),
        };
        Self {
            key,
            meta: Meta::new(meta, only_our_manager, document.text.get().len() > budget::LARGE_BYTES),
            body,
            template: None,
        }
    }

    /// Reads an object, unless this version of it is known. Half of the documents show one of our writes for the second
    /// time: a write has a reply and an event.
    #[must_use]
    pub fn read_unless_known(kind: Kind, document: Document, known: impl FnOnce(&Key) -> Option<Arc<Self>>) -> Self {
        let meta = &document.metadata;
        // The version alone does not tell an object from one of another kind of storage with the same name.
        let same = |known: &Arc<Self>| {
            let (uid, version) = (&*known.meta.uid, &*known.meta.resource_version);
            !uid.is_empty()
                && !version.is_empty()
                && (meta.uid.as_deref(), meta.resource_version.as_deref()) == (Some(uid), Some(version))
        };
        match known(&key(kind, meta)).filter(same) {
            Some(known) => Self::clone(&known),
            None => Self::read(kind, document),
        }
    }

    /// Reads an object from its JSON text. Returns `None` if the metadata cannot be read.
    #[must_use]
    pub fn from_text(kind: Kind, text: &str) -> Option<Self> {
        Some(Self::read(kind, Document::parse(text).ok()?))
    }

    /// Reads an object from a JSON value. Returns `None` if the metadata cannot be read.
    #[must_use]
    pub fn from_json(kind: Kind, document: Value) -> Option<Self> {
        Self::from_text(kind, &document.to_string())
    }

    /// The body, if the object is a Sandbox.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Parsed<model::Sandbox, SandboxStatus>> {
        if let Body::Sandbox(body) = &self.body { Some(body) } else { None }
    }

    /// Whether the object is a valid Sandbox whose desired mode is Running.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.sandbox().is_some_and(|s| {
            let mode = |m: &model::Sandbox| model::desired_mode(m.operating_mode, m.replicas, s.status.mode).mode;
            s.spec.as_ref().is_ok_and(|m| mode(m) == api::OperatingMode::Running)
        })
    }

    /// The body, if the object is a template.
    #[must_use]
    pub fn template(&self) -> Option<&Parsed<model::Template, SandboxTemplateStatus>> {
        if let Body::Template(body) = &self.body { Some(&body.0) } else { None }
    }

    /// The hash of the fields of a template that define its sandboxes. It is empty for an invalid template and for
    /// other kinds.
    #[must_use]
    pub fn template_hash(&self) -> &str {
        if let Body::Template(body) = &self.body { &body.1 } else { "" }
    }

    /// The body, if the object is a pool.
    #[must_use]
    pub fn pool(&self) -> Option<&Parsed<model::Pool, SandboxWarmPoolStatus>> {
        if let Body::Pool(body) = &self.body { Some(body) } else { None }
    }

    /// The body, if the object is a claim.
    #[must_use]
    pub fn claim(&self) -> Option<&Parsed<model::Claim, SandboxClaimStatus>> {
        if let Body::Claim(body) = &self.body { Some(body) } else { None }
    }

    /// The body, if the object is a Pod.
    #[must_use]
    pub fn pod(&self) -> Option<&Pod> {
        if let Body::Pod(body) = &self.body { body.as_deref() } else { None }
    }

    /// Drops the CPU of the containers of a Pod whose spec was never changed, so that nothing has resized it.
    pub(crate) fn forget_cpu_of_an_unchanged_pod(&mut self) {
        if let Body::Pod(Some(pod)) = &mut self.body
            && self.meta.generation == 1
            && pod.cpu().is_some()
        {
            Arc::make_mut(pod).forget_cpu();
        }
    }

    /// The key of the owner that controls the object, if the operator reconciles the owner's kind.
    #[must_use]
    pub fn owner_key(&self) -> Option<Key> {
        self.meta.controller.as_ref()?.key(&self.key)
    }

    /// Whether a pool or a claim controls the object.
    #[must_use]
    pub fn of_pool_or_claim(&self) -> bool {
        self.owner_key().is_some_and(|owner| match owner.kind.own() {
            Some(OwnKind::Pool(_) | OwnKind::Claim(_)) => true,
            Some(OwnKind::Sandbox | OwnKind::Template(_)) | None => false,
        })
    }

    /// Whether this owner controls the object. The UID alone is public, so a reference with the UID and another kind,
    /// group or name is a forgery.
    #[must_use]
    pub fn is_child_of(&self, owner: &Object) -> bool {
        self.controlled_by(&owner.meta.uid) && self.owner_key().as_ref() == Some(&owner.key)
    }

    /// Whether the owner with this UID controls the object.
    #[must_use]
    pub fn controlled_by(&self, uid: &str) -> bool {
        self.meta.controller.as_ref().is_some_and(|o| &*o.uid == uid)
    }
}

fn key(kind: Kind, meta: &ObjectMeta) -> Key {
    let namespace = if kind.namespaced() { meta.namespace.as_deref().unwrap_or_default() } else { "" };
    Key::new(kind, namespace, meta.name.as_deref().unwrap_or_default())
}

fn own_body(kind: OwnKind, meta: &ObjectMeta, document: &Document) -> Body {
    let parts = Parts { spec: document.spec(), status: document.status(), bytes: document.bytes };
    match kind {
        OwnKind::Sandbox => {
            let mut parsed: Parsed<model::Sandbox, SandboxStatus> =
                parts.parse(|spec| model::parse_sandbox(meta, spec));
            // A list of three is read into the room for four.
            if let Some(status) = Arc::get_mut(&mut parsed.status) {
                status.conditions.shrink_to_fit();
                status.pod_ips.shrink_to_fit();
            }
            Body::Sandbox(parsed)
        }
        OwnKind::Template(shape) => {
            let parsed: Parsed<model::Template, _> = parts.parse(|spec| model::parse_template(shape, spec));
            let hash = parsed.spec.as_ref().map(|model| hash::template_hash(model)).unwrap_or_default();
            Body::Template(Box::new((parsed, hash.into())))
        }
        OwnKind::Pool(shape) => Body::Pool(parts.parse(|spec| model::parse_pool(shape, spec))),
        OwnKind::Claim(shape) => Body::Claim(parts.parse(|spec| model::parse_claim(shape, spec))),
    }
}

/// The bytes of JSON that are kept of the spec of a Service that a user offers. A Service of the operator has a selector of
/// one label and some 50 bytes for each port.
const OFFERED_SERVICE_MAX: usize = 16 * 1024;

fn child_body(kind: ChildKind, meta: &ObjectMeta, mut fields: Fields) -> Body {
    let has_label = |name: &str| meta.labels.as_ref().is_some_and(|labels| labels.contains_key(name));
    let controlled = meta.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    // An object that nobody offers is foreign, and its spec would only need memory.
    let offered = !controlled && (has_label(label::ADOPTABLE) || has_label(label::SANDBOX_NAME_HASH));
    match kind {
        ChildKind::Pod => {
            let annotations = meta.annotations.as_ref();
            let none = BTreeMap::new();
            let annotations = annotations.unwrap_or(&none);
            let pod = wire::pod(&fields.spec, &fields.status, meta.generation, annotations, offered);
            Body::Pod(Some(Arc::new(pod)))
        }
        ChildKind::Service => {
            let read = (controlled || offered).then(|| {
                let mut spec = fields.spec.take();
                if let Some(fields) = spec.as_object_mut() {
                    fields.retain(|field, _| SERVICE_FIELDS.contains(&field.as_str()));
                }
                spec
            });
            // A larger one is foreign: it differs from each Service that the operator makes.
            Body::Service(read.filter(|spec| controlled || spec.to_string().len() <= OFFERED_SERVICE_MAX).map(Arc::new))
        }
        ChildKind::VolumeClaim => Body::VolumeClaim(offered.then(|| fields.spec.to_string().into())),
        ChildKind::NetworkPolicy => {
            let annotations = meta.annotations.as_ref();
            let of_template = OF_POLICY.iter().any(|name| annotations.is_some_and(|all| all.contains_key(*name)));
            let whole = of_template || offered || meta::is_owned(meta);
            let kept = annotations.and_then(|all| all.get(annotation::POLICY_SPEC)).map(String::as_str);
            let name = meta.name.as_deref().unwrap_or_default();
            let read = if whole { PolicySpec::whole(name, &fields.spec, kept) } else { None };
            Body::NetworkPolicy(Arc::new(read.unwrap_or_else(|| PolicySpec::part(name, wire::selection(&fields.spec)))))
        }
        ChildKind::EndpointSlice => Body::EndpointSlice(JsonText::of(&serde_json::json!({
            "addressType": fields.address_type, "endpoints": fields.endpoints, "ports": fields.ports,
        }))),
    }
}

/// The body of an object of a child's kind that is not ours.
fn foreign_body(kind: ChildKind) -> Body {
    match kind {
        ChildKind::Pod => Body::Pod(None),
        ChildKind::Service => Body::Service(None),
        ChildKind::VolumeClaim => Body::VolumeClaim(None),
        ChildKind::NetworkPolicy => Body::NetworkPolicy(Arc::new(PolicySpec::part("", JsonText::of(&Value::Null)))),
        ChildKind::EndpointSlice => Body::EndpointSlice(JsonText::of(&Value::Null)),
    }
}

fn cluster_body(kind: ClusterKind, fields: &Fields) -> Body {
    match kind {
        ClusterKind::Namespace => Body::Namespace,
        ClusterKind::Node => Body::Node(Arc::new(wire::node(&fields.spec, &fields.status))),
        ClusterKind::RuntimeClass => {
            Body::RuntimeClass(Arc::new(wire::runtime_class(&fields.handler, &fields.scheduling)))
        }
        ClusterKind::StorageClass => Body::StorageClass,
    }
}

/// The fields beside the metadata that are read of the kinds of Kubernetes. Absent ones are null.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Fields {
    spec: Value,
    status: Value,
    address_type: Value,
    endpoints: Value,
    ports: Value,
    handler: Value,
    scheduling: Value,
}

impl Fields {
    fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    fn read(kind: ChildKind, document: &Document) -> Self {
        match kind {
            // Other fields are not read of a Pod, which changes more often than all other kinds.
            ChildKind::Pod => {
                let part = |text| serde_json::from_str(text).unwrap_or_default();
                Self { spec: part(document.spec()), status: part(document.status()), ..Self::default() }
            }
            ChildKind::Service | ChildKind::VolumeClaim | ChildKind::NetworkPolicy | ChildKind::EndpointSlice => {
                Self::of(document.text.get())
            }
        }
    }
}

/// The spec and the status of an own kind as JSON text, and the bytes of the whole object.
struct Parts<'a> {
    spec: &'a str,
    status: &'a str,
    bytes: usize,
}

impl Parts<'_> {
    /// Parses the spec and the status separately, so that the status can be read even if the spec is not valid.
    fn parse<W: DeserializeOwned, S: DeserializeOwned + Default, M>(
        &self,
        parse: impl FnOnce(&W) -> Result<M, model::FieldErrors>,
    ) -> Parsed<M, S> {
        let status: S = serde_json::from_str(self.status).unwrap_or_default();
        let spec = budget::check(self.bytes, self.spec).and_then(|()| {
            let spec = serde_json::from_str(self.spec);
            parse(&spec.map_err(|error| model::FieldErrors::one("spec", json::problem(&error)))?)
        });
        Parsed { spec: spec.map(Arc::new).map_err(model::FieldErrors::shortened), status: Arc::new(status) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_version_is_not_read_again_and_every_other_one_is() {
        let document = |uid: &str, version: &str, image: &str| {
            let metadata = json!({ "name": "s", "namespace": "n", "uid": uid, "resourceVersion": version });
            let spec = json!({ "podTemplate": { "spec": { "containers": [{ "name": "c", "image": image }] } } });
            Document::parse(&json!({ "metadata": metadata, "spec": spec }).to_string()).unwrap()
        };
        // Whether a document is read although an object with this UID and this version is known.
        let is_read = |(known_uid, known_version), (uid, version)| {
            let known = Arc::new(Object::read(Kind::Sandbox, document(known_uid, known_version, "known")));
            let read = Object::read_unless_known(Kind::Sandbox, document(uid, version, "new"), |key| {
                (*key == known.key).then(|| known.clone())
            });
            let model = read.sandbox().unwrap().spec.clone().unwrap();
            model.pod.spec.text().as_str().contains("new")
        };
        assert!(!is_read(("u", "7"), ("u", "7")));
        for document in [("u", "8"), ("u", "6"), ("v", "7"), ("", "7"), ("u", "")] {
            assert!(is_read(("u", "7"), document), "{document:?}");
        }
        for nameless in [("", ""), ("u", ""), ("", "7")] {
            assert!(is_read(nameless, nameless), "{nameless:?}");
        }
        assert_eq!(&*Object::read_unless_known(Kind::Sandbox, document("u", "7", "new"), |_| None).meta.uid, "u");
    }
}
