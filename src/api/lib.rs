//! The Sandbox API as it is on the wire: types, CRDs and names.
//!
//! One file a kind ([`sandbox`], [`template`], [`pool`], [`claim`]) holds its versions and both of its shapes. [`kind`]
//! names and classifies the kinds, [`names`] holds every label, annotation, condition and reason, and [`crd`] makes the
//! definitions in `crds/` from the types.
//!
//! The types are what clients write and read, nothing more: they hold strings where clients write strings, and do not
//! know which fields are legal together. `paddock-core` parses them into its model.

#![expect(unreachable_pub, reason = "`KubeSchema` copies each public struct into a function")]

pub mod claim;
pub mod common;
pub mod crd;
pub mod kind;
pub mod names;
pub mod pool;
pub mod sandbox;
pub mod schema;
pub mod template;

#[cfg(test)]
mod tests;

pub use claim::{
    ClaimEnvVar, ClaimLifecycle, ClaimOptions, ClaimShutdownPolicy, ClaimedSandbox, SandboxClaim, SandboxClaimSpec,
    SandboxClaimStatus, SeedSandboxClaim, SeedSandboxClaimSpec,
};
pub use common::{
    NameRef, OperatingMode, PodMetadata, PodTemplate, PolicyState, ResumePolicy, ShutdownPolicy, VolumeClaimMetadata,
    VolumeClaimTemplate,
};
pub use pool::{
    PoolOptions, SandboxWarmPool, SandboxWarmPoolSpec, SandboxWarmPoolStatus, SeedSandboxWarmPool,
    SeedSandboxWarmPoolSpec, UpdateStrategy, UpdateStrategyType,
};
pub use sandbox::{Sandbox, SandboxSpec, SandboxStatus};
pub use template::{
    InjectionPolicy, NetworkPolicyManagement, NetworkPolicyRules, SandboxTemplate, SandboxTemplateSpec,
    SandboxTemplateStatus, SeedSandboxTemplate, SeedSandboxTemplateSpec, TemplateOptions,
};
