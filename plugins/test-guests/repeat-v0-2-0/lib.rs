//! A plugin that repeats its question, as a component of version 0.2.0.

mod repeat;

paddock_plugin_sdk::export!(repeat::Repeat: admission, runtime_class, idle, pool_size);
