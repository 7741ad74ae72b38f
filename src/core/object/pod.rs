//! The parts of a Pod that decisions use.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use paddock_api::DecidingPlugin;
use serde::Serialize;

use super::cpu::PodCpu;
use crate::isolation::HostAccessSet;

/// The parts of a Pod that decisions use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pod {
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// `spec.runtimeClassName`.
    pub runtime_class: Option<Arc<str>>,
    /// The access to the host that the spec and the annotations give.
    pub host_access: HostAccessSet,
    /// Whether `spec.restartPolicy` is `Always`, which is the default.
    pub restarts: bool,
    /// The volumes whose files are deleted with the pod. Volumes in memory are not among them, because their files are
    /// scratch by nature.
    pub lost_volumes: Box<[LostVolume]>,
    /// Whether its containers start their commands only when the data of a claim is there.
    pub held: bool,
    /// The plugins that decided about the pod, from an annotation. Pods share equal lists.
    pub plugins: Arc<Vec<DecidingPlugin>>,
    /// `status.phase`, or `Pending` if the status has none.
    pub phase: Box<str>,
    /// `status.reason`, such as `Evicted`.
    pub reason: Option<Box<str>>,
    /// `status.message`.
    pub message: Option<Box<str>>,
    /// The addresses in `status.podIPs`.
    pub ips: Box<[Box<str>]>,
    /// The parts that few pods have. `None` if this pod has none of them.
    #[serde(flatten)]
    pub(super) rare: Option<Box<RareParts>>,
    /// Those of the conditions `Ready`, `PodScheduled`, `DisruptionTarget`, `PodResizePending` and `PodResizeInProgress`
    /// that the status has.
    pub conditions: Box<[PodCondition]>,
    /// The fields that clients may change, if the spec was changed after the Pod was created. Few Pods have them.
    pub changed: Option<Box<ChangedPod>>,
}

/// The parts of a Pod that few pods have. Each field costs every pod of the cluster its size, so these have a box.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct RareParts {
    claim_secret: Option<Box<str>>,
    offered_spec: Option<Arc<str>>,
    cpu: Option<PodCpu>,
}

impl RareParts {
    /// The name of the Secret with the data of a claim, the whole spec as JSON, and the CPU of the containers. `None` if
    /// there is none of them.
    pub(super) fn of(
        claim_secret: Option<Box<str>>,
        offered_spec: Option<Arc<str>>,
        cpu: Option<PodCpu>,
    ) -> Option<Box<Self>> {
        let parts = Self { claim_secret, offered_spec, cpu };
        (parts != Self::default()).then(|| Box::new(parts))
    }
}

/// A condition of a Pod that decisions use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodCondition {
    /// The type of the condition.
    pub kind: &'static str,
    /// The status of the condition.
    pub status: ConditionStatus,
    /// The reason. Empty if the condition has none.
    pub reason: Box<str>,
    /// The message. Empty if the condition has none.
    pub message: Box<str>,
    /// `lastTransitionTime`: the time of the last change of the status.
    pub since: Timestamp,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ConditionStatus {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`, or a value that Kubernetes does not define.
    Unknown,
}

/// The fields of a Pod's spec that clients may change.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChangedPod {
    /// The containers and init containers.
    pub containers: Vec<ChangedContainer>,
    /// The number of ephemeral containers.
    pub ephemeral_containers: usize,
    /// The number of scheduling gates.
    pub scheduling_gates: usize,
    /// The tolerations.
    pub tolerations: Vec<Toleration>,
    /// `activeDeadlineSeconds`, in seconds.
    pub active_deadline_seconds: Option<i64>,
    /// The resources of the pod as a whole.
    pub resources: Option<ResourceRequirements>,
}

/// The fields of a container that clients may change, and its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChangedContainer {
    /// The name of the container.
    pub name: Box<str>,
    /// The image. `None` if the container names none.
    pub image: Option<Box<str>>,
    /// The resources, if there are any.
    pub resources: Option<Box<ResourceRequirements>>,
}

/// A volume whose files are deleted with the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostVolume {
    /// The name of the volume.
    pub name: Box<str>,
    /// The source of the volume.
    pub source: LostSource,
}

/// The source of a volume whose files are deleted with the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LostSource {
    /// `emptyDir` on the disk of the node.
    EmptyDir,
    /// `ephemeral`: a volume claim that belongs to the pod.
    Ephemeral,
    /// `csi`, if it is not read-only: a volume that a driver makes for the pod.
    Csi,
    /// `gitRepo`: a clone in a directory of the node.
    GitRepo,
}

impl LostSource {
    /// The source as a noun with its article, for messages.
    #[must_use]
    pub fn described(self) -> &'static str {
        match self {
            LostSource::EmptyDir => "an emptyDir",
            LostSource::Ephemeral => "a generic ephemeral volume",
            LostSource::Csi => "a CSI ephemeral volume",
            LostSource::GitRepo => "a gitRepo volume",
        }
    }
}

impl Pod {
    /// The name of the Secret from which its containers get the data of a claim. `None` if they cannot get any.
    #[must_use]
    pub fn claim_secret(&self) -> Option<&str> {
        self.rare.as_ref()?.claim_secret.as_deref()
    }

    /// The whole spec as JSON, if a Sandbox may adopt the pod.
    #[must_use]
    pub fn offered_spec(&self) -> Option<&str> {
        self.rare.as_ref()?.offered_spec.as_deref()
    }

    /// The CPU of its containers. `None` if no container has a CPU limit.
    #[must_use]
    pub fn cpu(&self) -> Option<&PodCpu> {
        self.rare.as_ref()?.cpu.as_ref()
    }

    /// Drops the CPU of its containers.
    pub(super) fn forget_cpu(&mut self) {
        let rare = self.rare.take();
        self.rare = rare.and_then(|parts| RareParts::of(parts.claim_secret, parts.offered_spec, None));
    }

    /// Whether the condition `Ready` is true. It can be true for a terminating pod, so the caller also checks
    /// `deletion_timestamp`.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.condition_is_true("Ready")
    }

    /// Whether the pod ended, by itself or because its node ended it.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(&*self.phase, "Succeeded" | "Failed")
    }

    /// Whether the pod failed for a reason outside the pod, such as an eviction, a preemption or the loss of its node.
    #[must_use]
    pub fn disrupted(&self) -> bool {
        // The reasons of pods that the kubelet or the control plane ended.
        const REASONS: [&str; 7] = [
            "Evicted",
            "NodeLost",
            "NodeShutdown",
            "Terminated",
            "Preempting",
            "UnexpectedAdmissionError",
            "NodeAffinity",
        ];
        // After its `activeDeadlineSeconds`, a pod has finished, and another one would have the same end.
        &*self.phase == "Failed"
            && self.reason.as_deref() != Some("DeadlineExceeded")
            && (self.restarts
                || self.reason.as_deref().is_some_and(|r| REASONS.contains(&r))
                || self.condition_is_true("DisruptionTarget"))
    }

    /// The condition of a type, if the status has it and decisions use it.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    fn condition_is_true(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == ConditionStatus::True)
    }
}
