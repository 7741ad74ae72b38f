//! The kinds that Paddock reads and writes, and the keys that name their objects.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Every kind that is watched. The seed's three carry `Seed`; the others are upstream's or Kubernetes' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `sandboxes.agents.x-k8s.io`, both shapes.
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

impl Kind {
    /// Every kind; those that others refer to come last to be reconciled and first to be listed.
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

    /// The kinds that Paddock serves and decides about.
    pub const OWN: [Kind; 7] =
        [Kind::Claim, Kind::SeedClaim, Kind::Pool, Kind::SeedPool, Kind::Sandbox, Kind::Template, Kind::SeedTemplate];

    /// The one of [`Kind::OWN`] that an API request for this group and plural is about.
    #[must_use]
    pub fn served(group: &str, plural: &str) -> Option<Kind> {
        Kind::OWN.into_iter().find(|kind| kind.group() == group && kind.plural() == plural)
    }

    fn facts(self) -> (&'static str, &'static str, &'static str, &'static str, bool) {
        match self {
            Kind::Sandbox => ("agents.x-k8s.io", "v1beta1", "Sandbox", "sandboxes", true),
            Kind::Template => ("extensions.agents.x-k8s.io", "v1beta1", "SandboxTemplate", "sandboxtemplates", true),
            Kind::Pool => ("extensions.agents.x-k8s.io", "v1beta1", "SandboxWarmPool", "sandboxwarmpools", true),
            Kind::Claim => ("extensions.agents.x-k8s.io", "v1beta1", "SandboxClaim", "sandboxclaims", true),
            Kind::SeedTemplate => ("agents.x-k8s.io", "v1alpha1", "SandboxTemplate", "sandboxtemplates", true),
            Kind::SeedPool => ("agents.x-k8s.io", "v1alpha1", "SandboxWarmPool", "sandboxwarmpools", true),
            Kind::SeedClaim => ("agents.x-k8s.io", "v1alpha1", "SandboxClaim", "sandboxclaims", true),
            Kind::Pod => ("", "v1", "Pod", "pods", true),
            Kind::Service => ("", "v1", "Service", "services", true),
            Kind::VolumeClaim => ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
            Kind::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", true),
            Kind::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true),
            Kind::Namespace => ("", "v1", "Namespace", "namespaces", false),
            Kind::Node => ("", "v1", "Node", "nodes", false),
            Kind::RuntimeClass => ("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", false),
            Kind::StorageClass => ("storage.k8s.io", "v1", "StorageClass", "storageclasses", false),
        }
    }

    /// API group; empty for core.
    #[must_use]
    pub fn group(self) -> &'static str {
        self.facts().0
    }

    /// The version that the operator reads and writes.
    #[must_use]
    pub fn version(self) -> &'static str {
        self.facts().1
    }

    /// The kind's name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().2
    }

    /// The resource's plural.
    #[must_use]
    pub fn plural(self) -> &'static str {
        self.facts().3
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
    pub fn namespaced(self) -> bool {
        self.facts().4
    }

    /// Whether `kubectl scale` works on it: of what Paddock serves, where `spec.replicas` says how many.
    #[must_use]
    pub fn scales(self) -> bool {
        match self {
            Kind::Sandbox | Kind::Pool | Kind::SeedPool => true,
            Kind::Template | Kind::SeedTemplate | Kind::Claim | Kind::SeedClaim => false,
            Kind::Pod | Kind::Service | Kind::VolumeClaim | Kind::NetworkPolicy | Kind::EndpointSlice => false,
            Kind::Namespace | Kind::Node | Kind::RuntimeClass | Kind::StorageClass => false,
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
