//! Loads policy plugins and asks them the questions of the core.
//!
//! A plugin is a WebAssembly component that implements the package `paddock:policy` (`wit/`). The core has a
//! [`PluginRequest`](paddock_core::question::PluginRequest) for each decision that a plugin may take over. The operator
//! passes it to [`Host::ask`], and hands the answer back to the core.
//!
//! The host compiles and links a component once. Each question runs in a new instance, with limits for memory, fuel and
//! wall-clock time ([`Limits`]). Every question ends with a valid answer or with a typed failure, even if the plugin
//! misbehaves. Calls block and use the processor, so an async caller runs them on a blocking thread.
//!
//! Start reading at [`Host::prepare`] (`load.rs`: a component is checked, compiled and linked) and [`Host::ask`]
//! (`call.rs`: one call). `wit.rs` translates between the core's types and each version of the WIT package, and
//! `schema.rs` compares settings with the JSON Schema of their plugin.

mod answer;
mod builtins;
mod call;
// The build scripts include this file too, so built-ins become components in the same way as users' plugins.
#[path = "guest_build/componentize.rs"]
mod componentize;
mod concurrency;
mod config;
mod engine;
mod host;
mod lanes;
mod load;
mod log_budget;
mod quarantine;
mod report;
mod schema;
mod trap;
mod wit;

pub use builtins::{BUILT_INS, BuiltIn};
pub use call::Usage;
pub use componentize::{ComponentizeError, componentize};
pub use config::{HostConfig, LOG_CHARS, LOG_LINES, Limits, QuarantinePolicy};
pub use host::{Candidate, Host, HostError};
pub use load::{LoadError, Plugin, Source, Surface, digest};
pub use log_budget::{LOG_INTERVAL, LOG_LINES_PER_NAMESPACE, LOG_LINES_PER_PLUGIN};
pub use report::{PluginReport, QuarantineReport};
pub use schema::{SCHEMA_BYTES, SettingsError};
pub use trap::TrapKind;
pub use wit::versions;
