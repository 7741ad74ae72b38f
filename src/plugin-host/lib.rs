//! Loads policy plugins and asks them.
//!
//! A plugin is a WebAssembly component of the package `paddock:policy` (`wit/`). The host compiles and links it once,
//! and creates a new instance for each question, with limits for memory, fuel and wall-clock time. Whatever a plugin
//! does, a question ends with a valid answer or with a typed failure. Calls block and use the processor, so an async
//! caller runs them on a blocking thread.

mod answer;
mod builtins;
mod call;
// The build scripts use this file too, so that built-ins become components in the same way as users' plugins.
#[path = "guest_build/componentize.rs"]
mod componentize;
mod concurrency;
mod config;
mod engine;
mod host;
mod load;
mod quarantine;
mod wit;

pub use builtins::{BUILT_INS, BuiltIn};
pub use componentize::{ComponentizeError, componentize};
pub use config::{HostConfig, LOG_CHARS, LOG_LINES, Limits, QuarantinePolicy};
pub use host::{Candidate, Host, HostError, PluginReport};
pub use load::{LoadError, Plugin, Source};
pub use quarantine::Quarantine;
pub use wit::{MAX_VERSION, MIN_VERSION};
