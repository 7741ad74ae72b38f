//! Plugins for the tests and the demo. They are components compiled from `plugins/`, and no part of the operator's
//! binary.

/// The example `allowed-images`: it denies images of registries that are not in `{"registries": [...]}`.
pub const ALLOWED_IMAGES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/allowed-images.wasm"));

/// The example `pool-fixed`: it keeps a pool at `{"desired": N}`. The demo installs it while the operator runs.
pub const POOL_FIXED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pool-fixed.wasm"));

/// The example `pool-headroom`: it keeps as many warm as claims came lately, and some percent more. The examples in
/// other languages than Rust answer alike.
pub const POOL_HEADROOM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pool-headroom.wasm"));

/// A plugin that fails in every hook, in the way that `{"mode": "..."}` names.
pub const MISBEHAVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/misbehave.wasm"));

/// A plugin that imports WASI.
pub const ASK_FOR_WASI: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ask-for-wasi.wasm"));

/// A plugin that imports an interface which the host does not have.
pub const ASK_FOR_MORE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ask-for-more.wasm"));

/// A plugin that exports `pool-size` of a WIT version which the host does not support.
pub const FROM_THE_FUTURE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/from-the-future.wasm"));

/// A plugin of version 0.1.0 with every hook, which repeats its question.
pub const REPEAT_V0_1_0: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/repeat-v0-1-0.wasm"));

/// The same plugin as [`REPEAT_V0_1_0`], of version 0.2.0.
pub const REPEAT_V0_2_0: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/repeat-v0-2-0.wasm"));

/// A plugin of version 0.2.0 whose schema of settings a test chooses with [`with_schema`].
pub const ANY_SCHEMA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/any-schema.wasm"));

/// The component [`ANY_SCHEMA`] with this schema. Instead of a schema, `spin`, `panic`, `large` and `huge` are faults.
/// `None` if the schema has more than 4000 bytes.
#[must_use]
pub fn with_schema(schema: &str) -> Option<Vec<u8>> {
    const MARK: &[u8] = b"the schema of the settings:";
    const ROOM: usize = 4000;
    let mut component = ANY_SCHEMA.to_vec();
    // The guest may have the mark a second time, but not in front of spaces.
    let is_place = |window: &[u8]| window.starts_with(MARK) && window.ends_with(b"    ");
    let start = component.windows(MARK.len() + 4).position(is_place)? + MARK.len();
    let room = component.get_mut(start..start + ROOM)?.get_mut(..schema.len())?;
    room.copy_from_slice(schema.as_bytes());
    Some(component)
}
