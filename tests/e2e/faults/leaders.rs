//! Leader election: another replica becomes the leader in the middle of a burst, and two replicas never act at the same
//! time.

use std::time::{Duration, Instant};

use paddock_cluster::eventually;
use serde_json::json;

use super::{faults, leads, replica};
use crate::e2e::burst::{ApiShape, Burst, Retry, Surplus};
use crate::e2e::json::ready;
use crate::e2e::kinds::{Kind, SANDBOX};
use crate::e2e::manifests::sandbox;
use crate::e2e::namespace::TestNamespace;
use crate::e2e::operator::NAMESPACE;
use crate::e2e::proxy::{Fate, Proxy};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        another_replica_takes_over_from_a_leader_that_dies,
        a_leader_that_is_cut_off_stops_acting,
        operator_waits_for_upstreams_lease,
    ]
}

async fn another_replica_takes_over_from_a_leader_that_dies() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "takeover").await;
    let start = async |which, name| faults.start(which, name, &faults.account, replica(&ns.namespace)).await;
    let first = start(0, "replica-1").await;
    eventually("the first leads", async || leads(&first).await).await;
    // The standby is ready without leading, because every replica has to serve admission.
    let second = start(1, "replica-2").await;
    assert!(!leads(&second).await);
    let burst = Burst::prepare(&ns, ApiShape::Upstream, 20).await;
    let die = async {
        burst.under_way().await;
        first.process.kill().await.expect("it was alive");
        let began = Instant::now();
        eventually("the second leads", async || leads(&second).await).await;
        println!("another replica led {:?} after the leader's death, with leases of 12 s", began.elapsed());
    };
    burst.create_during(80, Retry::Never, die).await;
    burst.assert_some_reserved();
    burst.settle(80, Surplus::AfterACrash).await;
    second.process.kill().await.expect("it was alive");
}

/// The leader stays alive and loses its connection. It has to stop by itself before another replica starts.
async fn a_leader_that_is_cut_off_stops_acting() {
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "cut-off").await;
    let proxy = Proxy::start(&faults.cluster, &faults.account, "cut-off", Box::new(|_, _, _| Fate::Pass)).await;
    let first = faults.start(0, "cut-off-1", &proxy.kubeconfig, replica(&ns.namespace)).await;
    eventually("the first leads", async || leads(&first).await).await;
    let second = faults.start(1, "cut-off-2", &faults.account, replica(&ns.namespace)).await;
    let burst = Burst::prepare(&ns, ApiShape::Seed, 20).await;
    let cut = async {
        burst.under_way().await;
        proxy.partition(true);
        eventually("the second leads", async || leads(&second).await).await;
        assert!(!leads(&first).await, "two lead");
        let before = proxy.writes();
        proxy.partition(false);
        before
    };
    let before = burst.create_during(80, Retry::Never, cut).await;
    burst.assert_some_reserved();
    burst.settle(80, Surplus::AfterACrash).await;
    assert_eq!(proxy.writes(), before, "it wrote without leading");
    for operator in [first, second] {
        operator.process.kill().await.expect("it was alive");
    }
}

/// Two operators must never act on one cluster at the same time, even if the other one is upstream's operator.
async fn operator_waits_for_upstreams_lease() {
    const LEASE: Kind = Kind("coordination.k8s.io/v1", "Lease", "leases");
    const UPSTREAM: &str = "a3317529.agent-sandbox.x-k8s.io";
    let (faults, _alone) = faults().await;
    let ns = TestNamespace::new(&faults.cluster, "beside").await;
    let own = TestNamespace::existing(&faults.cluster, NAMESPACE);
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
    let operator = faults.start(0, "beside", &faults.account, replica(&ns.namespace)).await;
    ns.create(sandbox("waits", json!({}))).await;
    // This is longer than the operator needs to become the leader when the lease is free.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        assert!(!leads(&operator).await, "it leads beside upstream's operator");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(ns.get(SANDBOX, "waits").await["status"].is_null(), "it acts beside upstream's operator");
    own.merge(LEASE, UPSTREAM, json!({ "spec": { "holderIdentity": "", "leaseDurationSeconds": 1 } })).await;
    ns.until(SANDBOX, "waits", "Ready", ready).await;
    operator.process.kill().await.expect("it was alive");
}
