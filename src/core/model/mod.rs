//! The validated model: what an object asks for, with every illegal combination gone, the same for both shapes.
//!
//! `parse_*` turns a wire object into its model or says, field by field, what is wrong and what would be right.
//! Webhook and reconciler share these functions, so nothing is admitted that cannot be reconciled. A reference to an
//! object that does not exist is never an error here: it may be made later.

mod error;
mod types;

pub use error::{FieldError, FieldErrors};
pub use types::{
    Claim, ClaimEnd, ClaimSource, NetworkPolicy, Pod, Pool, PoolChoice, PoolSize, Sandbox, ServiceIntent, Shape,
    Shutdown, Surface, Template, VolumeClaim,
};
