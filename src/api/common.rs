//! Wire types that several kinds use.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PodSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pod to run: its spec, its labels and its annotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodMetadata>,
    /// The spec of the pod, as in a Pod.
    pub spec: Arc<PodSpec>,
}

/// Labels and annotations of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels of the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A volume claim to create for each sandbox. Its name is `<name>-<sandbox>`, and the volume `<name>` of the pod uses
/// it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimTemplate {
    /// Name, labels and annotations of the volume claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<VolumeClaimMetadata>,
    /// The spec of the volume claim, as in a PersistentVolumeClaim.
    pub spec: Arc<PersistentVolumeClaimSpec>,
}

/// Name, labels and annotations of a volume claim template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimMetadata {
    /// The name of the volume that uses the volume claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels of the volume claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the volume claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A reference to an object of the same namespace and API group.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct NameRef {
    /// The name of the object. The object may be created later.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Whether a sandbox has a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OperatingMode {
    /// The sandbox has a pod.
    Running,
    /// The sandbox has no pod. Its Service and its volumes are kept.
    Suspended,
}

/// The events that resume a suspended sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ResumePolicy {
    /// Only a change of its mode resumes the sandbox.
    #[default]
    Manual,
    /// A request through the gateway resumes it too.
    OnDemand,
}

/// The consequence of a drain of the node for a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DrainPolicy {
    /// The pod is evicted, and another pod is created on another node.
    #[default]
    Evict,
    /// The sandbox is suspended when its node is cordoned. A request resumes it on another node.
    Suspend,
}

/// The consequence for a Sandbox object when it expires. Its pod and its Service are deleted in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ShutdownPolicy {
    /// The Sandbox is deleted.
    Delete,
    /// The Sandbox is kept with a condition that it expired.
    #[default]
    Retain,
}

/// The state that a plugin keeps between two calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyState {
    /// The digest of the plugin that wrote the state. No other plugin receives it.
    pub digest: String,
    /// The binding of that plugin: the name of the plugin, or `SandboxPolicy/` and the name of a SandboxPolicy. No other
    /// binding of the plugin receives the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// The state in base64, at most 16 KiB before encoding.
    #[schemars(length(max = 21848))]
    pub data: String,
}

/// One of the four decisions that a plugin can take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Whether an object is admitted.
    Admission,
    /// Which RuntimeClass a pod gets.
    RuntimeClass,
    /// Whether a sandbox is idle.
    Idle,
    /// How many sandboxes a pool keeps warm.
    PoolSize,
}

impl Hook {
    /// All hooks, in the order of the documentation.
    pub const ALL: [Hook; 4] = [Hook::Admission, Hook::RuntimeClass, Hook::Idle, Hook::PoolSize];

    /// The name in files and metrics. The WIT interface has the same name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::Admission => "admission",
            Hook::RuntimeClass => "runtime-class",
            Hook::Idle => "idle",
            Hook::PoolSize => "pool-size",
        }
    }
}

/// A plugin that decided about an object: the component and the settings with which it decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecidingPlugin {
    /// The hook that the decision belongs to.
    pub hook: Hook,
    /// The name of the plugin.
    pub name: String,
    /// The digest of the plugin's component: `sha256:` and 64 hex digits. Absent if the plugin is configured and not
    /// loaded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The settings of the plugin as JSON, or the SHA-256 of that JSON if it has more than 256 bytes. Absent if the
    /// plugin has no settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
}

/// Whether a shared list is empty, and is left out.
pub(crate) fn is_empty<T>(list: &[T]) -> bool {
    list.is_empty()
}

/// A CEL rule: the RuntimeClass beside a pod template must equal the one in the pod's spec, if both are given.
macro_rules! runtime_class_agrees {
    ($pod:literal) => {
        concat!(
            "(!has(self.",
            $pod,
            ") || !has(self.",
            $pod,
            ".spec.runtimeClassName) || self.",
            $pod,
            ".spec.runtimeClassName == self.runtimeClassName)"
        )
    };
}
pub(crate) use runtime_class_agrees;

/// The message of the rule [`runtime_class_agrees`].
pub(crate) const RUNTIME_CLASS_MESSAGE: &str = "must be the class that the pod's spec names; name it in one of the two";

/// The CEL rule for an idle timeout. It checks Go's grammar, because CEL's own error for an invalid duration names no
/// example. The first expression limits the digits of each unit and the number of units. The largest sum is six times
/// 31 years, which is below the 292 years that CEL's `duration` can hold.
pub(crate) const IDLE_TIMEOUT: &str = concat!(
    r"self.matches('^[+]?(([0-9]{1,5}([.][0-9]*)?|[.][0-9]+)h|([0-9]{1,7}([.][0-9]*)?|[.][0-9]+)m",
    r"|([0-9]{1,9}([.][0-9]*)?|[.][0-9]+)s|([0-9]{1,12}([.][0-9]*)?|[.][0-9]+)ms",
    r"|([0-9]{1,15}([.][0-9]*)?|[.][0-9]+)(us|µs|μs)|([0-9]{1,18}([.][0-9]*)?|[.][0-9]+)ns){1,6}$')",
    " && duration(self) > duration('0s') && duration(self) <= duration('87600h')",
);

/// The message of the rule [`IDLE_TIMEOUT`].
pub(crate) const IDLE_TIMEOUT_MESSAGE: &str =
    "must be a Go duration above zero and of at most 87600h (ten years), such as 30m, 90s or 1h30m";

/// The CEL rule for the drain policy. Without `resumePolicy: OnDemand`, a drain would end the Sandbox until a user acts.
pub(crate) const DRAIN: &str = concat!(
    "!has(self.drainPolicy) || self.drainPolicy != 'Suspend'",
    " || (has(self.resumePolicy) && self.resumePolicy == 'OnDemand')",
);

/// The message of the rule [`DRAIN`].
pub(crate) const DRAIN_MESSAGE: &str =
    "Suspend needs resumePolicy: OnDemand, because no request would resume the Sandbox after the drain";
