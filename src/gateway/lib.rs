//! The gateway: routes HTTP requests to Sandboxes by name, and wakes suspended Sandboxes.
//!
//! A request names a [`target`]. [`authorize`] decides whether its client may use it. [`sandboxes`] finds the pod that
//! answers, and wakes the Sandbox if [`arrival`] allows that. The gateway answers a request itself only with a
//! [`refusal`].
//!
//! This crate depends on the wire types and on the shared I/O code, and never on the operator or on wasmtime.

mod answer;
pub mod arrival;
pub mod authorize;
mod body;
mod drain;
mod forward;
mod framing;
mod grpc;
pub mod kind;
pub mod limits;
pub mod metrics;
pub mod peer;
pub mod proxy;
pub mod purpose;
mod record;
pub mod refusal;
mod rewrite;
pub mod route;
pub mod sandboxes;
pub mod server;
pub mod session;
mod shares;
pub mod target;
pub mod timeouts;
mod trace_context;
mod tunnel;
mod upstream;
