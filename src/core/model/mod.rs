//! The validated model: what an object asks for, with every illegal combination gone, the same for both shapes.
//!
//! `parse_*` turns a wire object into its model or says, field by field, what is wrong and what would be right.
//! Webhook and reconciler share these functions, so nothing is admitted that cannot be reconciled. A reference to an
//! object that does not exist is never an error here: it may be made later.

mod claim;
mod duration;
mod error;
mod mode;
pub mod names;
mod parse;
mod pod;
mod quantity;
mod types;

#[cfg(test)]
mod tests;

pub use claim::{check_claim_metadata, parse_claim, parse_pool, parse_seed_claim, parse_seed_pool};
pub use duration::{DurationError, parse_go_duration};
pub use error::{FieldError, FieldErrors};
pub use mode::{ModeDecision, desired_mode, replicas_of};
pub use parse::{parse_sandbox, parse_seed_template, parse_template};
pub use quantity::Quantity;
pub use types::{
    Claim, ClaimEnd, ClaimSource, NetworkPolicy, Pod, Pool, PoolChoice, PoolSize, Sandbox, ServiceIntent, Shutdown,
    Template, VolumeClaim,
};
