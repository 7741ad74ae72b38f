//! The record of a throttled pod in the status of its Sandbox.
//!
//! The operator writes the record before it resizes the pod, so that a crash between the two leaves no pod throttled for
//! ever. The status is the operator's alone: a user who may change pods cannot make the operator restore other values.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The CPU that the operator took from the pod of an idle Sandbox, and gives back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThrottleStatus {
    /// The UID of the pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Throttling, Throttled, Restoring or Failed.
    pub state: ThrottleState,
    /// The time since which the state holds.
    pub since: Time,
    /// The CPU limit of each container while it is throttled, as a quantity such as 10m.
    pub cpu_limit: String,
    /// Why the pod could not be throttled, or why its CPU is not restored yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the pod got its CPU back because it was not Ready with little CPU. It gets it back for that reason once, until
    /// the Sandbox is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<Time>,
    /// The containers with the CPU that they had and that they get back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub containers: Vec<ThrottledContainer>,
}

impl ThrottleStatus {
    /// Whether the pod is throttled or about to be.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        match self.state {
            ThrottleState::Throttling | ThrottleState::Throttled => true,
            ThrottleState::Restoring | ThrottleState::Failed => false,
        }
    }

    /// The time since which the pod is throttled, if it is.
    #[must_use]
    pub fn throttled_since(&self) -> Option<Timestamp> {
        self.is_throttled().then_some(self.since.0)
    }
}

/// The state of a pod that is or was throttled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ThrottleState {
    /// The containers get little CPU. The operator has not seen yet that the pod was resized.
    #[default]
    Throttling,
    /// The containers have little CPU.
    Throttled,
    /// The containers get back the CPU that they had.
    Restoring,
    /// The pod could not be throttled, or did not stay Ready. It gets back the CPU that it had, and is not throttled for a
    /// while.
    Failed,
}

/// The CPU that a container had before it was throttled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThrottledContainer {
    /// The name of the container.
    pub name: String,
    /// Its CPU request, as a quantity such as 250m.
    pub cpu_request: String,
    /// Its CPU limit, as a quantity such as 1500m.
    pub cpu_limit: String,
}
