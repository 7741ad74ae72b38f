//! SandboxClaim: `sandboxclaims.extensions.agents.x-k8s.io` (v1beta1 and v1alpha1, one superset) in the upstream shape,
//! `sandboxclaims.agents.x-k8s.io` (v1alpha1) in the seed shape.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{NameRef, PodMetadata, VolumeClaimTemplate};

/// What a claim asks for. Exactly one of `warmPoolRef` and `sandboxTemplateRef` is given.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "extensions.agents.x-k8s.io",
    version = "v1beta1",
    kind = "SandboxClaim",
    plural = "sandboxclaims",
    namespaced,
    status = "SandboxClaimStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.warmPoolRef) != has(self.sandboxTemplateRef)").message(
        "exactly one of warmPoolRef and sandboxTemplateRef must be given: a claim names a pool or a template"
    ),
    validation = Rule::new("!has(self.warmpool) || self.warmpool == '' || !has(self.warmPoolRef)")
        .message("warmpool must be absent where warmPoolRef names the pool")
        .field_path(".warmpool")
)]
pub struct SandboxClaimSpec {
    /// The pool to take a sandbox from; none warm: one is made from the pool's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool_ref: Option<NameRef>,
    /// The template that the sandbox is to be of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_template_ref: Option<NameRef>,
    /// With sandboxTemplateRef: which pools to look in. "default": all of that template; "none": none; else a pool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmpool: Option<String>,
    /// The fields that both shapes have.
    #[serde(flatten)]
    pub options: ClaimOptions,
}

/// What a claim asks for. Exactly one of `templateRef` and `warmPoolRef` is given.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1alpha1",
    kind = "SandboxClaim",
    root = "SeedSandboxClaim",
    plural = "sandboxclaims",
    namespaced,
    status = "SandboxClaimStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.templateRef) != has(self.warmPoolRef)").message(
    "exactly one of templateRef and warmPoolRef must be given: a claim names a template or a pool"
))]
pub struct SeedSandboxClaimSpec {
    /// The template that the sandbox is to be of; any pool of that template may give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<NameRef>,
    /// The pool to take a sandbox from; none warm: one is made from the pool's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool_ref: Option<NameRef>,
    /// The fields that both shapes have.
    #[serde(flatten)]
    pub options: ClaimOptions,
}

/// The fields of a claim that both shapes have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimOptions {
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

/// An environment variable that a claim adds to its sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimEnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its value.
    pub value: String,
    /// The container that gets it; the template's first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
}

/// When a claim ends, and what becomes of it then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimLifecycle {
    /// When the claim expires, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub shutdown_time: Option<String>,
    /// How long the claim stays after its sandbox finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// What becomes of the claim when it ends. Retain by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Retain"))]
    pub shutdown_policy: Option<ClaimShutdownPolicy>,
}

/// What becomes of an expired claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ClaimShutdownPolicy {
    /// The claim is deleted, and its Sandbox with it.
    Delete,
    /// As Delete, but the claim stays until its Sandbox and pod are gone.
    DeleteForeground,
    /// The claim stays and says that it expired; its Sandbox is deleted.
    #[default]
    Retain,
}

/// Status of a SandboxClaim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxClaimStatus {
    /// Conditions of the claim: its own, or its Sandbox's forwarded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The Sandbox that is this claim's; final once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<ClaimedSandbox>,
}

/// The Sandbox of a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedSandbox {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Addresses of its pod.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub pod_ips: Vec<String>,
}
