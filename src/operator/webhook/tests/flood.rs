//! The webhook under thousands of clients that show nothing: they connect over TLS and say nothing, or send half of a
//! review and no more. They are at the same address as the API server, which is the worst case.

use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

const SILENT: usize = 2000;
const HALF_SENT: usize = 500;
/// The number of hostile handshakes that are under way at the same time.
const HANDSHAKES: usize = 16;

fn connector(webhook: &Served1) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(webhook.authority.as_bytes()).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn connect(connector: &TlsConnector, address: std::net::SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    connector.connect(ServerName::from(address.ip()), stream).await
}

/// A review that is sent in one request on a new connection, as an API server does that has no idle connection left.
/// Returns the answer.
async fn ask(connector: &TlsConnector, address: std::net::SocketAddr) -> std::io::Result<String> {
    let body = review(marked(Some("gvisor")));
    let head = format!(
        "POST /validate/generated-code HTTP/1.1\r\nhost: webhook\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(connector, address).await?;
    stream.write_all(&[head.as_bytes(), &body].concat()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A hostile client: where it connects to, and the handshakes that all hostile clients may have under way together. The
/// server shares the processors with them, so a busy machine must slow down both.
#[derive(Clone)]
struct Hostile {
    connector: TlsConnector,
    address: std::net::SocketAddr,
    handshakes: Arc<Semaphore>,
}

impl Hostile {
    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let _handshake = self.handshakes.acquire().await;
        connect(&self.connector, self.address).await
    }
}

/// Connects, sends a beginning, and waits until the server closes the connection. Then it begins anew, after a while.
async fn besiege(hostile: Hostile, beginning: &'static str, pause: Duration) {
    loop {
        if let Ok(mut stream) = hostile.connect().await
            && stream.write_all(beginning.as_bytes()).await.is_ok()
        {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        sleep(pause).await;
    }
}

/// Asks over and over. `client` keeps its connection, and every other review comes on a new one. Returns the times.
async fn keep_asking(webhook: &Served1, client: &Client, count: usize) -> Vec<Duration> {
    let connector = connector(webhook);
    let mut took = Vec::new();
    while took.len() < count {
        let began = Instant::now();
        if took.len().is_multiple_of(2) {
            let (status, _) =
                post_with(client, webhook, "/validate/generated-code", &review(marked(Some("gvisor")))).await;
            assert_eq!(status, 200, "review {} on a kept connection", took.len());
        } else {
            let answer = ask(&connector, webhook.address).await;
            let admitted = answer.as_ref().is_ok_and(|answer| answer.contains("\"allowed\":true"));
            assert!(admitted, "review {} on a new connection: {answer:?}", took.len());
        }
        took.push(began.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_and_half_sent_bodies_do_not_stop_admission() {
    let webhook = start_plain().await;
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let one = Hostile { connector: connector(&webhook), address: webhook.address, handshakes };
    let client = client(&webhook);
    let usual = keep_asking(&webhook, &client, 50).await;
    let mut hostile = JoinSet::new();
    for n in 0..SILENT + HALF_SENT {
        let half =
            "POST /validate/generated-code HTTP/1.1\r\nhost: w\r\ncontent-length: 1000000\r\n\r\n{\"apiVersion\":";
        let pause = Duration::from_millis(20_000 + n as u64 % 500 * 20);
        hostile.spawn(besiege(one.clone(), if n < SILENT { "" } else { half }, pause));
        if n % 10 == 0 {
            // The handshakes of both sides share the processors of this test.
            sleep(Duration::from_millis(40)).await;
        }
    }
    let besieged = keep_asking(&webhook, &client, 300).await;
    for (name, mut took) in [("usually", usual), ("under siege", besieged)] {
        took.sort();
        let (p50, p99, most) = (took[took.len() / 2], took[took.len() * 99 / 100], took[took.len() - 1]);
        println!("{name}: {} reviews, p50 {p50:?}, p99 {p99:?}, most {most:?}", took.len());
        // Every answer came before an API server stops waiting.
        assert!(most < Duration::from_secs(2), "{name}: {most:?}");
    }
    hostile.shutdown().await;
}
