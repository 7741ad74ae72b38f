//! The operator beside the cluster: the real binary, under the supervisor that ends it with all other processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use paddock_api::names::object::{GATEWAY_SERVICE, OPERATOR_NAMESPACE};
use paddock_cluster::{AnyCluster, Endpoint, Process, Spawn, TCP_WAKE_PORTS, http_get};
use serde::Deserialize;

use crate::wait::PATIENCE;
use crate::{access, walkthrough};

/// The interval of the readiness checks.
const POLL: Duration = Duration::from_millis(25);

/// A running operator. Clones refer to the same process.
#[derive(Clone)]
pub(crate) struct Operator {
    /// The process.
    pub(crate) process: Process,
    /// The operator's user name at the API server.
    pub(crate) user: &'static str,
    /// The directory that it watches for plugins.
    pub(crate) plugins: PathBuf,
    health: u16,
    debug: u16,
    /// The port of the metrics, on our own cluster.
    metrics: Option<u16>,
}

/// The state of a plugin, as the operator reports it.
#[derive(Debug, Deserialize)]
pub(crate) struct PluginStatus {
    /// The plugin's name.
    pub(crate) name: String,
    /// The digest of the component in use.
    pub(crate) digest: Option<String>,
    /// The error in the current files of the plugin.
    pub(crate) error: Option<String>,
}

impl Operator {
    /// Starts the operator with the flags that the demo needs. On our own cluster, it has the rights of its
    /// ServiceAccount and a webhook. On the user's cluster, it has the user's rights and no webhook, because that API
    /// server cannot reach this machine.
    pub(crate) async fn start(cluster: &AnyCluster, program: &Path) -> Result<Self> {
        let (dir, kubeconfig, user) = match cluster {
            AnyCluster::Local(cluster) => {
                (cluster.dir(), access::kubeconfig(cluster).await?, "its ServiceAccount of deploy/")
            }
            AnyCluster::External(external, _) => (external.dir(), external.kubeconfig(), "your user of that cluster"),
        };
        let plugins = dir.join("plugins");
        std::fs::create_dir_all(&plugins).with_context(|| format!("making {}", plugins.display()))?;
        let (health, debug) = (cluster.port()?, cluster.port()?);
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut args = vec![
            "operator".to_owned(),
            flag("kubeconfig", &kubeconfig.display().to_string()),
            flag("plugin-dir", &plugins.display().to_string()),
            flag("health-probe-bind-address", &at(health)),
            flag("debug-bind-address", &at(debug)),
            flag("log-format", "text"),
        ];
        let mut metrics = None;
        match cluster {
            AnyCluster::Local(_) => {
                let (webhook, scraped) = (cluster.port()?, cluster.port()?);
                metrics = Some(scraped);
                args.extend([
                    flag("leader-election-namespace", OPERATOR_NAMESPACE),
                    flag("metrics-bind-address", &at(scraped)),
                    flag("webhook-bind-address", &at(webhook)),
                    flag("webhook-url", &format!("https://{}", at(webhook))),
                    flag("webhook-service-namespace", OPERATOR_NAMESPACE),
                    flag("gateway-service", &format!("{OPERATOR_NAMESPACE}/{GATEWAY_SERVICE}")),
                    TCP_WAKE_PORTS.to_owned(),
                ]);
            }
            AnyCluster::External(..) => args.extend([
                flag("leader-elect", "false"),
                flag("metrics-bind-address", "0"),
                flag("webhook-bind-address", "0"),
            ]),
        }
        let process =
            cluster.spawn(Spawn::new("operator", program).args(args)).await.context("starting the operator")?;
        Ok(Self { process, user, plugins, health, debug, metrics })
    }

    /// The addresses and paths of the operator for the user, each with its name. There is no kubelet for `kubectl
    /// port-forward`, and none is needed, because the operator runs on this machine.
    pub(crate) fn places(&self, namespace: &str) -> Vec<(&'static str, String)> {
        let at = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
        let metrics = self.metrics.map(|port| ("metrics", at(port, "/metrics")));
        let rest = [
            ("health", at(self.health, "/readyz")),
            ("debug", at(self.debug, "/debug/bindings")),
            ("", at(self.debug, "/debug/plugins")),
            ("", at(self.debug, &format!("/debug/seen/sandboxes/{namespace}/NAME"))),
            ("operator's log", self.process.log().display().to_string()),
            ("plugin directory", self.plugins.display().to_string()),
        ];
        metrics.into_iter().chain(rest).chain(walkthrough::remaining_plugin(&self.plugins)).collect()
    }

    /// Waits until the operator reports that it is ready: all kinds are listed, and the webhook is served.
    pub(crate) async fn ready(&self) -> Result<()> {
        let ready = async {
            while !matches!(http_get(&Endpoint::local(self.health, "/readyz")).await, Ok((200, _))) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            ended = self.ended() => bail!(ended),
            ready = tokio::time::timeout(PATIENCE, ready) => {
                ready.with_context(|| format!("the operator was not ready within {} s", PATIENCE.as_secs()))
            }
        }
    }

    /// The state of the plugin with this name, if the operator knows it.
    pub(crate) async fn plugin(&self, name: &str) -> Result<Option<PluginStatus>> {
        let (status, body) = http_get(&Endpoint::local(self.debug, "/debug/plugins"))
            .await
            .context("asking the operator for its plugins")?;
        ensure!(status == 200, "asking the operator for its plugins: {status}: {body}");
        let plugins: Vec<PluginStatus> = serde_json::from_str(&body).context("reading the status of the plugins")?;
        Ok(plugins.into_iter().find(|plugin| plugin.name == name))
    }

    /// Waits for the unexpected end of the operator, and describes it.
    pub(crate) async fn ended(&self) -> String {
        match self.process.wait().await {
            Ok(exit) => format!("the operator ended by itself ({exit})"),
            Err(error) => format!("the operator cannot be watched: {error}"),
        }
    }
}
