//! `sandboxes.agents.x-k8s.io`: one superset of upstream's v1beta1, upstream's v1alpha1 and the seed's shape.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{
    IDLE_TIMEOUT, IDLE_TIMEOUT_MESSAGE, OperatingMode, PodTemplate, PolicyState, RUNTIME_CLASS_MESSAGE, ResumePolicy,
    ShutdownPolicy, VolumeClaimTemplate, runtime_class_agrees,
};

/// What a Sandbox is to be. Exactly one of `podTemplate` and `template` is given.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1beta1",
    kind = "Sandbox",
    plural = "sandboxes",
    namespaced,
    status = "SandboxStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.podTemplate) != has(self.template)")
        .message("exactly one of podTemplate and template must be given: describe the pod in one of the two"),
    validation = Rule::new(concat!(
        "!has(self.runtimeClassName) || (",
        runtime_class_agrees!("podTemplate"),
        " && ",
        runtime_class_agrees!("template"),
        ")"
    ))
    .message(RUNTIME_CLASS_MESSAGE)
    .field_path(".runtimeClassName"),
    // The absent list is the empty one. (`orValue` would say so too, but its cost is estimated without bound.)
    validation = Rule::new(concat!(
        "(has(self.volumeClaimTemplates) && size(self.volumeClaimTemplates) > 0)",
        " == (has(oldSelf.volumeClaimTemplates) && size(oldSelf.volumeClaimTemplates) > 0)",
        " && (!has(self.volumeClaimTemplates) || !has(oldSelf.volumeClaimTemplates)",
        " || self.volumeClaimTemplates == oldSelf.volumeClaimTemplates)",
    ))
    .message("volumeClaimTemplates is immutable"),
    validation = Rule::new(concat!(
        "(has(self.resumePolicy) && self.resumePolicy == 'OnDemand')",
        " == (has(oldSelf.resumePolicy) && oldSelf.resumePolicy == 'OnDemand')",
    ))
    .message("resumePolicy is immutable: the Sandbox's address depends on it")
)]
pub struct SandboxSpec {
    /// The pod to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// The pod to run, in the seed shape: such a Sandbox always has a Service, and a volume that nothing mounts is
    /// mounted at `/<volume>` of a single-container pod. Give this or podTemplate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
    /// RuntimeClass of the pod. If the pod's spec names one too, they have to agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// Volume claims to make for the pod. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// Whether a headless Service of the Sandbox's name is made. Unset keeps one that exists and makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
    /// When the Sandbox expires, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub shutdown_time: Option<String>,
    /// What becomes of the Sandbox when it expires. Its pod and Service go in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Retain"))]
    pub shutdown_policy: Option<ShutdownPolicy>,
    /// Running or Suspended; Running if neither this nor replicas says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_mode: Option<OperatingMode>,
    /// 1 for Running, 0 for Suspended: what `kubectl scale` writes. Kept in step with operatingMode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub replicas: Option<i32>,
    /// How long the Sandbox may go unused before it is idle, as a Go duration such as 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(IDLE_TIMEOUT).message(IDLE_TIMEOUT_MESSAGE))]
    pub idle_timeout: Option<String>,
    /// What wakes the Sandbox when it is suspended: Manual (the default) or OnDemand. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_policy: Option<ResumePolicy>,
}

/// What a Sandbox was seen to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStatus {
    /// DNS name at which the Sandbox answers.
    #[serde(rename = "serviceFQDN", default, skip_serializing_if = "Option::is_none")]
    pub service_fqdn: Option<String>,
    /// Name of the Sandbox's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Ready, Suspended, PodScheduled and Finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Label selector of the Sandbox's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Addresses of the Sandbox's pod.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub pod_ips: Vec<String>,
    /// Node of the Sandbox's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// How many pods there are: 0 or 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The mode that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<OperatingMode>,
    /// The RuntimeClass that was chosen, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<RuntimeClassChoice>,
    /// What the idle policy last decided, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleStatus>,
    /// What the idle plugin remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_state: Option<PolicyState>,
}

/// The RuntimeClass of a Sandbox's pod, and why it is that one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeClassChoice {
    /// Name of the RuntimeClass; absent if the pod has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why this one, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The plugin that chose it; absent if none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
}

/// How far a Sandbox has been put to rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum IdleTier {
    /// Not at all.
    #[default]
    Awake,
    /// Its resources were taken back, its memory kept.
    Throttle,
    /// Its pod is gone, its disk kept.
    Suspend,
    /// Its pod is gone, its memory kept on disk.
    Hibernate,
}

/// What the idle policy last decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleStatus {
    /// How far the Sandbox has been put to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<IdleTier>,
    /// Why, in a sentence; or why it could not be put to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the policy is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check: Option<Time>,
}
