//! Observed objects: metadata and the parts of the body that decisions use.
//!
//! Reading never fails. A body that does not parse is kept as such, so that it harms only itself, and
//! what no decision looks at (most of managed fields and of a Pod) is dropped here.

mod cluster;
pub(crate) mod hash;
pub mod json;
mod managed_fields;
mod meta;
mod pod;
mod wire;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{SandboxClaimStatus, SandboxStatus, SandboxTemplateStatus, SandboxWarmPoolStatus};
use crate::kind::{ApiShape, ChildKind, Class, ClusterKind, Key, Kind, OwnKind};
use crate::{api, model};

pub use cluster::{Node, RuntimeClass};
pub use meta::{Meta, Owner, allows_volume_loss};
pub use pod::Pod;

/// One object as it was last seen or written.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it is called.
    pub key: Key,
    /// Its metadata.
    pub meta: Meta,
    /// The rest.
    pub body: Body,
}

/// For `/debug/seen`: names and metadata as they are, the body as the code sees it.
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

/// A custom object: its spec parsed into the model, or why it cannot be; and its status as it stands.
#[derive(Clone, Debug)]
pub struct Parsed<M, S> {
    /// The model, or what is wrong, field by field.
    pub spec: Result<Arc<M>, model::FieldErrors>,
    /// The status.
    pub status: Arc<S>,
}

/// The body of an object, by kind.
#[derive(Clone, Debug)]
pub enum Body {
    /// Sandbox.
    Sandbox(Parsed<model::Sandbox, SandboxStatus>),
    /// SandboxTemplate of either group, and the hash of what its sandboxes are made of.
    Template(Parsed<model::Template, SandboxTemplateStatus>, Arc<str>),
    /// SandboxWarmPool of either group.
    Pool(Parsed<model::Pool, SandboxWarmPoolStatus>),
    /// SandboxClaim of either group.
    Claim(Parsed<model::Claim, SandboxClaimStatus>),
    /// Pod.
    Pod(Arc<Pod>),
    /// Service.
    Service(Service),
    /// PersistentVolumeClaim: that it exists is enough.
    VolumeClaim,
    /// NetworkPolicy: its spec, to be compared.
    NetworkPolicy(Arc<Value>),
    /// EndpointSlice: its endpoints and ports, to be compared.
    EndpointSlice(Arc<Value>),
    /// Namespace: its labels are in the metadata.
    Namespace,
    /// Node.
    Node(Arc<Node>),
    /// RuntimeClass.
    RuntimeClass(Arc<RuntimeClass>),
    /// StorageClass: the default is marked by an annotation.
    StorageClass,
}

/// The parts of a Service that decisions use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Service {
    /// `spec.clusterIP` is `None`.
    pub headless: bool,
}

impl Object {
    /// Reads an object: its metadata and everything beside it.
    #[must_use]
    pub fn new(kind: Kind, mut meta: ObjectMeta, mut data: Value) -> Self {
        // Most of the metadata, and copied no further.
        let only_our_manager = managed_fields::only_our_manager(&meta.managed_fields.take().unwrap_or_default());
        let body = match kind.class() {
            Class::Own(own) => own_body(own, &meta, &mut data),
            Class::Child(child) => child_body(child, data),
            Class::Cluster(cluster) => cluster_body(cluster, data),
        };
        let namespace = if kind.namespaced() { meta.namespace.as_deref().unwrap_or_default() } else { "" };
        let key = Key::new(kind, namespace, meta.name.as_deref().unwrap_or_default());
        Self { key, meta: Meta::new(meta, only_our_manager), body }
    }

    /// Reads a whole JSON document, as a reply to a write is.
    #[must_use]
    pub fn from_json(kind: Kind, mut document: Value) -> Option<Self> {
        let meta = serde_json::from_value(document.get_mut("metadata")?.take()).ok()?;
        Some(Self::new(kind, meta, document))
    }

    /// The Sandbox's body.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Parsed<model::Sandbox, SandboxStatus>> {
        if let Body::Sandbox(body) = &self.body { Some(body) } else { None }
    }

    /// Whether it is a Sandbox that is to run, and not one that sleeps or cannot be read.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.sandbox().is_some_and(|s| {
            let mode = |m: &model::Sandbox| model::desired_mode(m.operating_mode, m.replicas, s.status.mode).mode;
            s.spec.as_ref().is_ok_and(|m| mode(m) == api::OperatingMode::Running)
        })
    }

    /// The template's body.
    #[must_use]
    pub fn template(&self) -> Option<&Parsed<model::Template, SandboxTemplateStatus>> {
        if let Body::Template(body, _) = &self.body { Some(body) } else { None }
    }

    /// Hash of what a template's sandboxes are made of; empty for other kinds.
    #[must_use]
    pub fn template_hash(&self) -> &str {
        if let Body::Template(_, hash) = &self.body { hash } else { "" }
    }

    /// The pool's body.
    #[must_use]
    pub fn pool(&self) -> Option<&Parsed<model::Pool, SandboxWarmPoolStatus>> {
        if let Body::Pool(body) = &self.body { Some(body) } else { None }
    }

    /// The claim's body.
    #[must_use]
    pub fn claim(&self) -> Option<&Parsed<model::Claim, SandboxClaimStatus>> {
        if let Body::Claim(body) = &self.body { Some(body) } else { None }
    }

    /// The Pod's body.
    #[must_use]
    pub fn pod(&self) -> Option<&Pod> {
        if let Body::Pod(body) = &self.body { Some(body) } else { None }
    }

    /// The key of the owner that controls it, if it is of a kind that the operator reconciles.
    #[must_use]
    pub fn owner_key(&self) -> Option<Key> {
        self.meta.controller.as_ref()?.key(&self.key)
    }

    /// Whether `uid` is the owner that controls it.
    #[must_use]
    pub fn controlled_by(&self, uid: &str) -> bool {
        self.meta.controller.as_ref().is_some_and(|o| &*o.uid == uid)
    }
}

fn own_body(kind: OwnKind, meta: &ObjectMeta, data: &mut Value) -> Body {
    use ApiShape::{Seed, Upstream};
    match kind {
        OwnKind::Sandbox => Body::Sandbox(parsed(meta, data, |metadata, spec, status| {
            model::parse_sandbox(&api::Sandbox { metadata, spec, status: Some(status) })
        })),
        OwnKind::Template(Upstream) => hashed(parsed(meta, data, |metadata, spec, status| {
            model::parse_template(&api::SandboxTemplate { metadata, spec, status: Some(status) })
        })),
        OwnKind::Template(Seed) => hashed(parsed(meta, data, |metadata, spec, status| {
            model::parse_seed_template(&api::SeedSandboxTemplate { metadata, spec, status: Some(status) })
        })),
        OwnKind::Pool(Upstream) => Body::Pool(parsed(meta, data, |metadata, spec, status| {
            model::parse_pool(&api::SandboxWarmPool { metadata, spec, status: Some(status) })
        })),
        OwnKind::Pool(Seed) => Body::Pool(parsed(meta, data, |metadata, spec, status| {
            model::parse_seed_pool(&api::SeedSandboxWarmPool { metadata, spec, status: Some(status) })
        })),
        OwnKind::Claim(Upstream) => Body::Claim(parsed(meta, data, |metadata, spec, status| {
            model::parse_claim(&api::SandboxClaim { metadata, spec, status: Some(status) })
        })),
        OwnKind::Claim(Seed) => Body::Claim(parsed(meta, data, |metadata, spec, status| {
            model::parse_seed_claim(&api::SeedSandboxClaim { metadata, spec, status: Some(status) })
        })),
    }
}

fn child_body(kind: ChildKind, mut data: Value) -> Body {
    match kind {
        ChildKind::Pod => Body::Pod(Arc::new(wire::pod(data))),
        ChildKind::Service => {
            Body::Service(Service { headless: data.pointer("/spec/clusterIP") == Some(&"None".into()) })
        }
        ChildKind::VolumeClaim => Body::VolumeClaim,
        ChildKind::NetworkPolicy => Body::NetworkPolicy(Arc::new(data["spec"].take())),
        ChildKind::EndpointSlice => Body::EndpointSlice(Arc::new(
            serde_json::json!({ "endpoints": data["endpoints"].take(), "ports": data["ports"].take() }),
        )),
    }
}

fn cluster_body(kind: ClusterKind, data: Value) -> Body {
    match kind {
        ClusterKind::Namespace => Body::Namespace,
        ClusterKind::Node => Body::Node(Arc::new(wire::node(data))),
        ClusterKind::RuntimeClass => Body::RuntimeClass(Arc::new(wire::runtime_class(data))),
        ClusterKind::StorageClass => Body::StorageClass,
    }
}

fn hashed(parsed: Parsed<model::Template, SandboxTemplateStatus>) -> Body {
    let hash = parsed.spec.as_ref().map(|model| hash::template_hash(model)).unwrap_or_default();
    Body::Template(parsed, hash.into())
}

/// Parses spec and status apart, so that a bad spec leaves the status readable.
fn parsed<W, S, M>(
    meta: &ObjectMeta,
    data: &mut Value,
    parse: impl FnOnce(ObjectMeta, W, S) -> Result<M, model::FieldErrors>,
) -> Parsed<M, S>
where
    W: DeserializeOwned,
    S: DeserializeOwned + Default + Clone,
{
    let status: S = serde_json::from_value(data["status"].take()).unwrap_or_default();
    let spec = serde_json::from_value(data["spec"].take())
        .map_err(|e| model::FieldErrors::one("spec", e.to_string()))
        .and_then(|spec| parse(meta.clone(), spec, status.clone()));
    Parsed { spec: spec.map(Arc::new), status: Arc::new(status) }
}
