//! Wire types of both shapes of the Sandbox API, and the CRDs made from them.
//!
//! These types are what clients write and read, nothing more: they hold strings where clients write
//! strings, and say nothing of what is legal together. Only `model` reads them; only `api` is serialized.

pub mod common;
pub mod crd;
pub mod extensions;
mod rules;
pub mod sandbox;
pub mod schema;
pub mod seed;

#[cfg(test)]
mod tests;

pub use common::*;
pub use sandbox::{Sandbox, SandboxSpec, SandboxStatus};
