//! What can go wrong between the operator and the API server, on a control plane of their own.
//!
//! Whatever it is, it happens in the middle of a burst of claims, and in the end each claim is Ready on a Sandbox of its own;
//! a witness has watched every step. The operators serve the webhook, as they do by default: so claims are promised their
//! Sandboxes, and operators die with what they have promised.

mod control_plane;
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
use super::{programs, setup};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    let parts = [kills::tests(), network::tests(), control_plane::tests(), leaders::tests(), webhook::tests()];
    parts.into_iter().flatten().collect()
}

/// The control plane, used by one test at a time: an operator here serves one namespace, or stands for election.
pub(super) struct Faults {
    pub(super) cluster: Cluster,
    pub(super) account: PathBuf,
    /// For the two operators that there are at once at the most.
    ports: [Ports; 2],
    /// Of their webhooks.
    service: Service,
    /// Those that were started last: what a test that failed left behind must not get in the way of the next.
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
        programs::paddock().await;
        let options = Options { nodes: 10, ..Options::default().with_isolation() };
        let cluster = Cluster::start(options).await.expect("a control plane");
        setup::install(&cluster).await;
        let account = operator::rights(&cluster).await;
        let ports = [operator::ports(&cluster), operator::ports(&cluster)];
        let service = Service::start([(); 2].map(|()| cluster.port().expect("a free port"))).await;
        Faults { cluster, account, ports, service, last: Default::default(), one_at_a_time: Mutex::new(()) }
    };
    let faults = FAULTS.get_or_init(start).await;
    (faults, faults.one_at_a_time.lock().await)
}

/// An operator for one namespace alone, that does not wait for a lease.
pub(super) async fn alone(faults: &Faults, ns: &TestNamespace, kubeconfig: &Path) -> Operator {
    let flags = vec!["--leader-elect=false".to_owned(), format!("--namespace={}", ns.namespace)];
    faults.start(0, &format!("operator-{}", ns.namespace), kubeconfig, flags).await
}

/// Flags of a replica whose lease is shorter than the usual 15 s. Not much shorter: on a busy machine a leader must not lose
/// its lease because it came late to renew it.
fn replica(namespace: &str) -> Vec<String> {
    let flags = ["--lease-duration=12s", "--lease-renew-deadline=10s", "--lease-retry-period=500ms"];
    flags.map(str::to_owned).into_iter().chain([format!("--namespace={namespace}")]).collect()
}

async fn leads(operator: &Operator) -> bool {
    operator.metrics().await.lines().any(|line| line == "paddock_leader 1")
}
