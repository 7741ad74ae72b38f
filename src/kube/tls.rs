//! Certificates of the webhook: issued, kept and rotated by the operator itself, or mounted by somebody else.
//!
//! One rotation is one new authority with one new certificate; the authority's key is thrown away as soon as it has
//! signed. A new authority is trusted (it is in the bundle of every webhook configuration) before anything is served
//! under it, and the old one stays trusted until nothing can be served under it any more. So no call fails.
//! All replicas share one Secret; whoever comes first writes, by compare-and-swap on its resourceVersion.

mod cert_manager;
mod cert_state;
mod files;
mod issue;
mod serving_cert;

pub use cert_manager::{CaBundlePublisher, CertError, CertManager};
pub use cert_state::{BadLifetimes, CertState, KeyPair, Lifetimes, Step};
pub use files::{Mounted, follow_files};
pub use issue::{IssueError, issue};
pub use serving_cert::{InvalidKeyPair, ServingCert};

#[cfg(test)]
mod tests;
