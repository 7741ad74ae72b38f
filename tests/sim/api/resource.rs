//! The resources that the model API server knows, by group and kind.

use serde_json::Value;

/// One resource, as an index into the table below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Resource(u8);

struct Facts {
    group: &'static str,
    kind: &'static str,
    namespaced: bool,
    /// Whether it is a custom resource of this project: the main endpoint ignores `status`, and the status endpoint
    /// ignores the rest.
    custom: bool,
}

const fn facts(group: &'static str, kind: &'static str, namespaced: bool, custom: bool) -> Facts {
    Facts { group, kind, namespaced, custom }
}

const SEED: &str = "agents.x-k8s.io";
const UPSTREAM: &str = "extensions.agents.x-k8s.io";

const TABLE: [Facts; 16] = [
    facts("", "Namespace", false, false),
    facts("", "Node", false, false),
    facts("node.k8s.io", "RuntimeClass", false, false),
    facts("storage.k8s.io", "StorageClass", false, false),
    facts(UPSTREAM, "SandboxTemplate", true, true),
    facts(SEED, "SandboxTemplate", true, true),
    facts(UPSTREAM, "SandboxWarmPool", true, true),
    facts(SEED, "SandboxWarmPool", true, true),
    facts(UPSTREAM, "SandboxClaim", true, true),
    facts(SEED, "SandboxClaim", true, true),
    facts(SEED, "Sandbox", true, true),
    facts("", "Pod", true, false),
    facts("", "Service", true, false),
    facts("", "PersistentVolumeClaim", true, false),
    facts("networking.k8s.io", "NetworkPolicy", true, false),
    facts("discovery.k8s.io", "EndpointSlice", true, false),
];

impl Resource {
    pub(crate) const NODE: Resource = Resource(1);
    pub(crate) const TEMPLATE: Resource = Resource(4);
    pub(crate) const SEED_TEMPLATE: Resource = Resource(5);
    pub(crate) const POOL: Resource = Resource(6);
    pub(crate) const SEED_POOL: Resource = Resource(7);
    pub(crate) const CLAIM: Resource = Resource(8);
    pub(crate) const SEED_CLAIM: Resource = Resource(9);
    pub(crate) const SANDBOX: Resource = Resource(10);
    pub(crate) const POD: Resource = Resource(11);
    pub(crate) const SERVICE: Resource = Resource(12);
    pub(crate) const VOLUME_CLAIM: Resource = Resource(13);
    pub(crate) const NETWORK_POLICY: Resource = Resource(14);
    pub(crate) const ENDPOINT_SLICE: Resource = Resource(15);

    /// The resource of an `apiVersion` and a `kind`. All versions of a group belong to the same resource.
    pub(crate) fn named(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let at = TABLE.iter().position(|f| f.group == group && f.kind == kind)?;
        u8::try_from(at).ok().map(Resource)
    }

    /// The resource that a document names.
    pub(crate) fn of(document: &Value) -> Option<Self> {
        Self::named(document["apiVersion"].as_str()?, document["kind"].as_str()?)
    }

    fn facts(self) -> &'static Facts {
        &TABLE[usize::from(self.0)]
    }

    pub(crate) fn kind(self) -> &'static str {
        self.facts().kind
    }

    pub(crate) fn group(self) -> &'static str {
        self.facts().group
    }

    pub(crate) fn namespaced(self) -> bool {
        self.facts().namespaced
    }

    pub(crate) fn custom(self) -> bool {
        self.facts().custom
    }

    pub(crate) fn is_claim(self) -> bool {
        [Self::CLAIM, Self::SEED_CLAIM].contains(&self)
    }
}
