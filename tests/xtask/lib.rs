//! Checks of the source tree and generated documents, as a library for `cargo xtask` and for `cargo test`.
//!
//! Start at [`tidy::CHECKS`]: each check has a name, and returns one line for each fault that it finds.
#![expect(clippy::wildcard_enum_match_arm, reason = "the enums of syn and pulldown-cmark grow with each release")]

pub mod api_reference;
pub mod commit_message;
pub mod packages;
pub mod project;
pub mod rust;
pub mod tidy;
pub mod tree;
