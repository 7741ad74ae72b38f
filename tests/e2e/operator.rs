//! The operator as a process beside the control plane, with exactly the rights of its ServiceAccount.

use std::path::{Path, PathBuf};

use paddock_cluster::{BESIDE, Cluster, Process, Spawn, eventually, eventually_some, grant};

use super::kinds::SANDBOX;
use super::namespace::TestNamespace;
use super::{http, programs};

/// The namespace of the operator's deployment, and the name of its ServiceAccount.
pub(crate) const NAMESPACE: &str = "agent-sandbox-system";
pub(crate) const ACCOUNT: &str = "agent-sandbox-controller";

/// A running operator.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) process: Process,
    pub(crate) metrics: u16,
    pub(crate) health: u16,
    pub(crate) debug: u16,
}

/// The options for starting an operator.
pub(crate) struct Plan<'a> {
    /// The name of the process and of its log.
    pub(crate) name: &'a str,
    /// The credentials of the operator and the address of the API server.
    pub(crate) kubeconfig: &'a Path,
    /// Additional flags.
    pub(crate) flags: Vec<String>,
}

/// The ports for metrics, probes and `/debug`.
pub(crate) type Ports = [u16; 3];

/// The ports for one more operator. A cluster has only a few ports.
pub(crate) fn ports(cluster: &Cluster) -> Ports {
    [(); 3].map(|()| cluster.port().expect("a free port"))
}

impl Operator {
    /// Starts an operator and waits until it is ready.
    pub(crate) async fn start(cluster: &Cluster, plan: Plan<'_>) -> Self {
        let operator = Self::spawn(cluster, plan).await;
        operator.ready().await;
        operator
    }

    /// Starts an operator.
    pub(crate) async fn spawn(cluster: &Cluster, plan: Plan<'_>) -> Self {
        Self::spawn_at(cluster, plan, ports(cluster)).await
    }

    /// Starts an operator at the ports of an earlier one.
    pub(crate) async fn spawn_at(cluster: &Cluster, plan: Plan<'_>, [metrics, health, debug]: Ports) -> Self {
        let program = programs::paddock().await;
        let flags = [
            "operator".to_owned(),
            format!("--kubeconfig={}", plan.kubeconfig.display()),
            format!("--metrics-bind-address=127.0.0.1:{metrics}"),
            format!("--health-probe-bind-address=127.0.0.1:{health}"),
            format!("--debug-bind-address=127.0.0.1:{debug}"),
            format!("--leader-election-namespace={NAMESPACE}"),
        ];
        let spawn = Spawn::new(plan.name, program).args(flags).args(plan.flags);
        let process = cluster.spawn(spawn).await.expect("the operator starts");
        Self { process, metrics, health, debug }
    }

    /// Waits until the operator reports that it is ready.
    pub(crate) async fn ready(&self) {
        let answers =
            eventually_some("the operator is ready", async || match http::get(self.health, "/readyz").await {
                Some((200, _)) => Ok(()),
                answer => Err(format!("{answer:?}\n{}", self.log_tail())),
            });
        tokio::select! {
            () = answers => {}
            exit = self.process.wait() => panic!("the operator ended: {exit:?}\n{}", self.log_tail()),
        }
    }

    /// The content of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let (status, body) = http::get(self.metrics, "/metrics").await.expect("the operator serves metrics");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The end of the operator's log.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.process.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// The flags of an operator that serves the webhook at a free port.
pub(crate) fn admitting(cluster: &Cluster) -> Vec<String> {
    let port = cluster.port().expect("a free port");
    vec![
        format!("--webhook-bind-address=127.0.0.1:{port}"),
        format!("--webhook-url=https://127.0.0.1:{port}"),
        format!("--webhook-service-namespace={NAMESPACE}"),
    ]
}

/// Creates the operator's namespace, its ServiceAccount, its rights and their limits, and returns a kubeconfig for it.
pub(crate) async fn rights(cluster: &Cluster) -> PathBuf {
    rights_with(cluster, &BESIDE).await
}

/// The same for other flags of `paddock manifests`.
pub(crate) async fn rights_with(cluster: &Cluster, flags: &[&str]) -> PathBuf {
    grant(&cluster.kubectl(), &programs::paddock().await, flags).await.expect("the operator gets its rights");
    cluster.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await.expect("a token")
}

/// Waits until the API server knows the rights of an operator for a namespace, and returns the namespace as this operator
/// sees it. An operator that starts earlier is refused requests.
pub(crate) async fn granted(ns: &TestNamespace, account: &Path) -> TestNamespace {
    let seen = ns.seen_by(account).await;
    eventually_some("the rights are in force", async || {
        for path in read_by_the_operator(ns) {
            seen.read(&path).await?;
        }
        Ok::<_, kube::Error>(())
    })
    .await;
    seen
}

/// Waits until the API server knows that an operator has lost these rights.
pub(crate) async fn revoked(seen: &TestNamespace) {
    for path in read_by_the_operator(seen) {
        let refused = async || matches!(seen.read(&path).await, Err(kube::Error::Api(status)) if status.code == 403);
        eventually("the rights are gone", refused).await;
    }
}

/// Paths that every operator reads: one by a ClusterRole, and one by a Role if it serves one namespace. The API server
/// learns the two kinds of roles through separate watches.
fn read_by_the_operator(ns: &TestNamespace) -> [String; 2] {
    ["/api/v1/namespaces?limit=1".to_owned(), SANDBOX.path(&ns.namespace)]
}
