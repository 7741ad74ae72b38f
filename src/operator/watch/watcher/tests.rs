//! A watch against an API server in memory, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use futures::stream;
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use paddock_core::plan::{Action, Op, Outcome, Reason};
use paddock_core::settings::Settings;
use paddock_core::world::World;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::queue::Workers;

#[derive(Default)]
struct Store {
    /// The status of the reply to every request. Zero if requests succeed.
    refusal: u16,
    /// The time after which every request of a page or a watch is answered.
    delay: Duration,
    /// The pages after which a list has expired. Absent if no list expires.
    pages: Option<usize>,
    objects: BTreeMap<String, Value>,
    version: u64,
    lists: usize,
    refused: usize,
    watchers: Vec<mpsc::UnboundedSender<String>>,
}

/// The statuses that requests get: all is well, the kind is not served, the right is missing, the credential is not
/// valid, and any other fault.
const OPEN: u16 = 0;
const ABSENT: u16 = 404;
const FORBIDDEN: u16 = 403;
const UNAUTHENTICATED: u16 = 401;
const FAILING: u16 = 500;

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Store>>);

impl Server {
    fn set(&self, name: &str, kind: &str) {
        let mut store = self.0.lock().unwrap();
        store.version += 1;
        let object = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
            "metadata": {
                "name": name, "namespace": "ns", "uid": name, "resourceVersion": store.version.to_string(),
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
        });
        store.tell(kind, &object);
        if kind == "DELETED" {
            store.objects.remove(name);
        } else {
            store.objects.insert(name.to_owned(), object);
        }
    }

    /// Gives every request this status from now on, and ends the watches.
    fn refuse(&self, status: u16) {
        let mut store = self.0.lock().unwrap();
        store.refusal = status;
        store.watchers.clear();
    }

    /// Drops the history of events, so that the next watch gets 410 (version too old). The changes in between are never
    /// delivered.
    fn expire(&self, forget: &str) {
        let mut store = self.0.lock().unwrap();
        store.version += 1;
        store.objects.remove(forget);
        let status = json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "" });
        store.tell("ERROR", &status);
        store.watchers.clear();
    }

    fn answer(&self, request: &Request<kube::client::Body>) -> Response<Body> {
        let mut store = self.0.lock().unwrap();
        match store.refusal {
            0 => {}
            404 => {
                store.refused += 1;
                let reply = Response::builder().status(StatusCode::NOT_FOUND);
                return reply.body(Body::from("404 page not found\n")).unwrap();
            }
            code => {
                let status =
                    json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "", "message": "" });
                return Response::builder().status(code).body(Body::from(status.to_string())).unwrap();
            }
        }
        if request.uri().query().unwrap_or_default().contains("watch=true") {
            let (sender, receiver) = mpsc::unbounded_channel::<String>();
            store.watchers.push(sender);
            let lines = stream::unfold(receiver, |mut receiver| async {
                let line = receiver.recv().await?;
                Some((Ok::<_, Infallible>(Bytes::from(line + "\n")), receiver))
            });
            return Response::new(Body::from_stream(lines));
        }
        let parameter = |name: &str| {
            let pairs = request.uri().query().unwrap_or_default().split('&');
            pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let number = |name| parameter(name).map(|value| value.parse::<usize>().unwrap());
        let (limit, from) = (number("limit").unwrap(), number("continue").unwrap_or(0));
        // The question for the number of objects.
        if limit > 1 {
            store.lists += usize::from(from == 0);
            if store.pages.is_some_and(|pages| from >= limit * pages) {
                let status =
                    json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "" });
                return Response::builder().status(410).body(Body::from(status.to_string())).unwrap();
            }
        }
        let items: Vec<&Value> = store.objects.values().skip(from).take(limit).collect();
        let left = store.objects.len() - from - items.len();
        let mut metadata = json!({ "resourceVersion": store.version.to_string() });
        if left > 0 {
            metadata["continue"] = (from + limit).to_string().into();
            metadata["remainingItemCount"] = left.into();
        }
        let list = json!({
            "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "SandboxList", "metadata": metadata, "items": items,
        });
        Response::new(Body::from(list.to_string()))
    }
}

impl Store {
    fn tell(&mut self, kind: &str, object: &Value) {
        // An API server writes the type first.
        let line = format!(r#"{{"type":"{kind}","object":{object}}}"#);
        self.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
    }
}

struct Bench {
    world: SharedWorld,
    queue: Queue,
    unsynced: tokio::sync::watch::Receiver<UnsyncedKinds>,
    unknown: tokio::sync::watch::Receiver<UnknownKinds>,
    metrics: Metrics,
    task: JoinHandle<()>,
}

fn bench(server: &Server, kind: Kind) -> Bench {
    bench_in(server, kind, None)
}

fn bench_in(server: &Server, kind: Kind, namespace: Option<&str>) -> Bench {
    let answering = server.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let answering = answering.clone();
        async move {
            let is_count = request.uri().query().unwrap_or_default().split('&').any(|pair| pair == "limit=1");
            let delay = answering.0.lock().unwrap().delay;
            if !is_count {
                sleep(delay).await;
            }
            Ok::<_, Infallible>(answering.answer(&request))
        }
    });
    let world = SharedWorld::new(World::new(Settings::default()));
    let queue = Queue::new(Workers::default(), 1);
    queue.open(true);
    let metrics = Metrics::new().unwrap();
    let unsynced = Sender::new(UnsyncedKinds::from([kind]));
    let unknown = Sender::new(UnknownKinds::new());
    let watch = Watch {
        kind,
        namespace: namespace.map(str::to_owned),
        client: Client::new(service, "ns"),
        world: world.clone(),
        queue: queue.clone(),
        metrics: metrics.clone(),
        unsynced: unsynced.clone(),
        unknown: unknown.clone(),
    };
    let (unsynced, unknown) = (unsynced.subscribe(), unknown.subscribe());
    Bench { world, queue, unsynced, unknown, metrics, task: tokio::spawn(watch.run()) }
}

impl Bench {
    fn names(&self, kind: Kind) -> Vec<String> {
        self.world.read(|world| world.of_kind(kind).map(|object| object.key.name.to_string()).collect())
    }

    async fn until(&self, kind: Kind, names: &[&str]) {
        let wait = async {
            while self.names(kind) != names {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(paddock_kube::limits::WATCH_TIMEOUT, wait).await;
        assert!(waited.is_ok(), "{:?} instead of {names:?}", self.names(kind));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_listed_and_what_happens_is_followed() {
    let server = Server::default();
    server.set("a", "ADDED");
    let mut bench = bench(&server, Kind::Sandbox);
    bench.unsynced.wait_for(BTreeSet::is_empty).await.unwrap();
    assert_eq!(bench.names(Kind::Sandbox), ["a"]);
    let job = bench.queue.next().await.unwrap();
    assert_eq!((&*job.key.name, job.trigger), ("a", Trigger::Related));
    job.done(crate::queue::Done::Converged, None);

    server.set("b", "ADDED");
    bench.until(Kind::Sandbox, &["a", "b"]).await;
    let job = bench.queue.next().await.unwrap();
    assert_eq!((&*job.key.name, job.trigger), ("b", Trigger::Changed));
    server.set("a", "DELETED");
    bench.until(Kind::Sandbox, &["b"]).await;
    bench.task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_begins_a_new_list_and_what_is_not_in_it_is_gone() {
    let server = Server::default();
    server.set("a", "ADDED");
    server.set("b", "ADDED");
    let bench = bench(&server, Kind::Sandbox);
    bench.until(Kind::Sandbox, &["a", "b"]).await;
    while server.0.lock().unwrap().watchers.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    server.expire("a");
    bench.until(Kind::Sandbox, &["b"]).await;
    assert_eq!(server.0.lock().unwrap().lists, 2);
    let text = String::from_utf8(bench.metrics.text().unwrap()).unwrap();
    assert!(text.contains(r#"paddock_watch_breaks_total{cause="expired",kind="Sandbox"} 1"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_is_waited_for_and_does_not_hold_up_the_rest() {
    let server = Server::default();
    server.refuse(ABSENT);
    let mut bench = bench(&server, Kind::Template);
    let others =
        tokio::time::timeout(Duration::from_secs(1), bench.unsynced.wait_for(BTreeSet::is_empty)).await.is_ok();
    assert!(others);
    server.set("t", "ADDED");
    server.refuse(OPEN);
    bench.until(Kind::Template, &["t"]).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_sandbox_itself_nothing_begins() {
    let server = Server::default();
    server.refuse(ABSENT);
    let mut bench = bench(&server, Kind::Sandbox);
    sleep(Duration::from_secs(600)).await;
    assert!(!bench.unsynced.borrow().is_empty());
    // The kind is requested from time to time and not in a tight loop.
    let asked = server.0.lock().unwrap().refused;
    assert!((150..250).contains(&asked), "asked {asked} times in ten minutes");
    server.refuse(OPEN);
    bench.unsynced.wait_for(BTreeSet::is_empty).await.unwrap();
}

/// An API server that fails for a while, for example after somebody took a right away.
#[tokio::test(start_paused = true)]
async fn kind_is_unknown_after_a_minute_of_failures_until_it_is_listed_again() {
    let server = Server::default();
    server.set("a", "ADDED");
    let mut bench = bench(&server, Kind::Sandbox);
    bench.until(Kind::Sandbox, &["a"]).await;
    let shown = |bench: &Bench, value: u8| {
        let text = String::from_utf8(bench.metrics.text().unwrap()).unwrap();
        let line = format!("paddock_watch_failing{{kind=\"Sandbox\"}} {value}");
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    };
    server.refuse(FAILING);
    sleep(limits::WATCH_OUTAGE - Duration::from_secs(15)).await;
    server.refuse(OPEN);
    sleep(Duration::from_secs(300)).await;
    assert!(bench.unknown.borrow().is_empty(), "a short interruption is none");
    shown(&bench, 0);

    let began = Instant::now();
    server.refuse(FAILING);
    bench.unknown.wait_for(|unknown| unknown.contains(&Kind::Sandbox)).await.unwrap();
    let took = began.elapsed();
    assert!(took > limits::WATCH_OUTAGE && took < limits::WATCH_OUTAGE * 2, "{took:?}");
    shown(&bench, 1);
    server.set("b", "ADDED");
    server.refuse(OPEN);
    bench.unknown.wait_for(UnknownKinds::is_empty).await.unwrap();
    assert_eq!(bench.names(Kind::Sandbox), ["a", "b"], "the list comes first");
    shown(&bench, 0);
}

/// A CRD that is removed, and a right on a cluster-wide kind that is taken away from an operator of one namespace. The
/// watch may have failed before, so that the World does not contain the last changes.
#[tokio::test(start_paused = true)]
async fn kind_that_is_not_served_any_more_has_no_objects() {
    let served = Some("ns");
    for (kind, namespace, refusal, is_without) in [
        (Kind::Template, None, ABSENT, true),
        (Kind::Claim, None, ABSENT, true),
        (Kind::SeedPool, served, ABSENT, true),
        (Kind::RuntimeClass, served, FORBIDDEN, true),
        (Kind::Node, served, FORBIDDEN, true),
        // The operator needs these kinds.
        (Kind::Sandbox, None, ABSENT, false),
        (Kind::Sandbox, served, ABSENT, false),
        (Kind::Namespace, served, FORBIDDEN, false),
        (Kind::RuntimeClass, None, FORBIDDEN, false),
        (Kind::Pod, served, FORBIDDEN, false),
        (Kind::Pod, None, FAILING, false),
        // Every API server serves these kinds, and a credential that is not valid says nothing about them.
        (Kind::Pod, None, ABSENT, false),
        (Kind::RuntimeClass, served, ABSENT, false),
        (Kind::RuntimeClass, served, UNAUTHENTICATED, false),
    ] {
        for outage in [Duration::ZERO, limits::WATCH_OUTAGE / 2, limits::WATCH_OUTAGE * 3] {
            let case = format!("{kind:?} in {namespace:?}: {refusal} after an outage of {outage:?}");
            let server = Server::default();
            server.set("a", "ADDED");
            let mut bench = bench_in(&server, kind, namespace);
            bench.until(kind, &["a"]).await;
            if !outage.is_zero() {
                server.refuse(FAILING);
                sleep(outage).await;
            }
            let is_unknown = outage > limits::WATCH_OUTAGE;
            assert_eq!(bench.unknown.borrow().contains(&kind), is_unknown, "{case}");
            server.refuse(refusal);
            if is_without {
                sleep(limits::WATCH_OUTAGE / 2).await;
                assert_eq!(bench.names(kind), ["a"], "{case}: an answer of a proxy");
                bench.until(kind, &[]).await;
                assert!(bench.unknown.borrow().is_empty(), "{case}");
                let text = String::from_utf8(bench.metrics.text().unwrap()).unwrap();
                assert!(text.contains(&format!("paddock_watch_failing{{kind=\"{}\"}} 0", kind.name())), "{case}");
                sleep(limits::WATCH_OUTAGE * 3).await;
                assert!(bench.unknown.borrow().is_empty(), "{case}: it stays so");
            } else {
                sleep(limits::WATCH_OUTAGE * 3).await;
                assert_eq!(bench.names(kind), ["a"], "{case}");
                assert_eq!(bench.unknown.borrow().contains(&kind), is_unknown || kind != Kind::Sandbox, "{case}");
            }
            server.refuse(OPEN);
            while server.0.lock().unwrap().watchers.is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
            server.set("b", "ADDED");
            bench.until(kind, &["a", "b"]).await;
            let known = bench.unknown.wait_for(UnknownKinds::is_empty);
            timeout(Duration::from_mins(5), known).await.expect(&case).unwrap();
            bench.task.abort();
        }
    }
}

/// Attempts that hang: each fails when the connection gives up.
#[tokio::test(start_paused = true)]
async fn kind_is_unknown_if_every_attempt_fails_slowly() {
    let server = Server::default();
    server.set("a", "ADDED");
    let mut bench = bench(&server, Kind::Sandbox);
    bench.until(Kind::Sandbox, &["a"]).await;
    while server.0.lock().unwrap().watchers.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    {
        let mut store = server.0.lock().unwrap();
        (store.refusal, store.delay) = (FAILING, paddock_kube::limits::READ_TIMEOUT);
        store.watchers.clear();
    }
    let unknown = bench.unknown.wait_for(|unknown| unknown.contains(&Kind::Sandbox));
    assert!(tokio::time::timeout(Duration::from_mins(5), unknown).await.is_ok());
    {
        let mut store = server.0.lock().unwrap();
        (store.refusal, store.delay) = (OPEN, Duration::ZERO);
    }
    bench.unknown.wait_for(UnknownKinds::is_empty).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_list_that_expires_before_its_last_page_is_repeated_with_larger_pages() {
    let least = usize::try_from(paddock_kube::limits::LIST_PAGE_SIZE_MIN).unwrap();
    for (objects, pages, lists) in [(least * 8, 8, 1), (least * 8, 7, 2), (least * 8, 3, 3), (least * 8, 1, 4)] {
        let server = Server::default();
        (0..objects).for_each(|n| server.set(&format!("{n:04}"), "ADDED"));
        server.0.lock().unwrap().pages = Some(pages);
        let mut bench = bench(&server, Kind::Sandbox);
        let wait = bench.unsynced.wait_for(BTreeSet::is_empty);
        assert!(tokio::time::timeout(Duration::from_mins(1), wait).await.is_ok(), "{objects} objects, {pages} pages");
        assert_eq!(bench.names(Kind::Sandbox).len(), objects);
        assert_eq!(server.0.lock().unwrap().lists, lists, "{objects} objects, {pages} pages");
        bench.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn kind_is_unknown_if_its_lists_expire_again_and_again() {
    let server = Server::default();
    (0..100).for_each(|n| server.set(&format!("{n:04}"), "ADDED"));
    {
        let mut store = server.0.lock().unwrap();
        (store.pages, store.delay) = (Some(1), Duration::from_mins(1));
    }
    let mut bench = bench(&server, Kind::Sandbox);
    let unknown = bench.unknown.wait_for(|unknown| unknown.contains(&Kind::Sandbox));
    timeout(Duration::from_mins(120), unknown).await.expect("the outage is seen").unwrap();
    assert!(server.0.lock().unwrap().lists >= 2, "one list that expired is no outage");
    let known = bench.unknown.wait_for(UnknownKinds::is_empty);
    timeout(Duration::from_mins(120), known).await.expect("a list with larger pages ends").unwrap();
    assert_eq!(bench.names(Kind::Sandbox).len(), 100);
}

#[tokio::test(start_paused = true)]
async fn what_went_while_it_was_listed_and_our_reply_came_is_found_by_another_list() {
    let server = Server::default();
    server.set("a", "ADDED");
    let bench = bench(&server, Kind::Sandbox);
    bench.until(Kind::Sandbox, &["a"]).await;
    let held = bench.world.read(|world| world.of_kind(Kind::Sandbox).next().cloned()).unwrap();
    while server.0.lock().unwrap().watchers.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    // The object is changed a last time and then deleted. The reply to the change arrives while the next list is being
    // made.
    server.expire("a");
    while server.0.lock().unwrap().lists < 2 {
        tokio::task::yield_now().await;
    }
    let mut stored = Object::clone(&held);
    (stored.meta.version, stored.meta.resource_version) = (2, "2".into());
    let _ = bench.world.observe(Observed::Listing(Kind::Sandbox), Timestamp::now());
    let op = Op {
        key: held.key.clone(),
        action: Action::Patch {
            uid: held.meta.uid.to_string(),
            resource_version: None,
            status: false,
            body: json!({}),
        },
        reason: Reason::StatusChanged,
    };
    let _ = bench.world.finish(&op, &Outcome::Stored(Box::new(stored)), Timestamp::now());
    let _ = bench.world.observe(Observed::Listed(Kind::Sandbox, Vec::new()), Timestamp::now());
    assert_eq!(bench.names(Kind::Sandbox), ["a"], "it may as well be new");
    bench.until(Kind::Sandbox, &[]).await;
    assert_eq!(server.0.lock().unwrap().lists, 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_seen_while_a_write_is_under_way_ends_no_wait() {
    let server = Server::default();
    server.set("a", "ADDED");
    let bench = bench(&server, Kind::Sandbox);
    bench.until(Kind::Sandbox, &["a"]).await;
    bench.queue.next().await.unwrap().done(crate::queue::Done::Converged, None);
    while server.0.lock().unwrap().watchers.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
    let key = bench.world.read(|world| world.of_kind(Kind::Sandbox).next().unwrap().key.clone());
    let action = Action::Patch { uid: "a".to_owned(), resource_version: None, status: false, body: json!({}) };
    let step = [Op { key, action, reason: Reason::StatusChanged }];
    bench.world.begin(&step).unwrap();
    server.set("a", "MODIFIED");
    let job = bench.queue.next().await.unwrap();
    assert_eq!(job.trigger, Trigger::Related, "most likely our own write");
    job.done(crate::queue::Done::Converged, None);
    let _ = bench.world.finish(&step[0], &Outcome::Busy, Timestamp::now());
    server.set("a", "MODIFIED");
    assert_eq!(bench.queue.next().await.unwrap().trigger, Trigger::Changed, "somebody else's");
    bench.task.abort();
}
