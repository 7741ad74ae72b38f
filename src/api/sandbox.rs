//! Sandbox: `sandboxes.agents.x-k8s.io`. One schema includes the fields of upstream's v1beta1, upstream's v1alpha1 and
//! the seed shape.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{
    DRAIN, DRAIN_MESSAGE, DecidingPlugin, DrainPolicy, IDLE_TIMEOUT, IDLE_TIMEOUT_MESSAGE, OperatingMode, PodTemplate,
    PolicyState, RUNTIME_CLASS_MESSAGE, ResumePolicy, ShutdownPolicy, VolumeClaimTemplate, is_empty,
    runtime_class_agrees,
};
use crate::schedule::WakeSchedule;
use crate::tcp_wake::TcpWakeStatus;
use crate::template::NetworkPolicyManagement;
use crate::throttle::ThrottleStatus;

/// The desired state of a Sandbox. Exactly one of `podTemplate` and `template` must be given.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "agents.x-k8s.io",
    version = "v1beta1",
    kind = "Sandbox",
    plural = "sandboxes",
    namespaced,
    status = "SandboxStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.podTemplate) != has(self.template)")
        .message("exactly one of podTemplate and template must be given: describe the pod in one of the two"),
    validation = Rule::new(concat!(
        "!has(self.runtimeClassName) || (",
        runtime_class_agrees!("podTemplate"),
        " && ",
        runtime_class_agrees!("template"),
        ")"
    ))
    .message(RUNTIME_CLASS_MESSAGE)
    .field_path(".runtimeClassName"),
    // An absent list counts as an empty list. (`orValue` would be shorter, but the API server estimates its cost as
    // unbounded.)
    validation = Rule::new(concat!(
        "(has(self.volumeClaimTemplates) && size(self.volumeClaimTemplates) > 0)",
        " == (has(oldSelf.volumeClaimTemplates) && size(oldSelf.volumeClaimTemplates) > 0)",
        " && (!has(self.volumeClaimTemplates) || !has(oldSelf.volumeClaimTemplates)",
        " || self.volumeClaimTemplates == oldSelf.volumeClaimTemplates)",
    ))
    .message("volumeClaimTemplates is immutable"),
    validation = Rule::new(concat!(
        "(has(self.resumePolicy) && self.resumePolicy == 'OnDemand')",
        " == (has(oldSelf.resumePolicy) && oldSelf.resumePolicy == 'OnDemand')",
    ))
    .message("resumePolicy is immutable: the Sandbox's address depends on it"),
    validation = Rule::new(DRAIN).message(DRAIN_MESSAGE).field_path(".drainPolicy")
)]
pub struct SandboxSpec {
    /// The pod to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// The pod to run, in the seed shape. Such a Sandbox always has a Service. In a pod with one container, a volume
    /// that is not mounted is mounted at `/<volume>`. Give either this or podTemplate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
    /// The RuntimeClass of the pod. If the pod's spec names a RuntimeClass too, both must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub runtime_class_name: Option<String>,
    /// Volume claims to create for the pod. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// Whether the Sandbox has a headless Service of the same name. If unset, an existing Service is kept and none is
    /// created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<bool>,
    /// The time at which the Sandbox expires, in RFC 3339 format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub shutdown_time: Option<String>,
    /// The consequence for the Sandbox object when it expires: Delete or Retain (the default). Its pod and its Service
    /// are deleted in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Retain"))]
    pub shutdown_policy: Option<ShutdownPolicy>,
    /// Running or Suspended. Running by default, unless replicas is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_mode: Option<OperatingMode>,
    /// 1 for Running, 0 for Suspended. `kubectl scale` writes this field. It is kept consistent with operatingMode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub replicas: Option<i32>,
    /// The time without use after which the Sandbox is idle, as a Go duration such as 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new(IDLE_TIMEOUT).message(IDLE_TIMEOUT_MESSAGE))]
    pub idle_timeout: Option<String>,
    /// The events that resume the Sandbox when it is suspended. Manual (the default) means only a change of its mode.
    /// OnDemand means a request through the gateway too, and a TCP connection to the Service as far as status.tcpWake
    /// says. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_policy: Option<ResumePolicy>,
    /// The consequence of a drain of the pod's node: Evict (the default) or Suspend. Suspend needs the resumePolicy
    /// OnDemand: the Sandbox is suspended when the node is cordoned, and a request resumes it on another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_policy: Option<DrainPolicy>,
    /// The times at which the Sandbox resumes, if the idle policy or a drain suspended it. A Sandbox that a user suspended
    /// stays suspended. If the Sandbox runs at such a time, the time counts as activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_schedule: Option<WakeSchedule>,
}

/// The observed state of a Sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStatus {
    /// The DNS name of the Sandbox.
    #[serde(rename = "serviceFQDN", default, skip_serializing_if = "Option::is_none")]
    pub service_fqdn: Option<String>,
    /// The name of the Sandbox's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The conditions Ready, Suspended, PodScheduled and Finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The label selector of the Sandbox's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The IP addresses of the Sandbox's pod.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub pod_ips: Vec<String>,
    /// The node of the Sandbox's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The number of pods: 0 or 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The operating mode that the operator applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<OperatingMode>,
    /// Who suspended the Sandbox: User, Idle or Drain. Absent while the Sandbox is to run. A request through the gateway
    /// resumes only a Sandbox with the resumePolicy OnDemand that no user suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_by: Option<SuspendedBy>,
    /// The next time at which the wakeSchedule resumes the Sandbox. Present while the Sandbox is suspended, unless a user
    /// suspended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_wake: Option<Time>,
    /// The reason why the wakeSchedule has no effect. Absent if it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_problem: Option<String>,
    /// The reason why the Sandbox is not suspended although its node is cordoned and its drainPolicy is Suspend. A drain
    /// evicts the pod then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_problem: Option<String>,
    /// Whether a TCP connection to the Service resumes the Sandbox. Present if its resumePolicy is OnDemand and the
    /// operator knows a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_wake: Option<TcpWakeStatus>,
    /// The fields of the spec that have changed since the pod was made, and that only a new pod can take. To get one,
    /// suspend and resume the Sandbox. Until then, the observedGeneration of Ready stays at that of the pod. Also the
    /// labels and annotations that a plugin keeps off the running pod. Ready says which plugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub pending: Vec<String>,
    /// The template that the Sandbox was made from. Absent if a user made the Sandbox without a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateOrigin>,
    /// The reason why the template's NetworkPolicy does not apply to the pod. Absent if it applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy_bypass: Option<String>,
    /// The RuntimeClass that was chosen for the pod, and the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<RuntimeClassChoice>,
    /// Whether the Sandbox runs generated code, and the reason why its pod is not isolated. Absent if the Sandbox does
    /// not have to be isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationStatus>,
    /// The time at which a pod became Ready for the first time since the Sandbox was created or resumed. Present if the
    /// Sandbox has an idleTimeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_ready: Option<Time>,
    /// The last decision of the idle policy, and the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleStatus>,
    /// The CPU that the operator took from the pod while the Sandbox is idle. Absent if the pod has all of its CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Box<ThrottleStatus>>,
    /// The plugins that decided about the Sandbox and its pod, at most 16: those that admitted or denied the pod, the one
    /// that chose its RuntimeClass, and the one that decided last whether the Sandbox is idle.
    #[serde(default, skip_serializing_if = "is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub plugins: Arc<Vec<DecidingPlugin>>,
    /// The state that the idle plugin keeps between two calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_state: Option<PolicyState>,
}

/// The template that a Sandbox was made from. The NetworkPolicy of that template applies to the pod for as long as the
/// Sandbox exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateOrigin {
    /// The API group of the template.
    pub group: String,
    /// The name of the template.
    pub name: String,
    /// Whether the template has a NetworkPolicy: Managed or Unmanaged. If the template was deleted, this is its last
    /// value.
    pub network_policy_management: NetworkPolicyManagement,
}

/// The RuntimeClass of a Sandbox's pod, and the reason for the choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeClassChoice {
    /// The name of the RuntimeClass. Absent if the pod has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The reason for the choice, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The plugin that chose the RuntimeClass. Absent if no plugin was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
}

/// The isolation of a Sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IsolationStatus {
    /// Whether the Sandbox runs or has run generated code. Once true, it stays true, even if the label is removed: each
    /// later pod of the Sandbox is isolated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generated_code: bool,
    /// The reason why the running pod is not isolated although it should be, and the remedy. Absent if the pod is
    /// isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Who suspended a Sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SuspendedBy {
    /// A user set the mode.
    User,
    /// The idle policy, because the Sandbox was not used.
    Idle,
    /// The operator, because the node of the pod was drained.
    Drain,
}

impl SuspendedBy {
    /// Who suspended a Sandbox, from its annotation [`SUSPENDED_BY`](crate::names::annotation::SUSPENDED_BY). A value
    /// that nobody writes counts as a user's, so that nothing resumes the Sandbox against their will.
    #[must_use]
    pub fn of_annotation(value: Option<&str>) -> Self {
        match value {
            Some("Idle") => SuspendedBy::Idle,
            Some("Drain") => SuspendedBy::Drain,
            Some(_) | None => SuspendedBy::User,
        }
    }
}

/// The idle tier that was applied to a Sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum IdleTier {
    /// No tier was applied, and the Sandbox is in use.
    #[default]
    Awake,
    /// The pod's resources were reduced, and its memory is kept.
    Throttle,
    /// The pod was deleted, and its disks are kept.
    Suspend,
    /// The pod was deleted, and its memory is kept on disk.
    Hibernate,
}

/// The last decision of the idle policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleStatus {
    /// The idle tier that was applied: Awake, Throttle, Suspend or Hibernate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<IdleTier>,
    /// The reason for the decision, or the reason why it could not be applied, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The time at which the policy is asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check: Option<Time>,
    /// The time until which the annotation policy.paddock.dev/keep-awake-until keeps the Sandbox running, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_awake_until: Option<Time>,
    /// The time since which the Sandbox may be suspended by the annotation policy.paddock.dev/idle-since, if that counts:
    /// there was no later activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Time>,
    /// The reason why one of these annotations has no effect, and the values that it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
