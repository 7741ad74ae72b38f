//! The writer against a server that speaks real HTTP.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use paddock_core::plan::StartKind;
use paddock_core::settings::Settings;
use paddock_core::world::World;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Barrier;

use super::*;
use crate::queue::Workers;

type Answer = Arc<dyn Fn(&Method, &Value) -> Reaction + Send + Sync>;

enum Reaction {
    Reply(Response),
    /// Waits until the other requests have arrived, and then stores.
    Meet(Arc<Barrier>),
    /// Stores slowly, and counts the requests under way and the most of them.
    Counted(Arc<Mutex<(usize, usize)>>),
    Never,
}

#[derive(Clone)]
struct Server {
    answer: Answer,
    seen: Arc<Mutex<Vec<String>>>,
}

async fn handle(State(server): State<Server>, method: Method, uri: Uri, _: HeaderMap, body: String) -> Response {
    // A GET has no body.
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    server.seen.lock().unwrap().push(format!("{method} {}", uri.path()));
    let stored = || (StatusCode::CREATED, stored(&body).to_string()).into_response();
    match (server.answer)(&method, &body) {
        Reaction::Reply(response) => response,
        Reaction::Meet(barrier) => {
            barrier.wait().await;
            stored()
        }
        Reaction::Counted(count) => {
            let change = |by: isize| {
                let mut count = count.lock().unwrap();
                count.0 = count.0.strict_add_signed(by);
                count.1 = count.1.max(count.0);
            };
            change(1);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            change(-1);
            stored()
        }
        Reaction::Never => std::future::pending().await,
    }
}

/// The object that the API server stores for a create.
fn stored(body: &Value) -> Value {
    let mut object = body.clone();
    object["metadata"]["uid"] = "u1".into();
    object["metadata"]["resourceVersion"] = "5".into();
    object
}

fn ok(body: &Value) -> Reaction {
    Reaction::Reply((StatusCode::CREATED, stored(body).to_string()).into_response())
}

fn refuse(code: u16, reason: &str, retry_after: Option<&str>) -> Reaction {
    let status = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "m" });
    let mut response = (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response();
    if let Some(value) = retry_after {
        response.headers_mut().insert("retry-after", value.parse().unwrap());
    }
    Reaction::Reply(response)
}

struct Bench {
    writer: Writer,
    world: SharedWorld,
    seen: Arc<Mutex<Vec<String>>>,
}

async fn bench(fence: Fence, answer: impl Fn(&Method, &Value) -> Reaction + Send + Sync + 'static) -> Bench {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = Server { answer: Arc::new(answer), seen: seen.clone() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, Router::new().fallback(handle).with_state(server)).into_future());
    at(&format!("http://{address}"), fence, seen)
}

fn at(url: &str, fence: Fence, seen: Arc<Mutex<Vec<String>>>) -> Bench {
    let mut config = kube::Config::new(url.parse().unwrap());
    config.default_retry = false;
    let world = SharedWorld::new(World::new(Settings::default()));
    let writer = Writer::new(
        Client::try_from(config).unwrap(),
        world.clone(),
        Queue::new(Workers::default(), 1),
        (WriteLimiter::new(None, None), fence),
        Metrics::new().unwrap(),
    );
    Bench { writer, world, seen }
}

fn create(name: &str) -> Op {
    let body = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "ns" }, "spec": { "containers": [] },
    });
    Op { key: Key::new(Kind::Pod, "ns", name), reason: Reason::PodMissing, action: Action::Create { body } }
}

fn plan(steps: &[&[&str]]) -> Plan {
    Plan { steps: steps.iter().map(|names| names.iter().map(|n| create(n)).collect()).collect(), ..Plan::default() }
}

#[tokio::test]
async fn what_was_stored_is_known_before_any_watch_says_so() {
    let bench = bench(Fence::open(), |_, body| ok(body)).await;
    assert_eq!(bench.writer.execute(&plan(&[&["a"], &["b"]]), None).await, Progress::Stored);
    for name in ["a", "b"] {
        let key = Key::new(Kind::Pod, "ns", name);
        assert_eq!(bench.world.read(|world| world.get(&key).unwrap().meta.version), 5);
    }
    assert_eq!(bench.seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn operations_of_one_step_go_out_together() {
    // The server answers neither operation before both have arrived.
    let barrier = Arc::new(Barrier::new(2));
    let bench = bench(Fence::open(), move |_, _| Reaction::Meet(barrier.clone())).await;
    assert_eq!(bench.writer.execute(&plan(&[&["a", "b"]]), None).await, Progress::Stored);
}

#[tokio::test]
async fn a_step_does_not_begin_unless_the_one_before_was_stored() {
    let bench = bench(Fence::open(), |_, _| refuse(422, "Invalid", None)).await;
    let progress = bench.writer.execute(&plan(&[&["a"], &["b"]]), None).await;
    assert_eq!(progress, Progress::Stopped(Done::Failed { at_least: None }));
    assert_eq!(*bench.seen.lock().unwrap(), ["POST /api/v1/namespaces/ns/pods"]);
}

#[tokio::test]
async fn a_plan_that_is_out_of_date_is_not_begun() {
    let bench = bench(Fence::open(), |_, body| ok(body)).await;
    assert_eq!(bench.writer.execute(&plan(&[&["a"]]), None).await, Progress::Stored);
    assert_eq!(bench.writer.execute(&plan(&[&["a"]]), None).await, Progress::Stale);
    assert_eq!(bench.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_conflict_are_looked_at_again() {
    for reason in ["AlreadyExists", "Conflict"] {
        let bench = bench(Fence::open(), move |_, _| refuse(409, reason, None)).await;
        assert_eq!(bench.writer.execute(&plan(&[&["a"]]), None).await, Progress::Stopped(Done::Again));
    }
}

#[tokio::test]
async fn a_busy_server_is_left_alone_for_as_long_as_it_says() {
    let bench = bench(Fence::open(), |_, _| refuse(429, "TooManyRequests", Some("2"))).await;
    let at_least = Some(Duration::from_secs(2));
    assert_eq!(bench.writer.execute(&plan(&[&["a"]]), None).await, Progress::Stopped(Done::Failed { at_least }));
    assert_eq!(bench.writer.limiter.load().0, limits::WRITE_CONCURRENCY.0 / 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_never_answered_ends_and_counts_as_perhaps_stored() {
    let bench = bench(Fence::open(), |_, _| Reaction::Never).await;
    let start = Instant::now();
    assert!(matches!(bench.writer.execute(&plan(&[&["a"]]), None).await, Progress::Stopped(Done::Failed { .. })));
    assert_eq!(start.elapsed().as_secs(), limits::WRITE_TIMEOUT.as_secs());
    let text = String::from_utf8(bench.writer.metrics.text().unwrap()).unwrap();
    assert!(text.contains(r#"paddock_writes_total{kind="Pod",outcome="unknown",reason="PodMissing",verb="create"} 1"#));
}

#[tokio::test]
async fn a_server_that_is_not_there_stored_nothing() {
    // The port is bound, so that no other program gets it, but nothing listens on it.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let bench = at(&url, Fence::open(), Arc::default());
    for _ in 0..2 {
        assert!(matches!(bench.writer.execute(&plan(&[&["a"]]), None).await, Progress::Stopped(Done::Failed { .. })));
    }
}

#[tokio::test]
async fn without_the_right_to_write_nothing_is_sent() {
    let bench = bench(Fence::closed(), |_, body| ok(body)).await;
    assert!(matches!(bench.writer.execute(&plan(&[&["a"]]), None).await, Progress::Stopped(Done::Failed { .. })));
    assert!(bench.seen.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_does_not_outlast_the_right_to_it() {
    let fence = Fence::closed();
    let start = Instant::now();
    fence.extend(start + Duration::from_secs(2));
    let bench = bench(fence, |_, _| Reaction::Never).await;
    assert!(matches!(bench.writer.execute(&plan(&[&["a"]]), None).await, Progress::Stopped(Done::Failed { .. })));
    assert_eq!(start.elapsed().as_secs(), 2);
}

/// A Sandbox as JSON, and as an object of the World.
fn stored_sandbox() -> (Value, paddock_core::object::Object) {
    let sandbox = json!({
        "apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
        "metadata": { "name": "s", "namespace": "ns", "uid": "u1", "resourceVersion": "1" },
        "spec": { "podTemplate": { "spec": { "containers": [{ "name": "c", "image": "i" }] } } },
    });
    let object = paddock_core::object::Object::from_json(Kind::Sandbox, sandbox.clone()).unwrap();
    (sandbox, object)
}

#[tokio::test]
async fn an_object_gets_no_controller_that_is_terminating_gone_or_another_one() {
    const READ: &str = "GET /apis/agents.x-k8s.io/v1beta1/namespaces/ns/sandboxes/owner";
    const PATCH: &str = "PATCH /apis/agents.x-k8s.io/v1beta1/namespaces/ns/sandboxes/s";
    let ending = json!({ "metadata": { "uid": "o1", "deletionTimestamp": "2026-11-30T00:00:00Z" } });
    for (owner, adopted) in [
        (Some(json!({ "metadata": { "uid": "o1" } })), true),
        (Some(json!({ "metadata": { "uid": "o2" } })), false),
        (Some(ending), false),
        (None, false),
    ] {
        let (stored, object) = stored_sandbox();
        let answer = owner.clone();
        let bench = bench(Fence::open(), move |method, _| match (method, &answer) {
            (&Method::GET, Some(owner)) => Reaction::Reply((StatusCode::OK, owner.to_string()).into_response()),
            (&Method::GET, None) => refuse(404, "NotFound", None),
            _ => ok(&stored),
        })
        .await;
        let action = Action::Adopt {
            uid: "u1".into(),
            resource_version: "1".into(),
            owner: Key::new(Kind::Sandbox, "ns", "owner"),
            owner_uid: "o1".into(),
            body: json!({ "metadata": { "ownerReferences": [] } }),
        };
        let op = Op { key: object.key.clone(), reason: Reason::Adopted, action };
        let _ = bench.world.observe(paddock_core::world::Observed::Applied(object), Timestamp::now());
        let progress = bench.writer.execute(&Plan { steps: vec![vec![op]], ..Plan::default() }, None).await;
        let (end, requests): (_, &[&str]) =
            if adopted { (Progress::Stored, &[READ, PATCH]) } else { (Progress::Stopped(Done::Again), &[READ]) };
        assert_eq!(
            (progress, &**bench.seen.lock().unwrap()),
            (end, &*requests.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>()),
            "{owner:?}"
        );
    }
}

/// Patches a known Sandbox. Returns the writer's result, the queue, and the time of the API server's reply.
async fn patched(reason: Reason) -> (Progress, Queue, Instant) {
    let (sandbox, object) = stored_sandbox();
    let replied = Arc::new(Mutex::new(Instant::now()));
    let clock = replied.clone();
    let bench = bench(Fence::open(), move |_, _| {
        *clock.lock().unwrap() = Instant::now();
        ok(&sandbox)
    })
    .await;
    let key = object.key.clone();
    let _ = bench.world.observe(paddock_core::world::Observed::Applied(object), Timestamp::now());
    let queue = bench.writer.queue.clone();
    queue.open(true);
    let action = Action::Patch { uid: "u1".into(), resource_version: Some("1".into()), status: false, body: json!({}) };
    let plan = Plan { steps: vec![vec![Op { key, reason, action }]], ..Plan::default() };
    let progress = bench.writer.execute(&plan, None).await;
    let replied = *replied.lock().unwrap();
    (progress, queue, replied)
}

#[tokio::test]
async fn a_sandbox_that_a_claim_took_is_looked_at_a_moment_later_and_any_other_at_once() {
    let (progress, queue, _) = patched(Reason::ModeInStep).await;
    let at_once = tokio::time::timeout(Duration::ZERO, queue.next()).await.unwrap().unwrap();
    assert_eq!((progress, &*at_once.key.name), (Progress::Stored, "s"));
    let (progress, queue, replied) = patched(Reason::Claimed).await;
    let later = tokio::time::timeout(Duration::from_secs(240), queue.next()).await.unwrap().unwrap();
    assert_eq!((progress, &*later.key.name), (Progress::Stored, "s"));
    // The key must not come sooner, but on a busy machine it may come any time later.
    assert!(replied.elapsed() >= limits::CLAIM_FOLLOW_UP_DELAY, "looked at after {:?}", replied.elapsed());
}

#[tokio::test]
async fn start_of_a_claim_counts_for_its_pool_when_the_api_server_has_stored_it() {
    let pool = json!({
        "metadata": {
            "name": "p", "namespace": "ns", "uid": "p1", "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": { "replicas": 1, "sandboxTemplateRef": { "name": "t" } },
    });
    let pool = paddock_core::object::Object::from_json(Kind::Pool, pool).unwrap();
    for (is_stored, count) in [(true, 1), (false, 0)] {
        let answer =
            move |_: &Method, body: &Value| if is_stored { ok(body) } else { refuse(409, "AlreadyExists", None) };
        let bench = bench(Fence::open(), answer).await;
        bench.writer.metrics.applied(&pool, Timestamp::now());
        let start = ClaimStart { kind: StartKind::NoneReady, pools: vec![pool.key.clone()] };
        // The other operations of the plan start nothing.
        let step = vec![Op { reason: Reason::ColdStart, ..create("c") }, create("other")];
        let _ = bench.writer.execute(&Plan { steps: vec![step], start: Some(start), ..Plan::default() }, None).await;
        let text = String::from_utf8(bench.writer.metrics.text().unwrap()).unwrap();
        let line = format!("paddock_pool_claims_total{{namespace=\"ns\",pool=\"p\",start=\"none-ready\"}} {count}");
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
}

#[tokio::test]
async fn what_a_claim_leaves_to_be_done_waits_until_its_plan_has_ended() {
    let (sandbox, object) = stored_sandbox();
    let status = Arc::new(Barrier::new(2));
    let meets = status.clone();
    let bench = bench(Fence::open(), move |method, _| match *method {
        Method::PATCH => ok(&sandbox),
        _ => Reaction::Meet(meets.clone()),
    })
    .await;
    let key = object.key.clone();
    let _ = bench.world.observe(paddock_core::world::Observed::Applied(object), Timestamp::now());
    let queue = bench.writer.queue.clone();
    queue.open(true);
    let action = Action::Patch { uid: "u1".into(), resource_version: Some("1".into()), status: false, body: json!({}) };
    let take = Op { key: key.clone(), reason: Reason::Claimed, action };
    // Any second write can represent the claim's status.
    let plan = Plan { steps: vec![vec![take], vec![create("second")]], ..Plan::default() };
    let writer = bench.writer;
    let acting = tokio::spawn(async move { writer.execute(&plan, None).await });
    let meanwhile = tokio::time::timeout(limits::CLAIM_FOLLOW_UP_DELAY * 5, queue.next()).await;
    assert!(
        meanwhile.is_err(),
        "{:?} is looked at beside the second write",
        meanwhile.ok().flatten().map(|job| job.key.clone())
    );
    status.wait().await;
    assert_eq!(acting.await.unwrap(), Progress::Stored);
    let mut keys = Vec::new();
    while let Ok(Some(job)) = tokio::time::timeout(limits::CLAIM_FOLLOW_UP_DELAY * 50, queue.next()).await {
        keys.push(job.key.clone());
        job.done(Done::Converged, None);
    }
    assert!(keys.contains(&key), "{keys:?}");
}

#[tokio::test]
async fn few_writes_of_large_objects_are_under_way_at_the_same_time() {
    for (creates, size, most) in [
        (false, 10, 12),
        (false, 200_000, limits::LARGE_OBJECTS),
        (true, 10, 12),
        (true, 200_000, limits::LARGE_OBJECTS),
    ] {
        let count = Arc::new(Mutex::new((0, 0)));
        let counted = count.clone();
        let bench = bench(Fence::open(), move |_, _| Reaction::Counted(counted.clone())).await;
        let pod = |n| {
            let metadata = json!({
                "name": format!("p{n}"), "namespace": "ns", "uid": "u", "resourceVersion": "1",
                "labels": { "policy.paddock.dev/a": "b" }, "annotations": { "a": "x".repeat(size) },
            });
            json!({ "metadata": metadata })
        };
        let write = |n| {
            let object = paddock_core::object::Object::from_json(Kind::Pod, pod(n)).unwrap();
            let key = object.key.clone();
            if creates {
                return Op { key, reason: Reason::PodMissing, action: Action::Create { body: pod(n) } };
            }
            let body = json!({ "metadata": { "name": format!("p{n}"), "namespace": "ns" } });
            let action = Action::Patch { uid: "u".to_owned(), resource_version: None, status: false, body };
            let _ = bench.world.observe(paddock_core::world::Observed::Applied(object), Timestamp::now());
            Op { key, reason: Reason::MetadataChanged, action }
        };
        let step: Vec<Op> = (0..12).map(write).collect();
        bench.writer.execute(&Plan { steps: vec![step], ..Plan::default() }, None).await;
        assert_eq!(bench.seen.lock().unwrap().len(), 12);
        let (left, at_once) = *count.lock().unwrap();
        assert!(left == 0 && at_once <= most && at_once > 1, "{at_once} of {most} with {size} bytes");
    }
}

#[tokio::test]
async fn reconcile_of_a_large_object_has_a_place_and_sends_its_large_writes_in_turn() {
    let count = Arc::new(Mutex::new((0, 0)));
    let counted = count.clone();
    let bench = bench(Fence::open(), move |_, _| Reaction::Counted(counted.clone())).await;
    let document = |name: &str, size: usize| {
        let metadata = json!({
            "name": name, "namespace": "ns", "uid": name, "resourceVersion": "1",
            "annotations": { "a": "x".repeat(size) },
        });
        json!({ "metadata": metadata, "spec": { "podTemplate": { "spec": { "containers": [] } } } })
    };
    let keys = [("small", 10), ("a", 200_000), ("b", 200_000), ("c", 200_000)].map(|(name, size)| {
        let object = paddock_core::object::Object::from_json(Kind::Sandbox, document(name, size)).unwrap();
        let key = object.key.clone();
        let _ = bench.world.observe(paddock_core::world::Observed::Applied(object), Timestamp::now());
        key
    });
    assert!(bench.writer.place(&keys[0]).await.is_none(), "a small object needs no place");
    let mut places = Vec::new();
    for key in &keys[1..=limits::LARGE_OBJECTS] {
        places.push(bench.writer.place(key).await.unwrap());
    }
    assert!(bench.writer.place(&keys[3]).now_or_never().is_none(), "all places are taken");
    let create = |n: usize| {
        let name = format!("p{n}");
        let body = json!({ "metadata": document(&name, 200_000)["metadata"], "spec": { "containers": [] } });
        let action = Action::Create { body };
        Op { key: Key::new(Kind::Pod, "ns", name), reason: Reason::PodMissing, action }
    };
    let plan = Plan { steps: vec![(0..3).map(create).collect()], ..Plan::default() };
    // The reconcile has a place, so its writes wait for no other one.
    assert_eq!(bench.writer.execute(&plan, places.first()).await, Progress::Stored);
    assert_eq!(*count.lock().unwrap(), (0, 1), "the writes under way, and the most of them");
}

#[tokio::test]
async fn large_writes_of_namespaces_take_turns() {
    let room = crate::limiter::WriteLimiter::fixed(limits::LARGE_OBJECTS);
    let enter = async |namespace: &str, n: usize| {
        let key = Key::new(Kind::Pod, namespace, format!("p-{n}"));
        room.enter(crate::limiter::Urgency::Normal, &key).await
    };
    let mut held = Vec::new();
    for n in 0..limits::LARGE_OBJECTS {
        held.push(enter("hostile", n).await);
    }
    let waiting = join_all((0..100).map(|n| enter("hostile", n)));
    let good = enter("good", 0);
    tokio::pin!(waiting, good);
    assert!((&mut waiting).now_or_never().is_none() && (&mut good).now_or_never().is_none(), "there is no room");
    held.truncate(limits::LARGE_OBJECTS - 2);
    let _ = (&mut waiting).now_or_never();
    assert!(good.now_or_never().is_some(), "one of two places that became free");
}

#[test]
fn what_happens_by_the_clock_comes_after_what_people_wait_for() {
    for (kind, reason, urgency) in [
        (Kind::Sandbox, Reason::Claimed, Urgency::Claim),
        (Kind::Sandbox, Reason::PodMissing, Urgency::Normal),
        (Kind::Sandbox, Reason::DrainSuspended, Urgency::Normal),
        (Kind::Sandbox, Reason::ScheduledWake, Urgency::Background),
        (Kind::Claim, Reason::StatusChanged, Urgency::Claim),
        (Kind::Claim, Reason::Expired, Urgency::Normal),
        (Kind::Claim, Reason::TtlPassed, Urgency::Background),
    ] {
        let action = Action::Patch { uid: "u".to_owned(), resource_version: None, status: false, body: json!({}) };
        let op = Op { key: Key::new(kind, "ns", "a"), reason, action };
        assert_eq!(super::urgency(&op), urgency, "{reason}");
    }
}
