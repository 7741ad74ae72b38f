//! Certificates of the webhook: issued, kept and rotated by the operator itself, or mounted by somebody else.
//!
//! One rotation is one new authority with one new certificate; the authority's key is thrown away as soon as it has
//! signed. A new authority is trusted (it is in the bundle of every webhook configuration) before anything is served
//! under it, and the old one stays trusted until nothing can be served under it any more. So no call fails.
//! All replicas share one Secret; whoever comes first writes, by compare-and-swap on its resourceVersion.

mod files;
mod issue;
mod keeper;
mod material;
mod served;

pub use files::{Mounted, follow_files};
pub use issue::{IssueError, issue};
pub use keeper::{KeepError, Keeper, Trust};
pub use material::{BadLifetimes, Lifetimes, Material, Pair, Step};
pub use served::{BadPair, Served};

#[cfg(test)]
mod tests;
