//! Elections against an API server in memory, in virtual time: outages, lost replies, other operators, and clocks that
//! differ.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;
use crate::clock::Clock;

mod deleted;
mod elsewhere;
mod unelected;

const LEASES: [&str; 2] = ["paddock-operator", "a3317529.agent-sandbox.x-k8s.io"];

const TIMING: Timing =
    Timing { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) };

/// The API server's behaviour towards one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Open,
    /// Requests fail at once.
    Refused,
    /// Requests are neither executed nor answered.
    Silent,
    /// Requests are executed but not answered.
    ReplyLost,
    /// Watches deliver nothing.
    WithoutWatch,
    /// Lists and watches of all namespaces are forbidden.
    WithoutRight,
    /// Requests to create a Lease fail at once.
    WithoutCreation,
}

#[derive(Default)]
struct Store {
    /// The Leases by namespace and name.
    leases: BTreeMap<(String, String), Value>,
    version: u64,
    lines: BTreeMap<String, Line>,
    /// The round trip of a request. A few milliseconds without it.
    round_trip: Option<Duration>,
    /// The events of watches, each with the version of its Lease.
    events: Vec<(u64, Value)>,
}

/// The store, and a signal after each change of it.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Store>>, watch::Sender<()>);

impl Server {
    fn line(&self, candidate: &str, line: Line) {
        self.0.lock().unwrap().lines.insert(candidate.to_owned(), line);
    }

    fn holder(&self, lease: &str) -> String {
        self.holder_in("ns", lease)
    }

    fn holder_in(&self, namespace: &str, lease: &str) -> String {
        let store = self.0.lock().unwrap();
        let lease = store.leases.get(&(namespace.to_owned(), lease.to_owned()));
        lease.map_or("nobody", |l| l["spec"]["holderIdentity"].as_str().unwrap()).to_owned()
    }

    /// Writes a lease as another program would, with a clock of its own.
    fn write(&self, lease: &str, holder: &str, renewed: &str) {
        self.write_in("ns", lease, holder, json!(15), renewed);
    }

    fn write_in(&self, namespace: &str, lease: &str, holder: &str, duration: Value, renewed: &str) {
        let spec = json!({ "holderIdentity": holder, "leaseDurationSeconds": duration, "renewTime": renewed });
        let place = (namespace.to_owned(), lease.to_owned());
        self.0.lock().unwrap().put(place, json!({ "metadata": { "name": lease }, "spec": spec }));
        self.1.send_replace(());
    }

    fn delete_in(&self, namespace: &str, lease: &str) {
        let mut store = self.0.lock().unwrap();
        let mut gone = store.leases.remove(&(namespace.to_owned(), lease.to_owned())).unwrap();
        store.version += 1;
        let version = store.version;
        gone["metadata"]["resourceVersion"] = version.to_string().into();
        store.events.push((version, json!({ "type": "DELETED", "object": gone })));
        drop(store);
        self.1.send_replace(());
    }

    fn client(&self, candidate: &str) -> Client {
        let (server, candidate) = (self.clone(), candidate.to_owned());
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (server, candidate) = (server.clone(), candidate.clone());
            async move {
                // A round trip, so that the requests of candidates interleave.
                let round_trip = server.0.lock().unwrap().round_trip;
                sleep(round_trip.unwrap_or(Duration::from_millis(5))).await;
                let line = server.0.lock().unwrap().lines.get(&candidate).copied().unwrap_or(Line::Open);
                let (lists, watches) = asks_about_all(&request);
                match line {
                    Line::Open => {}
                    Line::WithoutWatch if watches => return std::future::pending().await,
                    Line::WithoutRight if lists => return Ok(response(refusal(403))),
                    Line::WithoutCreation if request.method() == Method::POST => {
                        return Err(std::io::Error::other("refused"));
                    }
                    Line::WithoutWatch | Line::WithoutRight | Line::WithoutCreation => {}
                    Line::Refused => return Err(std::io::Error::other("refused")),
                    Line::Silent => std::future::pending().await,
                    Line::ReplyLost => {
                        server.answer(request).await;
                        return std::future::pending().await;
                    }
                }
                Ok(server.answer(request).await)
            }
        });
        Client::new(service, "ns")
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (lists, watches) = asks_about_all(&request);
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if watches {
            return Response::new(self.events(&query));
        }
        let path: Vec<&str> = parts.uri.path().split('/').collect();
        let mut store = self.0.lock().unwrap();
        if lists {
            let items: Vec<&Value> = store.leases.values().filter(|l| is_asked_for(&query, l)).collect();
            let metadata = json!({ "resourceVersion": store.version.to_string() });
            return response((
                200,
                json!({ "kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "metadata": metadata, "items": items }),
            ));
        }
        let namespace = path[path.iter().position(|part| *part == "namespaces").unwrap() + 1].to_owned();
        let place = (namespace, (*path.last().unwrap()).to_owned());
        let sent: Option<Value> = serde_json::from_slice(&body).ok();
        let reply = match parts.method {
            Method::GET => store.leases.get(&place).map_or_else(|| refusal(404), |lease| (200, lease.clone())),
            Method::POST => {
                let sent = sent.unwrap();
                let place = (place.0, sent["metadata"]["name"].as_str().unwrap().to_owned());
                if store.leases.contains_key(&place) { refusal(409) } else { store.put(place, sent) }
            }
            Method::PUT => {
                let sent = sent.unwrap();
                match store.leases.get(&place) {
                    None => refusal(404),
                    // As in the real API server, a write without a version overwrites the stored object.
                    Some(had)
                        if sent["metadata"]
                            .get("resourceVersion")
                            .is_some_and(|v| *v != had["metadata"]["resourceVersion"]) =>
                    {
                        refusal(409)
                    }
                    Some(_) => store.put(place, sent),
                }
            }
            other => panic!("{other} is not used on leases"),
        };
        drop(store);
        self.1.send_replace(());
        response(reply)
    }

    /// The events of a watch, for less than a minute.
    fn events(&self, query: &str) -> Body {
        let since = query.split('&').find_map(|part| part.strip_prefix("resourceVersion=")).unwrap_or("0");
        let (server, query, ends) = (self.clone(), query.to_owned(), Instant::now() + Duration::from_secs(50));
        let events = futures::stream::unfold(since.parse::<u64>().unwrap(), move |since| {
            let (server, query) = (server.clone(), query.clone());
            async move {
                let mut changed = server.1.subscribe();
                while Instant::now() < ends {
                    let next = {
                        let store = server.0.lock().unwrap();
                        let new = |(version, event): &&(u64, Value)| {
                            *version > since && is_asked_for(&query, &event["object"])
                        };
                        store.events.iter().find(new).cloned()
                    };
                    if let Some((version, event)) = next {
                        return Some((Ok::<_, std::io::Error>(format!("{event}\n")), version));
                    }
                    let _ = tokio::time::timeout_at(ends, changed.changed()).await;
                }
                None
            }
        });
        Body::from_stream(events)
    }
}

/// Whether a request is about the leases of all namespaces, and whether it is a watch.
fn asks_about_all(request: &Request<kube::client::Body>) -> (bool, bool) {
    let all = request.uri().path().ends_with("/v1/leases");
    (all, all && request.uri().query().is_some_and(|query| query.contains("watch=true")))
}

fn is_asked_for(query: &str, lease: &Value) -> bool {
    query.contains(&format!("fieldSelector=metadata.name%3D{}", lease["metadata"]["name"].as_str().unwrap()))
}

fn response((code, body): (u16, Value)) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap();
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
}

impl Store {
    fn put(&mut self, place: (String, String), mut lease: Value) -> (u16, Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        lease["metadata"]["namespace"] = place.0.clone().into();
        lease["apiVersion"] = "coordination.k8s.io/v1".into();
        lease["kind"] = "Lease".into();
        self.events.push((self.version, json!({ "type": "MODIFIED", "object": lease })));
        self.leases.insert(place, lease.clone());
        (200, lease)
    }
}

fn refusal(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        403 => "Forbidden",
        _ => "Conflict",
    };
    (code, json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason }))
}

struct Replica {
    fence: Fence,
    leading: watch::Receiver<bool>,
    obstacle: watch::Receiver<Option<Obstacle>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn candidate(server: &Server, name: &str) -> Replica {
    candidate_in(server, name, "ns", Scope::Namespace)
}

fn candidate_in(server: &Server, name: &str, namespace: &str, scope: Scope) -> Replica {
    let fence = Fence::closed();
    let clock = Clock::default();
    let candidate = Candidate { namespace, leases: &LEASES, identity: name, clock: &clock, scope };
    let obstacle = watch::Sender::new(None);
    let election =
        Election::new(&server.client(name), &candidate, TIMING, fence.clone()).reporting_to(obstacle.clone());
    let (leading, obstacle) = (election.leading(), obstacle.subscribe());
    let stop = CancellationToken::new();
    let task = tokio::spawn(election.run(stop.clone()));
    Replica { fence, leading, obstacle, stop, task }
}

impl Replica {
    fn acts(&self) -> bool {
        *self.leading.borrow()
    }

    fn may_write(&self) -> bool {
        self.fence.remaining().is_some()
    }

    /// The virtual time until the candidate leads.
    async fn leads(&mut self) -> Duration {
        let start = Instant::now();
        let led = tokio::time::timeout(Duration::from_secs(600), self.leading.wait_for(|leading| *leading)).await;
        assert!(led.is_ok(), "never leads");
        start.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_alone_holds_both_leases_and_goes_on_holding_them() {
    let server = Server::default();
    let mut a = candidate(&server, "a");
    assert!(a.leads().await < Duration::from_secs(1));
    let mut told = a.leading.clone();
    told.mark_unchanged();
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        assert!(a.acts() && a.may_write());
        assert_eq!([server.holder(LEASES[0]), server.holder(LEASES[1])], ["a", "a"]);
    }
    assert!(!told.has_changed().unwrap(), "told anew what had not changed");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_killed_is_followed_after_one_lease() {
    let server = Server::default();
    let mut a = candidate(&server, "a");
    a.leads().await;
    let mut b = candidate(&server, "b");
    sleep(Duration::from_secs(60)).await;
    assert!(a.acts() && !b.acts());
    a.task.abort();
    let took = b.leads().await;
    // The last renewal was at most one retry period earlier, and the candidate read it at most one retry period later.
    assert!(took > TIMING.lease - TIMING.retry.mul_f64(1.3), "{took:?}");
    assert!(took < TIMING.lease + TIMING.retry.mul_f64(2.5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_is_followed_at_the_next_try() {
    let server = Server::default();
    let mut a = candidate(&server, "a");
    a.leads().await;
    let mut b = candidate(&server, "b");
    sleep(Duration::from_secs(60)).await;
    a.stop.cancel();
    a.task.await.unwrap();
    assert!(a.fence.remaining().is_none());
    let took = b.leads().await;
    assert!(took < TIMING.retry.mul_f64(1.3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn while_upstreams_controller_holds_its_lease_nobody_acts() {
    let server = Server::default();
    server.write(LEASES[1], "go", "2026-01-01T00:00:00.000000Z");
    let mut a = candidate(&server, "a");
    // The other operator renews, and its clock is years behind ours.
    for n in 0..60 {
        sleep(Duration::from_secs(2)).await;
        server.write(LEASES[1], "go", &format!("2001-01-01T00:00:{n:02}.000000Z"));
        assert!(!a.acts() && !a.may_write());
    }
    assert!(a.leads().await > TIMING.lease - TIMING.retry.mul_f64(1.3));
    // The other operator returns and takes its lease, like a controller that did not notice the change.
    server.write(LEASES[1], "go", "2026-01-01T00:00:00.000000Z");
    sleep(TIMING.retry.mul_f64(3.0)).await;
    assert!(!a.acts() && !a.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_stops_before_anybody_else_can_begin() {
    for line in [Line::Refused, Line::Silent, Line::ReplyLost] {
        let server = Server::default();
        let mut a = candidate(&server, "a");
        a.leads().await;
        let b = candidate(&server, "b");
        sleep(Duration::from_secs(30)).await;
        server.line("a", line);
        let start = Instant::now();
        while a.acts() {
            assert!(a.may_write() || start.elapsed() > TIMING.renew - TIMING.retry.mul_f64(1.3));
            assert!(start.elapsed() <= TIMING.renew, "{line:?}: acts for longer than it may");
            sleep(Duration::from_millis(10)).await;
        }
        assert!(!a.may_write() && !b.acts(), "{line:?}");
        // The candidate recovers without help when the connection does.
        b.task.abort();
        server.line("a", Line::Open);
        a.leads().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_does_not_prolong_the_right_to_write() {
    let server = Server::default();
    let mut a = candidate(&server, "a");
    a.leads().await;
    server.line("a", Line::Silent);
    advance(TIMING.renew).await;
    assert!(!a.may_write());
}

/// Candidates lose their connection, lose replies, die and return. Two of them must never have the right to write at
/// the same time.
#[tokio::test(start_paused = true)]
async fn never_do_two_have_the_right_to_write() {
    let mut led = 0;
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = Server::default();
        let mut candidates: Vec<Replica> = (0..3).map(|n| candidate(&server, &format!("c{n}"))).collect();
        let mut births = 0;
        for _ in 0..4000 {
            sleep(Duration::from_millis(50)).await;
            let able = candidates.iter().filter(|c| c.may_write()).count();
            assert!(able <= 1, "seed {seed}: {able} may write");
            led += able;
            if random.u8(..) < 6 {
                let n = random.usize(..candidates.len());
                let name = format!("c{n}");
                match random.u8(0..6) {
                    0 => server.line(&name, Line::Refused),
                    1 => server.line(&name, Line::Silent),
                    2 => server.line(&name, Line::ReplyLost),
                    3 => {
                        // The candidate is killed and starts again with another identity.
                        candidates[n].task.abort();
                        candidates[n].fence.revoke();
                        births += 1;
                        candidates[n] = candidate(&server, &format!("c{n}-{births}"));
                    }
                    _ => (0..3).for_each(|n| server.line(&format!("c{n}"), Line::Open)),
                }
            }
        }
        for candidate in candidates {
            candidate.task.abort();
        }
    }
    assert!(led > 20_000, "hardly anybody ever led: {led} of 80000");
}
