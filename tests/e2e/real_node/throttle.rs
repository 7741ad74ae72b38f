//! Throttled Sandboxes on a real node: the process keeps its memory, gets little CPU, and gets its CPU back when the Sandbox
//! is used.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use paddock_cluster::{AGENT_IMAGE, eventually_some};
use serde_json::{Value, json};

use super::super::json::{deleting, ready, text};
use super::super::kinds::{POD, SANDBOX};
use super::super::manifests::{object, sandbox};
use super::super::plugins::idle_timeout;
use super::{TestNamespace, namespace};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        throttled_process_keeps_its_memory_and_gets_its_cpu_back,
        cpu_comes_back_on_a_full_node_limits_first,
        throttled_pod_has_its_cpu_before_it_is_deleted,
    ]
}

/// The label of the Sandboxes that the plugin of this file is bound to.
const LABEL: &str = "test-throttle";

/// Puts the plugin `idle-timeout` with settings into the operator's directory: it throttles after the idle timeout, and
/// never suspends.
pub(super) fn install_plugin(dir: &Path) {
    std::fs::create_dir(dir).expect("a directory");
    std::fs::write(dir.join("throttle.wasm"), idle_timeout()).expect("a file");
    let bound = json!({
        "hooks": ["idle"], "objectSelector": { "matchLabels": { LABEL: "true" } }, "settings": { "tiers": ["throttle"] },
    });
    std::fs::write(dir.join("throttle.yaml"), bound.to_string()).expect("a file");
}

/// A server with a token in its memory. `/token` returns the token. `/work` computes for 300 ms of CPU, and returns the time
/// that this took.
const AGENT: &str = r#"
import time, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
token = uuid.uuid4().hex
def work():
    begun, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.3:
        pass
    return time.monotonic() - begun
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = (token if self.path == "/token" else str(work())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer(("0.0.0.0", 8888), Handler).serve_forever()
"#;

/// The address of a new Sandbox, when its process answers. From then on, the Sandbox is throttled after five seconds
/// without use.
async fn started(ns: &TestNamespace, class: &str, request: &str) -> String {
    let resources = json!({
        "requests": { "cpu": request, "memory": "64Mi" }, "limits": { "cpu": "1", "memory": "512Mi" },
    });
    let container = json!({
        "name": "agent", "image": AGENT_IMAGE, "command": ["python3", "-c", AGENT], "resources": resources,
    });
    let spec = json!({
        "runtimeClassName": class, "terminationGracePeriodSeconds": 5, "containers": [container],
    });
    let mut made = sandbox("s", json!({ "idleTimeout": "1h", "podTemplate": { "spec": spec } }));
    made["metadata"]["labels"] = json!({ LABEL: "true" });
    ns.create(made).await;
    let up = ns.until(SANDBOX, "s", "Ready", ready).await;
    let address = text(&up, "/status/podIPs/0").to_owned();
    eventually_some("the process answers", async || get(&address, "/token").await.map_err(|e| e.to_string())).await;
    ns.merge(SANDBOX, "s", json!({ "spec": { "idleTimeout": "5s" } })).await;
    address
}

async fn get(address: &str, path: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut stream = tokio::net::TcpStream::connect((address, 8888)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or_else(|| std::io::Error::other("no head"))
}

/// The time in which the process computes for 300 ms of CPU, in seconds.
async fn work(address: &str) -> f64 {
    get(address, "/work").await.expect("an answer").parse().expect("a number")
}

fn applied_limit(pod: &Value) -> &str {
    text(pod, "/status/containerStatuses/0/resources/limits/cpu")
}

async fn until_throttled(ns: &TestNamespace) -> Value {
    ns.until(POD, "s", "throttled", |pod| applied_limit(pod) == "10m").await
}

async fn until_restored(ns: &TestNamespace) {
    ns.until(SANDBOX, "s", "not throttled", |s| !text(s, "/status/throttle/state").starts_with("Thrott")).await;
    ns.until(POD, "s", "restored", |pod| applied_limit(pod) == "1").await;
}

/// The record of activity that a gateway writes.
async fn used(ns: &TestNamespace) {
    let at = Timestamp::now().to_string();
    ns.merge(SANDBOX, "s", json!({ "metadata": { "annotations": { "policy.paddock.dev/last-activity": at } } })).await;
}

async fn throttled_process_keeps_its_memory_and_gets_its_cpu_back() {
    for class in ["gvisor", "runc"] {
        let ns = namespace(&format!("throttle-{class}")).await;
        let address = started(&ns, class, "100m").await;
        let token = get(&address, "/token").await.expect("an answer");
        let mut until_answer = Vec::new();
        for _ in 0..3 {
            let pod = until_throttled(&ns).await;
            assert_eq!(text(&pod, "/spec/containers/0/resources/requests/cpu"), "5m");
            assert_eq!(text(&pod, "/spec/containers/0/resources/limits/memory"), "512Mi");
            let throttled = |s: &Value| text(s, "/status/throttle/state") == "Throttled";
            let sandbox = ns.until(SANDBOX, "s", "throttled", throttled).await;
            assert_eq!(text(&sandbox, "/status/idle/tier"), "Throttle");
            assert_eq!(text(&sandbox, "/status/throttle/containers/0/cpuLimit"), "1000m");
            assert!(ready(&sandbox), "{sandbox:#}");
            let begun = Instant::now();
            let (_, answer) = tokio::join!(used(&ns), get(&address, "/token"));
            until_answer.push(begun.elapsed());
            assert_eq!(answer.expect("an answer"), token, "the memory of the process");
            until_restored(&ns).await;
        }
        until_answer.sort();
        println!("{class}: use of a throttled Sandbox -> answer: {until_answer:?}");
        until_throttled(&ns).await;
        let slow = work(&address).await;
        // The idle timeout is long from here on, so that the Sandbox is not throttled again.
        ns.merge(SANDBOX, "s", json!({ "spec": { "idleTimeout": "1h" } })).await;
        until_restored(&ns).await;
        let fast = work(&address).await;
        println!("{class}: 300 ms of CPU take {slow:.2} s throttled, {fast:.2} s after");
        assert!(fast < slow / 2.0, "{class}: {fast} s after {slow} s");
        let pod = ns.get(POD, "s").await;
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    }
}

/// Takes the CPU of a node by another pod. A little room is left for pods that other tests create meanwhile, and none for
/// the request of 400m that a throttled Sandbox had.
async fn fill_node(ns: &TestNamespace, name: &str) {
    let millicores = |quantity: &str| -> u64 {
        let whole = |text: &str| text.parse::<u64>().expect("a CPU quantity");
        quantity.strip_suffix('m').map_or_else(|| 1000 * whole(quantity), whole)
    };
    let node = ns.read(&format!("/api/v1/nodes/{name}")).await.expect("the node");
    let pods = ns.read("/api/v1/pods").await.expect("the pods");
    let requests = pods["items"].as_array().expect("a list").iter().flat_map(|pod| {
        let ended = ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
        pod["spec"]["containers"].as_array().filter(|_| !ended).into_iter().flatten()
    });
    let taken: u64 = requests.filter_map(|c| c["resources"]["requests"]["cpu"].as_str()).map(millicores).sum();
    let rest = millicores(text(&node, "/status/allocatable/cpu")) - taken - 150;
    let container = json!({
        "name": "a", "image": AGENT_IMAGE, "command": ["sleep", "3600"],
        "resources": { "requests": { "cpu": format!("{rest}m") } },
    });
    let spec = json!({ "runtimeClassName": "runc", "terminationGracePeriodSeconds": 0, "containers": [container] });
    ns.create(object(POD, "filler", spec)).await;
    ns.until(POD, "filler", "running", |pod| text(pod, "/status/phase") == "Running").await;
}

/// Other pods take the room of a throttled Sandbox. Its process gets its CPU limit all the same, and its request when there
/// is room.
async fn cpu_comes_back_on_a_full_node_limits_first() {
    let ns = namespace("throttle-full").await;
    let address = started(&ns, "runc", "400m").await;
    fill_node(&ns, text(&until_throttled(&ns).await, "/spec/nodeName")).await;
    let slow = work(&address).await;
    let waits = |s: &Value| text(s, "/status/throttle/reason").contains("no room for the CPU requests");
    ns.merge(SANDBOX, "s", json!({ "spec": { "idleTimeout": "1h" } })).await;
    ns.until(SANDBOX, "s", "reports the full node", waits).await;
    ns.until(POD, "s", "its limit is back", |pod| applied_limit(pod) == "1").await;
    let fast = work(&address).await;
    assert!(fast < slow / 2.0, "{fast} s after {slow} s");
    ns.delete(POD, "filler").await;
    let restored = |pod: &Value| text(pod, "/status/containerStatuses/0/resources/requests/cpu") == "400m";
    ns.until(POD, "s", "its request is back", restored).await;
    // A resize whose reply was lost could be stored for as long as this.
    ns.until(SANDBOX, "s", "no record", |s| s.pointer("/status/throttle").is_none()).await;
}

/// A process may need CPU to end within its grace period.
async fn throttled_pod_has_its_cpu_before_it_is_deleted() {
    let ns = namespace("throttle-suspend").await;
    started(&ns, "runc", "100m").await;
    until_throttled(&ns).await;
    ns.merge(SANDBOX, "s", json!({ "spec": { "operatingMode": "Suspended" } })).await;
    let pod = ns.until(POD, "s", "being deleted", deleting).await;
    assert_eq!(text(&pod, "/spec/containers/0/resources/limits/cpu"), "1", "the CPU limit at the deletion");
}
