//! The client of the load: a few HTTP/2 connections that all requests share.
//!
//! kube's usual client speaks HTTP/1.1 and opens a connection for each concurrent request. A burst would begin with
//! hundreds of TLS handshakes and mostly measure those. Nothing here limits or repeats requests.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tower::{BoxError, Service, ServiceBuilder};

/// The number of connections. An API server handles a few hundred concurrent requests on one connection. With more
/// connections, one lost packet or one long list does not delay all requests.
const LANES: usize = 8;
/// The flow control window of a stream. It is large, so that the watch of a burst does not wait for our reads.
const STREAM_WINDOW: u32 = 16 << 20;
/// The flow control window of a connection.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// A client for the cluster and the user of a kubeconfig.
pub(crate) async fn connect(kubeconfig: &std::path::Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig).context("reading the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let config = config.context("reading the kubeconfig")?;
    let auth = config.auth_layer().context("the kubeconfig's user")?;
    let headers = config.extra_headers_layer().context("the kubeconfig's user")?;
    let lanes = Lanes { inner: Arc::new(Inner::new(&config)?) };
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(headers)
        .map_err(BoxError::from)
        .service(lanes);
    Ok(Client::new(service, config.default_namespace))
}

/// The response to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The object in the response. A refusal is an error that names the request.
    pub(crate) fn object(&self, what: &str) -> Result<Value> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        if !self.status.is_success() {
            bail!("{what}: {}: {}", self.status, body["message"].as_str().unwrap_or("without a message"));
        }
        Ok(body)
    }
}

/// The body of a request.
pub(crate) enum Load<'a> {
    /// No body.
    Empty,
    /// An object.
    Json(&'a Value),
    /// A merge patch.
    Merge(&'a Value),
}

/// Sends one request once.
pub(crate) async fn send(client: &Client, method: Method, path: &str, load: Load<'_>) -> Result<Reply> {
    let (kind, body) = match load {
        Load::Empty => ("application/json", Vec::new()),
        Load::Json(object) => ("application/json", serde_json::to_vec(object)?),
        Load::Merge(patch) => ("application/merge-patch+json", serde_json::to_vec(patch)?),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, kind)
        .body(Body::from(body))
        .context("making a request")?;
    let response = client.send(request).await?;
    let status = response.status();
    let body = response.into_body().collect_bytes().await?.to_vec();
    Ok(Reply { status, body })
}

/// Reads an object or a list.
pub(crate) async fn get(client: &Client, path: &str) -> Result<Value> {
    send(client, Method::GET, path, Load::Empty).await?.object(path)
}

#[derive(Clone)]
struct Lanes {
    inner: Arc<Inner>,
}

struct Inner {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
    lanes: Vec<Mutex<Option<SendRequest<Body>>>>,
    next: AtomicUsize,
}

impl Inner {
    fn new(config: &Config) -> Result<Self> {
        let url = &config.cluster_url;
        let host = url.host().context("the cluster's address names no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if url.scheme_str() != Some("https") {
            bail!("{url}: the benchmark needs https, which is how it gets HTTP/2");
        }
        let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
        let name = ServerName::try_from(name).context("the API server's name")?;
        let mut tls = config.rustls_client_config().context("TLS")?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let lanes = std::iter::repeat_with(Mutex::default).take(LANES).collect();
        let port = url.port_u16().unwrap_or(443);
        Ok(Self { host, port, name, tls: TlsConnector::from(Arc::new(tls)), lanes, next: AtomicUsize::new(0) })
    }

    /// The next connection, which is opened if necessary.
    async fn lane(&self) -> Result<SendRequest<Body>, BoxError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        let mut lane = self.lanes[number].lock().await;
        if let Some(open) = lane.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let tls = self.tls.connect(self.name.clone(), tcp).await?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(tls))
            .await?;
        // The requests on the connection notice its end.
        tokio::spawn(connection);
        *lane = Some(sender.clone());
        Ok(sender)
    }
}

impl Service<Request<Body>> for Lanes {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.lane().await?.send_request(request).await?) })
    }
}

/// Opens every connection, so that no measured request has to.
pub(crate) async fn warm(client: &Client) -> Result<()> {
    for _ in 0..LANES {
        send(client, Method::GET, "/version", Load::Empty).await?.object("/version")?;
    }
    Ok(())
}
