//! The operator process: watches the cluster, asks plugins, and writes the plans of the core to the API server.
//!
//! `paddock-core` decides, and this crate does the input and output around it. `watch` is the only reader: it fills the
//! World and queues the keys that an event concerns. `reconcile` takes each key through the same five steps for every
//! kind: snapshot, questions, answers, plan, write. `write` is the only part that sends the operations of plans. All
//! replicas watch and answer the webhook. Only the holder of the leases reconciles.
//!
//! Start reading at [`start`] in `run.rs`, which connects the parts, and then at `reconcile/reconciler.rs`, which has
//! the loop. [`start`] works inside any tokio program: the `paddock` binary, a test, or the demo.

pub mod config;
mod definitions;
pub mod endpoints;
mod guard;
pub mod limiter;
pub mod limits;
pub mod manifests;
pub mod metrics;
pub mod plugins;
pub mod queue;
pub mod reconcile;
pub mod record;
mod run;
pub mod sync;
mod tasks;
pub mod watch;
pub mod webhook;
pub mod world;
pub mod write;

pub use config::{Config, ConnectionsConfig, GatewayService, Leadership, MetricsAccess, WebhookSetup};
pub use plugins::registry::RegistryConfig;
pub use plugins::{PluginClient, Policies};
pub use record::RecordConfig;
pub use run::{Addresses, Error, Running, run, start};
