//! TCP connections to suspended Sandboxes: the operator leads their Services to gateways, and a gateway with the rights of
//! its ServiceAccount resumes them.
//!
//! Nothing forwards packets here, so the test does what kube-proxy does: it connects to the port in the EndpointSlice, on
//! this machine, where the gateway listens.

use paddock_cluster::{Options, PATIENCE, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::gateway::{Gateway, give_address, pod_address};
use super::json::{annotation, ready, suspended, text};
use super::kinds::{ENDPOINT_SLICE, NETWORK_POLICY, POD, SANDBOX};
use super::manifests::{object, sandbox};
use super::namespace::TestNamespace;
use super::operator::{NAMESPACE, Operator, Plan, admitting};
use super::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![tcp_connection_wakes_a_sandbox_and_a_policy_turns_that_off]
}

/// The addresses of the gateway's pods, which nothing but the EndpointSlices uses here.
const GATEWAYS: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
/// Ports that neither the clusters of tests nor outgoing connections use.
const RANGE: &str = "--tcp-wake-ports=15000-15999";

/// Greets its clients, and answers each text in capitals.
async fn agent() -> u16 {
    let listener = TcpListener::bind((pod_address(), 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 64];
                let mut done = stream.write_all(b"hello").await;
                while let (Ok(()), Ok(read @ 1..)) = (&done, stream.read(&mut bytes).await) {
                    done = stream.write_all(&bytes[..read].to_ascii_uppercase()).await;
                }
            });
        }
    });
    port
}

fn declares(port: u16, more: Value) -> Value {
    let mut spec = json!({ "resumePolicy": "OnDemand", "podTemplate": { "spec": { "containers": [
        { "name": "agent", "image": "agent:1", "ports": [{ "containerPort": port }] },
    ] } } });
    super::manifests::merge(&mut spec, &more);
    spec
}

fn gateway_port(sandbox: &Value) -> Option<u16> {
    sandbox.pointer("/status/tcpWake/ports/0/gatewayPort")?.as_u64()?.try_into().ok()
}

fn addresses(slice: &Value) -> Vec<&str> {
    slice["endpoints"].as_array().into_iter().flatten().map(|e| text(e, "/addresses/0")).collect()
}

/// The end of a connection to this port: whether it was refused or closed without a byte.
async fn is_closed(port: u16) -> bool {
    let read = async {
        let mut bytes = Vec::new();
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(mut stream) => {
                let _ = stream.read_to_end(&mut bytes).await;
            }
            Err(_refused) => {}
        }
        bytes.is_empty()
    };
    timeout(PATIENCE, read).await.expect("the connection ends")
}

/// The EndpointSlice of the gateway's Service, as its controller would write it.
fn gateways(addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({ "addresses": [ip], "conditions": { "ready": true, "serving": true, "terminating": false } }))
        .collect();
    json!({
        "apiVersion": ENDPOINT_SLICE.0, "kind": ENDPOINT_SLICE.1,
        "metadata": { "name": "gateways", "labels": { "kubernetes.io/service-name": "sandbox-router-svc" } },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{ "name": "proxy", "port": 8080, "protocol": "TCP" }],
    })
}

async fn tcp_connection_wakes_a_sandbox_and_a_policy_turns_that_off() {
    let options = Options { nodes: 1, ..Options::default() };
    let (cluster, account) = control_plane(options).await;
    let own = TestNamespace::existing(&cluster, NAMESPACE);
    own.create(gateways(&GATEWAYS)).await;
    let service = format!("--gateway-service={NAMESPACE}/sandbox-router-svc");
    let mut flags = admitting(&cluster);
    flags.extend([service, RANGE.to_owned()]);
    let _operator = Operator::start(&cluster, Plan { name: "operator", kubeconfig: &account, flags }).await;
    let account = cluster.kubeconfig_for_service_account(NAMESPACE, "sandbox-router").await.expect("a token");
    let gateway = Gateway::start_on(&cluster, "gateway", &account, &[RANGE]).await;
    let ns = TestNamespace::new(&cluster, "tcp").await;
    let port = agent().await;

    // The ports are in the status as soon as the Sandbox is Ready, by no write more.
    ns.create(sandbox("a", declares(port, json!({ "idleTimeout": "5s" })))).await;
    let started = ns.until(SANDBOX, "a", "Ready with a port", |s| ready(s) && gateway_port(s).is_some()).await;
    let of_gateway = gateway_port(&started).expect("a port");
    assert_eq!(started["status"]["tcpWake"], json!({ "ports": [{ "port": port, "gatewayPort": of_gateway }] }));

    // It falls asleep, and its Service leads to the gateways.
    ns.until(SANDBOX, "a", "suspended", suspended).await;
    ns.until_gone(POD, "a").await;
    let asleep = ns.get(ENDPOINT_SLICE, "a").await;
    assert_eq!(addresses(&asleep), GATEWAYS);
    assert_eq!(text(&asleep, "/ports/0/protocol"), "TCP");
    assert_eq!((&asleep["ports"][0]["port"], asleep["ports"].as_array().map(Vec::len)), (&json!(of_gateway), Some(1)));

    // A client that waits for a greeting wakes it.
    let client = async {
        let mut stream = TcpStream::connect(("127.0.0.1", of_gateway)).await.expect("the gateway listens");
        let mut greeting = [0; 5];
        timeout(PATIENCE, stream.read_exact(&mut greeting)).await.expect("in time").expect("a greeting");
        assert_eq!(&greeting, b"hello");
        stream.write_all(b"abc").await.expect("sent");
        timeout(PATIENCE, stream.read_exact(&mut greeting[..3])).await.expect("in time").expect("an answer");
        assert_eq!(&greeting[..3], b"ABC");
        stream
    };
    let (stream, ()) = tokio::join!(client, give_address(&ns, "a"));
    let woken = ns.get(SANDBOX, "a").await;
    assert_eq!((text(&woken, "/spec/operatingMode"), gateway_port(&woken)), ("Running", Some(of_gateway)));
    // An open connection is a use: the record moves by more than the timeout, and nothing suspends the Sandbox.
    let record = |s: &Value| annotation(s, "policy.paddock.dev/last-activity").parse::<jiff::Timestamp>().ok();
    let begin = record(&woken).expect("a record of the wake");
    let timeout_passed = |s: &Value| record(s).is_some_and(|at| at.duration_since(begin).as_secs() > 10);
    let used = ns.until(SANDBOX, "a", "in use for a while", timeout_passed).await;
    assert_eq!(text(&used, "/spec/operatingMode"), "Running");
    drop(stream);
    ns.until(SANDBOX, "a", "suspended again", suspended).await;

    // What a user suspended is not woken, and its address leads nowhere.
    ns.create(sandbox("user", declares(port, json!({})))).await;
    let running = ns.until(SANDBOX, "user", "Ready with a port", |s| ready(s) && gateway_port(s).is_some()).await;
    let of_user = gateway_port(&running).expect("a port");
    assert_ne!(of_user, of_gateway);
    eventually("the port is open", async || TcpStream::connect(("127.0.0.1", of_user)).await.is_ok()).await;
    ns.merge(SANDBOX, "user", json!({ "spec": { "operatingMode": "Suspended", "replicas": 0 } })).await;
    ns.until_gone(POD, "user").await;
    assert!(is_closed(of_user).await);
    assert_eq!(addresses(&ns.get(ENDPOINT_SLICE, "user").await), Vec::<&str>::new());
    assert_eq!(text(&ns.get(SANDBOX, "user").await, "/spec/operatingMode"), "Suspended");

    // A gateway that is gone is replaced, and one that stays costs no write.
    own.merge(ENDPOINT_SLICE, "gateways", json!({ "endpoints": gateways(&[GATEWAYS[1], "10.77.0.3"])["endpoints"] }))
        .await;
    let moved = [GATEWAYS[1], "10.77.0.3"];
    ns.until(ENDPOINT_SLICE, "a", "at the gateways that are there", |slice| addresses(slice) == moved).await;

    // A policy for its clients turns it off at once, and says so.
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [] });
    ns.create(object(NETWORK_POLICY, "clients", spec)).await;
    let told = ns.until(SANDBOX, "a", "told why", |s| !text(s, "/status/tcpWake/reason").is_empty()).await;
    assert!(text(&told, "/status/tcpWake/reason").contains("NetworkPolicy clients"), "{}", told["status"]);
    assert_eq!(gateway_port(&told), None);
    ns.until(ENDPOINT_SLICE, "a", "empty", |slice| addresses(slice).is_empty()).await;
    eventually("the port is closed", async || is_closed(of_gateway).await).await;
    assert_eq!(text(&ns.get(SANDBOX, "a").await, "/spec/operatingMode"), "Suspended");

    let metrics = gateway.metrics().await;
    assert!(metrics.contains("paddock_gateway_tcp_connections_total{result=\"forwarded\"} 1"), "{metrics}");
    cluster.stop();
}
