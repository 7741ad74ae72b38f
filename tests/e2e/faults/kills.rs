//! The operator is killed after each of its writes, and its successor continues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Faults, alone, faults};
use crate::e2e::burst::{ApiShape, Burst, Surplus};
use crate::e2e::namespace::TestNamespace;
use crate::e2e::proxy::{Fate, Point, Proxy};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![operator_survives_a_kill_after_any_write]
}

/// The values of n for which the operator is killed after its n-th write: the first ten, and then values further and
/// further apart.
const KILLED_AFTER: [u64; 30] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 17, 22, 28, 35, 43, 52, 62, 73, 85, 98, 112, 127, 143, 160, 178, 197, 217, 238,
    260,
];
const POINTS: [Point; 3] = [Point::BeforeRequest, Point::BeforeReply, Point::AfterReply];
const CLAIMS: usize = 200;
const WARM: usize = 50;

/// Each of the 30 values of n is used once, in bursts of 200 claims. Five kills share a burst, so that the test takes a
/// minute or two and not ten. `PADDOCK_KILLS=each` gives each value its own burst.
async fn operator_survives_a_kill_after_any_write() {
    let (faults, _alone) = faults().await;
    let bursts = if std::env::var("PADDOCK_KILLS").is_ok_and(|v| v == "each") { KILLED_AFTER.len() } else { 6 };
    let began = Instant::now();
    let mut killed = 0;
    for burst in 0..bursts {
        let shape = if burst % 2 == 0 { ApiShape::Upstream } else { ApiShape::Seed };
        // Each burst starts with small values, because the sum of the others is already most of the writes of a burst.
        let of_burst = KILLED_AFTER.iter().enumerate().filter(|(i, _)| i % bursts == burst);
        // The point is shifted from kill to kill, so that each burst has every point.
        let kills: Vec<(u64, Point)> = of_burst.map(|(i, n)| (*n, POINTS[(i + i / bursts) % POINTS.len()])).collect();
        let at = Instant::now();
        killed += kills.len();
        one_burst(faults, shape, &kills).await;
        println!("{shape:?}: killed after {kills:?} writes, all well after {:?}", at.elapsed());
    }
    assert_eq!(killed, KILLED_AFTER.len());
    println!("killed {killed} times in {bursts} bursts of {CLAIMS} claims, {:?}", began.elapsed());
}

/// The number of the write after which to kill, and the point. A number of 0 means never.
#[derive(Default)]
struct Trigger {
    after: AtomicU64,
    point: AtomicU32,
}

async fn one_burst(faults: &Faults, shape: ApiShape, kills: &[(u64, Point)]) {
    let ns = TestNamespace::new(&faults.cluster, "kill").await;
    let trigger = Arc::new(Trigger::default());
    let asked = trigger.clone();
    let decide = move |number, _: &http::Method, _: &str| {
        // The trigger fires once. Later writes trigger nothing until it is set again.
        let due = |after| (after != 0 && number >= after).then_some(0);
        if asked.after.fetch_update(Ordering::SeqCst, Ordering::SeqCst, due).is_ok() {
            Fate::Kill(POINTS[asked.point.load(Ordering::SeqCst) as usize])
        } else {
            Fate::Pass
        }
    };
    let proxy = Proxy::start(&faults.cluster, &faults.account, &ns.namespace, Box::new(decide)).await;
    let operator = alone(faults, &ns, &proxy.kubeconfig).await;
    proxy.aim_at(&operator.process);
    let burst = Burst::prepare(&ns, shape, WARM).await;

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
    burst.assert_some_reserved();
    burst.settle(CLAIMS, Surplus::AfterACrash).await;
    operator.process.kill().await.expect("it ends");
}
