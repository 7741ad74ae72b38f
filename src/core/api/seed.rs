//! `agents.x-k8s.io/v1alpha1`: template, warm pool and claim in the seed shape.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{
    ClaimEnvVar, ClaimLifecycle, InjectionPolicy, NameRef, NetworkPolicyManagement, NetworkPolicyRules, PodMetadata,
    PodTemplate, ResumePolicy, SandboxClaimStatus, SandboxTemplateStatus, SandboxWarmPoolStatus, UpdateStrategy,
    VolumeClaimTemplate,
};
use super::rules;

/// What the sandboxes of a template are to be. Each of them has a Service of its name.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1alpha1",
    kind = "SandboxTemplate",
    plural = "sandboxtemplates",
    namespaced,
    status = "SandboxTemplateStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::seed_template()))]
pub struct SandboxTemplateSpec {
    /// The pod that each sandbox runs.
    pub template: PodTemplate,
    /// RuntimeClass of the pod. If the pod's spec names one too, they have to agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// How long a sandbox may go unused before it is idle, as a Go duration such as 30m. Sandboxes that wait in a pool
    /// are never idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-validations" = rules::idle_timeout()))]
    pub idle_timeout: Option<String>,
    /// What wakes a sandbox when it is suspended: Manual (the default) or OnDemand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_policy: Option<ResumePolicy>,
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
}

/// What a warm pool is to hold.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1alpha1",
    kind = "SandboxWarmPool",
    plural = "sandboxwarmpools",
    namespaced,
    status = "SandboxWarmPoolStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::pool()))]
pub struct SandboxWarmPoolSpec {
    /// The template that the sandboxes are made from.
    pub template_ref: NameRef,
    /// The fewest sandboxes to hold; the pool-size policy decides between this and maxReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_ready: Option<i32>,
    /// The most sandboxes to hold. If absent, minReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_ready: Option<i32>,
    /// How many sandboxes to hold, where neither minReady nor maxReady is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// How the pool follows changes of its template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
}

/// What a claim asks for. Exactly one of `templateRef` and `warmPoolRef` is given.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1alpha1",
    kind = "SandboxClaim",
    plural = "sandboxclaims",
    namespaced,
    status = "SandboxClaimStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::seed_claim()))]
pub struct SandboxClaimSpec {
    /// The template that the sandbox is to be of; any pool of that template may give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<NameRef>,
    /// The pool to take a sandbox from; none warm: one is made from the pool's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool_ref: Option<NameRef>,
    /// When the claim ends, and what becomes of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<ClaimLifecycle>,
    /// Labels and annotations to add to the sandbox's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_pod_metadata: Option<PodMetadata>,
    /// Environment variables to add to the sandbox, where the template allows it. Such a sandbox is made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub env: Vec<ClaimEnvVar>,
    /// Volume claims to make for the sandbox, where the template allows it. Such a sandbox is made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
}
