//! The gateway: routes HTTP requests to Sandboxes by name, and wakes suspended Sandboxes.
//!
//! A request names a [`target`]. [`authorize`] decides whether its client may use it. [`sandboxes`] finds the pod that
//! answers, and wakes the Sandbox if [`arrival`] allows that. The gateway answers a request itself only with a
//! [`refusal`].
//!
//! This crate depends on the wire types and on the shared I/O code, and never on the operator or on wasmtime.

pub mod arrival;
pub mod authorize;
pub mod peer;
pub mod refusal;
pub mod sandboxes;
pub mod target;
