//! The types of the model. They are cheap to clone, because copies share the large parts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::ApiShape;
use paddock_api::{
    ClaimDataStart, ClaimEnvVar, ClaimShutdownPolicy, DrainPolicy, InjectionPolicy, NetworkPolicyRules, OperatingMode,
    ResumePolicy, SecretKeyRef, ShutdownPolicy, UpdateStrategyType,
};

use super::error::FieldErrors;
use super::schedule::{Schedule, Wake};
use super::stored::StoredSpec;
use crate::object::{JsonText, TextMap};
use crate::settings::Settings;

/// The pod that a Sandbox runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// The labels that the user gave the pod.
    pub labels: TextMap,
    /// The annotations that the user gave the pod.
    pub annotations: TextMap,
    /// The spec as the user wrote it. It does not contain [`Sandbox::runtime_class`] if the user named the class
    /// elsewhere.
    pub spec: Arc<StoredSpec>,
}

/// A volume claim that is created for each sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeClaim {
    /// The name of the volume. The name of the claim is `<name>-<sandbox>`.
    pub name: String,
    /// The labels of the claim.
    pub labels: TextMap,
    /// The annotations of the claim.
    pub annotations: TextMap,
    /// The spec of the claim, a `PersistentVolumeClaimSpec`.
    pub spec: JsonText,
}

/// The Service that a Sandbox should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceIntent {
    /// The user did not specify it. An existing Service is kept, and none is created.
    Keep,
    /// No Service. An existing Service that belongs to the Sandbox is deleted.
    Absent,
    /// A headless Service.
    Headless,
    /// A ClusterIP Service without a selector, whose endpoints the operator writes. The address stays when the pod is
    /// replaced.
    Stable,
}

impl ServiceIntent {
    /// Whether the Sandbox gets a Service, which has the name of the Sandbox. The name then has to be a DNS label.
    #[must_use]
    pub fn is_made(self) -> bool {
        match self {
            ServiceIntent::Headless | ServiceIntent::Stable => true,
            ServiceIntent::Keep | ServiceIntent::Absent => false,
        }
    }
}

/// The time at which a Sandbox expires, and the effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// The time at which the Sandbox expires, or `None` if it never does.
    pub at: Option<Timestamp>,
    /// Whether the expired Sandbox itself is deleted or kept.
    pub policy: ShutdownPolicy,
}

/// A Sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// Whether `spec.template` or `spec.podTemplate` describes the pod. A Sandbox in the seed shape always has a
    /// Service, and volumes that nothing mounts are mounted.
    pub shape: ApiShape,
    /// The pod that the Sandbox runs.
    pub pod: Pod,
    /// The RuntimeClass that the user named, beside the pod or in its spec.
    pub runtime_class: Option<String>,
    /// The volume claims that are created for the Sandbox.
    pub volume_claims: Vec<VolumeClaim>,
    /// The Service that the Sandbox should have.
    pub service: ServiceIntent,
    /// The time at which the Sandbox expires, and the effect.
    pub shutdown: Shutdown,
    /// `spec.operatingMode`, as written. [`super::desired_mode`] computes the mode.
    pub operating_mode: Option<OperatingMode>,
    /// `spec.replicas`, as a mode. [`super::desired_mode`] computes the mode.
    pub replicas: Option<OperatingMode>,
    /// The time for which the Sandbox may be unused, or `None` if it has no idle policy.
    pub idle_timeout: Option<Duration>,
    /// Whether only a change of the mode resumes the Sandbox, or also a request through the gateway.
    pub resume: ResumePolicy,
    /// Whether the Sandbox is suspended when its node is drained. `Suspend` only with [`ResumePolicy::OnDemand`].
    pub drain: DrainPolicy,
    /// The times at which the Sandbox resumes, if the operator suspended it.
    pub wake: Option<Arc<Wake>>,
    /// The records of a warm Sandbox about itself.
    pub warm: WarmRecord,
}

impl Sandbox {
    /// The schedule that resumes the Sandbox. `None` if it has none, or none that is valid.
    #[must_use]
    pub fn schedule(&self) -> Option<&Schedule> {
        match self.wake.as_deref()? {
            Wake::Times(schedule) => Some(schedule),
            Wake::Invalid { .. } => None,
        }
    }

    /// The errors of a schedule that is not valid.
    #[must_use]
    pub fn schedule_errors(&self) -> Option<&FieldErrors> {
        match self.wake.as_deref()? {
            Wake::Times(_) => None,
            Wake::Invalid { errors, .. } => Some(errors),
        }
    }
}

/// The records of a warm Sandbox about itself. They are annotations of its pod template, because each change of a spec
/// counts in the generation. Its pod does not get them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WarmRecord {
    /// The digest of the labels and annotations with which the pool made the Sandbox.
    pub digest: Option<u128>,
    /// What somebody did to the Sandbox or its pod.
    pub touched: Option<Box<str>>,
}

/// The NetworkPolicy that a template should have.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkPolicy {
    /// The operator manages no NetworkPolicy.
    Unmanaged,
    /// A NetworkPolicy with secure default rules.
    SecureDefault,
    /// A NetworkPolicy with these rules.
    Rules(Arc<NetworkPolicyRules>),
}

/// What a template lets its claims bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimDataRules {
    /// The directory in the containers.
    pub mount_path: String,
    /// The containers that get the directory. If empty, all containers except init containers.
    pub containers: Vec<String>,
    /// When the containers start that get the directory.
    pub start: ClaimDataStart,
    /// The Secrets from which a claim may take files.
    pub secrets: Vec<String>,
}

/// The files and variables that a claim brings. Their contents are not kept. The operator reads the claim again when it
/// delivers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimData {
    /// The digest of all names, contents and references.
    pub digest: String,
    /// The files of the claim.
    pub files: Vec<BroughtFile>,
    /// The number of bytes of all names, contents and variables as JSON, without the values of Secrets.
    pub json_bytes: usize,
    /// Why the data does not fit into a Secret, if it does not.
    pub too_large: Option<String>,
}

/// A file of a claim, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroughtFile {
    /// The name of the file.
    pub name: String,
    /// The key of the Secret that has the content. `None` if the claim itself has it.
    pub secret: Option<SecretKeyRef>,
}

impl ClaimDataRules {
    /// Whether a container gets the directory.
    #[must_use]
    pub fn reaches(&self, container: &str) -> bool {
        self.containers.is_empty() || self.containers.iter().any(|name| name == container)
    }
}

/// A SandboxTemplate.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Its API shape.
    pub shape: ApiShape,
    /// The pod of each sandbox.
    pub pod: Pod,
    /// The RuntimeClass that the user named, beside the pod or in its spec.
    pub runtime_class: Option<String>,
    /// The volume claims of each sandbox.
    pub volume_claims: Vec<VolumeClaim>,
    /// The Service of each sandbox.
    pub service: ServiceIntent,
    /// The NetworkPolicy that its sandboxes share.
    pub network: NetworkPolicy,
    /// Whether a claim may set environment variables, and override those of the template.
    pub env_policy: InjectionPolicy,
    /// What a claim may bring to a sandbox that already runs. `None` if it may bring nothing to it.
    pub claim_data: Option<ClaimDataRules>,
    /// Whether a claim may add volume claims, and override those of the template.
    pub volume_claims_policy: InjectionPolicy,
    /// The time for which a sandbox may be unused, or `None` if it has no idle policy.
    pub idle_timeout: Option<Duration>,
    /// Whether only a change of the mode resumes a sandbox, or also a request through the gateway.
    pub resume: ResumePolicy,
    /// Whether a sandbox is suspended when its node is drained. `Suspend` only with [`ResumePolicy::OnDemand`].
    pub drain: DrainPolicy,
    /// The times at which a sandbox resumes, if the operator suspended it.
    pub wake: Option<Arc<Schedule>>,
}

impl Template {
    /// The reason why this operator cannot make sandboxes of the template, although the template is valid.
    #[must_use]
    pub fn lacks(&self, settings: &Settings) -> Option<&'static str> {
        let held = self.claim_data.as_ref().is_some_and(|rules| rules.start == ClaimDataStart::AfterDelivery);
        settings.lacks_for_held().filter(|_| held)
    }
}

/// The number of sandboxes in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolSize {
    /// This number, from `replicas`.
    Fixed(u32),
    /// A number between these two, which the pool-size policy decides. `min` is at most `max`.
    Between {
        /// `minReady`.
        min: u32,
        /// `maxReady`.
        max: u32,
    },
}

impl PoolSize {
    /// The same size with `most` as its maximum.
    #[must_use]
    pub fn at_most(self, most: u32) -> Self {
        match self {
            PoolSize::Fixed(n) => PoolSize::Fixed(n.min(most)),
            PoolSize::Between { min, max } => PoolSize::Between { min: min.min(most), max: max.min(most) },
        }
    }

    /// The minimum.
    #[must_use]
    pub fn min(self) -> u32 {
        match self {
            PoolSize::Fixed(n) => n,
            PoolSize::Between { min, .. } => min,
        }
    }

    /// The maximum.
    #[must_use]
    pub fn max(self) -> u32 {
        match self {
            PoolSize::Fixed(n) => n,
            PoolSize::Between { max, .. } => max,
        }
    }
}

/// A SandboxWarmPool.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The name of the template, which has the same API group and namespace.
    pub template: String,
    /// The number of sandboxes that the pool keeps warm.
    pub size: PoolSize,
    /// How the pool replaces its sandboxes after a change of the template.
    pub update: UpdateStrategyType,
    /// The time for which a sandbox that has a node may be not Ready before it is replaced, or `None` for the operator's
    /// default.
    pub readiness_grace: Option<Duration>,
}

/// The pools from which a claim on a template may take a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolChoice {
    /// Any pool of the template.
    Any,
    /// No pool. A sandbox is always created for the claim.
    NoPool,
    /// The pool of this name.
    Named(String),
}

/// The source of a claim's sandbox. The names are in the API group and namespace of the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimSource {
    /// The pool of this name. If it has no Ready sandbox, one is created from its template.
    Pool(String),
    /// The template of this name.
    Template {
        /// The name of the template.
        name: String,
        /// The pools in which the claim looks first.
        pools: PoolChoice,
    },
}

impl ClaimSource {
    /// The name of the pool that the claim names, if it names one.
    #[must_use]
    pub fn named_pool(&self) -> Option<&str> {
        match self {
            ClaimSource::Pool(name) | ClaimSource::Template { pools: PoolChoice::Named(name), .. } => Some(name),
            ClaimSource::Template { pools: PoolChoice::Any | PoolChoice::NoPool, .. } => None,
        }
    }
}

/// The time at which a claim ends, and the effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimEnd {
    /// The time at which the claim expires, or `None` if it never does.
    pub at: Option<Timestamp>,
    /// The time for which the claim is kept after its sandbox finished, or `None` if it is kept without a limit.
    pub after_finished: Option<Duration>,
    /// Whether the claim that has ended is deleted or kept.
    pub policy: ClaimShutdownPolicy,
}

/// A SandboxClaim.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The source of its sandbox.
    pub source: ClaimSource,
    /// The time at which the claim ends, and the effect.
    pub end: ClaimEnd,
    /// Labels to add to the pod. [`super::check_claim_metadata`] checks them.
    pub labels: TextMap,
    /// Annotations to add to the pod. [`super::check_claim_metadata`] checks them.
    pub annotations: TextMap,
    /// Environment variables to add to the pod.
    pub env: Vec<ClaimEnvVar>,
    /// The files and variables together, in the form in which a running pod gets them. `None` if there are none.
    pub data: Option<ClaimData>,
    /// The errors of the environment variables. No template admits a claim that has any.
    pub env_errors: Option<FieldErrors>,
    /// Volume claims to add to those of the template.
    pub volume_claims: Vec<VolumeClaim>,
    /// The errors of the volume claims. No template admits a claim that has any.
    pub volume_errors: Option<FieldErrors>,
}

impl Claim {
    /// Whether the claim can take a warm Sandbox of a template. Volume claims cannot be added to a pod that exists, and
    /// environment variables only as files that the template declares.
    #[must_use]
    pub fn can_use_warm(&self, template: &Template) -> bool {
        (self.env.is_empty() || template.claim_data.is_some()) && self.volume_claims.is_empty()
    }
}
