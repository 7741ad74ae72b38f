//! The controller under test: our operator with its ServiceAccount's rights, or another program in its place.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use paddock_cluster::{AnyCluster, Endpoint, Process, Spawn, WORKSPACE, http_get};

use crate::args::Common;
use crate::metrics::Scrape;

/// Namespace and name of the operator's ServiceAccount, as `deploy/` has them.
const OPERATOR: (&str, &str) = ("agent-sandbox-system", "agent-sandbox-controller");
/// From a start to readiness. Among 50,000 sandboxes it is seconds.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often readiness is asked for: finer than what is told of it.
const POLL: Duration = Duration::from_millis(5);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Our operator.
    Paddock,
    /// The program of `--controller-cmd`.
    Other,
    /// No controller: a bare client.
    Bare,
}

impl Who {
    /// The column of the figures.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Paddock => "paddock",
            Self::Other => "other",
            Self::Bare => "bare client",
        }
    }

    /// What its process is called in the figures, and its writes.
    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::Paddock => "operator",
            Self::Other => "controller",
            Self::Bare => "bare client",
        }
    }

    /// Its user name at the API server.
    pub(crate) fn user(self) -> String {
        match self {
            Self::Paddock => format!("system:serviceaccount:{}:{}", OPERATOR.0, OPERATOR.1),
            Self::Other => "paddock-bench:controller".to_owned(),
            Self::Bare => "paddock-bench:bare".to_owned(),
        }
    }
}

/// How our operator is started.
pub(crate) struct Plan<'a> {
    /// The binary.
    pub(crate) program: &'a Path,
    /// Its flags on the command line of the benchmark.
    pub(crate) common: &'a Common,
    /// More flags, such as those of leader election.
    pub(crate) flags: Vec<String>,
    /// Whether it serves a webhook.
    pub(crate) webhook: bool,
}

/// One process of the controller.
#[derive(Clone)]
pub(crate) struct Replica {
    /// The process.
    pub(crate) process: Process,
    /// Where it serves metrics.
    pub(crate) metrics: Endpoint,
    /// Where it says whether it is ready; ours only.
    health: Option<Endpoint>,
}

/// Gives the cluster the operator's namespace, account and rights.
pub(crate) async fn grant(place: &AnyCluster) -> Result<()> {
    let kubectl = place.kubectl();
    for file in ["namespace.yaml", "rbac.yaml"] {
        let file = format!("{WORKSPACE}/deploy/base/{file}");
        kubectl.run(&["apply", "--server-side", "-f", &file], None).await.context("applying the operator's rights")?;
    }
    Ok(())
}

impl Replica {
    /// Starts our operator: on a cluster of our own with the rights of its ServiceAccount, on another's with the person's
    /// and without a webhook, since that API server cannot reach this machine.
    pub(crate) async fn start(place: &AnyCluster, name: &str, plan: &Plan<'_>) -> Result<Self> {
        let (metrics, health, debug) = (place.port()?, place.port()?, place.port()?);
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut args = vec![
            "operator".to_owned(),
            flag("metrics-bind-address", &at(metrics)),
            flag("health-probe-bind-address", &at(health)),
            flag("debug-bind-address", &at(debug)),
        ];
        let kubeconfig = match place {
            AnyCluster::Local(cluster) => {
                args.push(flag("leader-election-namespace", OPERATOR.0));
                let file = cluster.kubeconfig_for_service_account(OPERATOR.0, OPERATOR.1).await;
                file.context("a token for the operator's ServiceAccount")?
            }
            AnyCluster::External(external, _) => {
                args.push(flag("leader-elect", "false"));
                external.kubeconfig()
            }
        };
        args.push(flag("kubeconfig", &kubeconfig.display().to_string()));
        if plan.webhook && matches!(place, AnyCluster::Local(_)) {
            let webhook = at(place.port()?);
            args.extend([
                flag("webhook-url", &format!("https://{webhook}")),
                flag("webhook-bind-address", &webhook),
                flag("webhook-service-namespace", OPERATOR.0),
            ]);
        } else {
            args.push(flag("webhook-bind-address", "0"));
        }
        args.extend(plan.flags.iter().chain(&plan.common.operator_flag).cloned());
        let process = place.spawn(Spawn::new(name, plan.program).args(args)).await.context("starting the operator")?;
        Ok(Self {
            process,
            metrics: Endpoint::local(metrics, "/metrics"),
            health: Some(Endpoint::local(health, "/readyz")),
        })
    }

    /// Starts another controller.
    pub(crate) async fn start_other(place: &AnyCluster, common: &Common) -> Result<Self> {
        let (Some(metrics), Some(command)) = (&common.against, &common.controller_cmd) else {
            bail!("--against and --controller-cmd name the other controller");
        };
        let AnyCluster::Local(cluster) = place else { bail!("another controller is measured on a cluster of our own") };
        let kubeconfig = cluster.kubeconfig_for_user(&Who::Other.user(), &["system:masters"])?;
        let kubeconfig = kubeconfig.display().to_string();
        let command = command.replace("{kubeconfig}", &kubeconfig);
        let spawn = Spawn::new("controller", "/bin/sh").args(["-c", &command]).env("KUBECONFIG", kubeconfig);
        let process = cluster.spawn(spawn).await.context("starting the other controller")?;
        Ok(Self { process, metrics: metrics.clone(), health: None })
    }

    /// Waits until it says that it is ready, or where it does not say so, until it serves metrics; gives how long that took.
    pub(crate) async fn ready(&self) -> Result<Duration> {
        let began = Instant::now();
        let asked = self.health.as_ref().unwrap_or(&self.metrics);
        let ready = async {
            while !matches!(http_get(asked).await, Ok((200, _))) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            ended = self.ended() => bail!(ended),
            ready = tokio::time::timeout(PATIENCE, ready) => {
                ready.map_err(|_| anyhow::anyhow!("{asked} was not ready within {} s", PATIENCE.as_secs()))?;
            }
        }
        Ok(began.elapsed())
    }

    /// Waits until it leads; gives how long that took.
    pub(crate) async fn leads(&self) -> Result<Duration> {
        let began = Instant::now();
        while !self.is_leader().await {
            if began.elapsed() > PATIENCE {
                bail!("{} did not come to lead within {} s", self.process.name(), PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(began.elapsed())
    }

    /// Whether it leads, as its metrics say.
    pub(crate) async fn is_leader(&self) -> bool {
        Scrape::of(&self.metrics).await.is_ok_and(|scrape| scrape.sum("paddock_leader", &[]) == Some(1.0))
    }

    /// Waits for its end, which nobody wants, and says so with the end of its log.
    pub(crate) async fn ended(&self) -> String {
        let how = match self.process.wait().await {
            Ok(exit) => exit.to_string(),
            Err(error) => error.to_string(),
        };
        let log = std::fs::read_to_string(self.process.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n");
        format!("{} ended by itself ({how}); the end of its log:\n{tail}", self.process.name())
    }
}
