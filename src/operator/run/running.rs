//! The handle on a running operator, and the reasons why an operator ends.

use std::net::SocketAddr;

use paddock_plugin_host::{HostError, LoadError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::endpoints::{AccessError, Readiness};
use crate::metrics::MetricsError;

/// The reason why an operator could not start, or ended without being stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A client could not be created from its configuration.
    #[error("the client cannot be created from its configuration")]
    Client(#[source] Box<kube::Error>),
    /// An address could not be listened on.
    #[error("--{flag}: the operator cannot listen on this address")]
    Listen {
        /// The flag that names the address, without the dashes.
        flag: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The engine for plugins could not be set up.
    #[error("the plugin host cannot be started")]
    Host(#[from] HostError),
    /// A built-in plugin did not load.
    #[error("a built-in plugin cannot be loaded")]
    BuiltIn(#[from] LoadError),
    /// The certificate of an authority of a registry cannot be used.
    #[error("--plugin-registry-ca-file: the certificate cannot be used")]
    Registry(#[source] paddock_registry::Error),
    /// Two metric families have the same name.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The metrics cannot be protected.
    #[error("--metrics-secure: the metrics cannot be served over TLS")]
    Access(#[from] AccessError),
    /// A panic interrupted a change of the World. Only a new process, which lists everything again, can be trusted.
    #[error("the in-memory state of the cluster may be inconsistent after a panic; the process must be restarted")]
    WorldBroken,
    /// The decisions of plugins cannot be recorded.
    #[error("--record-decisions: the recording cannot be opened")]
    Record(#[source] std::io::Error),
    /// A task that should run until the shutdown has ended.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// The addresses that a running operator listens on. An address is absent if its listener is off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// The address of `/metrics`.
    pub metrics: Option<SocketAddr>,
    /// The address of `/healthz` and `/readyz`.
    pub health: Option<SocketAddr>,
    /// The address of `/debug/`.
    pub debug: Option<SocketAddr>,
    /// The address of the webhook.
    pub webhook: Option<SocketAddr>,
}

/// A handle on a running operator. Dropping the handle leaves the operator running. [`Running::stop`] ends it in order.
pub struct Running {
    pub(super) addresses: Addresses,
    pub(super) readiness: Readiness,
    pub(super) leading: watch::Receiver<bool>,
    pub(super) stop: CancellationToken,
    pub(super) ended: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// The addresses that the operator listens on.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Waits until every kind is listed and the webhook answers.
    pub async fn ready(&mut self) {
        // If the sender is gone, the operator is shutting down, and there is nothing to wait for.
        let _ = self.readiness.unsynced.wait_for(|unsynced| unsynced.is_empty()).await;
        let _ = self.readiness.webhook.wait_for(|serving| *serving).await;
    }

    /// Waits until this replica leads.
    pub async fn leading(&mut self) {
        let _ = self.leading.wait_for(|leading| *leading).await;
    }

    /// Stops the operator in order: no new reconciles, then the end of the writes in flight, then the release of the
    /// leases.
    ///
    /// # Errors
    /// If the operator had already ended without being stopped.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        self.wait().await
    }

    /// Waits until the operator ends.
    ///
    /// # Errors
    /// If the operator ends without being stopped.
    pub async fn wait(self) -> Result<(), Error> {
        self.ended.await.unwrap_or(Err(Error::Ended("supervisor")))
    }
}
