//! The plain HTTP endpoints of the process: probes, metrics and debug pages.

mod debug;
mod probes;

pub use self::debug::{Debug, debug};
pub use self::probes::{Readiness, Scrape, metrics, probes};
