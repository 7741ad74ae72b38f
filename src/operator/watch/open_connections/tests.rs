//! Rounds of questions to gateways in memory, in virtual time: the sum of all, and none if one of them does not answer.

use std::convert::Infallible;
use std::sync::Mutex;

use jiff::SignedDuration;
use kube::client::Body;
use paddock_api::kind::{Key, Kind};
use paddock_core::binding::{Binding, Bindings};
use paddock_core::object::Object;
use paddock_core::question::{Hook, PluginRef};
use paddock_core::settings::Settings;
use paddock_core::snapshot::Snapshot;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::time::sleep;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);

/// What a gateway does with a question.
#[derive(Clone)]
enum Gateway {
    Answers(u16, Vec<u8>),
    Refuses,
    Hangs,
}

struct Bench {
    world: SharedWorld,
    metrics: Metrics,
    fault: watch::Receiver<Option<String>>,
    /// The answers of the API server to lists of EndpointSlices, by the namespace.
    slices: Arc<Mutex<BTreeMap<String, (u16, Value)>>>,
    gateways: Arc<Mutex<BTreeMap<SocketAddr, Gateway>>>,
    /// The paths of the requests to the API server, and the headers with which gateways were asked.
    asked: Arc<Mutex<Vec<String>>>,
    token: NamedTempFile,
}

impl Bench {
    fn new() -> Self {
        Self::of(&["system"])
    }

    /// Asks the gateways of a Service in each of these namespaces.
    fn of(namespaces: &[&str]) -> Self {
        let slices: Arc<Mutex<BTreeMap<String, (u16, Value)>>> = Arc::default();
        let gateways: Arc<Mutex<BTreeMap<SocketAddr, Gateway>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (served, requests) = (slices.clone(), asked.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            requests.lock().unwrap().push(request.uri().path_and_query().unwrap().as_str().to_owned());
            let namespace = request.uri().path().split('/').nth(5).unwrap();
            let (status, body) = served.lock().unwrap()[namespace].clone();
            let body = ReplyBody::from(body.to_string());
            async move { Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap()) }
        });
        let (there, questions) = (gateways.clone(), asked.clone());
        let ask: Ask = Arc::new(move |address, authorization| {
            questions.lock().unwrap().push(authorization.to_str().unwrap().to_owned());
            let gateway = there.lock().unwrap().get(&address).cloned();
            async move {
                match gateway {
                    Some(Gateway::Answers(status, body)) => {
                        Ok(Response::builder().status(status).body(ReplyBody::from(body)).unwrap())
                    }
                    Some(Gateway::Refuses) | None => Err("connection refused".to_owned()),
                    Some(Gateway::Hangs) => std::future::pending().await,
                }
            }
            .boxed()
        });
        let token = NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "the-token\n").unwrap();
        let world = SharedWorld::new(World::new(Settings { connections_interval: INTERVAL, ..Settings::default() }));
        let metrics = Metrics::new().unwrap();
        let of = |namespace: &&str| GatewayService { namespace: (*namespace).to_owned(), name: "gateways".to_owned() };
        let services = namespaces.iter().map(of).collect();
        let rounds = ConnectionRounds {
            client: Client::new(service, "ns"),
            config: ConnectionsConfig { services, token_file: token.path().to_owned() },
            interval: INTERVAL,
            ask,
            world: world.clone(),
            metrics: metrics.clone(),
            fault: watch::Sender::new(None),
        };
        let fault = rounds.fault.subscribe();
        tokio::spawn(rounds.run());
        let bench = Self { world, metrics, fault, slices, gateways, asked, token };
        for namespace in namespaces {
            bench.serve_in(namespace, &[]);
        }
        bench
    }

    /// The same with a running Sandbox, an idle plugin, and gateways that have these connections to its pod.
    fn with(open: &[u32]) -> Self {
        let bench = Self::new();
        bench.add_sandbox();
        bench.bind();
        for (gateway, open) in open.iter().enumerate() {
            bench.answers(gateway, *open);
        }
        bench.serve(&(0..open.len()).map(endpoint).collect::<Vec<_>>());
        bench
    }

    /// Adds a running Sandbox with an idle timeout and its pod.
    fn add_sandbox(&self) {
        let metadata = |uid: &str| {
            json!({
                "name": "a", "namespace": "ns", "uid": uid, "resourceVersion": "1",
                "creationTimestamp": "2020-01-01T00:00:00Z",
            })
        };
        let spec = json!({
            "idleTimeout": "1h", "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        });
        let mut pod = json!({ "metadata": metadata("pod"), "status": { "phase": "Running" } });
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": "sandbox", "controller": true,
        }]);
        for (kind, document) in
            [(Kind::Sandbox, json!({ "metadata": metadata("sandbox"), "spec": spec })), (Kind::Pod, pod)]
        {
            let object = Object::from_json(kind, document).unwrap();
            let _ = self.world.observe(Observed::Applied(object), Timestamp::now());
        }
    }

    /// Binds an idle plugin beside the built-ins.
    fn bind(&self) {
        let plugin = PluginRef { name: "by-connections".to_owned(), digest: "sha256:0".to_owned() };
        let _ = self.world.set_bindings(Bindings::new(vec![Binding::new(plugin, Hook::Idle)]));
    }

    fn serve(&self, endpoints: &[Value]) {
        self.serve_in("system", endpoints);
    }

    fn serve_in(&self, namespace: &str, endpoints: &[Value]) {
        let slice = json!({
            "metadata": { "name": "gateways-1" }, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{ "name": "metrics", "port": 9090 }],
        });
        let list = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "metadata": {}, "items": [slice] });
        self.lists(namespace, (200, list));
    }

    /// The API server gives this answer from now on.
    fn lists(&self, namespace: &str, answer: (u16, Value)) {
        self.slices.lock().unwrap().insert(namespace.to_owned(), answer);
    }

    /// The gateway of this number does this from now on.
    fn gateway(&self, number: usize, does: Gateway) {
        self.gateways.lock().unwrap().insert(address(number), does);
    }

    /// The gateway of this number has so many connections to the pod, and some to another one.
    fn answers(&self, number: usize, open: u32) {
        self.gateway(number, Gateway::Answers(200, list(Timestamp::now(), open)));
    }

    /// The connections of the Sandbox, according to the World.
    fn open(&self) -> Option<u32> {
        let key = Key::new(Kind::Sandbox, "ns", "a");
        let Snapshot::Sandbox(snapshot) = self.world.snapshot(&key, Timestamp::now()) else { panic!("no Sandbox") };
        snapshot.connections.known.map(|known| known.open)
    }

    fn metric(&self, line: &str) -> u64 {
        let text = String::from_utf8(self.metrics.text().unwrap()).unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in {text}")).parse().unwrap()
    }

    fn rounds(&self, result: &str) -> u64 {
        self.metric(&format!("paddock_connection_rounds_total{{result=\"{result}\"}}"))
    }

    fn fault(&self) -> String {
        self.fault.borrow().clone().unwrap_or_default()
    }
}

fn address(number: usize) -> SocketAddr {
    format!("10.0.0.{}:9090", number + 1).parse().unwrap()
}

/// The endpoint of a gateway.
fn endpoint(number: usize) -> Value {
    let target = json!({ "kind": "Pod", "name": format!("gateway-{number}"), "uid": format!("gateway-{number}") });
    json!({ "addresses": [address(number).ip()], "conditions": { "ready": true }, "targetRef": target })
}

/// The list of a gateway.
fn list(at: Timestamp, open: u32) -> Vec<u8> {
    let of = |name: &str, pod: &str, open: u32| wire::SandboxConnections {
        namespace: "ns".to_owned(),
        name: name.to_owned(),
        pod_uid: pod.to_owned(),
        open,
    };
    let sandboxes = vec![of("a", "pod", open), of("a", "an earlier pod", 7), of("b", "another pod", 1)];
    serde_json::to_vec(&wire::OpenConnections { at, sandboxes }).unwrap()
}

/// The time until a round has ended in which no gateway hangs. From then on, the test looks a second after each round.
async fn first() {
    sleep(Duration::from_secs(1)).await;
}

/// The time until the next round has ended.
async fn next() {
    sleep(INTERVAL).await;
}

#[tokio::test(start_paused = true)]
async fn connections_of_all_gateways_are_added() {
    let bench = Bench::with(&[2, 0, 1]);
    first().await;
    assert_eq!((bench.open(), bench.fault()), (Some(3), String::new()));
    assert_eq!((bench.rounds("complete"), bench.metric("paddock_connection_gateways")), (1, 3));
    let asked = std::mem::take(&mut *bench.asked.lock().unwrap());
    let path = "/apis/discovery.k8s.io/v1/namespaces/system/endpointslices?";
    assert!(asked[0].starts_with(path) && asked[0].contains("kubernetes.io%2Fservice-name%3Dgateways"), "{asked:?}");
    assert_eq!(asked[1..], ["Bearer the-token"; 3]);
    // The kubelet replaces the token, and the connections end.
    std::fs::write(bench.token.path(), "the-next-token").unwrap();
    for number in 0..3 {
        bench.answers(number, 0);
    }
    next().await;
    assert_eq!(bench.open(), Some(0));
    assert_eq!(bench.asked.lock().unwrap()[1..], ["Bearer the-next-token"; 3]);
}

/// The other gateways say that nothing is open, which would suspend the Sandbox.
#[tokio::test(start_paused = true)]
async fn there_is_no_sum_without_every_gateway() {
    let now = Timestamp::now;
    let minutes_ago = now() - SignedDuration::from_mins(5);
    let oversized = [list(now(), 0), vec![b' '; BYTES_MAX]].concat();
    for (silent, result, text) in [
        (Gateway::Refuses, "silent", "gateway-1 at 10.0.0.2:9090 does not answer: connection refused"),
        (Gateway::Hangs, "silent", "does not answer: no answer in time"),
        (Gateway::Answers(401, vec![]), "forbidden", "agent-sandbox-controller-connections"),
        (Gateway::Answers(403, vec![]), "forbidden", "does not admit the operator (403 Forbidden)"),
        (Gateway::Answers(404, b"404 page not found".to_vec()), "failed", "its status is 404"),
        (Gateway::Answers(200, b"<html>".to_vec()), "failed", "has no usable answer"),
        (Gateway::Answers(200, b"{}".to_vec()), "failed", "missing field"),
        (Gateway::Answers(200, list(minutes_ago, 0)), "failed", "before it was asked"),
        (Gateway::Answers(200, oversized), "failed", "it has more than 16 MiB"),
    ] {
        let bench = Bench::with(&[0, 2]);
        first().await;
        assert_eq!(bench.open(), Some(2));
        bench.gateway(1, silent);
        sleep(INTERVAL + limits::CONNECTIONS_TIMEOUT).await;
        assert_eq!(bench.open(), None, "{text}");
        assert_eq!((bench.rounds(result), bench.metric("paddock_connection_gateways")), (1, 0), "{text}");
        let fault = bench.fault();
        assert!(fault.starts_with("open connections: idle plugins do not get") && fault.contains(text), "{fault}");
        bench.answers(1, 1);
        next().await;
        assert_eq!((bench.open(), bench.fault()), (Some(1), String::new()), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_sum_without_the_list_of_gateways() {
    let bench = Bench::with(&[1]);
    first().await;
    assert_eq!(bench.open(), Some(1));
    let status = |code: u16, message: &str| {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": "", "message": message,
        });
        (code, status)
    };
    let more = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "metadata": { "continue": "more" }, "items": [],
    });
    for (answer, result, text) in [
        (
            status(403, "endpointslices is forbidden"),
            "forbidden",
            "may not list the EndpointSlices of namespace system",
        ),
        (status(500, "etcd is away"), "failed", "etcd is away"),
        ((200, more), "failed", "Service system/gateways has more than 64 endpoints"),
    ] {
        let before = bench.rounds(result);
        bench.lists("system", answer);
        next().await;
        assert_eq!((bench.open(), bench.rounds(result)), (None, before + 1), "{text}");
        assert!(bench.fault().contains(text), "{}", bench.fault());
    }
    let mut stranger = endpoint(1);
    stranger["targetRef"] = Value::Null;
    for (endpoints, text) in [(vec![], "has no endpoint"), (vec![endpoint(0), stranger], "\"10.0.0.2\"")] {
        bench.serve(&endpoints);
        bench.asked.lock().unwrap().clear();
        next().await;
        assert!(bench.open().is_none() && bench.fault().contains(text), "{}", bench.fault());
        assert_eq!(bench.asked.lock().unwrap().len(), 1, "no stranger gets the token");
    }
    bench.serve(&[endpoint(0)]);
    std::fs::remove_file(bench.token.path()).unwrap();
    next().await;
    assert!(bench.open().is_none() && bench.fault().contains("--connections-token-file="), "{}", bench.fault());
}

/// A team has gateways of its own. One pod is in both Services.
#[tokio::test(start_paused = true)]
async fn gateways_of_every_service_are_asked_once() {
    let bench = Bench::of(&["system", "team"]);
    bench.add_sandbox();
    bench.bind();
    for (gateway, open) in [2, 1, 4].into_iter().enumerate() {
        bench.answers(gateway, open);
    }
    bench.serve_in("system", &[endpoint(0), endpoint(1)]);
    first().await;
    assert_eq!(bench.open(), None, "the gateways of the team are not known");
    assert!(bench.fault().contains("Service team/gateways has no endpoint"), "{}", bench.fault());
    bench.serve_in("team", &[endpoint(1), endpoint(2)]);
    next().await;
    assert_eq!((bench.open(), bench.metric("paddock_connection_gateways")), (Some(7), 3));
    bench.gateway(2, Gateway::Refuses);
    next().await;
    assert!(bench.open().is_none() && bench.fault().contains("gateway-2"), "{}", bench.fault());
    // Each of the two Services has fewer than 64.
    bench.serve_in("system", &(0..40).map(endpoint).collect::<Vec<_>>());
    bench.serve_in("team", &(30..70).map(endpoint).collect::<Vec<_>>());
    next().await;
    let text = "Service team/gateways has more than 64 endpoints, alone or with the other Services";
    assert!(bench.open().is_none() && bench.fault().contains(text), "{}", bench.fault());
}

#[tokio::test(start_paused = true)]
async fn no_gateway_is_asked_unless_an_idle_plugin_may_ask() {
    let bench = Bench::new();
    bench.answers(0, 1);
    bench.serve(&[endpoint(0)]);
    bench.add_sandbox();
    first().await;
    for _ in 0..3 {
        next().await;
    }
    assert!(bench.asked.lock().unwrap().is_empty() && bench.open().is_none(), "the built-in needs no connections");
    bench.bind();
    next().await;
    assert_eq!(bench.open(), Some(1));
    // The fault ends with the need for the number.
    bench.gateway(0, Gateway::Refuses);
    next().await;
    assert!(!bench.fault().is_empty());
    let _ = bench.world.set_bindings(Bindings::default());
    next().await;
    assert_eq!(bench.fault(), "");
}
