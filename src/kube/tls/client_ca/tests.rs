//! Clients with a certificate of the CA, of another CA, and without one.

use std::net::SocketAddr;

use axum::routing::get;
use axum::{Extension, Router};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::limits;
use crate::server::{Intake, Protocol, Server};
use crate::tls::{Lifetimes, issue};

/// The certificate of a CA, and a client's certificate of this CA with its key. All in PEM format.
fn client_of_a_ca() -> (String, String, String) {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap().pem();
    let mut client = CertificateParams::new(["apiserver".to_owned()]).unwrap();
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = client.signed_by(&key, &Issuer::from_params(&authority, &authority_key)).unwrap();
    (certificate, client.pem(), key.serialize_pem())
}

/// A connection of a client with this certificate and key.
async fn connect(
    address: SocketAddr,
    authority: &str,
    client: Option<(&str, &str)>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Whether a client gets an answer, with this certificate and key.
async fn served(address: SocketAddr, authority: &str, client: Option<(&str, &str)>) -> bool {
    let Ok(mut stream) = connect(address, authority, client).await else { return false };
    stream.write_all(b"?").await.is_ok() && stream.read_u8().await.is_ok()
}

/// Answers every client that the configuration admits.
async fn serve(configs: Arc<ArcSwap<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = TlsAcceptor::from(configs.load_full()).accept(stream).await else { continue };
            if stream.read_u8().await.is_ok() {
                let _ = stream.write_all(b"!").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}

/// The client's certificate has expired by the local clock, and is valid by the API server's.
#[tokio::test]
async fn clients_are_verified_at_the_time_of_the_api_server() {
    let server = issue(&["127.0.0.1".to_owned()], Timestamp::now(), Lifetimes::default().certificate).unwrap();
    let serving_cert = ServingCert::default();
    serving_cert.serve(server.certificate.as_bytes(), server.key.as_bytes()).unwrap();
    let (authority, client, key) = client_of_a_ca();
    let clock = Clock::new(|| "5000-01-01T00:00:00Z".parse().unwrap_or_default());
    let config = serving_cert.server_config_for_clients_of(authority.as_bytes(), &clock).unwrap();
    let address = serve(Arc::new(ArcSwap::from_pointee(config))).await;
    let mine = Some((&*client, &*key));
    assert!(!served(address, &server.authority, mine).await);
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::DATE, "Sun, 29 Nov 2026 12:00:00 GMT".parse().unwrap());
    for _ in 0..limits::CLOCK_REPLIES {
        clock.observe(async { Ok::<_, ()>(headers.clone()) }, |headers| headers).await.unwrap();
    }
    assert!(served(address, &server.authority, mine).await);
}

/// A client is verified if the server asked for its certificate, and not if it only has one.
#[tokio::test]
async fn requests_say_whether_their_client_is_verified() {
    let server = issue(&["127.0.0.1".to_owned()], Timestamp::now(), Lifetimes::default().certificate).unwrap();
    let serving_cert = ServingCert::default();
    serving_cert.serve(server.certificate.as_bytes(), server.key.as_bytes()).unwrap();
    let (authority, client, key) = client_of_a_ca();
    let with_ca = serving_cert.server_config_for_clients_of(authority.as_bytes(), &Clock::default()).unwrap();
    for (config, expected) in [(with_ca, "true"), (serving_cert.server_config().unwrap(), "false")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let says = async |Extension(intake): Extension<Intake>| intake.is_verified().to_string();
        let router = Router::new().route("/", get(says));
        let protocol = Protocol::Tls(Arc::new(ArcSwap::from_pointee(config)));
        let settings = Server { protocol, limits: limits::ENDPOINT_SERVER, on_incident: Arc::new(|_| {}) };
        let stop = CancellationToken::new();
        tokio::spawn(crate::server::serve(listener, settings, router, stop.clone()));
        let mut stream = connect(address, &server.authority, Some((&*client, &*key))).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(expected), "{answer}");
        stop.cancel();
    }
}

#[tokio::test]
async fn only_clients_of_the_ca_are_served_and_the_ca_may_be_replaced() {
    let server = issue(&["127.0.0.1".to_owned()], Timestamp::now(), Lifetimes::default().certificate).unwrap();
    let serving_cert = ServingCert::default();
    serving_cert.serve(server.certificate.as_bytes(), server.key.as_bytes()).unwrap();
    let ((first, client, key), (second, other, other_key)) = (client_of_a_ca(), client_of_a_ca());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    let interval = Duration::from_millis(5);

    // Nothing is served before the file is valid.
    std::fs::write(&file, "not a certificate").unwrap();
    let mut authority = ClientCa::new(file.clone(), serving_cert, Clock::default());
    assert!(tokio::time::timeout(Duration::from_millis(50), authority.first(interval)).await.is_err());
    std::fs::write(&file, &first).unwrap();
    let current = Arc::new(ArcSwap::from_pointee(authority.first(interval).await));

    let address = serve(current.clone()).await;
    let (mine, theirs) = (Some((&*client, &*key)), Some((&*other, &*other_key)));
    for (client, expected) in [(mine, true), (theirs, false), (None, false)] {
        assert_eq!(served(address, &server.authority, client).await, expected, "{client:?}");
    }

    tokio::spawn(authority.follow(current.clone(), interval));
    std::fs::write(&file, "not a certificate").unwrap();
    tokio::time::sleep(interval * 10).await;
    assert!(served(address, &server.authority, mine).await, "a bad file replaces nothing");
    std::fs::write(&file, format!("{first}{second}")).unwrap();
    let both = async {
        while !served(address, &server.authority, theirs).await {
            tokio::time::sleep(interval).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("the second CA is trusted too");
    assert!(served(address, &server.authority, mine).await);
    assert!(!served(address, &server.authority, None).await);
}
