//! SandboxClaim. Upstream shape: `sandboxclaims.extensions.agents.x-k8s.io`, v1beta1 and v1alpha1 with one schema. Seed
//! shape: `sandboxclaims.agents.x-k8s.io`, v1alpha1.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claim_data::ClaimFile;
use crate::common::{DecidingPlugin, NameRef, PodMetadata, VolumeClaimTemplate, is_empty};

/// The desired sandbox of a claim. Exactly one of `warmPoolRef` and `sandboxTemplateRef` must be given.
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
#[schemars(extend("x-seed-description" = "The desired sandbox of a claim. Exactly one of `templateRef` and `warmPoolRef` must be given."))]
#[x_kube(
    validation = Rule::new("has(self.warmPoolRef) != has(self.sandboxTemplateRef)").message(
        "exactly one of warmPoolRef and sandboxTemplateRef must be given: a claim names a pool or a template"
    ),
    validation = Rule::new("!has(self.warmpool) || self.warmpool == '' || !has(self.warmPoolRef)")
        .message("warmpool must be absent where warmPoolRef names the pool")
        .field_path(".warmpool"),
    validation = Rule::new("has(self.templateRef) != has(self.warmPoolRef)").message(
        "exactly one of templateRef and warmPoolRef must be given: a claim names a template or a pool"
    )
)]
pub struct SandboxClaimSpec {
    /// The pool to take a sandbox from. If the pool has no warm sandbox, one is created from the pool's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool_ref: Option<NameRef>,
    /// The template of the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-upstream-only" = "optional"))]
    pub sandbox_template_ref: Option<NameRef>,
    /// The template of the sandbox. The sandbox may come from any pool of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-seed-only" = "optional"))]
    pub template_ref: Option<NameRef>,
    /// The pools to take a sandbox from, together with sandboxTemplateRef. "default" means all pools of the template,
    /// and "none" means no pool. Any other value is the name of a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-upstream-only" = "optional"))]
    pub warmpool: Option<String>,
    /// The end of the claim, and its consequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<ClaimLifecycle>,
    /// Labels and annotations to add to the pod of the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_pod_metadata: Option<PodMetadata>,
    /// Environment variables to add to the sandbox, if the template allows it. If the template has claimData, they appear
    /// in a file of the running sandbox. Otherwise the sandbox is created for the claim and not taken from a pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub env: Vec<ClaimEnvVar>,
    /// Files that appear in the running sandbox, if the template has claimData.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub files: Vec<ClaimFile>,
    /// Volume claims to create for the sandbox, if the template allows it. A sandbox with additional volume claims is
    /// created for the claim and not taken from a pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
}

/// An environment variable that a claim adds to its sandbox.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimEnvVar {
    /// The name of the variable.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The value of the variable.
    pub value: String,
    /// The container that gets the variable. If absent, the first container of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
}

/// Without the value, which no log and no debug page needs.
impl std::fmt::Debug for ClaimEnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, value, container_name } = self;
        f.debug_struct("ClaimEnvVar")
            .field("name", name)
            .field("value_bytes", &value.len())
            .field("container_name", container_name)
            .finish()
    }
}

/// The end of a claim, and its consequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimLifecycle {
    /// The time at which the claim expires, in RFC 3339 format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub shutdown_time: Option<String>,
    /// The number of seconds for which the claim is kept after its sandbox has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// The consequence for the claim when it expires: Delete, DeleteForeground or Retain (the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Retain"))]
    pub shutdown_policy: Option<ClaimShutdownPolicy>,
}

/// The consequence for a claim when it expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ClaimShutdownPolicy {
    /// The claim and its Sandbox are deleted.
    Delete,
    /// The claim and its Sandbox are deleted. The claim exists until its Sandbox and pod are removed.
    DeleteForeground,
    /// The claim is kept with a condition that it expired. Its Sandbox is deleted.
    #[default]
    Retain,
}

/// The observed state of a SandboxClaim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxClaimStatus {
    /// Conditions of the claim, and conditions that are copied from its Sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The Sandbox of this claim. It does not change once it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<ClaimedSandbox>,
    /// The plugins that decided about the claim and the pod of its Sandbox, at most 16: those that admitted or denied
    /// them, and the one that chose the RuntimeClass. The status of the Sandbox names its idle plugin.
    #[serde(default, skip_serializing_if = "is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub plugins: Arc<Vec<DecidingPlugin>>,
}

/// The Sandbox of a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedSandbox {
    /// The name of the Sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The IP addresses of the Sandbox's pod.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub pod_ips: Vec<String>,
}
