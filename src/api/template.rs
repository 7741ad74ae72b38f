//! SandboxTemplate: `sandboxtemplates.extensions.agents.x-k8s.io` (v1beta1 and v1alpha1, one superset) in the upstream
//! shape, `sandboxtemplates.agents.x-k8s.io` (v1alpha1) in the seed shape.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyIngressRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{
    IDLE_TIMEOUT, IDLE_TIMEOUT_MESSAGE, PodTemplate, RUNTIME_CLASS_MESSAGE, ResumePolicy, VolumeClaimTemplate,
    runtime_class_agrees,
};

/// What the sandboxes of a template are to be.
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
pub struct SandboxTemplateSpec {
    /// The pod that each sandbox runs.
    pub pod_template: PodTemplate,
    /// Whether each sandbox has a headless Service of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
    /// The fields that both shapes have.
    #[serde(flatten)]
    pub options: TemplateOptions,
}

/// What the sandboxes of a template are to be. Each of them has a Service of its name.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1alpha1",
    kind = "SandboxTemplate",
    root = "SeedSandboxTemplate",
    plural = "sandboxtemplates",
    namespaced,
    status = "SandboxTemplateStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(concat!("!has(self.runtimeClassName) || ", runtime_class_agrees!("template")))
    .message(RUNTIME_CLASS_MESSAGE)
    .field_path(".runtimeClassName"))]
pub struct SeedSandboxTemplateSpec {
    /// The pod that each sandbox runs.
    pub template: PodTemplate,
    /// RuntimeClass of the pod. If the pod's spec names one too, they have to agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// The fields that both shapes have.
    #[serde(flatten)]
    pub options: TemplateOptions,
}

/// The fields of a template that both shapes have.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateOptions {
    /// Volume claims to make for each sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// Network rules that all sandboxes of the template share, in place of the secure default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyRules>,
    /// Whether the operator makes a NetworkPolicy for the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Managed"))]
    pub network_policy_management: Option<NetworkPolicyManagement>,
    /// Whether a claim may set environment variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Disallowed"))]
    pub env_vars_injection_policy: Option<InjectionPolicy>,
    /// Whether a claim may bring volume claim templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Disallowed"))]
    pub volume_claim_templates_policy: Option<InjectionPolicy>,
    /// How long a sandbox may go unused before it is idle, as a Go duration such as 30m. Sandboxes that wait in a pool
    /// are never idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(IDLE_TIMEOUT).message(IDLE_TIMEOUT_MESSAGE))]
    pub idle_timeout: Option<String>,
    /// What wakes a sandbox when it is suspended: Manual (the default) or OnDemand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_policy: Option<ResumePolicy>,
}

/// What a claim may add to a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum InjectionPolicy {
    /// New entries only.
    Allowed,
    /// New entries, and others in place of the template's.
    Overrides,
    /// Nothing.
    #[default]
    Disallowed,
}

/// Whether the operator makes a NetworkPolicy for a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum NetworkPolicyManagement {
    /// It does: the template's rules, or a secure default.
    #[default]
    Managed,
    /// It does not.
    Unmanaged,
}

/// Rules of the NetworkPolicy that a template's sandboxes share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkPolicyRules {
    /// Who may connect to the sandboxes. None given: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ingress: Vec<NetworkPolicyIngressRule>,
    /// Where the sandboxes may connect to. None given: nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub egress: Vec<NetworkPolicyEgressRule>,
}

/// Status of a SandboxTemplate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxTemplateStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
