//! The components of OCI registries: SandboxPlugins with `spec.source.oci`.
//!
//! Each of them has a task (`pulls`). It asks for the digest of a tag at an interval, checks the signatures of a new
//! digest, and pulls it (`puller`). A digest in the spec is pulled once. If anything fails, the component that was pulled
//! before stays, and the task retries with a backoff (`progress`).
//!
//! No reconcile and no call of a plugin waits for a registry, and no registry delays the components of another one
//! (`slots`).

mod progress;
mod pull_secret;
mod puller;
mod pulls;
mod remote;
mod slots;
#[cfg(test)]
mod tests;
mod verification;

use std::time::Duration;

use paddock_registry::Key;

pub use self::pull_secret::PullSecrets;
pub use self::puller::{PullCount, Puller};
pub(super) use self::pulls::{PullUpdate, Pulled, Pulls, Wanted};
use crate::limits;

/// The settings for registries.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Certificates of authorities in PEM format that are trusted beside those of the system.
    pub extra_ca: Vec<Vec<u8>>,
    /// The registries, as HOST or HOST:PORT, that are asked without TLS.
    pub plain_http: Vec<String>,
    /// The interval at which the digest of a tag is asked for.
    pub poll_interval: Duration,
    /// The keys of the operator, which count for plugins that give none.
    pub keys: Vec<Key>,
    /// Whether one of these keys must have signed every image, whatever a SandboxPlugin says.
    pub require_signatures: bool,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            extra_ca: Vec::new(),
            plain_http: Vec::new(),
            poll_interval: limits::PLUGIN_IMAGE_POLL_INTERVAL,
            keys: Vec::new(),
            require_signatures: false,
        }
    }
}
