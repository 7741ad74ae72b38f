//! The open connections of a Sandbox through two gateways, before a real API server: an idle plugin gets their sum, or nothing
//! if a gateway does not answer. The second gateway is in another namespace.
//!
//! No kubelet runs here. The test writes the EndpointSlices of the gateways, and gives the operator its token.

use paddock_cluster::{Cluster, Options, Signal, eventually, eventually_some};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::gateway::{Gateway, give_address, on_demand, pod_address};
use super::http;
use super::json::{ready, suspended, text};
use super::kinds::{ENDPOINT_SLICE, SANDBOX};
use super::namespace::TestNamespace;
use super::operator::{ACCOUNT, NAMESPACE, Operator, Plan, admitting};
use super::plugins::idle_timeout;
use super::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![idle_plugin_gets_the_connections_of_every_gateway_or_none]
}

const SERVICE: &str = "sandbox-router-metrics";

/// Starts a gateway with the rights of its ServiceAccount. Its metrics can be reached at every address of this machine.
async fn gateway(cluster: &Cluster, name: &str) -> Gateway {
    let account = cluster.kubeconfig_for_service_account(NAMESPACE, "sandbox-router").await.expect("a token");
    let flags = ["--allow-unauthenticated", "--metrics-bind-address=:0", "--tcp-wake-ports=0"];
    Gateway::start_on(cluster, name, &account, &flags).await
}

/// The EndpointSlice of one gateway. On a real network, the gateways have addresses of their own, and one slice together.
fn slice(name: &str, gateway: &Gateway, ready: bool) -> Value {
    json!({
        "apiVersion": ENDPOINT_SLICE.0, "kind": ENDPOINT_SLICE.1,
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": SERVICE } },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [pod_address()],
            "conditions": { "ready": ready, "serving": ready, "terminating": !ready },
            "targetRef": { "kind": "Pod", "namespace": NAMESPACE, "name": name, "uid": format!("uid-of-{name}") },
        }],
        "ports": [{ "name": "metrics", "port": gateway.metrics, "protocol": "TCP" }],
    })
}

/// A server that begins every answer, and ends none.
async fn agent() -> u16 {
    let listener = TcpListener::bind((pod_address(), 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let asked = stream.read(&mut bytes).await;
                let begun = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await;
                // The gateway closes the connection when its client has left.
                while asked.is_ok() && begun.is_ok() && stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    port
}

/// Begins a request through a gateway, and waits for the head of its answer.
async fn open(gateway: &Gateway, ns: &TestNamespace, port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.proxy)).await.expect("the gateway listens");
    let request = format!(
        "GET /events HTTP/1.1\r\nHost: gateway\r\nX-Sandbox-ID: box\r\nX-Sandbox-Namespace: {}\r\nX-Sandbox-Port: {port}\r\n\r\n",
        ns.namespace
    );
    stream.write_all(request.as_bytes()).await.expect("the gateway reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the gateway answers"));
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Waits until the newest idle question about the Sandbox has this number of connections, or null.
async fn asked(operator: &Operator, ns: &TestNamespace, what: &str, wanted: Value) {
    let path = format!("/debug/decisions?hook=idle&namespace={}&name=box", ns.namespace);
    eventually_some(what, async || {
        let (_, page) = http::get(operator.debug, &path).await.expect("an answer");
        let decisions: Vec<Value> = serde_json::from_str(&page).map_err(|error| format!("{error}: {page}"))?;
        match decisions.last().and_then(|decision| decision["question"].get("connections")) {
            Some(connections) if *connections == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn idle_plugin_gets_the_connections_of_every_gateway_or_none() {
    let (cluster, account) = control_plane(Options { nodes: 1, ..Options::default() }).await;
    let own = TestNamespace::existing(&cluster, NAMESPACE);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("plugins")).expect("a folder");
    std::fs::write(path("plugins/counts.wasm"), idle_timeout()).expect("a file");
    std::fs::write(path("plugins/counts.yaml"), br#"{"hooks": ["idle"]}"#).expect("a file");
    let token = own.kubectl(&["create", "token", ACCOUNT, "--audience=paddock.dev/connections"], None).await;
    std::fs::write(path("token"), token.expect("a token")).expect("a file");
    let ns = TestNamespace::new(&cluster, "connections").await;
    let mut flags = admitting(&cluster);
    flags.extend([
        format!("--plugin-dir={}", path("plugins").display()),
        format!("--connections-service={NAMESPACE}/{SERVICE}"),
        format!("--connections-service={}/{SERVICE}", ns.namespace),
        format!("--connections-token-file={}", path("token").display()),
        "--connections-interval=1s".to_owned(),
    ]);
    let operator = Operator::start(&cluster, Plan { name: "operator", kubeconfig: &account, flags }).await;
    let [one, two] = [gateway(&cluster, "gateway-one").await, gateway(&cluster, "gateway-two").await];
    let (status, body) = http::get(one.metrics, "/connections").await.expect("an answer");
    assert_eq!(status, 401, "the list is for the operator: {body}");

    // Without the EndpointSlices, nobody knows the connections.
    let port = agent().await;
    ns.create(on_demand("box")).await;
    ns.until(SANDBOX, "box", "Ready", ready).await;
    give_address(&ns, "box").await;
    asked(&operator, &ns, "a question without a number", Value::Null).await;
    let verbose = async || http::get(operator.health, "/readyz?verbose").await.expect("an answer").1;
    eventually("the operator reports that there is no gateway", async || {
        verbose().await.contains(&format!("Service {NAMESPACE}/{SERVICE} has no endpoint"))
    })
    .await;

    // The second gateway terminates, and drains its streams.
    own.create(slice("gateway-one", &one, true)).await;
    ns.create(slice("gateway-two", &two, false)).await;
    let first = open(&one, &ns, port).await;
    let others = [open(&two, &ns, port).await, open(&two, &ns, port).await];
    ns.merge(SANDBOX, "box", json!({ "spec": { "idleTimeout": "5s" } })).await;
    asked(&operator, &ns, "the connections of both gateways", json!(3)).await;
    let kept = |s: &Value| text(s, "/status/idle/reason") == "open connections: 3";
    ns.until(SANDBOX, "box", "is kept running by its connections", kept).await;
    eventually("the operator reports no fault", async || !verbose().await.contains("open connections: ")).await;

    // A gateway that hangs still has its connections, so there is no sum.
    two.process.signal(Signal::Stop).await.expect("a signal");
    asked(&operator, &ns, "no number without the second gateway", Value::Null).await;
    let report = verbose().await;
    assert!(report.contains("gateway gateway-two at ") && report.contains("does not answer"), "{report}");
    two.process.signal(Signal::Continue).await.expect("a signal");
    asked(&operator, &ns, "the connections of both gateways again", json!(3)).await;

    drop(others);
    asked(&operator, &ns, "the connections of the first gateway", json!(1)).await;
    let running = ns.get(SANDBOX, "box").await;
    assert_eq!(text(&running, "/spec/operatingMode"), "Running", "several timeouts have passed");
    drop(first);
    ns.until(SANDBOX, "box", "suspended without a connection", suspended).await;
}
