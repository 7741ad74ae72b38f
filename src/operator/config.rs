//! The operator's configuration, already parsed: every value in it can be used as it is.

use std::fmt;
use std::path::PathBuf;

use paddock_api::kind::{ApiShapes, Kind};
use paddock_api::names::object::UPSTREAM_LEASE;
use paddock_core::settings::Settings;

use crate::plugins::registry::RegistryConfig;
use crate::queue::Workers;
use crate::record::RecordConfig;
use crate::webhook::{Certificate, ClientConfig, Deployed, WebhookConfig};
use crate::write::DisabledEvents;
use paddock_kube::leader::Timing;
use paddock_kube::listen::ListenAddress;
use paddock_kube::tls::Mounted;

/// The name of our own Lease.
pub const OWN_LEASE: &str = "paddock-operator";

/// The names of the Leases that the leader holds.
pub const LEASES: [&str; 2] = [OWN_LEASE, UPSTREAM_LEASE];

/// The rule that decides whether this replica reconciles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This replica reconciles without an election. There must be no other replica. If it serves all namespaces, it does
    /// not act while somebody holds one of the leases in any namespace.
    Alone,
    /// This replica reconciles while it holds the leases.
    Elected {
        /// The namespace of the leases.
        namespace: String,
        /// The durations of the election.
        timing: Timing,
    },
}

/// The settings of the admission webhook.
#[derive(Clone, Debug)]
pub struct WebhookSetup {
    /// The address that the webhook listens on.
    pub bind: ListenAddress,
    /// The way in which the API server reaches the webhook. If absent, the address that the webhook listens on.
    pub client_config: Option<ClientConfig>,
    /// The source of the serving certificate.
    pub certificate: Certificate,
    /// The Deployment that the operator runs in. Absent outside a cluster.
    pub deployed: Option<Deployed>,
    /// The file with the CA of the API servers' client certificates. If absent, every client is served.
    pub client_ca: Option<PathBuf>,
    /// Whether the cluster has the policies of `paddock generate vap`, so that isolated Pods start while no replica
    /// answers.
    pub isolation_policies: bool,
}

/// The protection of `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Everybody who reaches the address reads the metrics, without TLS.
    Open,
    /// The metrics are served over TLS to users with the right to `get` the path. The API server authenticates and
    /// authorizes them.
    Authorized {
        /// The mounted serving certificate. If absent, the operator issues one for itself, which no client can verify.
        certificate: Option<Mounted>,
    },
}

impl WebhookSetup {
    /// A webhook on a free loopback port, for an API server on the same machine. The Secret with the certificate is in
    /// this namespace.
    #[must_use]
    pub fn local(namespace: impl Into<String>) -> Self {
        let local = WebhookConfig::local(String::new(), namespace);
        Self {
            bind: ListenAddress::loopback(),
            client_config: None,
            certificate: local.certificate,
            deployed: local.deployed,
            client_ca: local.client_ca,
            isolation_policies: false,
        }
    }
}

/// A Service of gateways. It has a port of the name `metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayService {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service.
    pub name: String,
}

impl fmt::Display for GatewayService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The gateways that are asked for their open connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionsConfig {
    /// The Services of the gateways. There is at least one.
    pub services: Vec<GatewayService>,
    /// The file with the token for them.
    pub token_file: PathBuf,
}

/// The configuration of one operator process.
#[derive(Clone, Debug)]
pub struct Config {
    /// The settings and the limits of the core.
    pub settings: Settings,
    /// The API shapes to serve. If the CRDs of a shape are not installed, the operator waits for them and reports no
    /// error.
    pub shapes: ApiShapes,
    /// Whether the operator serves templates, pools and claims (`--extensions`). If not, it serves only Sandboxes.
    pub extensions: bool,
    /// The only namespace to watch. If absent, all namespaces.
    pub namespace: Option<String>,
    /// The number of keys that each lane of the queue reconciles at the same time.
    pub workers: Workers,
    /// The kinds of objects about which no Events are sent.
    pub disabled_events: DisabledEvents,
    /// The largest number of writes a second. If absent or not positive, only the API server limits the rate.
    pub kube_api_qps: Option<f64>,
    /// The number of writes that may exceed that rate in a burst.
    pub kube_api_burst: Option<u32>,
    /// The rule that decides whether this replica reconciles.
    pub leadership: Leadership,
    /// The name of this process among the replicas. No other process may have the same name, now or earlier.
    pub identity: String,
    /// The name of the pod that this process runs in. If absent, it runs outside of a cluster.
    pub pod: Option<String>,
    /// The address of `/metrics`.
    pub metrics: ListenAddress,
    /// The protection of `/metrics`.
    pub metrics_access: MetricsAccess,
    /// The address of `/healthz` and `/readyz`.
    pub health: ListenAddress,
    /// The address of `/debug/`.
    pub debug: ListenAddress,
    /// The settings of the admission webhook. If absent, there is no webhook.
    pub webhook: Option<WebhookSetup>,
    /// The directory that the operator reads plugins from.
    pub plugin_dir: Option<PathBuf>,
    /// The directory that keeps the last good version of each plugin over a restart of the container.
    pub plugin_cache_dir: Option<PathBuf>,
    /// The memory that all calls of plugins together may use, in bytes. If absent, a part of the process's limit.
    pub plugin_memory: Option<usize>,
    /// The registries that components come from.
    pub registry: RegistryConfig,
    /// The gateways that are asked for their open connections, at the interval in the settings. If absent, none is asked.
    pub connections: Option<ConnectionsConfig>,
    /// The recording of the decisions of plugins.
    pub record: RecordConfig,
    /// The seed of the random jitter, so that a test can repeat a run.
    pub seed: u64,
}

impl Config {
    /// The configuration for a test or a demo: a single replica, on free loopback ports.
    #[must_use]
    pub fn local(identity: impl Into<String>) -> Self {
        Self {
            settings: Settings::default(),
            shapes: ApiShapes::Both,
            extensions: true,
            namespace: None,
            workers: Workers::default(),
            disabled_events: DisabledEvents::default(),
            kube_api_qps: None,
            kube_api_burst: None,
            leadership: Leadership::Alone,
            identity: identity.into(),
            pod: None,
            metrics: ListenAddress::loopback(),
            metrics_access: MetricsAccess::Open,
            health: ListenAddress::loopback(),
            debug: ListenAddress::loopback(),
            webhook: None,
            plugin_dir: None,
            plugin_cache_dir: None,
            plugin_memory: None,
            registry: RegistryConfig::default(),
            connections: None,
            record: RecordConfig::default(),
            seed: 0,
        }
    }

    /// The kinds that the operator watches.
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
    use paddock_api::kind::ApiShape;

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
