//! Behaviours of the host, with real guests compiled from `plugins/`.

mod answers;
mod built_ins;
mod common;
mod failures;
mod loading;
mod swap;
