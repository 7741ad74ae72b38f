//! The shell around the core: watches, asks, acts.
//!
//! `watch` is the only reader and `act` the only writer; between them `reconcile` is the same five lines for every
//! kind. All replicas watch, the holder of the leases acts. [`start`] runs an operator inside any tokio
//! program: the `paddock` binary, a test, the demo.

pub mod act;
pub mod bind;
pub mod config;
pub mod debug;
pub mod election;
pub mod events;
pub mod fence;
pub mod http;
pub mod limits;
pub mod manifests;
pub mod metrics;
pub mod plugins;
pub mod policies;
pub mod pressure;
pub mod queue;
pub mod reconcile;
pub mod reply;
pub mod request;
pub mod resync;
mod run;
pub mod tls;
pub mod trace;
pub mod watch;
pub mod webhook;
pub mod world;

pub use bind::Bind;
pub use config::{Config, Leadership, WebhookSetup};
pub use policies::{Judge, Policies};
pub use run::{Addresses, Error, Running, run, start};

/// What this operator calls itself to the API server.
pub const USER_AGENT: &str = concat!("paddock/", env!("CARGO_PKG_VERSION"));
