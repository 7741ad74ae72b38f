//! The kinds that Paddock reads and writes, their classes, and the keys of their objects.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::group;

/// A kind that Paddock watches. Three kinds exist in both API shapes, and their variants in the seed shape begin with
/// `Seed`.
///
/// Keys are sorted in the order of the variants: the kinds that Paddock serves come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `sandboxes.agents.x-k8s.io`, the same resource in both shapes.
    Sandbox,
    /// `sandboxtemplates.extensions.agents.x-k8s.io`.
    Template,
    /// `sandboxwarmpools.extensions.agents.x-k8s.io`.
    Pool,
    /// `sandboxclaims.extensions.agents.x-k8s.io`.
    Claim,
    /// `sandboxtemplates.agents.x-k8s.io`.
    SeedTemplate,
    /// `sandboxwarmpools.agents.x-k8s.io`.
    SeedPool,
    /// `sandboxclaims.agents.x-k8s.io`.
    SeedClaim,
    /// `pods`.
    Pod,
    /// `services`.
    Service,
    /// `persistentvolumeclaims`.
    VolumeClaim,
    /// `networkpolicies.networking.k8s.io`.
    NetworkPolicy,
    /// `endpointslices.discovery.k8s.io`.
    EndpointSlice,
    /// `namespaces`.
    Namespace,
    /// `nodes`.
    Node,
    /// `runtimeclasses.node.k8s.io`.
    RuntimeClass,
    /// `storageclasses.storage.k8s.io`.
    StorageClass,
}

/// The relation of Paddock to a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Paddock serves the kind and reconciles its objects.
    Own(OwnKind),
    /// Paddock creates objects of the kind for a Sandbox or for a template.
    Child(ChildKind),
    /// The objects of the kind belong to the cluster. Paddock only reads them.
    Cluster(ClusterKind),
}

/// A kind that Paddock serves, with its API shape if it exists in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnKind {
    /// A Sandbox. It is one resource for both shapes.
    Sandbox,
    /// A SandboxTemplate of this shape.
    Template(ApiShape),
    /// A SandboxWarmPool of this shape.
    Pool(ApiShape),
    /// A SandboxClaim of this shape.
    Claim(ApiShape),
}

/// A kind whose objects Paddock creates for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    /// A Pod, in which a Sandbox runs.
    Pod,
    /// A Service, which gives a Sandbox a stable address.
    Service,
    /// A PersistentVolumeClaim, which keeps the data of a Sandbox.
    VolumeClaim,
    /// A NetworkPolicy, which the Sandboxes of a template share.
    NetworkPolicy,
    /// An EndpointSlice, which leads the Service of a Sandbox to its pod.
    EndpointSlice,
}

/// A kind whose objects belong to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// A Namespace. Its labels may demand isolation for pods.
    Namespace,
    /// A Node. Its state and its labels decide which pods can run on it.
    Node,
    /// A RuntimeClass, which names the handler of a pod.
    RuntimeClass,
    /// A StorageClass, which provides the volume of a PersistentVolumeClaim.
    StorageClass,
}

/// One of the two forms in which the Sandbox API is served. An object refers only to objects of its own shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiShape {
    /// The upstream shape. Template, pool and claim are in `extensions.agents.x-k8s.io`, and the pod of a Sandbox is in
    /// `spec.podTemplate`.
    #[default]
    Upstream,
    /// The seed shape. All kinds are in `agents.x-k8s.io`, and the pod of a Sandbox is in `spec.template`.
    Seed,
}

/// The API shapes that a cluster or an operator serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiShapes {
    /// Only this shape.
    Only(ApiShape),
    /// Both shapes.
    #[default]
    Both,
}

impl ApiShapes {
    /// All choices, in the order in which help texts list them.
    pub const ALL: [ApiShapes; 3] =
        [ApiShapes::Only(ApiShape::Seed), ApiShapes::Only(ApiShape::Upstream), ApiShapes::Both];

    /// The word for the choice on the command line and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ApiShapes::Only(ApiShape::Seed) => "seed",
            ApiShapes::Only(ApiShape::Upstream) => "upstream",
            ApiShapes::Both => "both",
        }
    }

    /// Whether the choice includes a shape.
    #[must_use]
    pub fn contains(self, shape: ApiShape) -> bool {
        match self {
            ApiShapes::Only(only) => only == shape,
            ApiShapes::Both => true,
        }
    }
}

/// The class of a kind, its group, its version, its name on the wire, and its plural.
type Facts = (Class, &'static str, &'static str, &'static str, &'static str);

impl Kind {
    /// All kinds, in the order in which they are first listed. A kind comes after the kinds that it refers to.
    pub const ALL: [Kind; 16] = [
        Kind::Namespace,
        Kind::Node,
        Kind::RuntimeClass,
        Kind::StorageClass,
        Kind::Template,
        Kind::SeedTemplate,
        Kind::Pool,
        Kind::SeedPool,
        Kind::Claim,
        Kind::SeedClaim,
        Kind::Sandbox,
        Kind::Pod,
        Kind::Service,
        Kind::VolumeClaim,
        Kind::NetworkPolicy,
        Kind::EndpointSlice,
    ];

    /// The kinds that Paddock serves, in the order in which they are reconciled after a start.
    pub const OWN: [Kind; 7] =
        [Kind::Claim, Kind::SeedClaim, Kind::Pool, Kind::SeedPool, Kind::Sandbox, Kind::Template, Kind::SeedTemplate];

    /// The table of all kinds. A new kind needs a row here.
    const fn facts(self) -> Facts {
        use ApiShape::{Seed, Upstream};
        use Class::{Child, Cluster, Own};
        use group::{AGENTS, EXTENSIONS, V1ALPHA1, V1BETA1};
        match self {
            Kind::Sandbox => (Own(OwnKind::Sandbox), AGENTS, V1BETA1, "Sandbox", "sandboxes"),
            Kind::Template => {
                (Own(OwnKind::Template(Upstream)), EXTENSIONS, V1BETA1, "SandboxTemplate", "sandboxtemplates")
            }
            Kind::Pool => (Own(OwnKind::Pool(Upstream)), EXTENSIONS, V1BETA1, "SandboxWarmPool", "sandboxwarmpools"),
            Kind::Claim => (Own(OwnKind::Claim(Upstream)), EXTENSIONS, V1BETA1, "SandboxClaim", "sandboxclaims"),
            Kind::SeedTemplate => {
                (Own(OwnKind::Template(Seed)), AGENTS, V1ALPHA1, "SandboxTemplate", "sandboxtemplates")
            }
            Kind::SeedPool => (Own(OwnKind::Pool(Seed)), AGENTS, V1ALPHA1, "SandboxWarmPool", "sandboxwarmpools"),
            Kind::SeedClaim => (Own(OwnKind::Claim(Seed)), AGENTS, V1ALPHA1, "SandboxClaim", "sandboxclaims"),
            Kind::Pod => (Child(ChildKind::Pod), "", "v1", "Pod", "pods"),
            Kind::Service => (Child(ChildKind::Service), "", "v1", "Service", "services"),
            Kind::VolumeClaim => {
                (Child(ChildKind::VolumeClaim), "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
            }
            Kind::NetworkPolicy => {
                (Child(ChildKind::NetworkPolicy), "networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
            }
            Kind::EndpointSlice => {
                (Child(ChildKind::EndpointSlice), "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
            }
            Kind::Namespace => (Cluster(ClusterKind::Namespace), "", "v1", "Namespace", "namespaces"),
            Kind::Node => (Cluster(ClusterKind::Node), "", "v1", "Node", "nodes"),
            Kind::RuntimeClass => {
                (Cluster(ClusterKind::RuntimeClass), "node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
            }
            Kind::StorageClass => {
                (Cluster(ClusterKind::StorageClass), "storage.k8s.io", "v1", "StorageClass", "storageclasses")
            }
        }
    }

    /// The relation of Paddock to the kind.
    #[must_use]
    pub const fn class(self) -> Class {
        self.facts().0
    }

    /// The kind as one of Paddock's own. `None` if it is not.
    #[must_use]
    pub const fn own(self) -> Option<OwnKind> {
        match self.class() {
            Class::Own(own) => Some(own),
            Class::Child(_) | Class::Cluster(_) => None,
        }
    }

    /// The API shape of a template, a pool or a claim. `None` for kinds that are the same in both shapes.
    #[must_use]
    pub const fn shape(self) -> Option<ApiShape> {
        match self.own() {
            Some(OwnKind::Template(shape) | OwnKind::Pool(shape) | OwnKind::Claim(shape)) => Some(shape),
            Some(OwnKind::Sandbox) | None => None,
        }
    }

    /// The kind of the templates in a shape.
    #[must_use]
    pub const fn template(shape: ApiShape) -> Kind {
        match shape {
            ApiShape::Upstream => Kind::Template,
            ApiShape::Seed => Kind::SeedTemplate,
        }
    }

    /// The kind of the pools in a shape.
    #[must_use]
    pub const fn pool(shape: ApiShape) -> Kind {
        match shape {
            ApiShape::Upstream => Kind::Pool,
            ApiShape::Seed => Kind::SeedPool,
        }
    }

    /// Whether a cluster with these shapes serves the kind. Every cluster serves Sandbox and the kinds of Kubernetes.
    #[must_use]
    pub fn is_served(self, shapes: ApiShapes) -> bool {
        self.shape().is_none_or(|shape| shapes.contains(shape))
    }

    /// The kind in [`Kind::OWN`] that has this group and this plural.
    #[must_use]
    pub fn of_resource(group: &str, plural: &str) -> Option<Kind> {
        Kind::OWN.into_iter().find(|kind| kind.group() == group && kind.plural() == plural)
    }

    /// The kind in [`Kind::OWN`] that an owner reference with this `apiVersion` and `kind` names. The version is not
    /// compared, because all versions of a group name the same objects.
    #[must_use]
    pub fn of_reference(api_version: &str, name: &str) -> Option<Kind> {
        let (group, _) = api_version.split_once('/')?;
        Kind::OWN.into_iter().find(|kind| kind.group() == group && kind.name() == name)
    }

    /// The API group. Empty for the core group.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.facts().1
    }

    /// The version that the operator reads and writes.
    #[must_use]
    pub const fn version(self) -> &'static str {
        self.facts().2
    }

    /// The name of the kind on the wire, such as `SandboxClaim`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().3
    }

    /// The plural of the resource, such as `sandboxclaims`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.facts().4
    }

    /// The resource as kubectl accepts it: `plural.group`, or the plural alone for the core group.
    #[must_use]
    pub fn resource(self) -> String {
        match self.group() {
            "" => self.plural().to_owned(),
            group => format!("{}.{group}", self.plural()),
        }
    }

    /// Whether objects of the kind are in a namespace.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        match self.class() {
            Class::Own(_) | Class::Child(_) => true,
            Class::Cluster(_) => false,
        }
    }

    /// Whether `kubectl scale` works on the kind. It does for Paddock's own kinds with `spec.replicas`.
    #[must_use]
    pub const fn scales(self) -> bool {
        match self.own() {
            Some(OwnKind::Sandbox | OwnKind::Pool(_)) => true,
            Some(OwnKind::Template(_) | OwnKind::Claim(_)) | None => false,
        }
    }

    /// The `apiVersion`: `group/version`, or `v1` for the core group.
    #[must_use]
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }
}

/// The kind, the namespace and the name of one object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// The kind of the object.
    pub kind: Kind,
    /// The namespace of the object. Empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The name of the object.
    pub name: Arc<str>,
}

impl Key {
    /// Creates a key from its parts.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object of another kind in the same namespace.
    pub fn sibling(&self, kind: Kind, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: self.namespace.clone(), name: name.into() }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.namespaced() {
            write!(f, "{:?}/{}/{}", self.kind, self.namespace, self.name)
        } else {
            write!(f, "{:?}/{}", self.kind, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiShape, Class, Key, Kind, OwnKind};

    #[test]
    fn own_kinds_sort_before_all_others() {
        let mut sorted = Kind::ALL;
        sorted.sort();
        assert!(sorted[..Kind::OWN.len()].iter().all(|kind| Kind::OWN.contains(kind)), "{sorted:?}");
        for kind in Kind::ALL {
            assert_eq!(Kind::OWN.contains(&kind), kind.own().is_some(), "{kind:?}");
            assert_eq!(Kind::ALL.iter().filter(|k| **k == kind).count(), 1, "{kind:?}");
        }
    }

    #[test]
    fn kind_is_found_by_what_others_call_it() {
        for kind in Kind::OWN {
            assert_eq!(Kind::of_resource(kind.group(), kind.plural()), Some(kind));
            assert_eq!(Kind::of_reference(&kind.api_version(), kind.name()), Some(kind));
        }
        assert_eq!(Kind::of_reference("extensions.agents.x-k8s.io/v1alpha1", "SandboxClaim"), Some(Kind::Claim));
        assert_eq!(Kind::of_reference("v1", "Pod"), None);
        assert_eq!(Kind::of_resource("", "pods"), None);
    }

    #[test]
    fn shape_and_kind_lead_to_each_other() {
        for shape in [ApiShape::Upstream, ApiShape::Seed] {
            assert_eq!(Kind::template(shape).class(), Class::Own(OwnKind::Template(shape)));
            assert_eq!(Kind::pool(shape).class(), Class::Own(OwnKind::Pool(shape)));
        }
        assert_eq!((Kind::SeedClaim.shape(), Kind::Sandbox.shape()), (Some(ApiShape::Seed), None));
    }

    #[test]
    fn key_is_written_by_the_name_of_its_kind() {
        assert_eq!(Key::new(Kind::SeedPool, "ns", "p").to_string(), "SeedPool/ns/p");
        assert_eq!(Key::new(Kind::Node, "", "n").to_string(), "Node/n");
    }
}
