//! The client of the collector. The SDK sends from a thread outside of the runtime, so each request is a task of the
//! runtime, for which that thread waits.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::settings::{InvalidSettings, Settings};
use crate::limits;

const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";

/// The client of the collector.
#[derive(Debug)]
pub(super) struct CollectorClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    runtime: Handle,
    failure: Failure,
}

/// The last failure of a request, with its causes. The error of the exporter contains none of them.
pub(super) type Failure = Arc<Mutex<String>>;

impl CollectorClient {
    /// A client. It verifies the certificate of the collector by the given file, or else by the CA certificates of the
    /// system.
    pub(super) fn new(settings: &Settings, runtime: Handle) -> Result<Self, InvalidSettings> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let invalid = |error: String| InvalidSettings::new(CERTIFICATE, error);
        let builder = HttpsConnectorBuilder::new();
        let builder = if settings.certificate.is_none() && settings.url.scheme_str() == Some("https") {
            builder.with_provider_and_native_roots(provider).map_err(|error| invalid(format!("is needed: {error}")))?
        } else {
            // Plain HTTP needs no certificate, and an image may have none.
            let roots = settings.certificate.as_deref().map_or_else(|| Ok(RootCertStore::empty()), certificates);
            let roots = roots.map_err(invalid)?;
            let tls = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| invalid(error.to_string()))?;
            builder.with_tls_config(tls.with_root_certificates(roots).with_no_client_auth())
        };
        let client = Client::builder(TokioExecutor::new()).build(builder.https_or_http().enable_http1().build());
        Ok(Self { client, timeout: settings.timeout, runtime, failure: Arc::default() })
    }

    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }
}

/// The certificates in a file.
fn certificates(file: &Path) -> Result<RootCertStore, String> {
    let of_file = |error: &dyn Display| format!("{}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| of_file(&error))? {
        roots.add(certificate.map_err(|error| of_file(&error))?).map_err(|error| of_file(&error))?;
    }
    if roots.is_empty() { Err(of_file(&"the file has no certificate in PEM")) } else { Ok(roots) }
}

/// An error and its causes.
fn causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, limit) = (self.client.clone(), self.timeout);
        let exchange = async move {
            let response = client.request(request.map(Full::new)).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, limits::SPANS_ANSWER).collect().await.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() { ResponseBodyTooLarge::new().into() } else { error }
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let answer: Result<_, HttpError> = self.runtime.spawn(async move { timeout(limit, exchange).await? }).await?;
        *self.failure.lock() = answer.as_ref().err().map(|error| causes(&**error)).unwrap_or_default();
        answer
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tls::{ServingCert, issue};

    #[tokio::test]
    async fn a_collector_with_tls_is_verified_by_the_given_certificates() {
        let pair = || issue(&["127.0.0.1".to_owned()], Timestamp::now(), SignedDuration::from_hours(1)).unwrap();
        let (own, other, serving) = (pair(), pair(), ServingCert::default());
        serving.serve(own.certificate.as_bytes(), own.key.as_bytes()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(serving.server_config().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/v1/traces", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                stream.read_u8().await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        });
        let folder = tempfile::tempdir().unwrap();
        for (authority, is_known) in [(own.authority, true), (other.authority, false)] {
            let file = folder.path().join("ca.crt");
            std::fs::write(&file, authority).unwrap();
            let settings = Settings {
                url: url.parse().unwrap(),
                timeout: Duration::from_secs(60),
                queue: 1,
                certificate: Some(file),
                names_service: false,
            };
            let client = CollectorClient::new(&settings, Handle::current()).unwrap();
            let answer = client.send_bytes(Request::post(&url).body(Bytes::new()).unwrap()).await;
            assert_eq!(answer.is_ok(), is_known, "{answer:?}");
            assert_eq!(client.failure().lock().contains("certificate"), !is_known, "{client:?}");
        }
        let none = folder.path().join("none");
        std::fs::write(&none, "").unwrap();
        assert!(certificates(&none).unwrap_err().ends_with("the file has no certificate in PEM"));
    }
}
