//! Tests of the host with real plugins, which are compiled from `plugins/`.

#![expect(clippy::unwrap_used, reason = "tests: a failure ends them")]

mod answers;
mod built_ins;
mod common;
mod docs;
mod examples;
mod failures;
mod loading;
mod namespaces;
mod released_wit;
mod schemas;
mod swap;
mod versions;
