//! The pure half of Paddock.
//!
//! `watch → World → Snapshot → Questions → Answers → Plan → API server`: the middle of that line is here.
//! A decision is a function of what was seen, what plugins answered, and `now`. No I/O, no clock, no
//! randomness, no threads, no hash order (`clippy.toml` beside this file).

pub mod admission;
pub mod binding;
pub mod conditions;
pub mod decide;
pub mod manifest;
pub mod marker;
pub mod model;
pub mod object;
pub mod plan;
pub mod question;
pub mod settings;
pub mod snapshot;
pub mod text;
pub mod time;
pub mod world;

pub use paddock_api::{self as api, kind, names};
