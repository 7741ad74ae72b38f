//! The gateway beside the cluster, with the rights of its ServiceAccount in `deploy/`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use paddock_api::names::object::{GATEWAY_DEPLOYMENT, OPERATOR_NAMESPACE};
use paddock_cluster::{Agent, Cluster, Process};

use crate::session::NAMESPACE;

/// The domain of the Sandboxes. curl and browsers look for every name under `localhost` on this machine.
const DOMAIN: &str = "localhost";

/// A running gateway. Clones refer to the same process.
#[derive(Clone)]
pub(crate) struct Gateway(paddock_cluster::Gateway);

/// The sums of the phases of all wakes so far, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct WakePhases {
    write: f64,
    pod: f64,
    port: f64,
}

impl Gateway {
    /// Starts the gateway on this machine's loopback address, and waits until it is ready.
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

    /// The URL of a page of a Sandbox.
    pub(crate) fn url(&self, sandbox: &str, path: &str) -> String {
        format!("http://{}:{}{path}", host(sandbox), self.0.proxy.port())
    }

    /// The sums of the phases of all wakes so far.
    pub(crate) async fn wake_phases(&self) -> Result<WakePhases> {
        WakePhases::read(&self.0.metrics_text().await?)
    }

    /// The addresses and files of the gateway for the user, each with its name.
    pub(crate) fn places(&self) -> [(&'static str, String); 3] {
        [
            ("gateway", self.url("SANDBOX", "/")),
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

impl WakePhases {
    fn read(metrics: &str) -> Result<Self> {
        let sum = |phase: &str| {
            let name = format!("paddock_gateway_wake_phase_duration_seconds_sum{{phase=\"{phase}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            let line = line.with_context(|| format!("the gateway's metrics have no {name}"))?;
            line.parse::<f64>().with_context(|| format!("{name}{line}"))
        };
        Ok(Self { write: sum("write")?, pod: sum("pod")?, port: sum("port")? })
    }

    /// The parts of one request that took `total`, each with its length. They add up to `total`. `before` are the sums
    /// before this request.
    pub(crate) fn of_request(self, before: Self, total: Duration) -> [(&'static str, Duration); 4] {
        let part = |after: f64, before: f64| Duration::try_from_secs_f64(after - before).unwrap_or_default();
        let (write, pod) = (part(self.write, before.write), part(self.pod, before.pod));
        let port = part(self.port, before.port);
        [
            ("the gateway sets the mode", write),
            ("the pod gets its address", pod),
            ("its port opens", port),
            ("the request and its answer", total.saturating_sub(write + pod + port)),
        ]
    }
}

fn host(sandbox: &str) -> String {
    format!("{sandbox}.{NAMESPACE}.{DOMAIN}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_wake_are_differences_and_add_up_to_the_request() {
        let metrics = |write, pod, port| {
            [("write", write), ("pod", pod), ("port", port)]
                .map(|(phase, sum)| {
                    format!("paddock_gateway_wake_phase_duration_seconds_sum{{phase=\"{phase}\"}} {sum}\n")
                })
                .concat()
        };
        let before = WakePhases::read(&metrics(1.0, 2.0, 3.0)).unwrap();
        let after = WakePhases::read(&metrics(1.25, 2.5, 4.0)).unwrap();
        let parts = after.of_request(before, Duration::from_secs(2)).map(|(_, took)| took.as_millis());
        assert_eq!(parts, [250, 500, 1000, 250]);
        let error = WakePhases::read("").unwrap_err().to_string();
        assert!(error.contains("phase=\"write\""), "{error}");
    }
}
