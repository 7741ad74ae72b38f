//! The plain HTTP endpoints of the process: probes, metrics and debug pages.

mod access;
mod debug;
mod explain;
mod find;
mod probes;

pub use self::access::{AccessError, protect};
pub use self::debug::{Debug, debug};
pub use self::probes::{Readiness, Scrape, metrics, probes};
