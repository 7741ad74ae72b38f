//! Plugins for tests and the demo: components compiled from `plugins/`, never part of the operator's binary.

/// The example `allowed-images`: denies images of other registries than `{"registries": [...]}`.
pub const ALLOWED_IMAGES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/allowed-images.wasm"));

/// The example `pool-fixed`: keeps a pool at `{"desired": N}`. The demo installs it while the operator runs.
pub const POOL_FIXED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pool-fixed.wasm"));

/// Fails in the way that `{"mode": "..."}` names, in every hook.
pub const MISBEHAVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/misbehave.wasm"));

/// Imports WASI.
pub const ASK_FOR_WASI: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ask-for-wasi.wasm"));

/// Imports an interface that the host does not have.
pub const ASK_FOR_MORE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ask-for-more.wasm"));

/// Exports `pool-size` of a WIT version that the host does not support.
pub const FROM_THE_FUTURE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/from-the-future.wasm"));
