//! The pure half of Paddock.
//!
//! `watch → World → Seen → Questions → Answers → Plan → API server`: the middle of that line is here.
//! A decision is a function of what was seen, what plugins answered, and `now`. No I/O, no clock, no
//! randomness, no threads, no hash order (`clippy.toml` beside this file).

pub mod api;
pub mod build;
pub mod conditions;
pub mod decide;
pub mod kind;
pub mod model;
pub mod names;
pub mod object;
pub mod plan;
pub mod policy;
pub mod question;
pub mod review;
pub mod seen;
pub mod settings;
pub mod text;
pub mod world;
