//! SandboxWarmPool. Upstream shape: `sandboxwarmpools.extensions.agents.x-k8s.io`, v1beta1 and v1alpha1 with one
//! schema. Seed shape: `sandboxwarmpools.agents.x-k8s.io`, v1alpha1.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{NameRef, PolicyState};

/// The desired size and template of a warm pool.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "extensions.agents.x-k8s.io",
    version = "v1beta1",
    kind = "SandboxWarmPool",
    plural = "sandboxwarmpools",
    namespaced,
    status = "SandboxWarmPoolStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minReady) || !has(self.maxReady) || self.minReady <= self.maxReady")
    .message("minReady must be at most maxReady")
    .field_path(".minReady"))]
pub struct SandboxWarmPoolSpec {
    /// The number of sandboxes in the pool, if neither minReady nor maxReady is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000), extend("x-upstream-default" = 1))]
    pub replicas: Option<i32>,
    /// The template that the sandboxes are created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-upstream-only" = "required"))]
    pub sandbox_template_ref: Option<NameRef>,
    /// The template that the sandboxes are created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-seed-only" = "required"))]
    pub template_ref: Option<NameRef>,
    /// The smallest number of sandboxes in the pool. The pool-size policy decides on a number from minReady to
    /// maxReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_ready: Option<i32>,
    /// The largest number of sandboxes in the pool. If absent, the same as minReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_ready: Option<i32>,
    /// The way in which the pool follows changes of its template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
    /// The number of seconds for which a sandbox of the pool may be not Ready while its pod has a node. After that the
    /// pool replaces it. If absent, the operator's default applies, which is five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30))]
    pub readiness_grace_period_seconds: Option<i32>,
}

/// The way in which a pool follows changes of its template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategyType {
    /// Stale sandboxes are replaced at once.
    Recreate,
    /// Stale sandboxes are replaced a few at a time, when their replacements are Ready.
    #[default]
    OnReplenish,
}

/// The way in which a pool follows changes of its template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateStrategy {
    /// Recreate replaces stale sandboxes at once. OnReplenish (the default) replaces them a few at a time.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "OnReplenish"))]
    pub kind: Option<UpdateStrategyType>,
}

/// The observed state of a SandboxWarmPool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxWarmPoolStatus {
    /// The number of sandboxes in the pool that no claim has taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The number of these sandboxes that are Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The number of sandboxes that the pool should have, from the last decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// The label selector of the pool's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The state that the pool-size plugin keeps between two calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_state: Option<PolicyState>,
}
