//! Loads policy plugins and asks them.
//!
//! A plugin is a WebAssembly component of the package `paddock:policy` (`wit/`). It is compiled once, linked
//! once and instantiated anew for each question, with its own memory limit, fuel and wall-clock deadline:
//! whatever a plugin does, a question ends with an answer that makes sense or with a typed failure.
//! Calls are synchronous and use the processor: an async caller hands them to a blocking thread.

mod answer;
mod builtins;
mod call;
// Beside the guests' build, which uses it too: a built-in takes the same way as everybody's plugin.
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
