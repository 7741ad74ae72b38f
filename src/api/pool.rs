//! SandboxWarmPool: `sandboxwarmpools.extensions.agents.x-k8s.io` (v1beta1 and v1alpha1, one superset) in the upstream
//! shape, `sandboxwarmpools.agents.x-k8s.io` (v1alpha1) in the seed shape.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{NameRef, PolicyState};

/// What a warm pool is to hold.
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
#[x_kube(validation = Rule::new(BOUNDS).message(BOUNDS_MESSAGE).field_path(".minReady"))]
pub struct SandboxWarmPoolSpec {
    /// How many sandboxes to hold, where neither minReady nor maxReady is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 1))]
    pub replicas: Option<i32>,
    /// The template that the sandboxes are made from.
    pub sandbox_template_ref: NameRef,
    /// The fields that both shapes have.
    #[serde(flatten)]
    pub options: PoolOptions,
}

/// What a warm pool is to hold.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1alpha1",
    kind = "SandboxWarmPool",
    root = "SeedSandboxWarmPool",
    plural = "sandboxwarmpools",
    namespaced,
    status = "SandboxWarmPoolStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(BOUNDS).message(BOUNDS_MESSAGE).field_path(".minReady"))]
pub struct SeedSandboxWarmPoolSpec {
    /// The template that the sandboxes are made from.
    pub template_ref: NameRef,
    /// How many sandboxes to hold, where neither minReady nor maxReady is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// The fields that both shapes have.
    #[serde(flatten)]
    pub options: PoolOptions,
}

const BOUNDS: &str = "!has(self.minReady) || !has(self.maxReady) || self.minReady <= self.maxReady";
const BOUNDS_MESSAGE: &str = "minReady must be at most maxReady";

/// The fields of a pool that both shapes have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolOptions {
    /// The fewest sandboxes to hold; the pool-size policy decides between this and maxReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_ready: Option<i32>,
    /// The most sandboxes to hold. If absent, minReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_ready: Option<i32>,
    /// How the pool follows changes of its template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
}

/// How a pool follows its template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategyType {
    /// Stale sandboxes are replaced at once.
    Recreate,
    /// Stale sandboxes are replaced as they are taken or deleted.
    #[default]
    OnReplenish,
}

/// How a pool follows its template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateStrategy {
    /// Recreate, or OnReplenish (the default).
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "OnReplenish"))]
    pub kind: Option<UpdateStrategyType>,
}

/// Status of a SandboxWarmPool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxWarmPoolStatus {
    /// Sandboxes of the pool that no claim has taken.
    #[serde(default)]
    pub replicas: i32,
    /// Those of them that are Ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// How many the pool is to hold, as decided last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Label selector of the pool's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What the pool-size plugin remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_state: Option<PolicyState>,
}
