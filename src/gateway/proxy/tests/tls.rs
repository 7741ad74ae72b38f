//! The listener with TLS, and the replacement of its certificate.

use std::sync::Arc;

use paddock_kube::tls::{CertificateFiles, ServingCert, follow_files_with};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::{Gateway, PATIENCE};
use crate::client::Places;
use crate::server::{Protocol, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Pair {
    certificate: String,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
    Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

async fn connect(port: u16, trusted: &Pair, protocol: &[u8]) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("gateway").unwrap(), stream).await
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart() {
    let gateway = Gateway::new().await;
    let sandbox = gateway.answering("box", OK).await;
    let (first, second) = (pair(), pair());
    let dir = tempfile::tempdir().unwrap();
    let files = CertificateFiles { certificate: dir.path().join("server.pem"), key: dir.path().join("server.key") };
    let write = |pair: &Pair| {
        std::fs::write(&files.certificate, &pair.certificate).unwrap();
        std::fs::write(&files.key, &pair.key).unwrap();
    };
    write(&first);
    let serving = ServingCert::default();
    let changes: Arc<Mutex<Vec<bool>>> = Arc::default();
    let seen = changes.clone();
    let follow = follow_files_with(files.clone(), serving.clone(), Duration::from_millis(10), move |valid| {
        seen.lock().push(valid)
    });
    let follow = tokio::spawn(follow);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = Protocol::Tls(Arc::new(serving.server_config().unwrap()));
    let places = Places::new(&gateway.proxy.config.limits);
    tokio::spawn(serve(listener, tls, places, gateway.proxy.clone()));

    let mut stream = eventually(port, &first, b"http/1.1").await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: gateway\r\nX-Sandbox-ID: box\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    assert!(sandbox.request().to_ascii_lowercase().contains("x-forwarded-proto: https\r\n"));
    let http2 = eventually(port, &first, b"h2").await;
    assert_eq!(http2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    // An invalid pair does not replace a valid one.
    std::fs::write(&files.certificate, "nonsense").unwrap();
    let reported = async {
        while !changes.lock().contains(&false) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reported).await.expect("the invalid certificate was not reported");
    assert!(connect(port, &first, b"h2").await.is_ok());
    write(&second);
    eventually(port, &second, b"h2").await;
    assert!(connect(port, &first, b"h2").await.is_err());
    follow.abort();
}

/// Connects as soon as the certificate is served.
async fn eventually(port: u16, trusted: &Pair, protocol: &[u8]) -> TlsStream<TcpStream> {
    let connected = async {
        loop {
            match connect(port, trusted, protocol).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(PATIENCE, connected).await.expect("the certificate is not served")
}

#[tokio::test]
async fn a_silent_handshake_ends() {
    let gateway = Gateway::with(|config| config.timeouts.handshake = Duration::from_millis(200)).await;
    let serving = ServingCert::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let tls = Protocol::Tls(Arc::new(serving.server_config().unwrap()));
    let places = Places::new(&gateway.proxy.config.limits);
    tokio::spawn(serve(listener, tls, places, gateway.proxy.clone()));
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    gateway.await_metric("paddock_gateway_connection_faults_total{fault=\"handshake\"} 1").await;
}
