//! A gateway that can be started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use paddock_cluster::{Cluster, Endpoint, PATIENCE, Process, Spawn, http_get};
use tokio::time::sleep;

/// The interval of the readiness checks.
const POLL: Duration = Duration::from_millis(25);

/// A gateway on this machine's loopback address, at ports that it chose. Clones refer to the same process.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// The address of the proxy.
    pub proxy: SocketAddr,
    /// The page that says whether the gateway is ready.
    pub(crate) ready: Endpoint,
}

impl Gateway {
    /// Starts `paddock gateway` with the rights of a kubeconfig and with these flags, and waits until it is ready.
    pub(crate) async fn start(cluster: &Cluster, spawn: Spawn, kubeconfig: &Path, flags: &[&str]) -> Result<Self> {
        let args =
            ["gateway".to_owned(), format!("--kubeconfig={}", kubeconfig.display()), "--log-format=text".to_owned()];
        let listeners = ["http", "health-probe", "metrics"].map(|what| format!("--{what}-bind-address=127.0.0.1:0"));
        let spawn = spawn.args(args).args(listeners).args(flags.iter().map(ToString::to_string));
        Self::when_ready(cluster.spawn(spawn).await?, 0).await
    }

    /// Starts it again after its end, with the same flags and on other ports.
    pub(crate) async fn again(&self) -> Result<Self> {
        let logged = log(&self.process).len();
        self.process.restart().await?;
        Self::when_ready(self.process.clone(), logged).await
    }

    /// Waits until a gateway is ready. Its log names its ports after the first `logged` bytes.
    async fn when_ready(process: Process, logged: usize) -> Result<Self> {
        let started = async {
            loop {
                if let Some([proxy, health]) = ports(log(&process).get(logged..).unwrap_or_default()) {
                    let ready = Endpoint::local(health, "/readyz");
                    if matches!(http_get(&ready).await, Ok((200, _))) {
                        return (SocketAddr::from((Ipv4Addr::LOCALHOST, proxy)), ready);
                    }
                }
                sleep(POLL).await;
            }
        };
        tokio::select! {
            (proxy, ready) = started => Ok(Self { process: process.clone(), proxy, ready }),
            ended = process.wait() => bail!("{} ended ({}): {}", process.name(), ended?, log(&process)),
            () = sleep(PATIENCE) => bail!("{} is not ready: {}", process.name(), log(&process)),
        }
    }
}

/// The output of a process so far.
fn log(process: &Process) -> String {
    std::fs::read_to_string(process.log()).unwrap_or_default()
}

/// The ports of the proxy and of the health page, from the line of the log with the addresses.
fn ports(log: &str) -> Option<[u16; 2]> {
    let port = |name: &str| {
        let (_, rest) = log.split_once(&format!("{name}: Some(127.0.0.1:"))?;
        rest.split_once(')')?.0.parse().ok()
    };
    Some([port("http")?, port("health")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_when_the_whole_line_is_there() {
        let line = "started addresses=Addresses { http: Some(127.0.0.1:4001), https: None, metrics: Some(127.0.0.1:4002), \
                    health: Some(127.0.0.1:4003) }\n";
        assert_eq!(ports(line), Some([4001, 4003]));
        for end in 0..line.find("4003").unwrap() + 4 {
            assert_eq!(ports(&line[..end]), None, "{end}");
        }
    }
}
