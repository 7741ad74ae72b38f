//! Plugins for the tests and the demo. They are components compiled from `plugins/`, and no part of the operator's
//! binary.

/// The example `allowed-images`: it denies images of registries that are not in `{"registries": [...]}`.
pub const ALLOWED_IMAGES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/allowed-images.wasm"));

/// The example `pool-fixed`: it keeps a pool at `{"desired": N}`. The demo installs it while the operator runs.
pub const POOL_FIXED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pool-fixed.wasm"));

/// A plugin that fails in every hook, in the way that `{"mode": "..."}` names.
pub const MISBEHAVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/misbehave.wasm"));

/// A plugin that imports WASI.
pub const ASK_FOR_WASI: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ask-for-wasi.wasm"));

/// A plugin that imports an interface which the host does not have.
pub const ASK_FOR_MORE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ask-for-more.wasm"));

/// A plugin that exports `pool-size` of a WIT version which the host does not support.
pub const FROM_THE_FUTURE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/from-the-future.wasm"));
