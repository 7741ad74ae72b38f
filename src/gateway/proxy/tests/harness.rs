//! A gateway with Sandboxes that listen on loopback addresses, and clients that write bytes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::arrival::{Arrival, Purpose};
use crate::authorize::{Caller, Credential};
use crate::client::Places;
use crate::config::ProxyConfig;
use crate::drain::Drained;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::proxy::backend::Backend;
use crate::refusal::{Reason, Refusal, SandboxState, unreachable};
use crate::route::Router;
use crate::sandboxes::{Activity, Awake, Connected, Endpoint, Mark};
use crate::server::{Protocol, serve};
use crate::session::Sessions;
use crate::target::Target;
use crate::timeouts::Timeouts;

/// The time after which a test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The token that the gateway of [`Gateway::authorized`] accepts, for the Sandbox that it names.
pub(super) const TOKEN: &str = "token-of-";

/// Sandboxes by name. The port and the namespace of a request are recorded.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) sandboxes: Mutex<HashMap<String, Endpoint>>,
    /// The Sandboxes that answer only after this many questions, as one does that is being woken.
    pub(super) asleep: Mutex<HashMap<String, Duration>>,
    pub(super) dialled: Mutex<Vec<Target>>,
    pub(super) purposes: Mutex<Vec<Purpose>>,
    pub(super) connections: AtomicUsize,
    authorized: bool,
}

#[derive(Clone)]
struct Shared(Arc<Cluster>);

impl Backend for Shared {
    fn check<'a>(
        &'a self,
        credential: &'a Credential,
        _: IpAddr,
        target: &'a Target,
    ) -> BoxFuture<'a, Result<Caller, Refusal>> {
        let caller = match credential {
            _ if !self.0.authorized => Ok(Caller::unlimited("-")),
            Credential::None => Err(Refusal::new(Reason::Unauthenticated, "unauthenticated")),
            Credential::Bearer(token) => match token.strip_prefix(TOKEN) {
                Some(name) if name == &*target.name => Ok(Caller::unlimited(name)),
                Some(_) => Err(Refusal::new(Reason::Forbidden, "forbidden")),
                None => Err(Refusal::new(Reason::Unauthenticated, "unauthenticated")),
            },
        };
        std::future::ready(caller).boxed()
    }

    fn awake(&self, target: &Target, arrival: &Arrival) -> Option<Awake> {
        self.0.purposes.lock().push(arrival.purpose);
        if self.0.asleep.lock().contains_key(&*target.name) {
            return None;
        }
        let endpoint = self.0.sandboxes.lock().get(&*target.name)?.clone();
        Some(Awake { endpoint, mark: Mark::default() })
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        arrival: &'a Arrival,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Connected, Refusal>> {
        async move {
            self.0.dialled.lock().push(target.clone());
            let asleep = self.0.asleep.lock().get(&*target.name).copied();
            if let Some(time) = asleep {
                if arrival.purpose == Purpose::Probe {
                    return Err(Refusal::new(Reason::SuspendedForProbes, "suspended").state(SandboxState::Suspended));
                }
                if Instant::now() + time > deadline {
                    tokio::time::sleep_until(deadline).await;
                    let late = Refusal::new(Reason::WakeTimeout, "waking").state(SandboxState::Waking);
                    return Err(late.retry_after(Duration::from_secs(2)));
                }
                tokio::time::sleep(time).await;
                self.0.asleep.lock().remove(&*target.name);
            }
            let endpoint = self.0.sandboxes.lock().get(&*target.name).cloned();
            let missing = || Refusal::new(Reason::SandboxNotFound, unreachable(target)).state(SandboxState::NotFound);
            let endpoint = endpoint.ok_or_else(missing)?;
            let stream = TcpStream::connect(endpoint.address).await;
            let closed = |_| Refusal::new(Reason::Unreachable, unreachable(target)).state(SandboxState::Running);
            let stream = stream.map_err(closed)?;
            self.0.connections.fetch_add(1, Ordering::Relaxed);
            Ok(Connected { stream, endpoint, activity: Activity::default() })
        }
        .boxed()
    }
}

/// Waits until a condition holds.
pub(super) async fn patience(what: &str, holds: impl Fn() -> bool) {
    patience_for(what, async || holds()).await;
}

/// Waits until the answer to a question is yes.
pub(super) async fn patience_for(what: &str, holds: impl AsyncFn() -> bool) {
    let waits = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Lets this time pass at once for all timers, those of the gateway too.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A gateway that serves.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) cluster: Arc<Cluster>,
    pub(super) proxy: Arc<Proxy>,
    serving: JoinHandle<()>,
}

/// The settings of a gateway for tests: all ways of routing.
pub(crate) fn config() -> ProxyConfig {
    ProxyConfig {
        router: Router { path: Some("/sb".parse().unwrap()), host: Some("sb.example.com".parse().unwrap()) },
        sessions: Sessions {
            cookie: Some("session".to_owned()),
            query_parameter: Some("token".to_owned()),
            ..Sessions::default()
        },
        timeouts: Timeouts { drain_delay: Duration::ZERO, ..Timeouts::DEFAULT },
        limits: Limits::DEFAULT,
        probes: crate::purpose::ProbeRule::default(),
        preserve_host: false,
        rewrite_responses: true,
        access_log: true,
    }
}

impl Gateway {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut ProxyConfig)) -> Self {
        Self::start(change, false).await
    }

    pub(super) async fn authorized() -> Self {
        Self::start(|_| {}, true).await
    }

    async fn start(change: impl FnOnce(&mut ProxyConfig), authorized: bool) -> Self {
        let mut config = config();
        change(&mut config);
        let cluster = Arc::new(Cluster { authorized, ..Cluster::default() });
        let limits = config.limits;
        let proxy = Arc::new(Proxy::new(config, Shared(cluster.clone()), Metrics::new().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, Protocol::Plain, Places::new(&limits), proxy.clone()));
        Self { address, cluster, proxy, serving }
    }

    /// Adds a Sandbox.
    pub(super) fn sandbox(&self, name: &str, address: SocketAddr) {
        self.pod(name, "pod", address);
    }

    pub(super) fn pod(&self, name: &str, uid: &str, address: SocketAddr) {
        self.cluster.sandboxes.lock().insert(name.to_owned(), Endpoint { pod_uid: uid.into(), address });
    }

    /// A Sandbox that answers every request with this text.
    pub(super) async fn answering(&self, name: &str, response: &'static str) -> Server {
        let server = Server::start(move |_| response.to_owned()).await;
        self.sandbox(name, server.address);
        server
    }

    pub(super) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends one request on a connection of its own, and returns the answer.
    pub(super) async fn send(&self, request: &str) -> Answer {
        let mut client = self.client().await;
        client.write(request).await;
        client.answer().await
    }

    /// `GET /` for the Sandbox `box` with more headers.
    pub(super) async fn get(&self, path: &str, headers: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n")).await
    }

    pub(super) async fn drain(&self) -> Drained {
        let drained = self.proxy.drain.run(&self.proxy.config.timeouts).await;
        assert!(self.serving.is_finished() || self.proxy.drain.stage() > crate::drain::Stage::Announced);
        drained
    }

    /// Waits until a connection to a Sandbox is free for the next request.
    pub(super) async fn await_free_connection(&self) {
        let free = async {
            while self.proxy.ways.pool.free() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, free).await.expect("no connection became free");
    }

    pub(super) fn metric(&self, line: &str) -> bool {
        let text = String::from_utf8(self.proxy.metrics.exposition().unwrap()).unwrap();
        text.lines().any(|found| found == line)
    }

    /// Waits until a metric has a value.
    pub(super) async fn await_metric(&self, line: &str) {
        let found = async {
            while !self.metric(line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, found).await.is_err() {
            let text = String::from_utf8(self.proxy.metrics.exposition().unwrap()).unwrap();
            panic!("{line} is not in:\n{text}");
        }
    }
}

/// An answer as text.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// A connection to the gateway.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn head(&mut self) -> String {
        timeout(PATIENCE, read_head(&mut self.0)).await.expect("no head of an answer came")
    }

    /// Reads one answer.
    pub(super) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
        let chunked = answer.header("transfer-encoding").is_some_and(|value| value == "chunked");
        let body = async {
            match (chunked, length) {
                (true, _) => read_chunks(&mut self.0).await,
                (false, Some(length)) => {
                    let mut body = vec![0; length];
                    self.0.read_exact(&mut body).await.unwrap();
                    String::from_utf8_lossy(&body).into_owned()
                }
                (false, None) => String::new(),
            }
        };
        let body = timeout(PATIENCE, body).await.expect("no body came");
        answer.body = body;
        answer
    }

    /// Everything up to the end of the connection.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("the connection did not end");
        rest
    }

    pub(super) async fn exact(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        timeout(PATIENCE, self.0.read_exact(&mut bytes)).await.expect("nothing came").unwrap();
        bytes
    }
}

/// Reads up to the empty line. Empty at the end of the connection.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn read_chunks(stream: &mut TcpStream) -> String {
    let mut body = Vec::new();
    loop {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.push(stream.read_u8().await.unwrap());
        }
        let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.unwrap();
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return String::from_utf8_lossy(&body).into_owned();
        }
    }
}

/// A Sandbox that answers HTTP/1.1 requests with texts, and keeps its connections.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    pub(super) accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(respond: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let accepted: Arc<AtomicUsize> = Arc::default();
        let respond = Arc::new(respond);
        let task = tokio::spawn({
            let (requests, accepted) = (requests.clone(), accepted.clone());
            async move {
                let mut connections = tokio::task::JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    accepted.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(answer(stream, respond.clone(), requests.clone()));
                }
            }
        });
        Self { address, requests, accepted, task }
    }

    /// The only request that came.
    pub(super) fn request(&self) -> String {
        let requests = self.requests.lock();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, respond: Arc<impl Fn(&str) -> String>, requests: Arc<Mutex<Vec<String>>>) {
    loop {
        let mut request = read_head(&mut stream).await;
        if request.is_empty() {
            return;
        }
        let lower = request.to_ascii_lowercase();
        if lower.contains("transfer-encoding: chunked") {
            request.push_str(&read_chunks(&mut stream).await);
        } else if let Some(length) = lower.lines().find_map(|line| line.strip_prefix("content-length: ")) {
            let mut body = vec![0; length.parse().unwrap()];
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
            request.push_str(&String::from_utf8_lossy(&body));
        }
        let response = respond(&request);
        requests.lock().push(request);
        if stream.write_all(response.as_bytes()).await.is_err() || response.contains("onnection: close") {
            return;
        }
    }
}

/// A Sandbox whose connections a test handles itself.
pub(super) async fn listener(gateway: &Gateway, name: &str) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    gateway.sandbox(name, listener.local_addr().unwrap());
    listener
}

/// The next connection, with the head of its first request.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, String) {
    let accepted = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        (stream, head)
    };
    timeout(PATIENCE, accepted).await.expect("no connection came")
}
