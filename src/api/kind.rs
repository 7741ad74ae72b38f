//! The kinds that Paddock reads and writes, how they are classified, and the keys that name their objects.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::group;

/// Every kind that is watched. The three that exist in both API shapes carry `Seed` where they are of that shape.
///
/// The order is that of keys: the kinds that Paddock serves come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `sandboxes.agents.x-k8s.io`, of both shapes.
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

/// What Paddock has to do with a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Paddock serves the kind and reconciles its objects.
    Own(OwnKind),
    /// Paddock makes objects of the kind for a Sandbox or a template.
    Child(ChildKind),
    /// Objects of the kind belong to the cluster; Paddock only reads them.
    Cluster(ClusterKind),
}

/// A kind that Paddock serves, with its API shape where it exists in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnKind {
    /// Sandbox, one resource for both shapes.
    Sandbox,
    /// SandboxTemplate.
    Template(ApiShape),
    /// SandboxWarmPool.
    Pool(ApiShape),
    /// SandboxClaim.
    Claim(ApiShape),
}

/// A kind of the objects that Paddock makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    /// Pod.
    Pod,
    /// Service.
    Service,
    /// PersistentVolumeClaim.
    VolumeClaim,
    /// NetworkPolicy.
    NetworkPolicy,
    /// EndpointSlice.
    EndpointSlice,
}

/// A kind of the cluster's own objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// Namespace.
    Namespace,
    /// Node.
    Node,
    /// RuntimeClass.
    RuntimeClass,
    /// StorageClass.
    StorageClass,
}

/// One of the two shapes of the Sandbox API. References never cross from one to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiShape {
    /// Upstream's: template, pool and claim in `extensions.agents.x-k8s.io`, the pod of a Sandbox in `spec.podTemplate`.
    #[default]
    Upstream,
    /// The seed's: all kinds in `agents.x-k8s.io`, the pod of a Sandbox in `spec.template`.
    Seed,
}

/// The API shapes that a cluster or an operator serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiShapes {
    /// One of the two.
    Only(ApiShape),
    /// Both.
    #[default]
    Both,
}

impl ApiShapes {
    /// Every choice, in the order in which help texts list them.
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

    /// Whether a shape is among them.
    #[must_use]
    pub fn contains(self, shape: ApiShape) -> bool {
        match self {
            ApiShapes::Only(only) => only == shape,
            ApiShapes::Both => true,
        }
    }
}

/// The class of a kind, its group, version and name on the wire, and the plural of its resource.
type Facts = (Class, &'static str, &'static str, &'static str, &'static str);

impl Kind {
    /// Every kind, in the order in which they are listed at the start: a kind comes after those that it refers to.
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

    /// The one table of kinds: a new kind gets its row here.
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

    /// What Paddock has to do with the kind.
    #[must_use]
    pub const fn class(self) -> Class {
        self.facts().0
    }

    /// Which of Paddock's own kinds it is, if it is one.
    #[must_use]
    pub const fn own(self) -> Option<OwnKind> {
        match self.class() {
            Class::Own(own) => Some(own),
            Class::Child(_) | Class::Cluster(_) => None,
        }
    }

    /// The API shape of a template, pool or claim; none for a kind that does not differ by shape.
    #[must_use]
    pub const fn shape(self) -> Option<ApiShape> {
        match self.own() {
            Some(OwnKind::Template(shape) | OwnKind::Pool(shape) | OwnKind::Claim(shape)) => Some(shape),
            Some(OwnKind::Sandbox) | None => None,
        }
    }

    /// SandboxTemplate of a shape.
    #[must_use]
    pub const fn template(shape: ApiShape) -> Kind {
        match shape {
            ApiShape::Upstream => Kind::Template,
            ApiShape::Seed => Kind::SeedTemplate,
        }
    }

    /// SandboxWarmPool of a shape.
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

    /// The one of [`Kind::OWN`] that an API request for this group and plural is about.
    #[must_use]
    pub fn of_resource(group: &str, plural: &str) -> Option<Kind> {
        Kind::OWN.into_iter().find(|kind| kind.group() == group && kind.plural() == plural)
    }

    /// The one of [`Kind::OWN`] that an owner reference with this `apiVersion` and `kind` names. The version is not
    /// compared: every version of a group names the same objects.
    #[must_use]
    pub fn of_reference(api_version: &str, name: &str) -> Option<Kind> {
        let (group, _) = api_version.split_once('/')?;
        Kind::OWN.into_iter().find(|kind| kind.group() == group && kind.name() == name)
    }

    /// API group; empty for core.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.facts().1
    }

    /// The version that the operator reads and writes.
    #[must_use]
    pub const fn version(self) -> &'static str {
        self.facts().2
    }

    /// The kind's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().3
    }

    /// The resource's plural.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.facts().4
    }

    /// `plural.group`, as kubectl takes it; of Kubernetes' core group the plural alone.
    #[must_use]
    pub fn resource(self) -> String {
        match self.group() {
            "" => self.plural().to_owned(),
            group => format!("{}.{group}", self.plural()),
        }
    }

    /// Whether objects live in a namespace.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        match self.class() {
            Class::Own(_) | Class::Child(_) => true,
            Class::Cluster(_) => false,
        }
    }

    /// Whether `kubectl scale` works on objects of one of Paddock's own kinds: those with `spec.replicas`.
    #[must_use]
    pub const fn scales(self) -> bool {
        match self.own() {
            Some(OwnKind::Sandbox | OwnKind::Pool(_)) => true,
            Some(OwnKind::Template(_) | OwnKind::Claim(_)) | None => false,
        }
    }

    /// `group/version`, or `v1` for core.
    #[must_use]
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }
}

/// Names one object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its parts.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// The key of another kind's object in the same namespace.
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
