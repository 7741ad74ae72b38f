//! The shell around the core: watches, asks, acts.
//!
//! `watch` is the only reader and `write` the only writer; between them `reconcile` is the same five steps for every
//! kind. All replicas watch, the holder of the leases acts. [`start`] runs an operator inside any tokio
//! program: the `paddock` binary, a test, the demo.

mod client;
pub mod config;
pub mod endpoints;
pub mod leader;
pub mod limiter;
pub mod limits;
pub mod listen;
pub mod manifests;
pub mod metrics;
pub mod plugins;
pub mod queue;
pub mod reconcile;
mod run;
pub mod sync;
pub mod tls;
pub mod watch;
pub mod webhook;
pub mod world;
pub mod write;

pub use config::{Config, Leadership, WebhookSetup};
pub use listen::ListenAddress;
pub use plugins::{PluginClient, Policies};
pub use run::{Addresses, Error, Running, run, start};
