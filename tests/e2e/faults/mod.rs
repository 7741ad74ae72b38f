//! Faults between the operator and the API server, on their own control plane.
//!
//! Each fault happens in the middle of a burst of claims. In the end, each claim is Ready with a Sandbox of its own,
//! and a witness has checked every event. The operators serve the webhook, as they do by default. Claims therefore have
//! reservations, and a killed operator loses its reservations.

mod control_plane;
mod facts;
mod kills;
mod leaders;
mod network;
mod service;
mod webhook;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use paddock_cluster::{Cluster, Options, Process};
use service::Service;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::namespace::TestNamespace;
use super::operator::{self, Operator, Plan, Ports};
use super::setup::control_plane;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    let parts =
        [kills::tests(), network::tests(), facts::tests(), control_plane::tests(), leaders::tests(), webhook::tests()];
    parts.into_iter().flatten().collect()
}

/// The control plane. One test at a time uses it, because an operator here serves one namespace or takes part in the
/// leader election.
pub(super) struct Faults {
    pub(super) cluster: Cluster,
    pub(super) account: PathBuf,
    /// The ports of the two operators that run at most at the same time.
    ports: [Ports; 2],
    /// The Service of their webhooks.
    service: Service,
    /// The operators that were started last. Those of a failed test must not disturb the next test.
    last: std::sync::Mutex<[Option<Process>; 2]>,
    one_at_a_time: Mutex<()>,
}

impl Faults {
    /// Starts the first or the second operator of a test.
    async fn start(&self, which: usize, name: &str, kubeconfig: &Path, mut flags: Vec<String>) -> Operator {
        let left_behind = self.last.lock().expect("no panic")[which].take();
        if let Some(process) = left_behind.filter(Process::running) {
            process.kill().await.expect("it ends");
        }
        flags.extend(self.service.flags(which));
        let plan = Plan { name, kubeconfig, flags };
        let operator = Operator::spawn_at(&self.cluster, plan, self.ports[which]).await;
        self.last.lock().expect("no panic")[which] = Some(operator.process.clone());
        operator.ready().await;
        operator
    }
}

pub(super) async fn faults() -> (&'static Faults, MutexGuard<'static, ()>) {
    static FAULTS: OnceCell<Faults> = OnceCell::const_new();
    static TRIED: AtomicBool = AtomicBool::new(false);
    let start = || async {
        assert!(!TRIED.swap(true, Ordering::Relaxed), "it did not start for the first test that needed it");
        let options = Options { nodes: 10, ..Options::default().with_isolation() };
        let (cluster, account) = control_plane(options).await;
        let ports = [operator::ports(&cluster), operator::ports(&cluster)];
        let service = Service::start([(); 2].map(|()| cluster.port().expect("a free port"))).await;
        Faults { cluster, account, ports, service, last: Default::default(), one_at_a_time: Mutex::new(()) }
    };
    let faults = FAULTS.get_or_init(start).await;
    (faults, faults.one_at_a_time.lock().await)
}

/// An operator for one namespace, without leader election.
pub(super) async fn alone(faults: &Faults, ns: &TestNamespace, kubeconfig: &Path) -> Operator {
    alone_with(faults, ns, kubeconfig, Vec::new()).await
}

/// The same with additional flags.
async fn alone_with(faults: &Faults, ns: &TestNamespace, kubeconfig: &Path, mut flags: Vec<String>) -> Operator {
    flags.extend(["--leader-elect=false".to_owned(), format!("--namespace={}", ns.namespace)]);
    faults.start(0, &format!("operator-{}", ns.namespace), kubeconfig, flags).await
}

/// The flags for a lease that is shorter than the default of 15 s. It is not much shorter, because a leader on a busy
/// machine must not lose its lease by a late renewal.
pub(super) fn short_lease() -> [String; 3] {
    ["--lease-duration=12s", "--lease-renew-deadline=10s", "--lease-retry-period=500ms"].map(str::to_owned)
}

/// The flags of a replica for one namespace.
fn replica(namespace: &str) -> Vec<String> {
    short_lease().into_iter().chain([format!("--namespace={namespace}")]).collect()
}

async fn leads(operator: &Operator) -> bool {
    operator.metrics().await.lines().any(|line| line == "paddock_leader 1")
}
