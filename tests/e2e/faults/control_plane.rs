//! Faults of the control plane itself: its API server restarts, and its etcd pauses.

use std::time::{Duration, Instant};

use super::{alone, faults};
use crate::e2e::burst::{ApiShape, Burst, Retry, Surplus};
use crate::e2e::namespace::TestNamespace;
use crate::e2e::operator::Operator;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![the_api_server_restarts_in_a_burst, etcd_pauses_for_longer_than_a_write_may_take]
}

/// The API server is killed, so replies are lost. It restarts without a history, so no watch can be resumed.
async fn the_api_server_restarts_in_a_burst() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "restart").await;
    let operator = alone(faults, &ns, &faults.account).await;
    let burst = Burst::prepare(&ns, ApiShape::Upstream, 20).await;
    let restart = async {
        burst.refilling().await;
        let began = Instant::now();
        faults.cluster.process("kube-apiserver").expect("it runs").restart().await.expect("it starts again");
        faults.cluster.wait_ready().await.expect("it is ready again");
        println!("the API server was away for {:?}", began.elapsed());
    };
    burst.create_during(80, Retry::UntilStored, restart).await;
    burst.assert_some_reserved();
    burst.settle(80, Surplus::Never).await;
    operator.process.kill().await.expect("it ends");
}

/// Requests are carried out after the operator has stopped waiting for them.
async fn etcd_pauses_for_longer_than_a_write_may_take() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "still").await;
    let operator = alone(faults, &ns, &faults.account).await;
    let burst = Burst::prepare(&ns, ApiShape::Seed, 20).await;
    let before = lost(&operator).await;
    let pause = async {
        burst.refilling().await;
        let store = faults.cluster.process("etcd").expect("it runs");
        store.pause().await.expect("it pauses");
        // A write has a timeout of five seconds.
        tokio::time::sleep(Duration::from_secs(7)).await;
        store.resume().await.expect("it goes on");
    };
    burst.create_during(80, Retry::UntilStored, pause).await;
    burst.assert_some_reserved();
    burst.settle(80, Surplus::Never).await;
    let lost = lost(&operator).await - before;
    println!("{lost} writes were given up and done all the same, or not");
    assert!(lost > 0, "no write was under way for too long");
    operator.process.kill().await.expect("it ends");
}

/// The number of writes whose outcome the operator does not know.
async fn lost(operator: &Operator) -> u64 {
    let metrics = operator.metrics().await;
    let unknown = |line: &&str| line.starts_with("paddock_writes_total") && line.contains("outcome=\"unknown\"");
    let count = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
    metrics.lines().filter(unknown).filter_map(count).sum()
}
