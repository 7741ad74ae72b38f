//! What the operator is told at its start. Parsed: what is here is usable as it is.

use std::path::PathBuf;

use paddock_core::kind::{ApiShapes, Kind};
use paddock_core::settings::Settings;

use crate::leader::Timing;
use crate::listen::ListenAddress;
use crate::queue::Workers;
use crate::webhook::{Certificate, ClientConfig, Deployed, WebhookConfig};

/// How this replica comes to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It always acts: there is no other.
    Alone,
    /// It acts while it holds the leases.
    Elected {
        /// Namespace of the leases; that of the client's configuration if absent.
        namespace: Option<String>,
        /// How leadership is timed.
        timing: Timing,
    },
}

/// The admission webhook.
#[derive(Clone, Debug)]
pub struct WebhookSetup {
    /// Where it listens.
    pub bind: ListenAddress,
    /// How the API server reaches it; at the very address that it listens on if absent.
    pub client_config: Option<ClientConfig>,
    /// Who issues the certificate.
    pub certificate: Certificate,
    /// Where the operator is deployed; absent outside of a cluster.
    pub deployed: Option<Deployed>,
}

impl WebhookSetup {
    /// On a loopback port that is free, for an API server on this machine; its Secret in this namespace.
    #[must_use]
    pub fn local(namespace: impl Into<String>) -> Self {
        let local = WebhookConfig::local(String::new(), namespace);
        Self {
            bind: ListenAddress::loopback(),
            client_config: None,
            certificate: local.certificate,
            deployed: local.deployed,
        }
    }
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// The core's own settings and limits.
    pub settings: Settings,
    /// The API shapes that are served; one whose CRDs are not installed is waited for without a fuss.
    pub shapes: ApiShapes,
    /// Whether templates, pools and claims are served at all (`--extensions`).
    pub extensions: bool,
    /// Only this namespace, if given.
    pub namespace: Option<String>,
    /// How many keys are worked on at once.
    pub workers: Workers,
    /// Writes a second at the most; none or not positive: as many as the API server takes.
    pub kube_api_qps: Option<f64>,
    /// Writes in a burst above that rate.
    pub kube_api_burst: Option<u32>,
    /// How this replica comes to act.
    pub leadership: Leadership,
    /// This process among the replicas, unlike any other's before or beside it.
    pub identity: String,
    /// Where `/metrics` is served.
    pub metrics: ListenAddress,
    /// Where `/healthz` and `/readyz` are served.
    pub health: ListenAddress,
    /// Where `/debug/` is served.
    pub debug: ListenAddress,
    /// The admission webhook; none if absent.
    pub webhook: Option<WebhookSetup>,
    /// Directory watched for plugins.
    pub plugin_dir: Option<PathBuf>,
    /// Seeds jitter.
    pub seed: u64,
}

impl Config {
    /// As a test or a demo wants it: alone, on loopback ports that are free.
    #[must_use]
    pub fn local(identity: impl Into<String>) -> Self {
        Self {
            settings: Settings::default(),
            shapes: ApiShapes::Both,
            extensions: true,
            namespace: None,
            workers: Workers::default(),
            kube_api_qps: None,
            kube_api_burst: None,
            leadership: Leadership::Alone,
            identity: identity.into(),
            metrics: ListenAddress::loopback(),
            health: ListenAddress::loopback(),
            debug: ListenAddress::loopback(),
            webhook: None,
            plugin_dir: None,
            seed: 0,
        }
    }

    /// The kinds that are watched.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        Kind::ALL
            .into_iter()
            .filter(|kind| kind.is_served(self.shapes) && (self.extensions || kind.shape().is_none()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use paddock_core::kind::ApiShape;

    use super::*;

    #[test]
    fn a_shape_watches_its_own_kinds_and_the_common_ones() {
        let kinds = |shapes, extensions| Config { shapes, extensions, ..Config::local("t") }.kinds();
        assert_eq!(kinds(ApiShapes::Both, true).len(), Kind::ALL.len());
        let seed = kinds(ApiShapes::Only(ApiShape::Seed), true);
        assert!(seed.contains(&Kind::SeedClaim) && seed.contains(&Kind::Sandbox) && !seed.contains(&Kind::Claim));
        let bare = kinds(ApiShapes::Both, false);
        assert!(bare.contains(&Kind::Sandbox) && bare.contains(&Kind::Pod));
        assert!(!bare.contains(&Kind::SeedPool) && !bare.contains(&Kind::Pool));
    }
}
