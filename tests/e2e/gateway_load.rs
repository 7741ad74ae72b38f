//! The gateway under load: rolling restarts that lose nothing, and large bodies in little memory.
//!
//! The control plane is the tests' own and has no operator: it has one Sandbox, whose pod is this process. The addresses of
//! the load are loopback addresses.

use std::time::Duration;

use paddock_cluster::{Cluster, Options};
use paddock_load::client::Version;
use paddock_load::soak::{CLIENTS, Plan};
use paddock_load::transfer::{Direction, Transfer};
use paddock_load::{Scene, soak, transfer};
use tokio::sync::OnceCell;

use super::programs;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![requests_survive_rolling_restarts_and_streams_end_in_order, large_bodies_pass_through_in_little_memory]
}

/// The bytes of a large body.
const LARGE: u64 = 300_000_000;
/// The resident memory that a gateway may take for it, in bytes.
const GROWTH_MAX: u64 = 32_000_000;

/// The control plane and its Sandbox.
async fn open() -> &'static (Cluster, Scene) {
    static OPEN: OnceCell<(Cluster, Scene)> = OnceCell::const_new();
    let start = || async {
        let program = programs::paddock().await;
        let cluster = Cluster::start(Options { nodes: 1, ..Options::default() }).await.expect("a control plane");
        let scene = Scene::open(&cluster, &program).await.expect("a Sandbox");
        (cluster, scene)
    };
    OPEN.get_or_init(start).await
}

async fn requests_survive_rolling_restarts_and_streams_end_in_order() {
    const FLAGS: [&str; 3] = ["--allow-unauthenticated", "--drain-delay=2s", "--shutdown-timeout=3s"];
    let (cluster, scene) = open().await;
    let mut gateways = Vec::new();
    for name in ["gateway-a", "gateway-b"] {
        gateways.push(scene.gateway(cluster, name, &FLAGS).await.expect("a gateway"));
    }
    let plan = Plan {
        time: Duration::from_secs(60),
        restarts: 5,
        pause: Duration::from_secs(1),
        notices: Duration::from_millis(300),
        after_kill: Duration::from_secs(5),
    };
    let report = soak(scene, gateways, &plan, |line| println!("{line}")).await.expect("gateways that restart");
    let table = report.table();
    println!("{table}");
    assert_eq!(report.faults(), Vec::<String>::new(), "{table}");
    assert_eq!(report.drains.len(), 10, "{table}");
    // The load was there: requests, and streams that outlasted each restart of their replica.
    let [restarts, kill] = &report.requests;
    assert!(restarts.answered > 1000, "{table}");
    for [streams, _] in [&report.websockets, &report.events] {
        assert!(streams.in_order >= 5, "{table}");
    }
    // The other replica went on when the first was killed, and only requests that were under way were lost.
    assert!(kill.answered > 100, "{table}");
    assert!(kill.lost <= CLIENTS as u64, "{table}");
}

async fn large_bodies_pass_through_in_little_memory() {
    let (cluster, scene) = open().await;
    let gateway = scene.gateway(cluster, "gateway-large", &["--allow-unauthenticated"]).await.expect("a gateway");
    let send = async |version, direction, bytes| {
        let sent = transfer(&gateway, &scene.headers(), Transfer { version, direction, bytes }).await;
        sent.unwrap_or_else(|error| panic!("{version:?} {direction:?} of {bytes}: {error:#}"))
    };
    for version in [Version::Http1, Version::Http2] {
        for direction in [Direction::Upload, Direction::Download] {
            // What the first request of its kind takes is no growth.
            send(version, direction, 1_000_000).await;
            let sent = send(version, direction, LARGE).await;
            println!("{version:?} {direction:?}: {sent:?}");
            assert!(sent.growth < GROWTH_MAX, "{version:?} {direction:?}: {sent:?}");
        }
    }
}
