//! The decisions of Paddock: the picture of the cluster, the plan for each object, and the admission verdicts.
//!
//! The crate decides about Sandboxes, SandboxTemplates, SandboxWarmPools and SandboxClaims, in both shapes of the API.
//! It plans the Pods, Services, PersistentVolumeClaims, NetworkPolicies and EndpointSlices that belong to them. It
//! also takes into account Namespaces, Nodes, RuntimeClasses and StorageClasses, which it never changes.
//!
//! ```text
//! watch ─► World ─► Snapshot ─► Questions ─► Answers ─► Plan ─► API server
//!          (here)    (here)      (here)      (plugin    (here)  (operator)
//!                                             host)
//! ```
//!
//! A decision is a function of a snapshot of the cluster, the answers of plugins, and `now`. The crate has no I/O, no
//! clock, no randomness, no threads and no hash order. The `clippy.toml` beside this file enforces that.
//!
//! Start with [`snapshot`] and [`plan`], which are the input and the output of a decision. Then read [`decide`], which
//! has the decisions, and [`world`], which makes the snapshots. [`admission`] applies the same rules to admission
//! requests.

pub mod admission;
mod annotation_readers;
pub mod as_made;
mod awake;
pub mod binding;
pub mod conditions;
pub mod cpu_use;
pub mod decide;
mod deciding;
pub mod explanation;
pub mod isolation;
pub mod manifest;
pub mod marker;
pub mod model;
pub mod network_policy;
pub mod object;
pub mod open_connections;
pub mod plan;
mod policy_spec;
pub mod question;
pub mod record;
pub mod settings;
pub mod snapshot;
#[cfg(test)]
mod stopwatch;
pub mod tcp_wake;
pub mod text;
pub mod time;
pub mod unenforced;
pub mod world;
