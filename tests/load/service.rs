//! Replicas of the gateway as clients of their Service see them: a new connection goes to one of those that were Ready a
//! moment ago.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use paddock_cluster::{Exit, PATIENCE, Signal, http_get};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::gateway::Gateway;

/// The interval at which a client looks for a replica while none is Ready, or tries a connection again.
const AGAIN: Duration = Duration::from_millis(20);
/// The time within which a replica has to answer a probe.
const PROBE: Duration = Duration::from_secs(2);

/// The replicas. Clones are handles on the same Service.
#[derive(Clone, Debug)]
pub struct Service(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    replicas: Mutex<Vec<Replica>>,
    notices: Duration,
    follower: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Clone, Debug)]
struct Replica {
    gateway: Gateway,
    ready: bool,
}

/// A connection to a replica.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: TcpStream,
    /// The attempts that were refused before.
    pub refused: u64,
}

impl Service {
    /// A Service that asks its replicas for their readiness at this interval, as a kubelet does.
    #[must_use]
    pub fn of(gateways: Vec<Gateway>, notices: Duration) -> Self {
        let replicas = gateways.into_iter().map(|gateway| Replica { gateway, ready: true }).collect();
        let inner = Inner { replicas: Mutex::new(replicas), notices, follower: Mutex::new(None) };
        let service = Self(Arc::new(inner));
        let follower = tokio::spawn({
            let inner = Arc::downgrade(&service.0);
            async move {
                while let Some(inner) = inner.upgrade() {
                    inner.probe().await;
                    let pause = inner.notices;
                    drop(inner);
                    sleep(pause).await;
                }
            }
        });
        *lock(&service.0.follower) = Some(follower);
        service
    }

    /// The replicas.
    #[must_use]
    pub fn gateways(&self) -> Vec<Gateway> {
        self.0.replicas().into_iter().map(|replica| replica.gateway).collect()
    }

    /// Connects to one of the Ready replicas. A refused connection is tried again, because no byte was sent on it.
    ///
    /// # Errors
    /// If no replica accepts a connection in time.
    pub async fn connect(&self) -> Result<Connected> {
        let (began, mut refused) = (Instant::now(), 0);
        while began.elapsed() < PATIENCE {
            let ready: Vec<Replica> = self.0.replicas().into_iter().filter(|replica| replica.ready).collect();
            if let Some(chosen) = fastrand::choice(&ready) {
                match TcpStream::connect(chosen.gateway.proxy).await {
                    Ok(stream) => return Ok(Connected { stream, refused }),
                    Err(_) => refused += 1,
                }
            }
            sleep(AGAIN).await;
        }
        bail!("no gateway accepted a connection within {} s", PATIENCE.as_secs())
    }

    /// Restarts a replica as a rollout does: SIGTERM, its drain, a new process, and its readiness. Returns how it ended
    /// and how long that took.
    ///
    /// # Errors
    /// If the replica does not end or start in time.
    pub async fn restart(&self, number: usize) -> Result<(Exit, Duration)> {
        let gateway = self.gateway(number)?;
        let began = Instant::now();
        gateway.process.signal(Signal::Terminate).await?;
        let exit = timeout(PATIENCE, gateway.process.wait()).await;
        let exit = exit.with_context(|| format!("{} has not ended", gateway.process.name()))??;
        let drained = began.elapsed();
        self.start(number).await?;
        Ok((exit, drained))
    }

    /// Kills a replica, as in a crash, and starts it again.
    ///
    /// # Errors
    /// If the replica does not start in time.
    pub async fn kill(&self, number: usize) -> Result<()> {
        self.gateway(number)?.process.kill().await?;
        self.start(number).await
    }

    /// Starts a replica that has ended, and waits until clients connect to it.
    async fn start(&self, number: usize) -> Result<()> {
        let gateway = self.gateway(number)?.again().await?;
        if let Some(replica) = lock(&self.0.replicas).get_mut(number) {
            *replica = Replica { gateway, ready: false };
        }
        let began = Instant::now();
        while self.0.replicas().get(number).is_none_or(|replica| !replica.ready) {
            if began.elapsed() > PATIENCE {
                bail!("replica {number} is not Ready");
            }
            sleep(AGAIN).await;
        }
        Ok(())
    }

    fn gateway(&self, number: usize) -> Result<Gateway> {
        self.gateways().get(number).cloned().with_context(|| format!("there is no replica {number}"))
    }
}

impl Inner {
    fn replicas(&self) -> Vec<Replica> {
        lock(&self.replicas).clone()
    }

    async fn probe(&self) {
        for (number, replica) in self.replicas().into_iter().enumerate() {
            let answer = timeout(PROBE, http_get(&replica.gateway.ready)).await;
            let ready = matches!(answer, Ok(Ok((200, _))));
            // The replica may have been replaced meanwhile.
            if let Some(now) =
                lock(&self.replicas).get_mut(number).filter(|now| now.gateway.ready == replica.gateway.ready)
            {
                now.ready = ready;
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(follower) = lock(&self.follower).take() {
            follower.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
