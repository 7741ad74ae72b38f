//! The controller under test: our operator with the rights of its ServiceAccount, or another program.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use paddock_cluster::{AnyCluster, BESIDE, Endpoint, Process, Spawn, http_get};

use crate::args::Common;
use crate::metrics::Scrape;

/// The namespace and the name of the operator's ServiceAccount in `deploy/`.
const OPERATOR: (&str, &str) = ("agent-sandbox-system", "agent-sandbox-controller");
/// The namespace and the name of the gateway's ServiceAccount in `deploy/`.
pub(crate) const GATEWAY: (&str, &str) = ("agent-sandbox-system", "sandbox-router");
/// The longest time from the start to readiness. With 50,000 sandboxes, it takes seconds.
const PATIENCE: Duration = Duration::from_secs(180);
/// The interval of the readiness checks. It is finer than the reported figures.
const POLL: Duration = Duration::from_millis(5);

/// The controller that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Our operator.
    Paddock,
    /// The program of `--controller-cmd`.
    Other,
    /// A bare client instead of a controller.
    Bare,
}

impl Who {
    /// The title of its column in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Paddock => "paddock",
            Self::Other => "other",
            Self::Bare => "bare client",
        }
    }

    /// The name of its process and of its writes in the figures.
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
            Self::Paddock => user_of(OPERATOR),
            Self::Other => "paddock-bench:controller".to_owned(),
            Self::Bare => "paddock-bench:bare".to_owned(),
        }
    }
}

/// The gateway's user name at the API server.
pub(crate) fn gateway_user() -> String {
    user_of(GATEWAY)
}

fn user_of((namespace, name): (&str, &str)) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The options for starting our operator.
pub(crate) struct Plan<'a> {
    /// The binary.
    pub(crate) program: &'a Path,
    /// Additional flags, such as those of leader election, and those on the command line of the benchmark.
    pub(crate) flags: Vec<String>,
    /// Whether the operator serves a webhook.
    pub(crate) webhook: bool,
}

/// One process of the controller.
#[derive(Clone)]
pub(crate) struct Replica {
    /// The process.
    pub(crate) process: Process,
    /// The address of its metrics.
    pub(crate) metrics: Endpoint,
    /// The address of its readiness check. Only our operator has it.
    health: Option<Endpoint>,
}

/// Creates the operator's namespace, ServiceAccount and rights on the cluster.
pub(crate) async fn grant(place: &AnyCluster, program: &Path) -> Result<()> {
    paddock_cluster::grant(&place.kubectl(), program, &BESIDE).await.context("applying the operator's rights")
}

impl Replica {
    /// Starts our operator. On our own cluster, it has the rights of its ServiceAccount. On the user's cluster, it has
    /// the user's rights and no webhook, because that API server cannot reach this machine.
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
        args.extend(plan.flags.iter().cloned());
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

    /// Waits until the process reports that it is ready. If it has no readiness check, waits until it serves metrics.
    /// Returns the time that it took.
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

    /// Waits until it is the leader. Returns the time that it took.
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

    /// Whether it is the leader, from its metrics.
    pub(crate) async fn is_leader(&self) -> bool {
        Scrape::of(&self.metrics).await.is_ok_and(|scrape| scrape.sum("paddock_leader", &[]) == Some(1.0))
    }

    /// Waits for the unexpected end of the process, and describes it with the end of its log.
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
