//! Replays claims through pool-sizing plugins in virtual time, and compares what they cost with what they serve.
//!
//! ```text
//! shapes, traces ─► Trace ─► model ─► Outcome ─► report
//!                             ▲  │
//!              size, next check  question
//!                             │  ▼
//!                            Sizer: a plugin, a fixed size, an HPA
//! ```
//!
//! The model is one pool: its members become Ready after a refill, and claims take them. Everything that the operator
//! decides about a pool comes from [`paddock_core::decide::pool_size`], which also decides in the cluster: the question
//! for the plugin, the bounds, the next check, and the number of Sandboxes to create or delete. The model has no API
//! server and no nodes, so nothing limits it: a creation succeeds at once, and no request is lost.

mod conditions;
mod decision;
mod hpa;
mod model;
mod outcome;
mod plugin;
mod random;
mod read;
mod report;
mod search;
mod shapes;
mod sizer;
mod trace;

pub use conditions::{Conditions, Refill};
pub use model::simulate;
pub use outcome::{Failures, Outcome, Series};
pub use plugin::{Ask, Candidate, PluginContender, UnusablePlugin};
pub use read::{ReadError, ReadOptions, read};
pub use report::{Report, html, table};
pub use search::{fixed_curve, smallest_fixed};
pub use shapes::{Shape, generate};
pub use sizer::Contender;
pub use trace::{MAX_CLAIMS, TooManyClaims, Trace};
