//! The parts of a Pod that decisions use.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

/// The parts of a Pod that decisions use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pod {
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// `spec.runtimeClassName`.
    pub runtime_class: Option<String>,
    /// `spec.restartPolicy` is `Always` (the default).
    pub restarts: bool,
    /// Volume claims that it mounts, by volume name.
    pub volume_claims: BTreeMap<String, String>,
    /// Names of volumes that are on the node's disk or in memory.
    pub empty_dirs: Vec<String>,
    /// `status.phase`.
    pub phase: String,
    /// `status.reason`, as `Evicted`.
    pub reason: Option<String>,
    /// `status.message`.
    pub message: Option<String>,
    /// Addresses.
    pub ips: Vec<String>,
    /// Conditions by type.
    pub conditions: BTreeMap<String, Condition>,
}

impl Pod {
    /// Whether its `Ready` condition is true. A terminating pod is not ready: ask the metadata too.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.condition_is_true("Ready")
    }

    /// Whether it ended by itself or was ended by its node.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether it failed for a reason that is not its own: evicted, preempted, its node gone.
    #[must_use]
    pub fn disrupted(&self) -> bool {
        // Reasons that the kubelet and the control plane give to pods they end themselves.
        const REASONS: [&str; 7] = [
            "Evicted",
            "NodeLost",
            "NodeShutdown",
            "Terminated",
            "Preempting",
            "UnexpectedAdmissionError",
            "NodeAffinity",
        ];
        self.phase == "Failed"
            && (self.restarts
                || self.reason.as_deref().is_some_and(|r| REASONS.contains(&r))
                || self.condition_is_true("DisruptionTarget"))
    }

    fn condition_is_true(&self, kind: &str) -> bool {
        self.conditions.get(kind).is_some_and(|c| c.status == "True")
    }
}
