//! What can go wrong between the operator and the API server, on a control plane of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use paddock_cluster::{Cluster, Options, Process};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::burst::{Burst, Surface, Surplus};
use super::json::ready;
use super::kinds::{Kind, SANDBOX};
use super::manifests::sandbox;
use super::operator::{self, NAMESPACE, Operator, Plan, Ports};
use super::place::Place;
use super::proxy::{Fate, Point, Proxy};
use super::{programs, stage};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        killed_after_any_write_it_goes_on,
        conflicts_refusals_and_lost_replies_are_survived,
        another_replica_takes_over_from_a_leader_that_dies,
        a_leader_that_is_cut_off_stops_acting,
        beside_upstreams_operator_it_waits,
    ]
}

/// The control plane, used by one test at a time: an operator here serves one namespace, or stands for election.
struct Faults {
    cluster: Cluster,
    account: PathBuf,
    /// For the two operators that there are at once at the most.
    ports: [Ports; 2],
    /// Those that were started last: what a test that failed left behind must not get in the way of the next.
    last: std::sync::Mutex<[Option<Process>; 2]>,
    one_at_a_time: Mutex<()>,
}

impl Faults {
    /// Starts the first or the second operator of a test.
    async fn start(&self, which: usize, name: &str, kubeconfig: &Path, flags: Vec<String>) -> Operator {
        let left_behind = self.last.lock().expect("no panic")[which].take();
        if let Some(process) = left_behind.filter(Process::running) {
            process.kill().await.expect("it ends");
        }
        let plan = Plan { name, kubeconfig, flags };
        let operator = Operator::spawn_at(&self.cluster, plan, self.ports[which]).await;
        self.last.lock().expect("no panic")[which] = Some(operator.process.clone());
        operator.ready().await;
        operator
    }
}

async fn faults() -> (&'static Faults, MutexGuard<'static, ()>) {
    static FAULTS: OnceCell<Faults> = OnceCell::const_new();
    static TRIED: AtomicBool = AtomicBool::new(false);
    let start = || async {
        assert!(!TRIED.swap(true, Ordering::Relaxed), "it did not start for the first test that needed it");
        programs::paddock().await;
        let options = Options { nodes: 10, ..Options::default().with_isolation() };
        let cluster = Cluster::start(options).await.expect("a control plane");
        stage::install(&cluster).await;
        let account = operator::rights(&cluster).await;
        let ports = [operator::ports(&cluster), operator::ports(&cluster)];
        Faults { cluster, account, ports, last: Default::default(), one_at_a_time: Mutex::new(()) }
    };
    let faults = FAULTS.get_or_init(start).await;
    (faults, faults.one_at_a_time.lock().await)
}

/// An operator for one namespace alone, that does not wait for a lease.
async fn alone(faults: &Faults, place: &Place, proxy: &Proxy) -> Operator {
    let flags = vec![
        "--leader-elect=false".to_owned(),
        "--webhook-bind-address=0".to_owned(),
        format!("--namespace={}", place.namespace),
    ];
    faults.start(0, &format!("operator-{}", place.namespace), &proxy.kubeconfig, flags).await
}

/// For which n the operator is killed after its n-th write: each of the first ten, then further and further apart.
const KILLED_AFTER: [u64; 30] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 17, 22, 28, 35, 43, 52, 62, 73, 85, 98, 112, 127, 143, 160, 178, 197, 217, 238,
    260,
];
const POINTS: [Point; 3] = [Point::BeforeRequest, Point::BeforeReply, Point::AfterReply];
const CLAIMS: usize = 200;
const WARM: usize = 50;

/// In bursts of 200 claims, each of 30 values of n once: five kills share a burst, so that it takes a minute or two and
/// not ten. `PADDOCK_KILLS=each` gives each value a burst of its own.
async fn killed_after_any_write_it_goes_on() {
    let (faults, _alone) = faults().await;
    let bursts = if std::env::var("PADDOCK_KILLS").is_ok_and(|v| v == "each") { KILLED_AFTER.len() } else { 6 };
    let began = Instant::now();
    let mut killed = 0;
    for burst in 0..bursts {
        let surface = if burst % 2 == 0 { Surface::Upstream } else { Surface::Seed };
        // Small ones first, since the sum of the others alone is most of the writes that there are.
        let of_burst = KILLED_AFTER.iter().enumerate().filter(|(i, _)| i % bursts == burst);
        // Shifted from burst to burst, so that each has every point.
        let kills: Vec<(u64, Point)> = of_burst.map(|(i, n)| (*n, POINTS[(i + i / bursts) % POINTS.len()])).collect();
        let at = Instant::now();
        killed += kills.len();
        one_burst(faults, surface, &kills).await;
        println!("{surface:?}: killed after {kills:?} writes, all well after {:?}", at.elapsed());
    }
    assert_eq!(killed, KILLED_AFTER.len());
    println!("killed {killed} times in {bursts} bursts of {CLAIMS} claims, {:?}", began.elapsed());
}

/// Says after how many writes to kill, and where; 0 for never.
#[derive(Default)]
struct Trigger {
    after: AtomicU64,
    point: AtomicU32,
}

async fn one_burst(faults: &Faults, surface: Surface, kills: &[(u64, Point)]) {
    let place = Place::new(&faults.cluster, "kill").await;
    let trigger = Arc::new(Trigger::default());
    let asked = trigger.clone();
    let decide = move |number, _: &http::Method, _: &str| {
        // Once: what comes after it is not asked about until the next start.
        let due = |after| (after != 0 && number >= after).then_some(0);
        if asked.after.fetch_update(Ordering::SeqCst, Ordering::SeqCst, due).is_ok() {
            Fate::Kill(POINTS[asked.point.load(Ordering::SeqCst) as usize])
        } else {
            Fate::Pass
        }
    };
    let proxy = Proxy::start(&faults.cluster, &faults.account, &place.namespace, Box::new(decide)).await;
    let operator = alone(faults, &place, &proxy).await;
    proxy.aim_at(&operator.process);
    let burst = Burst::prepare(&place, surface, WARM).await;

    let mut dead = proxy.kills();
    let slaughter = async {
        for (i, (after, point)) in kills.iter().enumerate() {
            let point = POINTS.iter().position(|p| p == point).expect("one of them");
            trigger.point.store(u32::try_from(point).expect("small"), Ordering::SeqCst);
            proxy.count_anew();
            trigger.after.store(*after, Ordering::SeqCst);
            if i > 0 {
                operator.process.restart().await.expect("it starts again");
            }
            let wanted = u64::try_from(i).expect("small") + 1;
            let fired = tokio::time::timeout(Duration::from_secs(90), dead.wait_for(|n| *n == wanted)).await;
            assert!(fired.is_ok(), "write {after} never came: {} writes; {}", proxy.writes(), operator.log_tail());
        }
        operator.process.restart().await.expect("it starts again");
    };
    tokio::join!(slaughter, burst.create(CLAIMS));
    burst.settle(CLAIMS, Surplus::AfterACrash).await;
    operator.process.kill().await.expect("it ends");
}

async fn conflicts_refusals_and_lost_replies_are_survived() {
    let (faults, _alone) = faults().await;
    let place = Place::new(&faults.cluster, "faults").await;
    let calm = Arc::new(AtomicBool::new(true));
    let is_calm = calm.clone();
    let decide = move |number: u64, _: &http::Method, _: &str| {
        if is_calm.load(Ordering::SeqCst) {
            return Fate::Pass;
        }
        // Primes, so that every mixture comes about.
        match () {
            () if number.is_multiple_of(7) => Fate::Overtake,
            () if number.is_multiple_of(11) => Fate::Refuse(StatusCode::TOO_MANY_REQUESTS),
            () if number.is_multiple_of(13) => Fate::Refuse(StatusCode::INTERNAL_SERVER_ERROR),
            () if number.is_multiple_of(17) => Fate::LoseReply,
            () if number.is_multiple_of(19) => Fate::LoseRequest,
            () if number.is_multiple_of(23) => Fate::Delay(Duration::from_millis(300)),
            () => Fate::Pass,
        }
    };
    let proxy = Proxy::start(&faults.cluster, &faults.account, &place.namespace, Box::new(decide)).await;
    let operator = alone(faults, &place, &proxy).await;
    let burst = Burst::prepare(&place, Surface::Upstream, 20).await;
    calm.store(false, Ordering::SeqCst);
    let cutter = proxy.clone();
    let cutting = tokio::spawn(async move {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            cutter.cut_watches();
        }
    });
    burst.create(80).await;
    cutting.await.expect("it was cut");
    burst.settle(80, Surplus::Never).await;
    println!("80 claims through {} writes, a third of which went wrong", proxy.writes());
    operator.process.kill().await.expect("it ends");
}

/// Flags of a replica whose lease is short, so that a test need not wait for the usual 15 s.
fn replica(namespace: &str) -> Vec<String> {
    let flags =
        ["--lease-duration=4s", "--lease-renew-deadline=3s", "--lease-retry-period=500ms", "--webhook-bind-address=0"];
    flags.map(str::to_owned).into_iter().chain([format!("--namespace={namespace}")]).collect()
}

async fn leads(operator: &Operator) -> bool {
    operator.metrics().await.lines().any(|line| line == "paddock_leader 1")
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn another_replica_takes_over_from_a_leader_that_dies() {
    let (faults, _alone) = faults().await;
    let place = Place::new(&faults.cluster, "takeover").await;
    let start = async |which, name| faults.start(which, name, &faults.account, replica(&place.namespace)).await;
    let first = start(0, "replica-1").await;
    eventually("the first leads", async || leads(&first).await).await;
    // Ready without leading, since every replica is to admit.
    let second = start(1, "replica-2").await;
    assert!(!leads(&second).await);
    let burst = Burst::prepare(&place, Surface::Upstream, 20).await;
    let die = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        first.process.kill().await.expect("it was alive");
        let began = Instant::now();
        eventually("the second leads", async || leads(&second).await).await;
        println!("another replica led {:?} after the leader's death, with leases of 4 s", began.elapsed());
    };
    tokio::join!(die, burst.create(80));
    burst.settle(80, Surplus::AfterACrash).await;
    second.process.kill().await.expect("it was alive");
}

/// The leader lives on, and hears and says nothing: it has to stop by itself before another begins.
async fn a_leader_that_is_cut_off_stops_acting() {
    let (faults, _alone) = faults().await;
    let place = Place::new(&faults.cluster, "cut-off").await;
    let proxy = Proxy::start(&faults.cluster, &faults.account, "cut-off", Box::new(|_, _, _| Fate::Pass)).await;
    let first = faults.start(0, "cut-off-1", &proxy.kubeconfig, replica(&place.namespace)).await;
    eventually("the first leads", async || leads(&first).await).await;
    let second = faults.start(1, "cut-off-2", &faults.account, replica(&place.namespace)).await;
    let burst = Burst::prepare(&place, Surface::Seed, 20).await;
    let cut = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.partition(true);
        eventually("the second leads", async || leads(&second).await).await;
        assert!(!leads(&first).await, "two lead");
        let before = proxy.writes();
        proxy.partition(false);
        before
    };
    let (before, ()) = tokio::join!(cut, burst.create(80));
    burst.settle(80, Surplus::AfterACrash).await;
    assert_eq!(proxy.writes(), before, "it wrote without leading");
    for operator in [first, second] {
        operator.process.kill().await.expect("it was alive");
    }
}

/// Two operators must never act at once on one cluster, also where the other is upstream's.
async fn beside_upstreams_operator_it_waits() {
    const LEASE: Kind = Kind("coordination.k8s.io/v1", "Lease", "leases");
    const UPSTREAM: &str = "a3317529.agent-sandbox.x-k8s.io";
    let (faults, _alone) = faults().await;
    let place = Place::new(&faults.cluster, "beside").await;
    let own = Place::existing(&faults.cluster, NAMESPACE);
    let held = json!({ "spec": {
        "holderIdentity": "upstream_1", "leaseDurationSeconds": 3600, "leaseTransitions": 1,
        "renewTime": format!("{:.6}", jiff::Timestamp::now()),
    } });
    if own.find(LEASE, UPSTREAM).await.is_some() {
        own.merge(LEASE, UPSTREAM, held).await;
    } else {
        let mut lease = json!({ "apiVersion": LEASE.0, "kind": LEASE.1, "metadata": { "name": UPSTREAM } });
        lease["spec"] = held["spec"].clone();
        own.post(&LEASE.path(NAMESPACE), &lease).await.expect("a lease");
    }
    let operator = faults.start(0, "beside", &faults.account, replica(&place.namespace)).await;
    place.create(sandbox("waits", json!({}))).await;
    // For longer than it takes to lead where nobody is in the way.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        assert!(!leads(&operator).await, "it leads beside upstream's operator");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(place.get(SANDBOX, "waits").await["status"].is_null(), "it acts beside upstream's operator");
    own.merge(LEASE, UPSTREAM, json!({ "spec": { "holderIdentity": "", "leaseDurationSeconds": 1 } })).await;
    place.until(SANDBOX, "waits", "Ready", ready).await;
    operator.process.kill().await.expect("it was alive");
}
