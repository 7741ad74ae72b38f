//! The kinds that tests read and write, under their names on the wire.

use kube::core::ApiResource;

/// A kind of objects: API version, kind and plural.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

pub(crate) const SANDBOX: Kind = Kind("agents.x-k8s.io/v1beta1", "Sandbox", "sandboxes");
pub(crate) const SANDBOX_V1ALPHA1: Kind = Kind("agents.x-k8s.io/v1alpha1", "Sandbox", "sandboxes");
pub(crate) const SEED_TEMPLATE: Kind = Kind("agents.x-k8s.io/v1alpha1", "SandboxTemplate", "sandboxtemplates");
pub(crate) const SEED_POOL: Kind = Kind("agents.x-k8s.io/v1alpha1", "SandboxWarmPool", "sandboxwarmpools");
pub(crate) const SEED_CLAIM: Kind = Kind("agents.x-k8s.io/v1alpha1", "SandboxClaim", "sandboxclaims");
pub(crate) const TEMPLATE: Kind = Kind("extensions.agents.x-k8s.io/v1beta1", "SandboxTemplate", "sandboxtemplates");
pub(crate) const POOL: Kind = Kind("extensions.agents.x-k8s.io/v1beta1", "SandboxWarmPool", "sandboxwarmpools");
pub(crate) const CLAIM: Kind = Kind("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim", "sandboxclaims");
pub(crate) const TEMPLATE_V1ALPHA1: Kind =
    Kind("extensions.agents.x-k8s.io/v1alpha1", "SandboxTemplate", "sandboxtemplates");
pub(crate) const POOL_V1ALPHA1: Kind =
    Kind("extensions.agents.x-k8s.io/v1alpha1", "SandboxWarmPool", "sandboxwarmpools");
pub(crate) const CLAIM_V1ALPHA1: Kind = Kind("extensions.agents.x-k8s.io/v1alpha1", "SandboxClaim", "sandboxclaims");
pub(crate) const POD: Kind = Kind("v1", "Pod", "pods");
pub(crate) const SERVICE: Kind = Kind("v1", "Service", "services");
pub(crate) const VOLUME_CLAIM: Kind = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims");
pub(crate) const SECRET: Kind = Kind("v1", "Secret", "secrets");
pub(crate) const SERVICE_ACCOUNT: Kind = Kind("v1", "ServiceAccount", "serviceaccounts");
pub(crate) const ROLE_BINDING: Kind = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings");
pub(crate) const EVENT: Kind = Kind("events.k8s.io/v1", "Event", "events");
pub(crate) const ENDPOINT_SLICE: Kind = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices");
pub(crate) const NETWORK_POLICY: Kind = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies");
pub(crate) const RESOURCE_QUOTA: Kind = Kind("v1", "ResourceQuota", "resourcequotas");

impl Kind {
    /// The kind for kube's untyped API.
    pub(crate) fn resource(self) -> ApiResource {
        let (group, version) = self.0.split_once('/').unwrap_or(("", self.0));
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.0.to_owned(),
            kind: self.1.to_owned(),
            plural: self.2.to_owned(),
        }
    }

    /// The path of the kind's objects.
    pub(crate) fn path(self, namespace: &str) -> String {
        let root = if self.0.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/namespaces/{namespace}/{}", self.0, self.2)
    }

    /// The kind of an object.
    pub(crate) fn of(object: &serde_json::Value) -> Self {
        let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        let known = SERVED.iter().chain(&BUILT_IN).find(|k| Some(k.0) == version && Some(k.1) == kind);
        *known.unwrap_or_else(|| panic!("kind {kind:?} in {version:?} is not in the tests' table"))
    }
}

/// The kinds of Paddock, in each version.
pub(crate) const SERVED: [Kind; 11] = [
    SANDBOX,
    SANDBOX_V1ALPHA1,
    SEED_TEMPLATE,
    SEED_POOL,
    SEED_CLAIM,
    TEMPLATE,
    POOL,
    CLAIM,
    TEMPLATE_V1ALPHA1,
    POOL_V1ALPHA1,
    CLAIM_V1ALPHA1,
];
const BUILT_IN: [Kind; 10] = [
    POD,
    SERVICE,
    VOLUME_CLAIM,
    SECRET,
    SERVICE_ACCOUNT,
    ROLE_BINDING,
    EVENT,
    ENDPOINT_SLICE,
    NETWORK_POLICY,
    RESOURCE_QUOTA,
];
