//! Lists of CPU use against an API server in memory, in virtual time: when they are made, and what each failure does.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use paddock_core::binding::{Binding, Bindings};
use paddock_core::object::Object;
use paddock_core::question::{Hook, PluginRef};
use paddock_core::settings::Settings;
use paddock_core::snapshot::Snapshot;
use serde_json::json;
use tokio::time::sleep;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);
const ALL: &str = "/apis/metrics.k8s.io/v1beta1/pods";

/// The reply to a request: its status and its body. The path has the query of the page.
type Answers = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

enum Reply {
    Now((u16, String)),
    After(Duration, (u16, String)),
    Never,
}

struct Bench {
    world: SharedWorld,
    metrics: Metrics,
    fault: watch::Receiver<Option<String>>,
    requests: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Answers>>,
    unsynced: watch::Sender<UnsyncedKinds>,
}

fn bench(namespace: Option<&str>, answers: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Bench {
    bench_with(namespace, move |path| Reply::Now(answers(path)))
}

fn bench_with(namespace: Option<&str>, answers: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Bench {
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let answers = Arc::new(Mutex::new(Arc::new(answers) as Answers));
    let (seen, answering) = (requests.clone(), answers.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        let answer = answering.lock().unwrap().clone();
        seen.lock().unwrap().push(path.clone());
        async move {
            let (status, body) = match answer(&path) {
                Reply::Now(reply) => reply,
                Reply::After(time, reply) => {
                    sleep(time).await;
                    reply
                }
                Reply::Never => std::future::pending().await,
            };
            Ok::<_, Infallible>(Response::builder().status(status).body(ReplyBody::from(body)).unwrap())
        }
    });
    let world = SharedWorld::new(World::new(Settings::default()));
    let metrics = Metrics::new().unwrap();
    let unsynced = watch::Sender::new(UnsyncedKinds::new());
    let lists = CpuUseLists {
        client: Client::new(service, "ns"),
        namespace: namespace.map(str::to_owned),
        interval: INTERVAL,
        world: world.clone(),
        metrics: metrics.clone(),
        unsynced: unsynced.subscribe(),
        fault: watch::Sender::new(None),
    };
    let fault = lists.fault.subscribe();
    tokio::spawn(lists.run());
    Bench { world, metrics, fault, requests, answers, unsynced }
}

impl Bench {
    /// Adds a running Sandbox with an idle timeout and its pod.
    fn add(&self, namespace: &str) {
        let metadata = |uid: &str| {
            json!({
                "name": "a", "namespace": namespace, "uid": format!("{uid}-{namespace}"), "resourceVersion": "1",
                "creationTimestamp": "2020-01-01T00:00:00Z",
            })
        };
        let spec = json!({
            "idleTimeout": "1h", "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } },
        });
        let mut pod = json!({ "metadata": metadata("pod"), "status": { "phase": "Running" } });
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "name": "a", "uid": format!("sandbox-{namespace}"),
            "controller": true,
        }]);
        let sandbox = json!({ "metadata": metadata("sandbox"), "spec": spec });
        for (kind, document) in [(Kind::Sandbox, sandbox), (Kind::Pod, pod)] {
            let object = Object::from_json(kind, document).unwrap();
            let _ = self.world.observe(Observed::Applied(object), Timestamp::now());
        }
    }

    /// Binds an idle plugin beside the built-ins.
    fn bind(&self) {
        let plugin = PluginRef { name: "by-cpu".to_owned(), digest: "sha256:0".to_owned() };
        let _ = self.world.set_bindings(Bindings::new(vec![Binding::new(plugin, Hook::Idle)]));
    }

    fn answer(&self, answers: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(move |path| Reply::Now(answers(path)));
    }

    /// The CPU use of the Sandbox of a namespace, according to the World.
    fn used(&self, namespace: &str) -> Option<u32> {
        let key = Key::new(Kind::Sandbox, namespace, "a");
        let Snapshot::Sandbox(snapshot) = self.world.snapshot(&key, Timestamp::now()) else { panic!("no Sandbox") };
        snapshot.cpu.sample.map(|sample| sample.millicores)
    }

    /// Whether a list has ended, as a Sandbox sees it.
    fn listed(&self) -> bool {
        let key = Key::new(Kind::Sandbox, "ns", "a");
        let Snapshot::Sandbox(snapshot) = self.world.snapshot(&key, Timestamp::now()) else { panic!("no Sandbox") };
        snapshot.cpu.listed.is_some()
    }

    fn lists(&self, result: &str) -> u64 {
        let text = String::from_utf8(self.metrics.text().unwrap()).unwrap();
        let line = format!("paddock_cpu_use_lists_total{{result=\"{result}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)).expect("a counter").parse().unwrap()
    }

    fn fault(&self) -> String {
        self.fault.borrow().clone().unwrap_or_default()
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

/// The time until the first list has ended. From then on, the test looks a second after each list.
async fn first() {
    sleep(Duration::from_secs(1)).await;
}

/// The time until the next list has ended.
async fn next() {
    sleep(INTERVAL).await;
}

fn sample(namespace: &str, cpu: &str) -> Value {
    json!({
        "metadata": { "name": "a", "namespace": namespace }, "timestamp": Timestamp::now(), "window": "15s",
        "containers": [{ "name": "c", "usage": { "cpu": cpu, "memory": "1Mi" } }],
    })
}

fn page(items: &Value, next: &str) -> (u16, String) {
    (200, json!({ "kind": "PodMetricsList", "metadata": { "continue": next }, "items": items }).to_string())
}

fn status(code: u16, message: &str) -> (u16, String) {
    (code, json!({ "kind": "Status", "code": code, "message": message }).to_string())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_listed_until_the_pods_are_known_and_a_plugin_may_ask() {
    let bench = bench(None, |_| page(&json!([sample("ns", "250m")]), ""));
    bench.unsynced.send_replace(UnsyncedKinds::from([Kind::Pod]));
    bench.add("ns");
    bench.bind();
    next().await;
    assert_eq!(bench.requests(), [""; 0], "the pods are not listed");
    let _ = bench.world.set_bindings(Bindings::default());
    bench.unsynced.send_replace(UnsyncedKinds::new());
    first().await;
    for _ in 0..5 {
        next().await;
    }
    assert_eq!(bench.requests(), [""; 0], "nobody asks");
    assert!(!bench.listed());
    bench.bind();
    next().await;
    let query =
        "?&limit=500&labelSelector=agents.x-k8s.io%2Fsandbox-name-hash%2C%21agents.x-k8s.io%2Fwarm-pool-sandbox";
    let asked = bench.requests();
    let pairs = |text: &str| text.split(['?', '&']).map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(asked.iter().map(|path| pairs(path)).collect::<Vec<_>>(), [pairs(&format!("{ALL}{query}"))]);
    assert_eq!((bench.used("ns"), bench.listed(), bench.lists("served")), (Some(250), true, 1));
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_reported_and_ends_when_the_api_is_served() {
    let bench = bench(None, |_| (404, "404 page not found".to_owned()));
    bench.add("ns");
    bench.bind();
    first().await;
    assert!(bench.listed(), "a Sandbox does not wait for an API that is not there");
    let absent = bench.fault();
    assert!(absent.contains("does not serve pods.metrics.k8s.io; install metrics-server"), "{absent}");
    for (answer, result, text) in [
        (status(403, "pods.metrics.k8s.io is forbidden"), "forbidden", "agent-sandbox-controller-cpu-metrics"),
        (status(401, "Unauthorized"), "forbidden", "Unauthorized"),
        (status(503, "the server is currently unable to handle the request"), "failed", "unable to handle"),
        ((200, "{".to_owned()), "failed", "cannot be listed"),
        ((500, "oops".to_owned()), "failed", "500 Internal Server Error: no message"),
    ] {
        let before = bench.lists(result);
        bench.answer(move |_| answer.clone());
        next().await;
        let fault = bench.fault();
        assert!(fault.starts_with("CPU use: ") && fault.contains(text), "{result}: {fault}");
        assert!(bench.lists(result) > before, "{result}");
        assert_eq!(bench.used("ns"), None);
    }
    bench.answer(|_| page(&json!([sample("ns", "12345678n")]), ""));
    next().await;
    assert_eq!((bench.fault(), bench.used("ns")), (String::new(), Some(13)));
    // The fault ends with the need for the list.
    bench.answer(|_| status(403, "forbidden"));
    next().await;
    assert!(!bench.fault().is_empty());
    let _ = bench.world.set_bindings(Bindings::default());
    next().await;
    assert_eq!(bench.fault(), "");
}

#[tokio::test(start_paused = true)]
async fn every_page_is_read_and_an_item_that_is_not_valid_hides_no_other() {
    let bench = bench(Some("ns"), |path| {
        assert!(path.starts_with("/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods?"), "{path}");
        if path.contains("continue=second") {
            return page(
                &json!([{ "metadata": {} }, { "metadata": 1 }, sample("ns", "7m"), sample("ns", "x")]),
                "third",
            );
        }
        page(&Value::Null, if path.contains("continue=third") { "" } else { "second" })
    });
    bench.add("ns");
    bench.bind();
    first().await;
    assert_eq!((bench.requests().len() % 3, bench.used("ns"), bench.fault()), (0, Some(7), String::new()));
}

#[tokio::test(start_paused = true)]
async fn namespace_whose_list_is_too_large_hides_only_its_own() {
    let huge = json!({ "items": [], "padding": " ".repeat(limits::CPU_METRICS_BYTES_MAX) }).to_string();
    let bench = bench(None, move |path| match path.split(['/', '?']).nth(5) {
        Some("ns") => page(&json!([sample("ns", "250m")]), ""),
        _ => (200, huge.clone()),
    });
    bench.add("ns");
    bench.add("hostile");
    bench.bind();
    first().await;
    assert_eq!((bench.used("ns"), bench.used("hostile")), (Some(250), None));
    let fault = bench.fault();
    assert!(fault.contains("in the namespace hostile: ") && fault.contains("more than 32 MiB"), "{fault}");
    assert!(bench.listed() && bench.lists("failed") > 0);
    let text = String::from_utf8(bench.metrics.text().unwrap()).unwrap();
    assert!(text.contains("paddock_cpu_use_pods 1\n"), "the pods of the other namespace count");
    // The large list of all namespaces is not repeated at every interval.
    let mut asked = bench.requests();
    for _ in 0..25 {
        next().await;
        asked.extend(bench.requests());
    }
    let of_all = asked.iter().filter(|path| path.starts_with(&format!("{ALL}?"))).count();
    assert_eq!((of_all, asked.len()), (2, 2 + 26 * 2));
}

/// Namespaces whose lists hang come first in the alphabet, and there are too many of them for one interval.
#[tokio::test(start_paused = true)]
async fn namespaces_whose_lists_hang_take_the_time_of_no_other() {
    let hostile = ["a1", "a2", "a3", "a4", "a5", "a6", "a7"];
    let bench = bench_with(None, move |path| match path.split(['/', '?']).nth(5) {
        Some("ns") => Reply::Now(page(&json!([sample("ns", "250m")]), "")),
        _ => Reply::Never,
    });
    bench.add("ns");
    hostile.iter().for_each(|namespace| bench.add(namespace));
    bench.bind();
    // The first list takes all of its time, and so do those of the first namespaces.
    let mut seen = 0;
    for _ in 0..12 {
        next().await;
        seen += u32::from(bench.used("ns").is_some());
    }
    assert!(seen >= 9, "{seen}");
    let listed = bench.requests();
    let count =
        |namespace: &str| listed.iter().filter(|path| path.contains(&format!("namespaces/{namespace}/"))).count();
    assert!(count("ns") >= 9, "at every interval");
    assert!(hostile.iter().all(|namespace| count(namespace) >= 2), "each one has its turn: {listed:?}");
    assert!(bench.fault().contains("takes too long"), "{}", bench.fault());
}

/// The other namespaces are slow and succeed. They take all the time of an interval.
#[tokio::test(start_paused = true)]
async fn namespace_that_failed_once_does_not_wait_for_all_that_are_slow() {
    let slow = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"];
    let has_failed = AtomicBool::new(false);
    let bench = bench_with(None, move |path| match path.split(['/', '?']).nth(5) {
        Some("ns") if !has_failed.swap(true, Ordering::Relaxed) => Reply::Now(status(500, "once")),
        Some(namespace) if namespace == "ns" || slow.contains(&namespace) => {
            Reply::After(Duration::from_millis(2400), page(&json!([sample(namespace, "250m")]), ""))
        }
        _ => Reply::Never,
    });
    bench.add("ns");
    slow.iter().for_each(|namespace| bench.add(namespace));
    bench.bind();
    for _ in 0..6 {
        next().await;
    }
    assert_eq!(bench.used("ns"), Some(250), "{:?}", bench.requests());
    assert!(slow.iter().all(|namespace| bench.used(namespace).is_some()), "each one has its turn");
}

#[tokio::test(start_paused = true)]
async fn list_whose_pages_have_no_end_is_ended() {
    let bench = bench(None, |path| {
        // Pages without an end.
        let next = path.split("continue=page").nth(1).and_then(|n| n.split('&').next()?.parse::<u32>().ok());
        page(&json!([]), &format!("page{}", next.unwrap_or(0) + 1))
    });
    bench.add("ns");
    bench.bind();
    first().await;
    assert!(bench.requests().len() >= limits::CPU_METRICS_PAGES_MAX && bench.listed(), "{}", bench.fault());
}
