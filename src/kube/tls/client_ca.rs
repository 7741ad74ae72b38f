//! The certificates of clients: with a CA for them, only clients with a certificate of this CA are served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::time::sleep;
use tracing::{error, info};

use super::serving_cert::{ServingCert, provider};
use crate::clock::Clock;

/// The reason why a CA for clients cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidClientCa {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The text is not PEM.
    #[error("the file must be in PEM format: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The file contains no certificate.
    #[error("the file must contain a CA certificate")]
    Empty,
    /// A certificate cannot be the certificate of a CA, or TLS cannot be set up.
    #[error("the certificate cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// The certificates cannot verify clients.
    #[error("clients cannot be verified with this CA: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

impl ServingCert {
    /// A TLS configuration that uses the current certificate at each handshake, and serves only clients with a
    /// certificate of one of these CAs, in PEM format. The certificates have to be valid by this clock.
    ///
    /// # Errors
    /// If the CAs cannot be used.
    pub fn server_config_for_clients_of(
        &self,
        authorities: &[u8],
        clock: &Clock,
    ) -> Result<ServerConfig, InvalidClientCa> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities) {
            roots.add(authority?)?;
        }
        if roots.is_empty() {
            return Err(InvalidClientCa::Empty);
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider())).build()?;
        Ok(self.server_config_with(verifier, clock)?)
    }
}

/// The CA for clients in a file, which may be replaced.
pub struct ClientCa {
    file: PathBuf,
    serving_cert: ServingCert,
    clock: Clock,
    last: Vec<u8>,
}

impl ClientCa {
    /// The CA in this file.
    #[must_use]
    pub fn new(file: PathBuf, serving_cert: ServingCert, clock: Clock) -> Self {
        Self { file, serving_cert, clock, last: Vec::new() }
    }

    /// Reads the file until it can be used. Nothing can be served before, because then strangers would be served.
    pub async fn first(&mut self, interval: Duration) -> ServerConfig {
        loop {
            match self.read().await {
                Ok(Some(config)) => return config,
                Ok(None) => {}
                Err(error) => {
                    error!(file = %self.file.display(), %error, "no client is served, because the CA for clients is not valid");
                }
            }
            self.last.clear();
            sleep(interval).await;
        }
    }

    /// Reads the file periodically, until the future is dropped. A file that cannot be used never replaces a valid one.
    pub async fn follow(mut self, current: Arc<ArcSwap<ServerConfig>>, interval: Duration) {
        loop {
            sleep(interval).await;
            match self.read().await {
                Ok(None) => {}
                Ok(Some(config)) => {
                    current.store(Arc::new(config));
                    info!(file = %self.file.display(), "the CA for clients was replaced");
                }
                Err(error) => error!(file = %self.file.display(), %error, "the new CA for clients is not valid"),
            }
        }
    }

    /// The configuration, if the file has changed.
    async fn read(&mut self) -> Result<Option<ServerConfig>, InvalidClientCa> {
        let text = tokio::fs::read(&self.file).await?;
        if text == self.last {
            return Ok(None);
        }
        let config = self.serving_cert.server_config_for_clients_of(&text, &self.clock);
        self.last = text;
        config.map(Some)
    }
}

#[cfg(test)]
mod tests;
