//! Guests for tests and the demo: components compiled from `plugins/`. Never part of the operator's binary.

/// Keeps a pool at `{"desired": N}`: what the demo drops in while the operator runs.
pub const POOL_FIXED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pool-fixed.wasm"));

/// Fails in the way that `{"mode": "..."}` says, in every hook.
pub const MISBEHAVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/misbehave.wasm"));

/// Imports WASI.
pub const ASK_FOR_WASI: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ask-for-wasi.wasm"));

/// Imports an interface that nobody grants.
pub const ASK_FOR_MORE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ask-for-more.wasm"));

/// Exports `pool-size` of a WIT version that does not exist.
pub const FROM_THE_FUTURE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/from-the-future.wasm"));
