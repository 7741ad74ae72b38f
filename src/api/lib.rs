//! The Sandbox API on the wire: types, CRDs and names.
//!
//! Every other crate reads and writes objects of the API with this crate. It contains no decisions and no requests. The
//! types hold strings where clients write strings, and do not check which fields may be combined. `paddock-core` parses
//! them into its model and reports errors.
//!
//! Start reading at [`sandbox`]. Each kind has one file ([`sandbox`], [`template`], [`pool`], [`claim`]) with all its
//! versions and both of its shapes. [`claim_data`] has the parts of a template and a claim about the data that a claim
//! brings. [`plugin`] and [`policy`] have the kinds with which a platform team installs and binds plugins, and
//! [`host_access`] the fields that a policy can allow. [`kind`] names and classifies the kinds. [`names`] has every label,
//! annotation, condition and reason. [`document`] is an object of any kind as it is read. [`mode`] reads the mode of a Sandbox from its two fields, [`duration`] parses Go durations,
//! [`activity`] has the rules for records of activity, [`tcp_wake`] has the ports by which TCP connections resume
//! Sandboxes, [`throttle`] has the record of a throttled pod, [`schedule`] the schedule that resumes Sandboxes,
//! [`token_scope`] what a token for the gateway is limited to, [`pod_metrics`] the CPU that pods use, and
//! [`open_connections`] the connections that gateways have open. [`crd`] generates the definitions in `crds/` from the types,
//! and [`schema`] does the conversion.

#![expect(unreachable_pub, reason = "`KubeSchema` copies each public struct into a function")]

pub mod activity;
pub mod claim;
pub mod claim_data;
pub mod common;
pub mod crd;
pub mod document;
pub mod duration;
pub mod host_access;
pub mod kind;
pub mod mode;
pub mod names;
pub mod open_connections;
pub mod plugin;
pub mod pod_metrics;
pub mod policy;
pub mod pool;
pub mod sandbox;
pub mod schedule;
pub mod schema;
pub mod tcp_wake;
pub mod template;
pub mod throttle;
pub mod token_scope;

#[cfg(test)]
mod tests;

pub use claim::{
    ClaimEnvVar, ClaimLifecycle, ClaimShutdownPolicy, ClaimedSandbox, SandboxClaim, SandboxClaimSpec,
    SandboxClaimStatus,
};
pub use claim_data::{ClaimDataSpec, ClaimDataStart, ClaimFile, SecretKeyRef};
pub use common::{
    DecidingPlugin, DrainPolicy, Hook, NameRef, OperatingMode, PodMetadata, PodTemplate, PolicyState, ResumePolicy,
    ShutdownPolicy, VolumeClaimMetadata, VolumeClaimTemplate,
};
pub use host_access::{HostAccess, UnknownHostAccess};
pub use plugin::{
    BuiltInPlugin, ComponentSource, ConfigMapKey, OciImage, PluginLimits, PluginReplica, SandboxPlugin,
    SandboxPluginSpec, SandboxPluginStatus, SignatureVerification,
};
pub use policy::{
    IsolationRules, PluginFailurePolicy, PolicyMode, PolicyReplica, ReviewedKind, SandboxPolicy, SandboxPolicySpec,
    SandboxPolicyStatus,
};
pub use pool::{SandboxWarmPool, SandboxWarmPoolSpec, SandboxWarmPoolStatus, UpdateStrategy, UpdateStrategyType};
pub use sandbox::{Sandbox, SandboxSpec, SandboxStatus, SuspendedBy, TemplateOrigin};
pub use schedule::WakeSchedule;
pub use tcp_wake::{PortRange, TcpWakePort, TcpWakeStatus};
pub use template::{
    InjectionPolicy, NetworkPolicyManagement, NetworkPolicyRules, SandboxTemplate, SandboxTemplateSpec,
    SandboxTemplateStatus,
};
pub use throttle::{ThrottleState, ThrottleStatus, ThrottledContainer};
pub use token_scope::{InvalidScope, ScopeKind, TokenScope};
