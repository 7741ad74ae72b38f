//! The plugin of `repeat-v0-2-0`, as a component of version 0.1.0.

#[path = "../repeat-v0-2-0/repeat.rs"]
mod repeat;

paddock_plugin_sdk::export_v0_1_0!(repeat::Repeat: admission, runtime_class, idle, pool_size);
