//! A client connects to the ClusterIP of a Sandbox in a loop, through suspends and resumes, and no connection is refused.
//! The agent exits at once on SIGTERM, has no readiness probe, and listens only some time after its start.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paddock_cluster::{AGENT_IMAGE, Cluster, PATIENCE, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::super::json::{deleting, ready, text};
use super::super::kinds::{ENDPOINT_SLICE, POD, SANDBOX, SERVICE};
use super::super::manifests::sandbox;
use super::super::namespace::TestNamespace;

const AGENT: &str = r#"
import os, signal, socket, threading
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server = socket.create_server(("0.0.0.0", 8888), backlog=1024)
def serve(client):
    with client:
        while data := client.recv(1024):
            client.sendall(data.upper())
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

/// The cycles of a run. `PADDOCK_TCP_CYCLES` sets another number.
const CYCLES: usize = 10;

/// The cycles in which the pod becomes the endpoint again before the next suspend, which takes half a minute.
const TO_THE_POD: usize = 3;

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicUsize,
    refused: AtomicUsize,
    /// Connections that ended without an answer, for example because their pod was deleted.
    lost: AtomicUsize,
    /// The longest time from the connection to its answer, in milliseconds.
    slowest: AtomicUsize,
    paused: AtomicBool,
}

impl Counts {
    /// Connects in a loop, and sends a text that comes back in capitals.
    async fn run(self: Arc<Self>, address: String) {
        loop {
            if self.paused.load(Ordering::Acquire) {
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            let begun = Instant::now();
            let answer = async {
                let mut stream = TcpStream::connect(&address).await?;
                stream.write_all(b"hello").await?;
                let mut bytes = [0; 5];
                stream.read_exact(&mut bytes).await?;
                std::io::Result::Ok(bytes)
            };
            match timeout(PATIENCE, answer).await.expect("an answer in time") {
                Ok(bytes) => {
                    assert_eq!(&bytes, b"HELLO");
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    let took = usize::try_from(begun.elapsed().as_millis()).unwrap_or(usize::MAX);
                    self.slowest.fetch_max(took, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    println!("refused after {:?}", begun.elapsed());
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    println!("lost: {error}");
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn answers(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        eventually("more answers", async || self.answered.load(Ordering::Relaxed) >= wanted).await;
    }
}

fn leads_to_the_pod(slice: &Value) -> bool {
    text(slice, "/endpoints/0/targetRef/kind") == "Pod"
}

/// Suspends and resumes a Sandbox again and again. The gateways are those of `deploy/`.
pub(super) async fn connections_are_never_refused(cluster: &Cluster) {
    let cycles = std::env::var("PADDOCK_TCP_CYCLES").ok().map_or(CYCLES, |text| text.parse().expect("a number"));
    let ns = TestNamespace::new(cluster, "cycles").await;
    let container = json!({ "name": "agent", "image": AGENT_IMAGE, "command": ["python3", "-c", AGENT] });
    let spec = json!({ "resumePolicy": "OnDemand", "podTemplate": { "spec": { "containers": [container] } } });
    ns.create(sandbox("a", spec)).await;
    let woken_by = |s: &Value| s.pointer("/status/tcpWake/ports/0/gatewayPort").is_some();
    ns.until(SANDBOX, "a", "Ready with a port of the gateway", |s| ready(s) && woken_by(s)).await;
    let service = ns.get(SERVICE, "a").await;
    let address = format!("{}:8888", text(&service, "/spec/clusterIP"));
    // Nothing holds connections before the Sandbox runs for the first time.
    eventually("the agent listens", async || TcpStream::connect(&address).await.is_ok()).await;

    let counts = Arc::new(Counts::default());
    let client = tokio::spawn(counts.clone().run(address));
    for cycle in 0..cycles {
        counts.answers(20).await;
        if cycle < TO_THE_POD {
            ns.until(ENDPOINT_SLICE, "a", "at the pod", leads_to_the_pod).await;
            counts.answers(20).await;
        }
        // In every other cycle, connections come in all the time. Mostly, they keep the pod. In the others, the pod ends.
        let pauses = cycle % 2 == 0;
        let suspend = json!({
            "metadata": { "annotations": { "policy.paddock.dev/suspended-by": "Idle" } },
            "spec": { "operatingMode": "Suspended", "replicas": 0 },
        });
        let before = text(&ns.get(POD, "a").await, "/metadata/uid").to_owned();
        ns.merge(SANDBOX, "a", suspend).await;
        if pauses {
            counts.paused.store(true, Ordering::Release);
            // A connection that was under way may have resumed the Sandbox, which keeps its pod then.
            let ended = async || {
                let gone =
                    ns.find(POD, "a").await.is_none_or(|pod| deleting(&pod) || text(&pod, "/metadata/uid") != before);
                gone || text(&ns.get(SANDBOX, "a").await, "/spec/operatingMode") == "Running"
            };
            eventually("the pod is deleted", ended).await;
            counts.paused.store(false, Ordering::Release);
        }
        ns.until(SANDBOX, "a", "resumed by a connection", |s| text(s, "/spec/operatingMode") == "Running").await;
        counts.answers(5).await;
    }
    client.abort();
    println!("{cycles} cycles: {counts:?}");
    assert_eq!(counts.refused.load(Ordering::Relaxed), 0, "{counts:?}");
}
