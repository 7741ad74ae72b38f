//! A reverse proxy between the operator and the API server that injects faults.
//!
//! It speaks plain HTTP to the operator and forwards the operator's own credentials, so the API server authorizes the
//! operator. It counts the requests that would change something, and a test can choose a fate for each of them.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Method, StatusCode};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use paddock_cluster::{Cluster, Process};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The time in which a reply reaches a process on the same machine.
const REACHED: Duration = Duration::from_millis(2);
/// A size above that of any object.
const LARGEST: usize = 8 << 20;

/// The fate of one request that would change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The request is forwarded, and so is its reply.
    Pass,
    /// The API server never receives the request.
    LoseRequest,
    /// The API server carries out the request, and the reply is lost.
    LoseReply,
    /// The proxy answers with an error, and the API server never receives the request.
    Refuse(StatusCode),
    /// The request is forwarded later.
    Delay(Duration),
    /// Another client changes the object before the request is forwarded, so the request conflicts if it has a version.
    Overtake,
    /// The operator is killed at this point of the request.
    Kill(Point),
}

/// The point in the life of a request at which the operator is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The API server has not received the request, and never will.
    BeforeRequest,
    /// The request is carried out, and the operator has not received the reply.
    BeforeReply,
    /// The request is carried out, and the operator has received the reply.
    AfterReply,
}

/// Decides the fate of the n-th request that would change something, counted from 1.
pub(crate) type Decide = dyn Fn(u64, &Method, &str) -> Fate + Send + Sync;

/// A running proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    /// A kubeconfig with the operator's credentials and the proxy as the server.
    pub(crate) kubeconfig: PathBuf,
}

struct Shared {
    upstream: Client,
    /// The client that overtakes the operator.
    admin: Client,
    writes: AtomicU64,
    decide: Box<Decide>,
    victim: Mutex<Option<Process>>,
    kills: watch::Sender<u64>,
    /// A new value ends the open watches.
    cut: watch::Sender<u64>,
    /// The plural of a resource whose watches deliver nothing at present.
    held: watch::Sender<Option<&'static str>>,
    /// The plural of a resource that cannot be listed or watched at present.
    unread: Mutex<Option<&'static str>>,
    closed: AtomicBool,
    storm: Mutex<Option<StatusCode>>,
    refused: AtomicU64,
    /// The refused changes of single objects, with their times.
    refusals: Mutex<Vec<(String, Instant)>>,
    /// The number of times that watches were made to expire, and for each path the number that its watch has been
    /// informed of.
    expiries: AtomicU64,
    delivered_expiries: Mutex<HashMap<String, u64>>,
    expired: AtomicU64,
}

impl Proxy {
    /// Starts a proxy for an operator that has the rights of `account`.
    pub(crate) async fn start(cluster: &Cluster, account: &Path, name: &str, decide: Box<Decide>) -> Self {
        let upstream = upstream(account).await;
        let shared = Shared {
            upstream,
            admin: cluster.client(),
            writes: AtomicU64::new(0),
            decide,
            victim: Mutex::new(None),
            kills: watch::Sender::new(0),
            cut: watch::Sender::new(0),
            held: watch::Sender::new(None),
            unread: Mutex::new(None),
            closed: AtomicBool::new(false),
            storm: Mutex::new(None),
            refused: AtomicU64::new(0),
            refusals: Mutex::default(),
            expiries: AtomicU64::new(0),
            delivered_expiries: Mutex::default(),
            expired: AtomicU64::new(0),
        };
        let shared = Arc::new(shared);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let router = Router::new().fallback(handle).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let kubeconfig = through(account, port, &cluster.dir().join(format!("{name}.kubeconfig")));
        Self { shared, kubeconfig }
    }

    /// The number of requests so far that would change something.
    pub(crate) fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Resets the count.
    pub(crate) fn count_anew(&self) {
        self.shared.writes.store(0, Ordering::SeqCst);
    }

    /// Sets the process to kill.
    pub(crate) fn aim_at(&self, victim: &Process) {
        *self.shared.victim.lock().expect("no panic") = Some(victim.clone());
    }

    /// The number of times that the operator was killed.
    pub(crate) fn kills(&self) -> watch::Receiver<u64> {
        self.shared.kills.subscribe()
    }

    /// Breaks every open watch.
    pub(crate) fn cut_watches(&self) {
        self.shared.cut.send_modify(|n| *n += 1);
    }

    /// Holds back the events of the watches of one resource, until this is called with `None`.
    pub(crate) fn hold_watches(&self, of: Option<&'static str>) {
        self.shared.held.send_replace(of);
    }

    /// Breaks every open watch, and refuses the lists and watches of one resource, until this is called with `None`.
    pub(crate) fn refuse_reads(&self, of: Option<&'static str>) {
        *self.shared.unread.lock().expect("no panic") = of;
        self.cut_watches();
    }

    /// Refuses every request with this status, reads included, until this is called with `None`. Open watches continue.
    pub(crate) fn refuse_all(&self, status: Option<StatusCode>) {
        *self.shared.storm.lock().expect("no panic") = status;
    }

    /// The number of requests that were refused in this way.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// The shortest time between two tries of the same change of the same object, with the change.
    pub(crate) fn soonest_retry(&self) -> Option<(Duration, String)> {
        let refusals = self.shared.refusals.lock().expect("no panic").clone();
        let mut last: HashMap<String, Instant> = HashMap::new();
        let waits = refusals.into_iter().filter_map(|(what, at)| Some((at - last.insert(what.clone(), at)?, what)));
        waits.min()
    }

    /// Breaks every watch, and answers each new watch once with the error that its version is too old.
    pub(crate) fn expire_watches(&self) {
        self.shared.expiries.fetch_add(1, Ordering::SeqCst);
        self.cut_watches();
    }

    /// The number of watches that got this error.
    pub(crate) fn expired(&self) -> u64 {
        self.shared.expired.load(Ordering::SeqCst)
    }

    /// Blocks all traffic like a broken network, or lets it pass again.
    pub(crate) fn partition(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::SeqCst);
        if closed {
            self.cut_watches();
        }
    }
}

/// A client that trusts the API server and has no credentials of its own, because the requests have them.
async fn upstream(account: &Path) -> Client {
    let mut file = Kubeconfig::read_from(account).expect("a kubeconfig");
    for user in &mut file.auth_infos {
        user.auth_info = Some(Default::default());
    }
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("a configuration");
    config.default_retry = false;
    config.read_timeout = None;
    Client::try_from(config).expect("a client")
}

/// A kubeconfig with the same credentials and the proxy's address.
fn through(account: &Path, port: u16, file: &Path) -> PathBuf {
    let mut kubeconfig = Kubeconfig::read_from(account).expect("a kubeconfig");
    for cluster in &mut kubeconfig.clusters {
        if let Some(cluster) = &mut cluster.cluster {
            cluster.server = Some(format!("http://127.0.0.1:{port}"));
            cluster.certificate_authority_data = None;
            cluster.certificate_authority = None;
        }
    }
    std::fs::write(file, serde_yaml_ng::to_string(&kubeconfig).expect("YAML")).expect("a file");
    file.to_owned()
}

/// Whether a request would change an object that the operator manages. Its Leases and Events are not counted, and
/// neither are its webhook's certificate and configurations.
fn changes(method: &Method, path: &str) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let aside = ["/leases", "/events", "/selfsubjectreviews", "/secrets", "webhookconfigurations"];
    !reads && !aside.iter().any(|part| path.contains(part))
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if shared.closed.load(Ordering::SeqCst) {
        // No answer is ever sent, so the client has to give up by itself.
        std::future::pending::<()>().await;
    }
    let storm = *shared.storm.lock().expect("no panic");
    if let Some(status) = storm {
        shared.refused.fetch_add(1, Ordering::SeqCst);
        if matches!(*request.method(), Method::PATCH | Method::DELETE) {
            let mut what = format!("{} {}", request.method(), request.uri().path());
            // Two claims that request the same Sandbox are two requests, and not a retry.
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let claim = body.pointer("/metadata/labels/agents.x-k8s.io~1claim-uid");
            what.extend(claim.and_then(|uid| uid.as_str()));
            shared.refusals.lock().expect("no panic").push((what, Instant::now()));
        }
        return refusal(status);
    }
    let unread = *shared.unread.lock().expect("no panic");
    let is_about = |plural| request.uri().path().rsplit('/').next() == Some(plural);
    if request.method() == Method::GET && unread.is_some_and(is_about) {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR);
    }
    if watches(&request)
        && let Some(number) = shared.expires(request.uri().path())
    {
        return expired(number);
    }
    if !changes(request.method(), request.uri().path()) {
        return forward(&shared, request).await;
    }
    let number = shared.writes.fetch_add(1, Ordering::SeqCst) + 1;
    match (shared.decide)(number, request.method(), request.uri().path()) {
        Fate::Pass => forward(&shared, request).await,
        Fate::LoseRequest => broken(),
        Fate::LoseReply => {
            // Reads the reply to its end, so that the request has been carried out.
            let reply = forward(&shared, request).await;
            let _ = to_bytes(reply.into_body(), LARGEST).await;
            broken()
        }
        Fate::Refuse(status) => refusal(status),
        Fate::Delay(by) => {
            tokio::time::sleep(by).await;
            forward(&shared, request).await
        }
        Fate::Overtake => {
            if matches!(*request.method(), Method::PATCH | Method::DELETE) {
                shared.overtake(request.uri().path(), number).await;
            }
            forward(&shared, request).await
        }
        Fate::Kill(Point::BeforeRequest) => {
            shared.kill().await;
            broken()
        }
        Fate::Kill(Point::BeforeReply) => {
            let reply = forward(&shared, request).await;
            let _ = to_bytes(reply.into_body(), LARGEST).await;
            shared.kill().await;
            broken()
        }
        Fate::Kill(Point::AfterReply) => {
            let (parts, body) = forward(&shared, request).await.into_parts();
            let body = to_bytes(body, LARGEST).await.unwrap_or_default();
            tokio::spawn(async move {
                tokio::time::sleep(REACHED).await;
                shared.kill().await;
            });
            Response::from_parts(parts, Body::from(body))
        }
    }
}

impl Shared {
    /// Whether the watch of a path still has to get the error that its version is too old, with the number of that
    /// expiry.
    fn expires(&self, path: &str) -> Option<u64> {
        let expiries = self.expiries.load(Ordering::SeqCst);
        let delivered =
            self.delivered_expiries.lock().expect("no panic").insert(path.to_owned(), expiries).unwrap_or_default();
        (delivered < expiries).then(|| self.expired.fetch_add(1, Ordering::SeqCst))
    }

    /// Changes an object like any other client. The object may already be deleted.
    async fn overtake(&self, path: &str, number: u64) {
        let change = json!({ "metadata": { "annotations": { "tests.paddock.dev/overtaken": number.to_string() } } });
        let request = http::Request::patch(path.trim_end_matches("/status"))
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(change.to_string().into_bytes())
            .expect("a request");
        let _: kube::Result<serde_json::Value> = self.admin.request(request).await;
    }

    /// Runs in its own task, because the handler of a request is dropped when the client is dead.
    async fn kill(self: &Arc<Self>) {
        let shared = self.clone();
        let killing = tokio::spawn(async move {
            let victim = shared.victim.lock().expect("no panic").clone().expect("somebody to kill");
            victim.kill().await.expect("it was alive");
            shared.kills.send_modify(|n| *n += 1);
        });
        killing.await.expect("it was killed");
    }
}

/// A reply that breaks off before its end.
fn broken() -> Response {
    let nothing = futures::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("lost")) });
    let mut response = Response::new(Body::from_stream(nothing));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn refusal(status: StatusCode) -> Response {
    let reason = match status.as_u16() {
        404 => "NotFound",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "code": status.as_u16(), "message": "injected",
    });
    let mut response = (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    response
}

/// An API server reports an expired watch in one of two ways: by the status of the response, or by the first event of
/// the watch.
fn expired(number: u64) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "Expired", "code": 410, "message": "injected: too old resource version",
    });
    let (code, body) = if number.is_multiple_of(2) {
        (StatusCode::GONE, status)
    } else {
        (StatusCode::OK, json!({ "type": "ERROR", "object": status }))
    };
    (code, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn watches(request: &Request) -> bool {
    request.uri().query().is_some_and(|query| query.contains("watch="))
}

async fn forward(shared: &Shared, request: Request) -> Response {
    let watching = watches(&request);
    let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let (mut parts, body) = request.into_parts();
    let body = match to_bytes(body, LARGEST).await {
        Ok(body) => body,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    parts.headers.remove(HOST);
    // The reply is forwarded unchanged.
    parts.headers.remove(ACCEPT_ENCODING);
    let mut cut = shared.cut.subscribe();
    let request = Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    match shared.upstream.send(request).await {
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        Ok(reply) if !watching => reply.map(Body::new),
        Ok(reply) => {
            use futures::StreamExt as _;
            let held = shared.held.subscribe();
            let stream = Body::new(reply.into_body()).into_data_stream().then(move |event| {
                let (mut held, resource) = (held.clone(), resource.clone());
                async move {
                    let _ = held.wait_for(|held| *held != Some(&*resource)).await;
                    event
                }
            });
            let until_cut = stream.take_until(async move {
                let _ = cut.changed().await;
            });
            Response::new(Body::from_stream(until_cut))
        }
    }
}
