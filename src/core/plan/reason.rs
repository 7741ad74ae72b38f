//! The reasons for operations, requeues and Events.

use std::fmt;

use serde::Serialize;

/// The reason for an operation, a requeue or an Event. The reason is also the value of a label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::IntoStaticStr)]
pub enum Reason {
    /// A Sandbox that should run has no pod.
    PodMissing,
    /// The pod of a Sandbox failed. If the node or the control plane ended it, it is deleted and replaced.
    PodFailed,
    /// The user suspended the Sandbox.
    Suspended,
    /// The Sandbox is suspended, because it is idle.
    IdleSuspended,
    /// The Sandbox is suspended, because its node is being drained.
    DrainSuspended,
    /// The node of a Sandbox is being drained, and the Sandbox cannot be suspended.
    DrainNotSuspended,
    /// A time of its schedule resumes a Sandbox.
    ScheduledWake,
    /// The schedule of a Sandbox is not valid, so it has no effect.
    WakeScheduleInvalid,
    /// An idle Sandbox is deleted, because its idle policy says so.
    IdleDeleted,
    /// The pod of an idle Sandbox gets less CPU, because its idle policy says so.
    IdleThrottled,
    /// A throttled pod gets back the CPU that it had.
    ThrottleEnded,
    /// A pod could not be throttled, or the node has no room to restore its CPU request.
    ThrottleFailed,
    /// The Sandbox or claim reached its shutdown time.
    Expired,
    /// The Sandbox is being deleted in the foreground, and the garbage collector has missed its pod.
    PodLeftBehind,
    /// The workload finished.
    Finished,
    /// `ttlSecondsAfterFinished` has passed.
    TtlPassed,
    /// The Service that gives the Sandbox its address is missing.
    ServiceMissing,
    /// The Service of the Sandbox differs from the one that the operator made.
    ServiceChanged,
    /// The Sandbox does not want its Service any more.
    ServiceUnwanted,
    /// The EndpointSlice does not contain the address of the Sandbox's pod.
    EndpointsChanged,
    /// A volume claim is missing.
    VolumeClaimMissing,
    /// The labels or annotations of a volume claim differ from those that the operator set.
    VolumeClaimChanged,
    /// The Sandbox adopts an object that the user prepared under the right name.
    Adopted,
    /// A claim takes a warm Sandbox.
    Claimed,
    /// A pod gets the data that the claim of its Sandbox brings.
    ClaimDataDelivered,
    /// The API server refused the data that a claim brings, or a Secret that it refers to is missing.
    ClaimDataNotDelivered,
    /// A pod is written once more after the data of a claim, in case its kubelet had not seen the data.
    ClaimDataRepeated,
    /// A claim found no Ready warm Sandbox, so a Sandbox is created for it.
    ColdStart,
    /// A claim has a second Sandbox after a crash between two writes.
    ClaimSurplus,
    /// The claim records the name of the Sandbox that it is about to take.
    Reserved,
    /// A claim has a Sandbox that was warm.
    SandboxAdopted,
    /// A claim has a Sandbox that was created for it.
    SandboxProvisioned,
    /// A claim reached its end.
    ClaimExpired,
    /// A Sandbox has a pod.
    SandboxPodCreated,
    /// The API server refused the pod of a Sandbox.
    SandboxPodCreateFailed,
    /// A Sandbox became Ready.
    SandboxReady,
    /// A Sandbox is suspended, and its pod does not exist any more.
    SandboxSuspended,
    /// A Sandbox reached its shutdown time.
    SandboxExpired,
    /// The pod of a Sandbox succeeded.
    PodSucceeded,
    /// A Sandbox has more than one pod.
    MultiplePods,
    /// A problem stops a pool.
    WarmPoolNotProgressing,
    /// The problem that stopped a pool is over.
    WarmPoolProgressing,
    /// The metadata of the pod is updated from the Sandbox.
    MetadataChanged,
    /// The observed state is written to the status.
    StatusChanged,
    /// `replicas` and `operatingMode` are changed so that they agree, or the record of who suspended the Sandbox is
    /// removed.
    ModeInStep,
    /// A pool's size changes.
    PoolSized,
    /// A pool has fewer Sandboxes than it should have.
    PoolBelowDesired,
    /// A pool has more Sandboxes than it should have.
    PoolAboveDesired,
    /// A warm Sandbox was made from an older version of the template.
    TemplateChanged,
    /// A warm Sandbox cannot be used any more.
    WarmSandboxUnusable,
    /// Somebody changed a warm Sandbox or its pod, or connected to the pod. No claim gets the Sandbox.
    WarmSandboxTouched,
    /// The template wants a NetworkPolicy, and there is none.
    NetworkPolicyMissing,
    /// The NetworkPolicy differs from the one in the template.
    NetworkPolicyChanged,
    /// The template does not want the operator to manage its NetworkPolicy, or neither the template nor a Sandbox of
    /// it exists any more.
    NetworkPolicyUnwanted,
    /// The NetworkPolicy of the template is not in place, so its Sandboxes wait.
    NetworkPolicyNotReady,
    /// The object cannot be parsed, or it asks for something that is not allowed.
    Invalid,
    /// An admission plugin denies the object.
    AdmissionDenied,
    /// The running pod is not isolated although it should be.
    NotIsolated,
    /// No RuntimeClass is allowed for the pod at this time.
    RuntimeClassRefused,
    /// The answer of a plugin was clamped or refused.
    PluginOverruled,
    /// A plugin did not answer.
    PluginFailed,
    /// It is time to ask the idle policy of the Sandbox.
    IdleCheck,
    /// It is time to ask the pool-size policy of the pool.
    PoolSizeCheck,
    /// The decision waits for a pod or another object to change.
    Waiting,
    /// An operation was refused and is retried later.
    Backoff,
}

impl Reason {
    /// Whether the reason for a refused pod is a policy, and not an error of the operator's work. A plugin that fails
    /// although it must be asked denies the pod.
    #[must_use]
    pub fn denies_by_policy(self) -> bool {
        matches!(
            self,
            Reason::AdmissionDenied | Reason::NotIsolated | Reason::RuntimeClassRefused | Reason::PluginFailed
        )
    }

    /// The word in Events, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
