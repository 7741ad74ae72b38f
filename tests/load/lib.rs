//! Load for the gateway, which the tests and the benchmarks share.
//!
//! A [`Scene`] has a Sandbox whose pod is an [`Upstream`] of this process. [`soak()`] sends requests with ids through
//! replicas of the gateway while it restarts them, and [`transfer()`] sends large bodies.
//!
//! All addresses are loopback addresses, so no load leaves this machine.

pub mod client;
mod frames;
pub mod gateway;
pub mod pattern;
pub mod scene;
pub mod service;
pub mod soak;
pub mod transfer;
pub mod upstream;
pub mod websocket;

pub use scene::Scene;
pub use service::Service;
pub use soak::soak;
pub use transfer::transfer;
pub use upstream::Upstream;
