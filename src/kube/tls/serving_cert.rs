//! The certificate that is served now. It can be replaced between two handshakes.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};

use crate::clock::Clock;

/// The current certificate. Clones are handles on the same certificate.
#[derive(Clone, Debug, Default)]
pub struct ServingCert {
    current: Arc<ArcSwapOption<CertifiedKey>>,
}

/// The reason why a certificate and its key cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKeyPair {
    /// The text is not PEM.
    #[error("the {0} must be in PEM format: {1}")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// The PEM text contains no certificate.
    #[error("the file must contain a certificate")]
    Empty,
    /// The key does not belong to the certificate, or has an unsupported type.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl ServingCert {
    /// Serves this chain from the next handshake on. Open connections are not affected.
    ///
    /// # Errors
    /// If the chain cannot be served. The previous certificate stays in use.
    pub fn serve(&self, chain: &[u8], key: &[u8]) -> Result<(), InvalidKeyPair> {
        self.current.store(Some(Arc::new(certified(chain, key)?)));
        Ok(())
    }

    /// Whether there is a certificate to serve.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.current.load().is_some()
    }

    /// A TLS configuration that uses the current certificate at each handshake.
    ///
    /// # Errors
    /// If the provider lacks the protocol versions. Its features exclude that.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        self.server_config_with(WebPkiClientVerifier::no_client_auth(), &Clock::default())
    }

    pub(super) fn server_config_with(
        &self,
        clients: Arc<dyn ClientCertVerifier>,
        clock: &Clock,
    ) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_details(Arc::new(provider()), Arc::new(clock.clone()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for ServingCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// The certificate and its key in the form that TLS uses.
pub(super) fn certified(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, InvalidKeyPair> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| InvalidKeyPair::Pem("certificate", e))?;
    if chain.is_empty() {
        return Err(InvalidKeyPair::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| InvalidKeyPair::Pem("key", e))?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

/// Whether this PEM text contains certificates, and each can be trusted as a CA.
pub(super) fn is_bundle(pem: &str) -> bool {
    let mut roots = RootCertStore::empty();
    CertificateDer::pem_slice_iter(pem.as_bytes()).all(|found| found.is_ok_and(|ca| roots.add(ca).is_ok()))
        && !roots.is_empty()
}

pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}
