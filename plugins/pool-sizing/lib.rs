//! What plugins that size pools have in common: the rule of `pool-by-demand`, and a size that declines slowly.
//!
//! `pool-by-demand` is this rule alone. `pool-seasonal` uses it where it has no forecast.

mod demand;
mod level;
mod settings;

pub use demand::{Demand, lead_seconds, stock};
pub use level::{Level, reason, whole};
pub use settings::Settings;
