//! The gateway beside a cluster: a process with the rights of its ServiceAccount.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::bootstrap::{create, within};
use crate::{Agent, Cluster, Endpoint, Error, PATIENCE, Process, Result, Spawn, http_get};

/// The interval of the readiness checks.
const POLL: Duration = Duration::from_millis(25);

/// The Service of the gateway, in which the operator looks for the addresses of gateways.
const SERVICE: &str = "sandbox-router-svc";

/// The ports of the gateway for TCP connections to Sandboxes. The ports of clusters are above them. An operator needs the
/// same value.
pub const TCP_WAKE_PORTS: &str = "--tcp-wake-ports=10000-19999";

/// A gateway that runs on this machine. Clones refer to the same process.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// The address of the proxy.
    pub proxy: SocketAddr,
    /// The page with the metrics.
    pub metrics: Endpoint,
}

/// The phases of wakes by the gateway's clock, added up over several wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakePhases {
    /// The write of the mode.
    pub write: Duration,
    /// From the reply to the write until the gateway's watch shows the address of the pod.
    pub pod: Duration,
    /// Until the gateway has a connection to the port.
    pub port: Duration,
}

impl Gateway {
    /// Starts `paddock gateway` with the rights of a ServiceAccount, for clients without a credential, and waits until it
    /// is ready: then it has listed all Sandboxes and pods. Hosts of the form `NAME--PORT.NAMESPACE.DOMAIN` name a
    /// Sandbox.
    ///
    /// It listens on the loopback address. On a cluster with a real node, it listens where the node reaches this machine,
    /// and is an endpoint of its Service, so that TCP connections to suspended Sandboxes come to it.
    ///
    /// # Errors
    /// Returns an error if the ServiceAccount does not exist, or if the gateway ends or is not ready in time.
    pub async fn start(cluster: &Cluster, program: &Path, account: (&str, &str), domain: &str) -> Result<Self> {
        let (namespace, name) = account;
        let account = cluster.kubeconfig_for_service_account(namespace, name).await?;
        let [proxy, health, metrics] = [cluster.port()?, cluster.port()?, cluster.port()?];
        let listen = |what: &str, port: u16| format!("--{what}-bind-address=127.0.0.1:{port}");
        let at = SocketAddr::from((cluster.address_of_machine(), proxy));
        let args = [
            "gateway".to_owned(),
            format!("--kubeconfig={}", account.display()),
            format!("--host-routing-domain={domain}"),
            format!("--http-bind-address={at}"),
            listen("health-probe", health),
            listen("metrics", metrics),
            TCP_WAKE_PORTS.to_owned(),
            "--allow-unauthenticated".to_owned(),
            "--log-format=text".to_owned(),
        ];
        let process = cluster.spawn(Spawn::new("gateway", program).args(args)).await?;
        let gateway = Self { process, proxy: at, metrics: Endpoint::local(metrics, "/metrics") };
        let health = Endpoint::local(health, "/readyz");
        let ready = async {
            while !matches!(http_get(&health).await, Ok((200, _))) {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        let logs = gateway.process.log().to_owned();
        within(PATIENCE, "the readiness of the gateway", logs, gateway.process.until(ready)).await?;
        if !at.ip().is_loopback() {
            let slice = json!({
                "metadata": { "name": SERVICE, "labels": { "kubernetes.io/service-name": SERVICE } },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": [at.ip()], "conditions": { "ready": true } }],
                "ports": [{ "name": "proxy", "port": proxy, "protocol": "TCP" }],
            });
            let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
            create(&cluster.client(), &slices, &slice).await?;
        }
        Ok(gateway)
    }

    /// The agent of a Sandbox, which the gateway finds by this host.
    #[must_use]
    pub fn agent(&self, host: &str) -> Agent {
        Agent::behind(self.proxy, host, &[])
    }

    /// The phases of all wakes so far, from the metrics.
    ///
    /// # Errors
    /// Returns an error if the gateway does not answer with these metrics.
    pub async fn wake_phases(&self) -> Result<WakePhases> {
        match http_get(&self.metrics).await? {
            (200, text) => WakePhases::read(&text),
            (status, text) => Err(unreadable(format!("status {status}: {text}"))),
        }
    }
}

impl WakePhases {
    fn read(metrics: &str) -> Result<Self> {
        let sum = |phase: &str| {
            let name = format!("paddock_gateway_wake_phase_duration_seconds_sum{{phase=\"{phase}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
            let value = value.ok_or_else(|| unreadable(format!("there is no {name}")))?;
            let sum = value.parse().ok().and_then(|sum| Duration::try_from_secs_f64(sum).ok());
            sum.ok_or_else(|| unreadable(format!("{name}{value} is no duration")))
        };
        Ok(Self { write: sum("write")?, pod: sum("pod")?, port: sum("port")? })
    }

    /// The phases of the wakes after an earlier time.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            write: self.write.saturating_sub(before.write),
            pod: self.pod.saturating_sub(before.pod),
            port: self.port.saturating_sub(before.port),
        }
    }
}

fn unreadable(problem: String) -> Error {
    Error::Format { what: "reading the gateway's metrics".to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_of_a_wake_are_differences_of_the_metrics() {
        let metrics = |write, pod, port| {
            [("write", write), ("pod", pod), ("port", port)]
                .map(|(phase, sum)| {
                    format!("paddock_gateway_wake_phase_duration_seconds_sum{{phase=\"{phase}\"}} {sum}\n")
                })
                .concat()
        };
        let before = WakePhases::read(&metrics(1.0, 2.0, 3.0)).unwrap();
        let wake = WakePhases::read(&metrics(1.25, 2.5, 4.0)).unwrap().since(before);
        assert_eq!([wake.write, wake.pod, wake.port].map(|took| took.as_millis()), [250, 500, 1000]);
        let error = WakePhases::read("").unwrap_err().to_string();
        assert!(error.contains("phase=\"write\""), "{error}");
    }
}
