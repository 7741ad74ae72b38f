//! The certificates of the webhook. The operator issues and rotates them itself, or another program mounts them.
//!
//! Each rotation creates one new CA and one new certificate. The private key of the CA is dropped as soon as it has
//! signed. A new CA is in the bundle of every webhook configuration before a certificate of it is served. The old CA
//! stays in the bundle until no replica can serve a certificate of it. No call fails during a rotation.
//!
//! All replicas share one Secret. The first to write it wins, by compare-and-swap on its resourceVersion. If the Secret is
//! deleted or damaged, a replica restores the certificate that it serves.

mod cert_manager;
mod cert_state;
mod client_ca;
mod files;
mod issue;
mod serving_cert;

pub use cert_manager::{CaBundlePublisher, CertError, CertManager};
pub use cert_state::{BadLifetimes, CertState, KeyPair, Lifetimes, Step};
pub use client_ca::{ClientCa, InvalidClientCa};
pub use files::{CertificateFiles, Mounted, follow_files, follow_files_with};
pub use issue::{IssueError, issue};
pub use serving_cert::{InvalidKeyPair, ServingCert};

#[cfg(test)]
mod tests;
