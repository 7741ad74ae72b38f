//! The gateway beside the cluster, with the rights of its ServiceAccount in `deploy/`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use paddock_api::names::object::{GATEWAY_DEPLOYMENT, OPERATOR_NAMESPACE};
use paddock_cluster::{Agent, Cluster, Process, WakePhases};

use crate::session::NAMESPACE;

/// The domain of the Sandboxes.
const DOMAIN: &str = "sandbox.example";

/// A running gateway. Clones refer to the same process.
#[derive(Clone)]
pub(crate) struct Gateway(paddock_cluster::Gateway);

impl Gateway {
    /// Starts the gateway where the node reaches this machine, and waits until it is ready.
    pub(crate) async fn start(cluster: &Cluster, program: &Path) -> Result<Self> {
        let account = (OPERATOR_NAMESPACE, GATEWAY_DEPLOYMENT);
        let started = paddock_cluster::Gateway::start(cluster, program, account, DOMAIN).await;
        started.map(Self).context("starting the gateway")
    }

    /// The process.
    pub(crate) fn process(&self) -> &Process {
        &self.0.process
    }

    /// The agent of a Sandbox, which the gateway finds by the Sandbox's name.
    pub(crate) fn agent(&self, sandbox: &str) -> Agent {
        self.0.agent(&host(sandbox))
    }

    /// The command that gets a page of a Sandbox. No DNS knows the names, so it says where the gateway is.
    pub(crate) fn request(&self, sandbox: &str, path: &str) -> String {
        format!("curl --connect-to ::{} http://{}{path}", self.0.proxy, host(sandbox))
    }

    /// The phases of all wakes so far.
    pub(crate) async fn wake_phases(&self) -> Result<WakePhases> {
        Ok(self.0.wake_phases().await?)
    }

    /// The addresses and files of the gateway for the user, each with its name.
    pub(crate) fn places(&self) -> [(&'static str, String); 3] {
        [
            ("gateway", self.request("SANDBOX", "/")),
            ("gateway's metrics", self.0.metrics.to_string()),
            ("gateway's log", self.process().log().display().to_string()),
        ]
    }

    /// Waits for the unexpected end of the gateway, and describes it.
    pub(crate) async fn ended(&self) -> String {
        match self.process().wait().await {
            Ok(exit) => format!("the gateway ended by itself ({exit})"),
            Err(error) => format!("the gateway cannot be watched: {error}"),
        }
    }
}

/// The parts of one request that took `total`, each with its length. They add up to `total`. `wake` has the phases of the
/// wake that the request waited for.
pub(crate) fn parts_of_request(wake: WakePhases, total: Duration) -> [(&'static str, Duration); 4] {
    let WakePhases { write, pod, port } = wake;
    [
        ("the gateway sets the mode", write),
        ("the pod gets its address", pod),
        ("its port opens", port),
        ("the request and its answer", total.saturating_sub(write + pod + port)),
    ]
}

fn host(sandbox: &str) -> String {
    format!("{sandbox}.{NAMESPACE}.{DOMAIN}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_request_add_up_to_it() {
        let [write, pod, port] = [250, 500, 1000].map(Duration::from_millis);
        let parts = parts_of_request(WakePhases { write, pod, port }, Duration::from_secs(2));
        assert_eq!(parts.map(|(_, took)| took.as_millis()), [250, 500, 1000, 250]);
    }
}
