//! Elections against an API server in memory, in virtual time: outages, lost replies, other operators, and clocks that
//! differ.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;

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
}

#[derive(Default)]
struct Store {
    leases: BTreeMap<String, Value>,
    version: u64,
    lines: BTreeMap<String, Line>,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Store>>);

impl Server {
    fn line(&self, candidate: &str, line: Line) {
        self.0.lock().unwrap().lines.insert(candidate.to_owned(), line);
    }

    fn holder(&self, lease: &str) -> String {
        let store = self.0.lock().unwrap();
        store.leases.get(lease).map_or("nobody", |l| l["spec"]["holderIdentity"].as_str().unwrap()).to_owned()
    }

    /// Writes a lease as another program would, with a clock of its own.
    fn write(&self, lease: &str, holder: &str, renewed: &str) {
        let mut store = self.0.lock().unwrap();
        store.version += 1;
        let spec = json!({ "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed });
        let metadata = json!({ "name": lease, "resourceVersion": store.version.to_string() });
        store.leases.insert(lease.to_owned(), json!({ "metadata": metadata, "spec": spec }));
    }

    fn client(&self, candidate: &str) -> Client {
        let (server, candidate) = (self.clone(), candidate.to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, candidate) = (server.clone(), candidate.clone());
            async move {
                // A round trip, so that the requests of candidates interleave.
                sleep(Duration::from_millis(5)).await;
                let line = server.0.lock().unwrap().lines.get(&candidate).copied().unwrap_or(Line::Open);
                match line {
                    Line::Open => {}
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

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let path = parts.uri.path().to_owned();
        let name = path.rsplit('/').next().unwrap().to_owned();
        let mut store = self.0.lock().unwrap();
        let sent: Option<Value> = serde_json::from_slice(&body).ok();
        let (code, body) = match parts.method {
            Method::GET => store.leases.get(&name).map_or_else(|| refusal(404), |lease| (200, lease.clone())),
            Method::POST => {
                let sent = sent.unwrap();
                let name = sent["metadata"]["name"].as_str().unwrap().to_owned();
                if store.leases.contains_key(&name) { refusal(409) } else { store.put(name, sent) }
            }
            Method::PUT => {
                let sent = sent.unwrap();
                match store.leases.get(&name) {
                    None => refusal(404),
                    // As in the real API server, a write without a version overwrites the stored object.
                    Some(had)
                        if sent["metadata"]
                            .get("resourceVersion")
                            .is_some_and(|v| *v != had["metadata"]["resourceVersion"]) =>
                    {
                        refusal(409)
                    }
                    Some(_) => store.put(name, sent),
                }
            }
            other => panic!("{other} is not used on leases"),
        };
        let code = StatusCode::from_u16(code).unwrap();
        Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
    }
}

impl Store {
    fn put(&mut self, name: String, mut lease: Value) -> (u16, Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.leases.insert(name, lease.clone());
        (200, lease)
    }
}

fn refusal(code: u16) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "Conflict" };
    (code, json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "" }))
}

struct Replica {
    fence: Fence,
    leading: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn candidate(server: &Server, name: &str) -> Replica {
    let fence = Fence::closed();
    let election = Election::new(
        &server.client(name),
        &Candidate { namespace: "ns", leases: &LEASES, identity: name },
        TIMING,
        fence.clone(),
    );
    let leading = election.leading();
    let stop = CancellationToken::new();
    let task = tokio::spawn(election.run(stop.clone()));
    Replica { fence, leading, stop, task }
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
        let led = tokio::time::timeout(Duration::from_secs(300), self.leading.wait_for(|leading| *leading)).await;
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
