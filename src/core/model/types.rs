//! The model's types. Cheap to clone: the large parts are shared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{
    ClaimEnvVar, ClaimShutdownPolicy, InjectionPolicy, NetworkPolicyRules, OperatingMode, ResumePolicy,
    SandboxClaimStatus, SandboxStatus, SandboxTemplateStatus, SandboxWarmPoolStatus, ShutdownPolicy,
    UpdateStrategyType,
};
use crate::kind::ApiShape;

/// The pod to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Labels that the user gave it.
    pub labels: BTreeMap<String, String>,
    /// Annotations that the user gave it.
    pub annotations: BTreeMap<String, String>,
    /// Its spec as the user wrote it; [`Sandbox::runtime_class`] is not written into it.
    pub spec: Arc<PodSpec>,
}

/// A volume claim to make for each sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeClaim {
    /// Name of the volume; the claim's own is `<name>-<sandbox>`.
    pub name: String,
    /// Labels of the claim.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the claim.
    pub annotations: BTreeMap<String, String>,
    /// Spec of the claim.
    pub spec: Arc<PersistentVolumeClaimSpec>,
}

/// What Service a Sandbox is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceIntent {
    /// Nothing was said: one that exists stays, none is made.
    Keep,
    /// None; one that exists and is ours goes.
    Absent,
    /// A headless one.
    Headless,
    /// A ClusterIP one without selector, whose endpoints are ours: the address outlives the pod.
    Stable,
}

/// When a Sandbox expires, and what becomes of it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// When; never if absent.
    pub at: Option<Timestamp>,
    /// What becomes of the Sandbox itself.
    pub policy: ShutdownPolicy,
}

/// A Sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// Metadata, without managed fields.
    pub meta: ObjectMeta,
    /// Whether `spec.template` or `spec.podTemplate` describes the pod. A Sandbox in the seed shape always has a Service,
    /// and volumes that nothing mounts are mounted.
    pub shape: ApiShape,
    /// The pod to run.
    pub pod: Pod,
    /// The RuntimeClass that the user named, in whichever of the two places.
    pub runtime_class: Option<String>,
    /// Volume claims to make.
    pub volume_claims: Vec<VolumeClaim>,
    /// The Service to have.
    pub service: ServiceIntent,
    /// When it expires.
    pub shutdown: Shutdown,
    /// `spec.operatingMode` as written; read it with [`super::desired_mode`].
    pub operating_mode: Option<OperatingMode>,
    /// `spec.replicas` as a mode; read it with [`super::desired_mode`].
    pub replicas: Option<OperatingMode>,
    /// How long it may go unused.
    pub idle_timeout: Option<Duration>,
    /// What wakes it.
    pub resume: ResumePolicy,
    /// Its status as last written.
    pub status: SandboxStatus,
}

/// What NetworkPolicy a template is to have.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkPolicy {
    /// None of ours.
    Unmanaged,
    /// The secure default.
    SecureDefault,
    /// These rules.
    Rules(Arc<NetworkPolicyRules>),
}

/// A SandboxTemplate.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Metadata, without managed fields.
    pub meta: ObjectMeta,
    /// Its API shape.
    pub shape: ApiShape,
    /// The pod of each sandbox.
    pub pod: Pod,
    /// The RuntimeClass that the user named, in whichever of the two places.
    pub runtime_class: Option<String>,
    /// Volume claims of each sandbox.
    pub volume_claims: Vec<VolumeClaim>,
    /// The Service of each sandbox.
    pub service: ServiceIntent,
    /// The NetworkPolicy that its sandboxes share.
    pub network: NetworkPolicy,
    /// Whether a claim may set environment variables.
    pub env_policy: InjectionPolicy,
    /// Whether a claim may bring volume claims.
    pub volume_claims_policy: InjectionPolicy,
    /// How long a sandbox may go unused.
    pub idle_timeout: Option<Duration>,
    /// What wakes a sandbox.
    pub resume: ResumePolicy,
    /// Its status as last written.
    pub status: SandboxTemplateStatus,
}

/// How many sandboxes a pool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolSize {
    /// So many, from `replicas`.
    Fixed(u32),
    /// Between these two, as the pool-size policy decides; `min <= max`.
    Between {
        /// `minReady`.
        min: u32,
        /// `maxReady`.
        max: u32,
    },
}

impl PoolSize {
    /// The fewest.
    #[must_use]
    pub fn min(self) -> u32 {
        match self {
            PoolSize::Fixed(n) => n,
            PoolSize::Between { min, .. } => min,
        }
    }

    /// The most.
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
    /// Metadata, without managed fields.
    pub meta: ObjectMeta,
    /// Its API shape.
    pub shape: ApiShape,
    /// Name of its template, of the same group and namespace.
    pub template: String,
    /// How many sandboxes it holds.
    pub size: PoolSize,
    /// How it follows its template.
    pub update: UpdateStrategyType,
    /// Its status as last written.
    pub status: SandboxWarmPoolStatus,
}

/// Which pools a claim on a template may take from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolChoice {
    /// Any pool of the template.
    Any,
    /// None: always made anew.
    NoPool,
    /// The pool of this name.
    Named(String),
}

/// Where a claim's sandbox comes from. Names are of the claim's own group and namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimSource {
    /// This pool, or made anew from its template.
    Pool(String),
    /// This template.
    Template {
        /// Name of the template.
        name: String,
        /// The pools to look in first.
        pools: PoolChoice,
    },
}

impl ClaimSource {
    /// The name of the pool that the claim names.
    #[must_use]
    pub fn named_pool(&self) -> Option<&str> {
        match self {
            ClaimSource::Pool(name) | ClaimSource::Template { pools: PoolChoice::Named(name), .. } => Some(name),
            ClaimSource::Template { pools: PoolChoice::Any | PoolChoice::NoPool, .. } => None,
        }
    }
}

/// When a claim ends, and what becomes of it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimEnd {
    /// When it expires; never if absent.
    pub at: Option<Timestamp>,
    /// How long it stays after its sandbox finished; for ever if absent.
    pub after_finished: Option<Duration>,
    /// What becomes of the claim.
    pub policy: ClaimShutdownPolicy,
}

/// A SandboxClaim.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Metadata, without managed fields.
    pub meta: ObjectMeta,
    /// Its API shape.
    pub shape: ApiShape,
    /// Where its sandbox comes from.
    pub source: ClaimSource,
    /// When it ends.
    pub end: ClaimEnd,
    /// Labels to add to the pod; check them with [`super::check_claim_metadata`].
    pub labels: BTreeMap<String, String>,
    /// Annotations to add to the pod; check them with [`super::check_claim_metadata`].
    pub annotations: BTreeMap<String, String>,
    /// Environment variables to add.
    pub env: Vec<ClaimEnvVar>,
    /// Volume claims to add.
    pub volume_claims: Vec<VolumeClaim>,
    /// Its status as last written.
    pub status: SandboxClaimStatus,
}

impl Claim {
    /// Whether a Sandbox that runs already can be given to it: what a claim adds to the pod cannot be added to one
    /// that runs.
    #[must_use]
    pub fn can_use_warm(&self) -> bool {
        self.env.is_empty() && self.volume_claims.is_empty()
    }
}
