//! TCP connections with real sockets on loopback, before an API server in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::Timestamp;
use paddock_kube::clock::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::*;
use crate::authorize::Authorizer;
use crate::metrics::Metrics;
use crate::proxy::backend::Cluster;
use crate::proxy::tests_config;
use crate::refusal::Reason;
use crate::sandboxes::tests::server::Server;
use crate::sandboxes::{self, HoldLimits};
use crate::timeouts::Timeouts;

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// One generous time for everything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway with its API server. Its TCP half is a task.
struct Gateway {
    server: Server,
    of: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Gateway {
    async fn new() -> Self {
        Self::with(Timeouts { drain_delay: Duration::ZERO, ..Timeouts::DEFAULT }).await
    }

    async fn with(timeouts: Timeouts) -> Self {
        let (gateway, complete) = Self::start(Server::default(), timeouts, Some("1024-65535"));
        until("the gateway is ready", complete).await;
        gateway
    }

    /// A gateway, and whether it has opened the ports of the start.
    fn start(server: Server, timeouts: Timeouts, range: Option<&str>) -> (Self, impl Fn() -> bool + use<>) {
        let metrics = Metrics::new().unwrap();
        let of_sandboxes = sandboxes::Metrics::register(metrics.registry()).unwrap();
        let config = sandboxes::Config { namespace: None, allow_loopback_pod_ip: true, hold: HoldLimits::default() };
        let sandboxes = Sandboxes::new(server.client(), config, Clock::new(Timestamp::now), of_sandboxes);
        let backend = Cluster { sandboxes: sandboxes.clone(), authorizer: Authorizer::everybody() };
        let config = crate::config::ProxyConfig { timeouts, ..tests_config() };
        let proxy = Arc::new(Proxy::new(config, backend, metrics));
        let tcp = range.map(|range| TcpConfig { ports: PortRange::parse(range).unwrap() });
        let places = Places::new(&proxy.config.limits);
        let ports = TcpPorts::new(tcp.as_ref(), ListenAddress::loopback(), sandboxes.clone(), proxy, places).unwrap();
        let (of, complete) = (ports.of.clone(), ports.complete());
        let watches = tokio::spawn(async move { sandboxes.run().await }).abort_handle();
        let tasks = vec![watches, tokio::spawn(ports.run()).abort_handle()];
        (Self { server, of, tasks }, complete)
    }

    /// Records that a port of the gateway stands for a port of a Sandbox.
    fn record(&self, name: &str, port: u16, gateway_port: u16) {
        let ports = json!([{ "port": port, "gatewayPort": gateway_port }]);
        self.server.change("sandboxes", name, &json!({ "status": { "tcpWake": { "ports": ports } } }));
    }

    /// A suspended Sandbox with this port, and the port of the gateway for it.
    async fn suspended(&self, name: &str, port: u16) -> u16 {
        let gateway_port = free_port().await;
        self.server.suspended(name);
        self.record(name, port, gateway_port);
        self.opened(gateway_port).await;
        gateway_port
    }

    async fn opened(&self, gateway_port: u16) {
        let connected = async {
            while TcpStream::connect((HOST, gateway_port)).await.is_err() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, connected).await.expect("the port opens");
    }

    fn state(&self, state: &str) -> f64 {
        self.sample(&format!("paddock_gateway_tcp_ports{{state=\"{state}\"}}"))
    }

    fn sample(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.of.proxy.metrics.exposition().unwrap()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waits = async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn free_port() -> u16 {
    TcpListener::bind((HOST, 0)).await.unwrap().local_addr().unwrap().port()
}

/// An agent that greets, and then answers each line in capitals until its client has ended.
async fn agent(greeting: &'static str) -> u16 {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(greeting.as_bytes()).await.unwrap();
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    let answer = buffer[..read].to_ascii_uppercase();
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(b"BYE").await;
            });
        }
    });
    port
}

async fn read(stream: &mut TcpStream, bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    timeout(PATIENCE, stream.read_exact(&mut buffer)).await.expect("in time").expect("bytes");
    String::from_utf8(buffer).unwrap()
}

/// Bytes of a greeting, or `None` if the connection was closed.
async fn greeting(port: u16) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect((HOST, port)).await.ok()?;
    let mut buffer = [0; 2];
    stream.read_exact(&mut buffer).await.ok()?;
    Some(buffer.to_vec())
}

/// Waits for the end of a connection, and returns the bytes before it.
async fn end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection ends");
    bytes
}

#[tokio::test]
async fn connections_wake_a_sandbox_by_one_write_and_their_bytes_pass_in_both_directions() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    let agent = agent("").await;
    let port = gateway.suspended("a", agent).await;
    let clients = futures::future::join_all((0..20).map(|n| async move {
        let mut stream = TcpStream::connect((HOST, port)).await.unwrap();
        let line = format!("hello {n:02}");
        stream.write_all(line.as_bytes()).await.unwrap();
        assert_eq!(read(&mut stream, line.len()).await, line.to_uppercase());
        // The end of one direction is passed on, and the other direction goes on.
        stream.shutdown().await.unwrap();
        assert_eq!(end(&mut stream).await, b"BYE");
    }));
    clients.await;
    assert_eq!(gateway.server.wakes(), 1);
    assert!(gateway.sample("paddock_gateway_tcp_connections_total{result=\"forwarded\"}") >= 20.0);
}

#[tokio::test]
async fn client_that_waits_for_a_banner_wakes_the_sandbox() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    let port = free_port().await;
    let agent = agent("220 ready").await;
    gateway.server.suspended("a");
    gateway.record("a", agent, port);
    until("the port is open", || gateway.state("open") > 0.0).await;
    assert_eq!(gateway.server.wakes(), 0, "an open port alone wakes nothing");
    let mut stream = TcpStream::connect((HOST, port)).await.unwrap();
    assert_eq!(read(&mut stream, 9).await, "220 ready");
    assert_eq!(gateway.server.wakes(), 1);
}

#[tokio::test]
async fn sandbox_that_must_not_be_woken_closes_the_connection_at_once() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    let expired = json!({ "status": { "conditions": [
        { "type": "Ready", "status": "False", "reason": "SandboxExpired", "message": "expired" },
    ] } });
    let no_record = json!({ "metadata": { "annotations": { "policy.paddock.dev/suspended-by": null } } });
    let cases: [(&str, Value); 3] =
        [("user", no_record), ("manual", json!({ "spec": { "resumePolicy": "Manual" } })), ("expired", expired)];
    for (open, (name, change)) in (1_u32..).zip(cases) {
        let (agent, port) = (agent("secret").await, free_port().await);
        gateway.server.suspended(name);
        gateway.server.change("sandboxes", name, &change);
        gateway.record(name, agent, port);
        until("the port is open", || gateway.state("open") == f64::from(open)).await;
        match TcpStream::connect((HOST, port)).await {
            Ok(mut stream) => assert_eq!(end(&mut stream).await, b"", "{name}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{name}"),
        }
    }
    assert_eq!(gateway.server.patches(), []);
    assert!(gateway.sample("paddock_gateway_tcp_connections_total{result=\"closed\"}") >= 3.0);
}

#[tokio::test]
async fn withdrawn_port_is_closed_and_so_are_its_connections() {
    for withdraw in ["policy", "deletion", "rename"] {
        let gateway = Gateway::new().await;
        gateway.server.operate("127.0.0.1");
        let port = gateway.suspended("a", agent("hi").await).await;
        let mut stream = TcpStream::connect((HOST, port)).await.unwrap();
        assert_eq!(read(&mut stream, 2).await, "hi");
        match withdraw {
            "policy" => {
                let none = json!({ "status": { "tcpWake": { "ports": null, "reason": "NetworkPolicy x" } } });
                gateway.server.change("sandboxes", "a", &none);
            }
            "deletion" => gateway.server.delete("sandboxes", "a"),
            _another_sandbox => gateway.server.change("sandboxes", "a", &json!({ "metadata": { "uid": "other" } })),
        }
        assert_eq!(end(&mut stream).await, b"", "{withdraw}");
        let refused = async {
            while TcpStream::connect((HOST, port)).await.is_ok() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, refused).await.expect("the port is closed");
    }
}

#[tokio::test]
async fn port_that_two_sandboxes_record_leads_to_none_of_them() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    let port = gateway.suspended("victim", agent("victim").await).await;
    gateway.server.suspended("thief");
    gateway.record("thief", agent("thief").await, port);
    until("the port is closed", || gateway.state("open") == 0.0).await;
    assert!(TcpStream::connect((HOST, port)).await.is_err());
    // The record of the other one is restored, and the port is the victim's again.
    gateway.record("thief", 1, free_port().await);
    gateway.opened(port).await;
    let mut stream = TcpStream::connect((HOST, port)).await.unwrap();
    assert_eq!(read(&mut stream, 6).await, "victim");
}

#[tokio::test]
async fn port_that_another_sandbox_had_rests() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    let port = gateway.suspended("first", agent("first").await).await;
    gateway.server.delete("sandboxes", "first");
    gateway.server.suspended("second");
    gateway.record("second", agent("second").await, port);
    until("the port rests", || gateway.state("resting") == 1.0).await;
    assert!(TcpStream::connect((HOST, port)).await.is_err());
    assert_eq!(gateway.state("open"), 0.0);
}

#[tokio::test]
async fn port_in_use_is_tried_again() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    let other = TcpListener::bind((HOST, 0)).await.unwrap();
    let port = other.local_addr().unwrap().port();
    gateway.server.suspended("a");
    gateway.record("a", agent("hi").await, port);
    until("the port cannot be opened", || gateway.state("failed") == 1.0).await;
    drop(other);
    until("the port is open", || gateway.state("open") == 1.0 && gateway.state("failed") == 0.0).await;
    assert_eq!(read(&mut TcpStream::connect((HOST, port)).await.unwrap(), 2).await, "hi");
}

#[tokio::test]
async fn sandboxed_code_is_not_let_through() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    gateway.server.suspended("a");
    gateway.server.running("b", "10.1.2.3");
    let port = free_port().await;
    gateway.record("a", agent("hi").await, port);
    until("the port is open", || gateway.state("open") == 1.0).await;
    let source: IpAddr = "10.1.2.3".parse().unwrap();
    until("the pod is known", || gateway.of.sandboxes.is_pod(source)).await;
    let owner = gateway.of.sandboxes.allotment(port).unwrap();
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap());
    let (mut client, accepted) = (connected.await.unwrap(), listener.accept().await.unwrap().0);
    let place = gateway.of.places.admit_tcp(source, &gateway.of.proxy.metrics).unwrap();
    let connection = Connection { stream: accepted, client: place, gateway_port: port, owner };
    connection.serve(gateway.of.clone(), CancellationToken::new()).await;
    assert_eq!(end(&mut client).await, b"");
    assert_eq!(gateway.server.wakes(), 0);
    assert_eq!(gateway.sample("paddock_gateway_refusals_total{reason=\"Forbidden\"}"), 1.0);
    assert_eq!(Reason::Forbidden.as_str(), "Forbidden");
}

#[tokio::test]
async fn connection_that_was_held_while_its_port_passed_on_reaches_nobody() {
    let gateway = Gateway::new().await;
    let port = gateway.suspended("a", agent("secret").await).await;
    let mut stream = TcpStream::connect((HOST, port)).await.unwrap();
    until("the Sandbox is woken", || gateway.server.wakes() == 1).await;
    // Nothing makes a pod, so the connection is held.
    let none = json!({ "status": { "tcpWake": { "ports": [] } } });
    gateway.server.change("sandboxes", "a", &none);
    gateway.server.pod("a", "sandboxes-a", "127.0.0.1");
    assert_eq!(end(&mut stream).await, b"");
}

#[tokio::test]
async fn gateway_that_shuts_down_accepts_until_its_drain_ends() {
    let gateway =
        Gateway::with(Timeouts { drain_delay: Duration::ZERO, drain: Duration::from_secs(3600), ..Timeouts::DEFAULT })
            .await;
    gateway.server.operate("127.0.0.1");
    let ports = [gateway.suspended("a", agent("a").await).await, gateway.suspended("b", agent("b").await).await];
    gateway.server.suspended("asleep");
    gateway.record("asleep", 1, free_port().await);
    until("three ports are open", || gateway.state("open") == 3.0).await;
    let proxy = gateway.of.proxy.clone();
    let drained = tokio::spawn(async move { proxy.drain.run(&proxy.config.timeouts).await });
    gateway.of.proxy.drain.reached(Stage::Draining).await;
    let mut first = TcpStream::connect((HOST, ports[0])).await.unwrap();
    assert_eq!(read(&mut first, 1).await, "a");
    let mut second = TcpStream::connect((HOST, ports[1])).await.unwrap();
    assert_eq!(read(&mut second, 1).await, "b");
    drop((first, second));
    // The time for the suspended Sandbox ends, and so does the drain.
    let drained = timeout(PATIENCE, drained).await.expect("the drain ends").unwrap();
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn open_connection_keeps_the_sandbox_in_use() {
    let gateway = Gateway::new().await;
    gateway.server.operate("127.0.0.1");
    let port = free_port().await;
    gateway.server.suspended("a");
    gateway.server.change("sandboxes", "a", &json!({ "spec": { "idleTimeout": "10s" } }));
    gateway.record("a", agent("hi").await, port);
    until("the port is open", || gateway.state("open") == 1.0).await;
    let mut stream = TcpStream::connect((HOST, port)).await.unwrap();
    assert_eq!(read(&mut stream, 2).await, "hi");
    // No byte moves, and a record follows the one of the wake.
    let records = || gateway.sample("paddock_gateway_activity_records_total{result=\"written\"}");
    until("the activity is recorded", || records() >= 1.0).await;
}
mod limits;
mod outage;
