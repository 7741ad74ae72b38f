//! Requests for running, suspended and missing Sandboxes, before an API server in memory.

mod in_use;
mod only;
pub(crate) mod server;
mod sources;
mod stale;
mod wishes;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use strum::VariantArray as _;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use self::server::{Fault, Server};
use super::metrics::{Phase, WakeResult};
use super::observed::Wakes;
use super::*;
use crate::refusal::{Reason, SandboxState};

/// The address of every pod.
const POD: &str = "127.0.0.1";

/// A time that advances with the clock of the test.
fn virtual_time() -> Timestamp {
    thread_local!(static BEGIN: Instant = Instant::now());
    let begin: Timestamp = "2030-01-01T12:00:00Z".parse().unwrap();
    begin + BEGIN.with(Instant::elapsed)
}

/// The Sandbox half with its API server. The port of each pod refuses the first connections.
struct World {
    server: Server,
    sandboxes: Sandboxes,
    metrics: Metrics,
    listener: TcpListener,
    /// The number of connections that are refused before the port opens.
    refused: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    async fn new() -> Self {
        Self::with(HoldLimits::default()).await
    }

    async fn with(hold: HoldLimits) -> Self {
        let (server, metrics) = (Server::default(), Metrics::for_tests());
        let refused = Arc::new(AtomicUsize::new(0));
        let left = refused.clone();
        let open: dial::Open = Arc::new(move |address| {
            let less = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            async move {
                match less {
                    Ok(_) => Err(io::ErrorKind::ConnectionRefused.into()),
                    Err(_) => connect_at_once(address),
                }
            }
            .boxed()
        });
        let config = Config { namespace: None, allow_loopback_pod_ip: true, hold };
        let dial = Dial::new(open);
        let sandboxes = Sandboxes::with(server.client(), config, Clock::new(virtual_time), metrics.clone(), dial);
        let running = sandboxes.clone();
        let task = tokio::spawn(async move { running.run().await }).abort_handle();
        let listener = TcpListener::bind((POD, 0)).await.unwrap();
        let world = Self { server, sandboxes, metrics, listener, refused, task };
        world.until(|world| world.sandboxes.waiting_for().is_empty()).await;
        world
    }

    /// Waits for a condition.
    async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let waits = async {
            while !holds(self) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), waits).await.expect("the condition becomes true");
    }

    /// Waits until the directory has taken in what the server stored.
    async fn seen(&self, name: &str, is: fn(&State) -> bool) {
        self.until(|world| is(&world.sandboxes.0.ways.directory.state(&Name::of(&world.target(name))))).await;
    }

    fn target(&self, name: &str) -> Target {
        let port = self.listener.local_addr().unwrap().port();
        Target { namespace: "ns".into(), name: name.into(), port }
    }

    async fn connect(&self, name: &str) -> Result<Connected, Refusal> {
        self.connect_as(name, Purpose::Use).await
    }

    async fn connect_as(&self, name: &str, purpose: Purpose) -> Result<Connected, Refusal> {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.sandboxes.connect(&self.target(name), &arrival(purpose), deadline).await
    }
}

/// Connects within one poll. A virtual clock may advance whenever every task waits, even for a connection that is being
/// opened, and the timeout of the connection would be over.
pub(super) fn connect_at_once(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn arrival(purpose: Purpose) -> Arrival {
    Arrival { client: IpAddr::V4(Ipv4Addr::LOCALHOST), purpose, held_bytes: 1000, only: Only::Any }
}

#[tokio::test]
async fn fifty_requests_at_once_wake_a_sandbox_by_one_write_and_each_is_answered() {
    let world = World::new().await;
    world.server.suspended("a");
    world.server.operate(POD);
    world.refused.store(100, Ordering::Relaxed);
    world.seen("a", |state| matches!(state, State::Suspended(_))).await;
    let connected = join_all((0..50).map(|_| world.connect("a"))).await;
    let pods: Vec<_> = connected.into_iter().map(|c| c.expect("an open connection").endpoint).collect();
    assert!(pods.iter().all(|endpoint| *endpoint == pods[0]));
    assert_eq!((world.server.wakes(), world.metrics.wakes_of(WakeResult::Woken)), (1, 1));
    let stored = world.server.get("sandboxes", "a");
    assert_eq!((&stored["spec"]["operatingMode"], &stored["spec"]["replicas"]), (&json!("Running"), &json!(1)));
    let annotations = stored["metadata"]["annotations"].as_object().unwrap();
    assert!(!annotations.contains_key("policy.paddock.dev/suspended-by"), "{annotations:?}");
    assert!(annotations.contains_key("policy.paddock.dev/last-activity"), "{annotations:?}");
    assert_eq!(world.sandboxes.0.ways.holds.take(&Name::of(&world.target("a")), 0).map(drop), Ok(()));
}

/// The fault "first request 502 or header timeout": the pod is Ready long before its port is open.
#[tokio::test(start_paused = true)]
async fn first_request_after_a_wake_waits_until_the_port_is_open() {
    let world = World::new().await;
    world.server.suspended("a");
    world.server.operate(POD);
    world.refused.store(550, Ordering::Relaxed);
    world.seen("a", |state| matches!(state, State::Suspended(_))).await;
    let begun = Instant::now();
    world.connect("a").await.expect("no 502");
    let held = begun.elapsed();
    assert!(held > Duration::from_secs(7), "longer than a few retries: {held:?}");
    let phases = Phase::VARIANTS.iter().map(|phase| world.metrics.time_of(*phase));
    let (requests, times): (Vec<u64>, Vec<Duration>) = phases.unzip();
    assert_eq!(requests, [1; 3], "each phase of the request, once");
    let apart = times.iter().sum::<Duration>().abs_diff(held);
    assert!(apart < Duration::from_millis(20), "the phases {times:?} do not add up to {held:?}");
}

#[tokio::test]
async fn sandbox_that_a_user_suspended_is_not_woken_and_nobody_is_told_to_try_again() {
    let world = World::new().await;
    for (name, change, text) in [
        ("manual", json!({ "spec": { "resumePolicy": "Manual" } }), "Manual"),
        ("default", json!({ "spec": { "resumePolicy": null } }), "Manual"),
        ("user", json!({ "metadata": { "annotations": { "policy.paddock.dev/suspended-by": null } } }), "by a user"),
        ("odd", json!({ "metadata": { "annotations": { "policy.paddock.dev/suspended-by": "?" } } }), "by a user"),
    ] {
        world.server.suspended(name);
        world.server.change("sandboxes", name, &change);
        world.seen(name, |s| matches!(s, State::Suspended(Wakes::ManualPolicy | Wakes::SuspendedByUser))).await;
        let refusal = world.connect(name).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.retry_after), (Reason::Suspended, None), "{name}");
        assert_eq!(refusal.state, Some(SandboxState::Suspended));
        assert!(refusal.detail.contains(text), "{}", refusal.detail);
    }
    assert_eq!(world.server.patches(), []);
}

#[tokio::test]
async fn probe_neither_wakes_a_sandbox_nor_waits_for_it() {
    let world = World::new().await;
    world.server.suspended("a");
    world.server.suspended("starting");
    world.server.change("sandboxes", "starting", &json!({ "spec": { "operatingMode": "Running", "replicas": 1 } }));
    world.seen("a", |state| matches!(state, State::Suspended(_))).await;
    world.seen("starting", |state| matches!(state, State::Starting(_))).await;
    for (name, state) in [("a", SandboxState::Suspended), ("starting", SandboxState::Waking)] {
        let refusal = world.connect_as(name, Purpose::Probe).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.retry_after), (Reason::SuspendedForProbes, None), "{name}");
        assert_eq!(refusal.state, Some(state), "{name}");
    }
    let refusal = world.connect_as("absent", Purpose::Probe).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::SandboxNotFound);
    assert_eq!(world.server.patches(), []);
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_limits_and_beyond_the_time_are_told_to_try_again() {
    let hold = HoldLimits { places: 90, per_sandbox: 10, time: Duration::from_secs(30) };
    let world = World::with(hold).await;
    world.server.suspended("a");
    world.seen("a", |state| matches!(state, State::Suspended(_))).await;
    let begun = Instant::now();
    let long = begun + Duration::from_secs(3600);
    let (target, arrival) = (world.target("a"), arrival(Purpose::Use));
    let refusals = join_all((0..15).map(|_| world.sandboxes.connect(&target, &arrival, long))).await;
    let mut reasons: Vec<Reason> = Vec::new();
    for refusal in refusals {
        let refusal = refusal.unwrap_err();
        assert!(refusal.retry_after.is_some());
        assert_eq!(refusal.state, Some(SandboxState::Waking));
        reasons.push(refusal.reason);
    }
    let count = |of: Reason| reasons.iter().filter(|reason| **reason == of).count();
    assert_eq!((count(Reason::HoldLimit), count(Reason::WakeTimeout)), (5, 10));
    assert_eq!(begun.elapsed().as_secs(), 30, "the wake is given up after the time for holding");
    assert_eq!(world.server.wakes(), 1, "the operator never answered");
    let soon = Instant::now() + Duration::from_secs(5);
    let refusal = world.sandboxes.connect(&target, &arrival, soon).await.unwrap_err();
    assert_eq!((refusal.reason, Instant::now()), (Reason::WakeTimeout, soon), "the client waits no longer");
}

#[tokio::test]
async fn conflict_is_looked_at_again_and_a_refused_write_is_reported() {
    let world = World::new().await;
    world.server.operate(POD);
    world.server.suspended("a");
    world.seen("a", |state| matches!(state, State::Suspended(_))).await;
    world.server.fail_next(Fault::Conflict);
    world.connect("a").await.expect("the second write is stored");
    assert_eq!(world.server.wakes(), 1);
    world.server.suspended("b");
    world.seen("b", |state| matches!(state, State::Suspended(_))).await;
    world.server.fail_next(Fault::Unavailable);
    world.connect("b").await.expect("the write is repeated");
    world.server.suspended("c");
    world.seen("c", |state| matches!(state, State::Suspended(_))).await;
    world.server.fail_next(Fault::Forbidden);
    for _ in 0..10 {
        let refusal = world.connect("c").await.unwrap_err();
        assert_eq!(refusal.reason, Reason::WakeFailed);
        assert!(refusal.detail.ends_with("the API server refused the write: no"), "{}", refusal.detail);
        assert!(refusal.retry_after.is_some());
    }
    assert_eq!((world.server.wakes(), world.metrics.wakes_of(WakeResult::Refused)), (2, 1));
}

#[tokio::test]
async fn sandbox_that_somebody_else_resumed_meanwhile_is_not_written() {
    let world = World::new().await;
    world.server.suspended("a");
    world.seen("a", |state| matches!(state, State::Suspended(_))).await;
    let (connected, ()) = tokio::join!(world.connect("a"), async {
        // The second replica of the gateway writes between the decision and the write of this one.
        world.server.change("sandboxes", "a", &json!({ "spec": { "operatingMode": "Running", "replicas": 1 } }));
        sleep(Duration::from_millis(50)).await;
        world.server.change("sandboxes", "a", &json!({ "status": { "mode": "Running" } }));
        world.server.pod("a", "sandboxes-a", POD);
    });
    connected.unwrap();
    assert_eq!(world.server.wakes(), 0);
}

/// The fault "no scale-up after an hour asleep": watches end and begin again all the time.
#[tokio::test(start_paused = true)]
async fn sandbox_wakes_after_hours_of_being_suspended() {
    let world = World::new().await;
    world.server.operate(POD);
    for hours in 1..4 {
        world.server.suspended("a");
        world.seen("a", |state| matches!(state, State::Suspended(_))).await;
        sleep(Duration::from_secs(hours * 3600 + 7)).await;
        world.connect("a").await.expect("the Sandbox wakes");
        world.server.delete("pods", "a");
    }
    assert_eq!(world.server.wakes(), 3);
}

/// The fault "sessions kept for a target that is gone": an endpoint is that of the pod that the Sandbox has now.
#[tokio::test]
async fn endpoint_is_never_that_of_a_pod_that_is_gone() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    let awake = |world: &World| world.sandboxes.awake(&world.target("a"), &arrival(Purpose::Use));
    let first = world.connect("a").await.unwrap().endpoint;
    assert_eq!(awake(&world).map(|awake| awake.endpoint), Some(first.clone()));
    let terminating = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    world.server.change("pods", "a", &terminating);
    world.until(|world| awake(world).is_none()).await;
    // The next pod may have the same address, and is another endpoint.
    world.server.delete("pods", "a");
    world.server.pod("a", "sandboxes-a", POD);
    world.until(|world| awake(world).is_some()).await;
    let second = awake(&world).unwrap().endpoint;
    assert_eq!(second.address, first.address);
    assert_ne!(second, first);
}

#[tokio::test]
async fn request_that_dials_a_pod_that_is_replaced_goes_to_the_next_pod() {
    let world = World::new().await;
    world.server.running("a", "127.0.0.99");
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    let (connected, ()) = tokio::join!(world.connect("a"), async {
        sleep(Duration::from_millis(100)).await;
        world.server.delete("pods", "a");
        sleep(Duration::from_millis(20)).await;
        world.server.pod("a", "sandboxes-a", POD);
    });
    assert_eq!(connected.unwrap().endpoint.address.ip().to_string(), POD);
}

#[tokio::test(start_paused = true)]
async fn pod_answers_only_for_the_sandbox_that_controls_it() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    // The UID is that of an earlier Sandbox of the name.
    world.server.delete("pods", "a");
    world.server.pod("a", "another-uid", POD);
    // The pod claims to be the Sandbox's and has another name.
    world.server.put("pods", "b", {
        let mut pod = world.server.get("pods", "a");
        pod["metadata"]["uid"] = "b".into();
        pod["metadata"]["ownerReferences"][0]["uid"] = "sandboxes-a".into();
        pod
    });
    world.seen("a", |state| matches!(state, State::Starting(_))).await;
    let deadline = Instant::now() + Duration::from_secs(5);
    let refused = world.sandboxes.connect(&world.target("a"), &arrival(Purpose::Use), deadline).await.unwrap_err();
    assert_eq!(refused.reason, Reason::WakeTimeout);
    // An adopted Sandbox names its pod.
    let named = json!({ "metadata": { "annotations": { "agents.x-k8s.io/pod-name": "b" } } });
    world.server.change("sandboxes", "a", &named);
    world.connect("a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sandbox_that_appears_within_a_moment_is_found_and_others_are_refused() {
    let world = World::new().await;
    let (connected, ()) = tokio::join!(world.connect("late"), async {
        sleep(Duration::from_millis(300)).await;
        world.server.running("late", POD);
    });
    connected.unwrap();
    let begun = Instant::now();
    let refusal = world.connect("nowhere").await.unwrap_err();
    assert_eq!(refusal.reason, Reason::SandboxNotFound);
    assert_eq!(refusal.detail, "Could not connect to the backend sandbox: nowhere");
    assert_eq!(begun.elapsed().as_millis(), limits::ABSENT_GRACE.as_millis());
    let owner = json!([{ "apiVersion": "extensions.agents.x-k8s.io/v1beta1", "kind": "SandboxWarmPool", "name": "p", "uid": "p", "controller": true }]);
    world.server.running("warm", POD);
    world.server.change("sandboxes", "warm", &json!({ "metadata": { "ownerReferences": owner } }));
    world.seen("warm", |state| *state == State::Warm).await;
    let refusal = world.connect("warm").await.unwrap_err();
    assert_eq!(refusal.reason, Reason::SandboxNotFound, "a request would touch a warm Sandbox");
    assert_eq!(refusal.detail, "Could not connect to the backend sandbox: warm");
    let ended =
        json!({ "status": { "conditions": [{ "type": "Ready", "status": "False", "reason": "SandboxExpired" }] } });
    world.server.running("ended", POD);
    world.server.change("sandboxes", "ended", &ended);
    world.seen("ended", |state| *state == State::Ended).await;
    assert_eq!(world.connect("ended").await.unwrap_err().reason, Reason::Ended);
}

#[tokio::test(start_paused = true)]
async fn closed_port_is_dialled_for_long_only_after_the_start_of_the_container() {
    let world = World::new().await;
    world.server.running("a", POD);
    world.seen("a", |state| matches!(state, State::Running(_))).await;
    world.refused.store(usize::MAX, Ordering::Relaxed);
    let long = Instant::now() + Duration::from_secs(3600);
    let connect = async |world: &World, purpose| {
        let begun = Instant::now();
        let refusal = world.sandboxes.connect(&world.target("a"), &arrival(purpose), long).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Unreachable);
        assert_eq!(refusal.detail, "Could not connect to the backend sandbox: a");
        begun.elapsed()
    };
    let took = connect(&world, Purpose::Use).await;
    assert!(took > limits::START_GRACE - Duration::from_secs(1) && took <= limits::START_GRACE, "{took:?}");
    assert_eq!(connect(&world, Purpose::Use).await.as_millis(), limits::DIAL_GRACE.as_millis());
    assert!(connect(&world, Purpose::Probe).await < Duration::from_millis(10));
    // A restart of the container begins the time again.
    let restarted = json!({ "startedAt": "2030-01-01T13:00:00Z" });
    let restarted = json!({ "status": { "containerStatuses": [{ "state": { "running": restarted } }] } });
    world.server.change("pods", "a", &restarted);
    sleep(Duration::from_secs(1)).await;
    assert!(connect(&world, Purpose::Use).await > limits::START_GRACE - Duration::from_secs(2));
}
