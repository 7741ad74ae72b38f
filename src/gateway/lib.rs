//! The gateway: routes HTTP requests to Sandboxes by name, and wakes suspended Sandboxes.
//!
//! [`server`] accepts connections, and `proxy` takes each request from its head to the end of its answer. [`route`] finds
//! the [`target`] that the request names. [`session`] finds its credential, and [`authorize`] decides whether its client
//! may use the Sandbox, or [`only`] one that had its name. [`sandboxes`] finds the pod that answers, and wakes the Sandbox if [`arrival`] allows that.
//! `forward` makes the head that the Sandbox gets, and `upstream` keeps connections to Sandboxes. The gateway answers a
//! request itself only with a [`refusal`]. `tcp` takes TCP connections, which carry no name. `inside` takes the requests that
//! sandboxes send about themselves. `connections` tells the operator which connections are open.
//!
//! This crate depends on the wire types and on the shared I/O code, and never on the operator or on wasmtime. Start
//! reading at [`start`] in `run.rs`, and then at `proxy.rs`.

mod answer;
pub mod arrival;
pub mod authorize;
mod body;
mod client;
pub mod config;
mod connections;
mod drain;
mod eviction;
mod forward;
mod framing;
mod grpc;
mod inside;
pub mod kind;
pub mod limits;
pub mod metrics;
pub mod only;
mod percent;
mod progress;
mod proxy;
pub mod purpose;
mod record;
pub mod refusal;
mod requests;
mod rewrite;
pub mod route;
mod run;
pub mod sandboxes;
pub mod server;
pub mod session;
mod shares;
pub mod target;
mod tcp;
pub mod timeouts;
mod trace_context;
mod tunnel;
mod upstream;

pub use config::Config;
pub use drain::Drained;
pub use run::{Addresses, Error, Running, run, start};
