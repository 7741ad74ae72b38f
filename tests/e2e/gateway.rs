//! The gateway as a process before a real API server: it routes, wakes a Sandbox with the request that it holds, and asks
//! the API server about its clients.
//!
//! The pods are simulated, so a test gives them an address of this machine, at which it listens itself.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use paddock_cluster::{Cluster, Process, Signal, Spawn, eventually_some};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::idle::fall_asleep;
use super::json::{deleting, ready, suspended, text};
use super::kinds::{POD, SANDBOX};
use super::manifests::sandbox;
use super::namespace::TestNamespace;
use super::setup::{namespace, setup};
use super::{http, programs};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        a_request_wakes_an_idle_sandbox_and_is_answered_by_it,
        a_user_who_suspended_a_sandbox_is_obeyed,
        the_api_server_decides_who_may_use_a_sandbox,
        a_gateway_ends_in_order,
    ]
}

/// The time for an answer. A wake takes seconds on a busy machine.
const ANSWER: Duration = Duration::from_secs(90);

/// A gateway.
pub(super) struct Gateway {
    pub(super) process: Process,
    pub(super) proxy: u16,
    health: u16,
    pub(super) metrics: u16,
}

impl Gateway {
    /// Starts a gateway with every right for one namespace.
    pub(super) async fn of(ns: &TestNamespace, name: &str, flags: &[&str]) -> Self {
        let namespace = format!("--namespace={}", ns.namespace);
        let flags = [&[namespace.as_str()], flags].concat();
        Self::start(name, &setup().await.cluster.kubeconfig(), &flags).await
    }

    /// Starts a gateway with the rights of a kubeconfig.
    pub(super) async fn start(name: &str, kubeconfig: &Path, flags: &[&str]) -> Self {
        Self::start_on(&setup().await.cluster, name, kubeconfig, flags).await
    }

    /// Starts a gateway beside another control plane than the shared one.
    pub(super) async fn start_on(cluster: &Cluster, name: &str, kubeconfig: &Path, flags: &[&str]) -> Self {
        let own = [
            "gateway".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            // A cluster has only a few ports. The gateway chooses its own, and its log says which.
            "--http-bind-address=127.0.0.1:0".to_owned(),
            "--health-probe-bind-address=127.0.0.1:0".to_owned(),
            "--metrics-bind-address=127.0.0.1:0".to_owned(),
            "--allow-loopback-pod-ip".to_owned(),
            "--drain-delay=0".to_owned(),
        ];
        let spawn = Spawn::new(name, programs::paddock().await).args(own).args(flags.iter().map(ToString::to_string));
        let process = cluster.spawn(spawn).await.expect("the gateway starts");
        let [proxy, health, metrics] = eventually_some("the gateway has started", async || {
            let log = std::fs::read_to_string(process.log()).unwrap_or_default();
            let port = |name: &str| {
                let (_, rest) = log.split_once(&format!("{name}: Some("))?;
                rest.split(')').next()?.rsplit(':').next()?.parse::<u16>().ok()
            };
            match [port("http"), port("health"), port("metrics")] {
                [Some(proxy), Some(health), Some(metrics)] => Ok([proxy, health, metrics]),
                _ => Err(log),
            }
        })
        .await;
        let gateway = Self { process, proxy, health, metrics };
        eventually_some("the gateway is ready", async || match http::get(gateway.health, "/readyz").await {
            Some((200, _)) => Ok(()),
            answer => Err(format!("{answer:?}\n{}", gateway.log())),
        })
        .await;
        gateway
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// The content of `/metrics`.
    pub(super) async fn metrics(&self) -> String {
        http::get(self.metrics, "/metrics").await.expect("the gateway serves metrics").1
    }

    /// The status and the content of `/readyz?verbose`.
    pub(super) async fn verbose(&self) -> (u16, String) {
        http::get(self.health, "/readyz?verbose").await.expect("the gateway serves its probes")
    }

    /// Sends a request that the agent has to answer.
    pub(super) async fn hello(&self, ns: &TestNamespace, sandbox: &str, agent: &Agent) {
        let (head, body) = self.get(ns, sandbox, agent.port, "").await;
        assert!(head.starts_with("http/1.1 200") && body == "hi", "{head}\n{body}\n{}", self.log());
    }

    /// Sends a request for the port of the agent in a Sandbox, and returns the head and the body of the answer.
    pub(super) async fn get(&self, ns: &TestNamespace, sandbox: &str, port: u16, headers: &str) -> (String, String) {
        let routed = format!(
            "X-Sandbox-ID: {sandbox}\r\nX-Sandbox-Namespace: {}\r\nX-Sandbox-Port: {port}\r\n{headers}",
            ns.namespace
        );
        self.get_path("/hello", &routed).await
    }

    /// Sends a request for a path, and returns the head and the body of the answer.
    pub(super) async fn get_path(&self, path: &str, headers: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{headers}\r\n");
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.proxy)).await.expect("the gateway listens");
            stream.write_all(request.as_bytes()).await.expect("the gateway reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("the gateway answers");
            answer
        };
        let answer = tokio::time::timeout(ANSWER, exchange).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer in time\n{}", self.log()));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_ascii_lowercase(), body.to_owned())
    }
}

/// A server that stands for the agent in a pod, and the number of its requests.
pub(super) struct Agent {
    pub(super) port: u16,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Agent {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((pod_address(), 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                connections.spawn(answer(stream, count.clone()));
            }
        });
        Self { port, requests, task }
    }
}

async fn answer(mut stream: TcpStream, count: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    if head.starts_with(b"GET /hello HTTP/1.1\r\n") {
        count.fetch_add(1, Ordering::Relaxed);
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A Sandbox that a request wakes, and that is not idle while a test runs.
pub(super) fn on_demand(name: &str) -> Value {
    sandbox(name, json!({ "idleTimeout": "1h", "resumePolicy": "OnDemand" }))
}

/// The address of all simulated pods in these tests: the one from which this machine connects to others. An EndpointSlice
/// must not contain a loopback address, so the operator would retry its write, with a backoff that delays a suspend. Only
/// a machine without a network gets the loopback address.
pub(super) fn pod_address() -> IpAddr {
    // A UDP socket that connects sends nothing.
    let outgoing = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    match outgoing.map(|address| address.ip()) {
        Ok(IpAddr::V4(ip)) if !ip.is_link_local() => ip.into(),
        Ok(_) | Err(_) => Ipv4Addr::LOCALHOST.into(),
    }
}

/// Gives the pod of a Sandbox the address at which the tests listen, as its kubelet would.
pub(super) async fn give_address(ns: &TestNamespace, name: &str) {
    let started = |pod: &Value| !deleting(pod) && text(pod, "/status/phase") == "Running";
    ns.until(POD, name, "runs", started).await;
    let ip = pod_address();
    ns.merge_status(POD, name, json!({ "status": { "podIP": ip, "podIPs": [{ "ip": ip }] } })).await;
}

async fn a_request_wakes_an_idle_sandbox_and_is_answered_by_it() {
    let ns = namespace("gateway-wake").await;
    let agent = Agent::start().await;
    let gateway = Gateway::of(&ns, "gateway-wake", &["--allow-unauthenticated"]).await;
    ns.create(on_demand("box")).await;
    ns.until(SANDBOX, "box", "Ready", ready).await;
    give_address(&ns, "box").await;
    gateway.hello(&ns, "box", &agent).await;
    for round in 1..=2 {
        fall_asleep(&ns, "box").await;
        // A probe leaves it suspended.
        let (head, _) = gateway.get(&ns, "box", agent.port, "User-Agent: kube-probe/1.37\r\n").await;
        assert!(head.starts_with("http/1.1 503") && head.contains("x-sandbox-state: suspended"), "{head}");
        assert!(suspended(&ns.get(SANDBOX, "box").await));
        let five = futures::future::join_all((0..5).map(|_| gateway.hello(&ns, "box", &agent)));
        tokio::join!(five, give_address(&ns, "box"));
        // However many requests wait, they are sent once each.
        assert_eq!(agent.requests.load(Ordering::Relaxed), 1 + 5 * round);
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("paddock_gateway_wakes_total{result=\"woken\"} 2\n"), "{metrics}");
    assert!(metrics.contains("paddock_gateway_unauthenticated_allowed 1\n"), "{metrics}");
}

async fn a_user_who_suspended_a_sandbox_is_obeyed() {
    let ns = namespace("gateway-suspended").await;
    let gateway = Gateway::of(&ns, "gateway-suspended", &["--allow-unauthenticated"]).await;
    ns.create(on_demand("box")).await;
    ns.create(sandbox("manual", json!({ "idleTimeout": "2s" }))).await;
    ns.until(SANDBOX, "box", "Ready", ready).await;
    ns.merge(SANDBOX, "box", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    for name in ["box", "manual"] {
        ns.until(SANDBOX, name, "suspended", suspended).await;
        let (head, body) = gateway.get(&ns, name, 8888, "").await;
        assert!(head.starts_with("http/1.1 503") && head.contains("x-sandbox-state: suspended"), "{name}: {head}");
        assert!(!head.contains("retry-after") && body.starts_with("{\"detail\":\""), "{name}: {head}\n{body}");
        assert!(suspended(&ns.get(SANDBOX, name).await), "{name}");
    }
    let (head, body) = gateway.get(&ns, "missing", 8888, "").await;
    let wanted = "{\"detail\":\"Could not connect to the backend sandbox: missing\"}\n";
    assert!(head.starts_with("http/1.1 502") && body == wanted, "{head}\n{body}");
}

async fn the_api_server_decides_who_may_use_a_sandbox() {
    let ns = namespace("gateway-access").await;
    let agent = Agent::start().await;
    let gateway = Gateway::of(&ns, "gateway-access", &[]).await;
    for name in ["mine", "other"] {
        ns.create(on_demand(name)).await;
        ns.until(SANDBOX, name, "Ready", ready).await;
        give_address(&ns, name).await;
    }
    for account in ["user", "reader"] {
        ns.kubectl_output(&["create", "serviceaccount", account], None).await;
    }
    let role = |name: &str, verb: &str, more: &[&str], account: &str| {
        let subject = format!("--serviceaccount={}:{account}", ns.namespace);
        let verb = format!("--verb={verb}");
        let create: Vec<String> = ["create", "role", name, &verb].iter().chain(more).map(ToString::to_string).collect();
        let bind = ["create", "rolebinding", name, &format!("--role={name}"), &subject].map(str::to_owned);
        (create, bind)
    };
    let rights = [
        role("use", "create", &["--resource=sandboxes.agents.x-k8s.io/proxy", "--resource-name=mine"], "user"),
        role("read", "get,list,watch,update", &["--resource=sandboxes.agents.x-k8s.io"], "reader"),
    ];
    for (create, bind) in rights {
        ns.kubectl_output(&create.iter().map(String::as_str).collect::<Vec<_>>(), None).await;
        ns.kubectl_output(&bind.iter().map(String::as_str).collect::<Vec<_>>(), None).await;
    }
    let token = async |account: &str| {
        let token = ns.kubectl_output(&["create", "token", account], None).await;
        format!("Authorization: Bearer {}\r\n", token.trim())
    };
    let (user, reader) = (token("user").await, token("reader").await);
    for (name, credential, status) in [
        ("mine", user.as_str(), "200"),
        ("other", &user, "403"),
        ("mine", &reader, "403"),
        ("mine", "", "401"),
        ("mine", "Authorization: Bearer nonsense\r\n", "401"),
        ("mine", "Authorization: Basic dXNlcjpwYXNz\r\n", "401"),
        // Whether a Sandbox exists is no business of a stranger.
        ("missing", &user, "403"),
    ] {
        let (head, body) = gateway.get(&ns, name, agent.port, credential).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{name} {credential}: {head}\n{body}");
    }
    assert_eq!(agent.requests.load(Ordering::Relaxed), 1);
}

async fn a_gateway_ends_in_order() {
    let ns = namespace("gateway-end").await;
    let gateway = Gateway::of(&ns, "gateway-end", &["--allow-unauthenticated"]).await;
    gateway.process.signal(Signal::Terminate).await.expect("a signal");
    let ended = tokio::time::timeout(ANSWER, gateway.process.wait()).await.expect("the gateway ends");
    assert!(gateway.log().contains("the gateway has shut down"), "{ended:?}\n{}", gateway.log());
}
