//! SandboxTemplate. Upstream shape: `sandboxtemplates.extensions.agents.x-k8s.io`, v1beta1 and v1alpha1 with one
//! schema. Seed shape: `sandboxtemplates.agents.x-k8s.io`, v1alpha1.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyIngressRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claim_data::ClaimDataSpec;
use crate::common::{
    DRAIN, DRAIN_MESSAGE, DrainPolicy, IDLE_TIMEOUT, IDLE_TIMEOUT_MESSAGE, PodTemplate, RUNTIME_CLASS_MESSAGE,
    ResumePolicy, VolumeClaimTemplate, runtime_class_agrees,
};
use crate::schedule::WakeSchedule;

/// The desired properties of the template's sandboxes.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "extensions.agents.x-k8s.io",
    version = "v1beta1",
    kind = "SandboxTemplate",
    plural = "sandboxtemplates",
    namespaced,
    status = "SandboxTemplateStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-seed-description" = "The desired properties of the template's sandboxes. Each sandbox has a Service of the same name."))]
#[x_kube(
    validation = Rule::new(concat!("!has(self.runtimeClassName) || ", runtime_class_agrees!("template")))
        .message(RUNTIME_CLASS_MESSAGE)
        .field_path(".runtimeClassName"),
    validation = Rule::new(DRAIN).message(DRAIN_MESSAGE).field_path(".drainPolicy")
)]
pub struct SandboxTemplateSpec {
    /// The pod of each sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-upstream-only" = "required"))]
    pub pod_template: Option<PodTemplate>,
    /// The pod of each sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-seed-only" = "required"))]
    pub template: Option<PodTemplate>,
    /// Whether each sandbox has a headless Service of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-upstream-only" = "optional"))]
    pub service: Option<bool>,
    /// The RuntimeClass of the pod. If the pod's spec names a RuntimeClass too, both must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), extend("x-seed-only" = "optional"))]
    pub runtime_class_name: Option<String>,
    /// Volume claims to create for each sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// Network rules for all sandboxes of the template. If absent, secure default rules apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyRules>,
    /// Whether the operator creates a NetworkPolicy for the template: Managed (the default) or Unmanaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Managed"))]
    pub network_policy_management: Option<NetworkPolicyManagement>,
    /// Whether a claim may add environment variables (Allowed), may also replace those of the template (Overrides), or
    /// neither (Disallowed, the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Disallowed"))]
    pub env_vars_injection_policy: Option<InjectionPolicy>,
    /// Whether a claim may add volume claim templates (Allowed), may also replace those of the template (Overrides), or
    /// neither (Disallowed, the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Disallowed"))]
    pub volume_claim_templates_policy: Option<InjectionPolicy>,
    /// Lets a claim bring files and environment variables to a sandbox that already runs. They appear as files in a
    /// directory. If absent, environment variables of a claim are set in a new pod, and a claim can bring no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_data: Option<ClaimDataSpec>,
    /// The time without use after which a sandbox is idle, as a Go duration such as 30m. Sandboxes that wait in a pool
    /// are never idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(IDLE_TIMEOUT).message(IDLE_TIMEOUT_MESSAGE))]
    pub idle_timeout: Option<String>,
    /// The events that resume a sandbox when it is suspended. Manual (the default) means only a change of its mode.
    /// OnDemand means a request through the gateway too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_policy: Option<ResumePolicy>,
    /// The consequence of a drain of a node for its sandboxes: Evict (the default) or Suspend. Suspend needs the
    /// resumePolicy OnDemand: a sandbox is suspended when its node is cordoned, and a request resumes it on another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_policy: Option<DrainPolicy>,
    /// The times at which a sandbox resumes, if the idle policy or a drain suspended it. A sandbox that a user suspended
    /// stays suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_schedule: Option<WakeSchedule>,
}

/// The entries that a claim may add to those of a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum InjectionPolicy {
    /// A claim may add new entries.
    Allowed,
    /// A claim may add new entries and replace entries of the template.
    Overrides,
    /// A claim may add nothing.
    #[default]
    Disallowed,
}

/// Whether the operator creates a NetworkPolicy for a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum NetworkPolicyManagement {
    /// The operator creates a NetworkPolicy with the template's rules, or with secure default rules.
    #[default]
    Managed,
    /// The operator creates no NetworkPolicy.
    Unmanaged,
}

/// The rules of the NetworkPolicy that the sandboxes of a template share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkPolicyRules {
    /// The allowed sources of connections to the sandboxes. If empty, no connection to them is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ingress: Vec<NetworkPolicyIngressRule>,
    /// The allowed destinations of connections from the sandboxes. If empty, no connection from them is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub egress: Vec<NetworkPolicyEgressRule>,
}

/// The observed state of a SandboxTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxTemplateStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The reason why the template's NetworkPolicy does not apply to its sandboxes. Absent if it applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy_bypass: Option<String>,
}
