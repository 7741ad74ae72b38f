//! Wire types that several kinds share.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PodSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pod to run: its spec, and the labels and annotations it carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodMetadata>,
    /// The pod's spec, as in a Pod.
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

/// A volume claim to make for each sandbox: `<name>-<sandbox>`, mounted by the volume of that name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimTemplate {
    /// Name, labels and annotations of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<VolumeClaimMetadata>,
    /// The claim's spec, as in a PersistentVolumeClaim.
    pub spec: Arc<PersistentVolumeClaimSpec>,
}

/// Name, labels and annotations of a volume claim template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimMetadata {
    /// Name of the volume that the claim backs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels of the claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Names an object of the same namespace and group.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct NameRef {
    /// Name of the object. It may be made later.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Whether a sandbox has a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OperatingMode {
    /// It has a pod.
    Running,
    /// It has none; its Service and volumes stay.
    Suspended,
}

/// What wakes a suspended sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ResumePolicy {
    /// Only setting its mode.
    #[default]
    Manual,
    /// A connection to its address as well.
    OnDemand,
}

/// What becomes of an expired Sandbox itself; its pod and Service go in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ShutdownPolicy {
    /// The Sandbox is deleted.
    Delete,
    /// The Sandbox stays and says that it expired.
    #[default]
    Retain,
}

/// What a plugin wants to remember between two calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyState {
    /// Digest of the plugin that wrote it; another plugin does not get it.
    pub digest: String,
    /// The state, base64: at most 16 KiB of it.
    #[schemars(length(max = 21848))]
    pub data: String,
}

/// The CEL rule that a RuntimeClass named beside a pod is the one named in it.
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

/// The message of [`runtime_class_agrees`].
pub(crate) const RUNTIME_CLASS_MESSAGE: &str = "must be the class that the pod's spec names; name it in one of the two";

/// The CEL rule of an idle timeout: Go's grammar, since CEL's own error for another one would name no example. The first
/// expression lets through so many digits of each unit, and so many units, that no sum of them is more than the 292 years
/// that CEL's `duration` can hold: at most six times 31 years.
pub(crate) const IDLE_TIMEOUT: &str = concat!(
    r"self.matches('^[+]?(([0-9]{1,5}([.][0-9]*)?|[.][0-9]+)h|([0-9]{1,7}([.][0-9]*)?|[.][0-9]+)m",
    r"|([0-9]{1,9}([.][0-9]*)?|[.][0-9]+)s|([0-9]{1,12}([.][0-9]*)?|[.][0-9]+)ms",
    r"|([0-9]{1,15}([.][0-9]*)?|[.][0-9]+)(us|µs|μs)|([0-9]{1,18}([.][0-9]*)?|[.][0-9]+)ns){1,6}$')",
    " && duration(self) > duration('0s') && duration(self) <= duration('87600h')",
);

/// The message of [`IDLE_TIMEOUT`].
pub(crate) const IDLE_TIMEOUT_MESSAGE: &str =
    "must be a Go duration above zero and of at most 87600h (ten years), such as 30m, 90s or 1h30m";
