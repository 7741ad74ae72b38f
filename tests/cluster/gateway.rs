//! The gateway beside a cluster: a process with the rights of its ServiceAccount.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::bootstrap::within;
use crate::{Agent, Cluster, Endpoint, Error, PATIENCE, Process, Result, Spawn, http_get};

/// The interval of the readiness checks.
const POLL: Duration = Duration::from_millis(25);

/// A gateway that runs on this machine's loopback address. Clones refer to the same process.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// The address of the proxy.
    pub proxy: SocketAddr,
    /// The page with the metrics.
    pub metrics: Endpoint,
}

impl Gateway {
    /// Starts `paddock gateway` with the rights of a ServiceAccount, for clients without a credential, and waits until it
    /// is ready: then it has listed all Sandboxes and pods. Hosts of the form `NAME--PORT.NAMESPACE.DOMAIN` name a
    /// Sandbox.
    ///
    /// # Errors
    /// Returns an error if the ServiceAccount does not exist, or if the gateway ends or is not ready in time.
    pub async fn start(cluster: &Cluster, program: &Path, account: (&str, &str), domain: &str) -> Result<Self> {
        let account = cluster.kubeconfig_for_service_account(account.0, account.1).await?;
        let [proxy, health, metrics] = [cluster.port()?, cluster.port()?, cluster.port()?];
        let listen = |what: &str, port: u16| format!("--{what}-bind-address=127.0.0.1:{port}");
        let args = [
            "gateway".to_owned(),
            format!("--kubeconfig={}", account.display()),
            format!("--host-routing-domain={domain}"),
            listen("http", proxy),
            listen("health-probe", health),
            listen("metrics", metrics),
            "--allow-unauthenticated".to_owned(),
            "--log-format=text".to_owned(),
        ];
        let process = cluster.spawn(Spawn::new("gateway", program).args(args)).await?;
        let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, proxy));
        let gateway = Self { process, proxy, metrics: Endpoint::local(metrics, "/metrics") };
        let health = Endpoint::local(health, "/readyz");
        let ready = async {
            while !matches!(http_get(&health).await, Ok((200, _))) {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        let logs = gateway.process.log().to_owned();
        within(PATIENCE, "the readiness of the gateway", logs, gateway.process.until(ready)).await?;
        Ok(gateway)
    }

    /// The agent of a Sandbox, which the gateway finds by this host.
    #[must_use]
    pub fn agent(&self, host: &str) -> Agent {
        Agent::behind(self.proxy, host, &[])
    }

    /// The text of the metrics.
    ///
    /// # Errors
    /// Returns an error if the gateway does not answer with them.
    pub async fn metrics_text(&self) -> Result<String> {
        match http_get(&self.metrics).await? {
            (200, text) => Ok(text),
            (status, text) => Err(Error::Format {
                what: "reading the gateway's metrics".to_owned(),
                problem: format!("status {status}: {text}"),
            }),
        }
    }
}
