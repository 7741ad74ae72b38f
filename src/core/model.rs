//! The validated model: the content of an object without illegal combinations, the same for both API shapes.
//!
//! The functions `parse_*` convert a wire object to its model. If the object is not valid, they return an error for
//! each field, which says what is wrong and what is allowed. The webhook and the reconcile share these functions, so
//! the webhook admits nothing that cannot be reconciled. A reference to an object that does not exist is not an error
//! here, because the object may be created later.

mod claim;
mod claim_data;
mod claim_env;
mod claim_metadata;
mod claim_volumes;
mod error;
pub mod names;
mod parse;
mod pod;
mod quantity;
mod schedule;
mod stored;
mod types;

#[cfg(test)]
mod tests;

pub use claim::{parse_claim, parse_pool};
pub(crate) use claim_data::{brought_bytes, too_large};
pub use claim_data::{check_claim_data, digest};
pub(crate) use claim_env::check_env;
pub use claim_metadata::check_claim_metadata;
pub(crate) use claim_volumes::merged_volume_claims;
pub(crate) use error::shortened;
pub use error::{FieldError, FieldErrors};
pub use names::is_dns_subdomain;
pub use paddock_api::duration::{DurationError, parse_go_duration};
pub use paddock_api::mode::{ModeDecision, desired_mode, replicas_of};
pub(crate) use parse::generated_name;
pub use parse::{parse_sandbox, parse_template};
pub use quantity::Quantity;
pub use schedule::{Schedule, Wake};
pub(crate) use stored::is_init;
pub use stored::{DiskDir, Port, StoredSpec};
pub use types::{
    BroughtFile, Claim, ClaimData, ClaimDataRules, ClaimEnd, ClaimSource, NetworkPolicy, Pod, Pool, PoolChoice,
    PoolSize, Sandbox, ServiceIntent, Shutdown, Template, VolumeClaim, WarmRecord,
};
