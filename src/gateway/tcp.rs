//! TCP connections to Sandboxes: the gateway accepts on the ports that the statuses of Sandboxes record, resumes the
//! Sandbox of the port, and forwards bytes.
//!
//! The Service of a suspended Sandbox leads its clients to these ports. A connection carries no name and no credential, so
//! the port alone says which Sandbox it is for. Each port has one listener, from the record until it is withdrawn.

mod connection;
mod metrics;
mod shared;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use paddock_api::PortRange;
use paddock_kube::listen::ListenAddress;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::connection::{Connection, reset};
use self::metrics::{PortState, TcpMetrics};
use self::shared::Shared;
use crate::client::Places;
use crate::config::TcpConfig;
use crate::drain::Stage;
use crate::limits;
use crate::metrics::ConnectionFault;
use crate::proxy::Proxy;
use crate::sandboxes::{Allotment, Sandboxes};
use crate::server::accept;

/// The listeners of all ports.
pub(crate) struct TcpPorts {
    /// The ports that the gateway may open. `None` if TCP connections are off.
    ports: Option<PortRange>,
    /// The hosts on which the proxy listens.
    bind: ListenAddress,
    of: Arc<Shared>,
    complete: Arc<AtomicBool>,
    open: HashMap<u16, Listener>,
    /// The former owner of a port, by UID, and the time at which it lost the port.
    former: BTreeMap<u16, (Arc<str>, Instant)>,
    /// The ports to look at again, because they rest or could not be opened.
    later: BTreeMap<u16, PortState>,
    /// The recorded ports that the gateway may not open.
    outside: BTreeSet<u16>,
}

/// An open port.
struct Listener {
    owner: Allotment,
    /// Ends the listener and its connections.
    stop: CancellationToken,
}

impl TcpPorts {
    /// # Errors
    /// If the registry has a metric of one of the names.
    pub(crate) fn new(
        config: Option<&TcpConfig>,
        bind: ListenAddress,
        sandboxes: Sandboxes,
        proxy: Arc<Proxy>,
        places: Places,
    ) -> prometheus::Result<Self> {
        let metrics = TcpMetrics::register(proxy.metrics.registry())?;
        let of = Arc::new(Shared { sandboxes, proxy, places, metrics });
        Ok(Self {
            ports: config.map(|tcp| tcp.ports),
            bind,
            of,
            complete: Arc::default(),
            open: HashMap::new(),
            former: BTreeMap::new(),
            later: BTreeMap::new(),
            outside: BTreeSet::new(),
        })
    }

    /// Whether every port that was recorded at the start has been opened, or tried.
    pub(crate) fn complete(&self) -> impl Fn() -> bool + Clone + Send + Sync + use<> {
        let complete = self.complete.clone();
        move || complete.load(Ordering::Acquire)
    }

    /// Opens and closes ports until the gateway has drained.
    pub(crate) async fn run(mut self) {
        let mut retry = Instant::now();
        let mut stays = false;
        let drain = self.of.proxy.drain.clone();
        loop {
            tokio::select! {
                biased;
                () = drain.reached(Stage::Closing) => return,
                () = drain.reached(Stage::Announced), if !stays => {
                    stays = true;
                    self.stay();
                }
                () = self.of.sandboxes.ports_changed() => {}
                () = sleep_until(retry), if !self.later.is_empty() => {}
            }
            // The ports of a list are among the changed ones once the list is complete.
            let complete = self.of.sandboxes.is_complete();
            let mut due = self.of.sandboxes.changed_ports();
            if retry <= Instant::now() {
                due.extend(std::mem::take(&mut self.later).into_keys());
                retry = Instant::now() + limits::TCP_PORT_RETRY;
                self.former.retain(|_, (_, since)| since.elapsed() < limits::TCP_PORT_REST);
            }
            self.update(due).await;
            self.complete.store(complete, Ordering::Release);
        }
    }

    /// Keeps the drain going while the Services of suspended Sandboxes may still lead here: the operator needs a write for
    /// each of them.
    fn stay(&self) {
        let suspended = u32::try_from(self.of.sandboxes.suspended_with_ports()).unwrap_or(u32::MAX);
        if suspended > 0 && self.ports.is_some() {
            let proxy = &self.of.proxy;
            let time = proxy.config.timeouts.drain_delay
                + limits::TCP_LEAVE
                + limits::TCP_LEAVE_SANDBOX.saturating_mul(suspended);
            let drain = proxy.drain.clone();
            proxy.drain.waits.spawn(async move {
                tokio::select! {
                    () = sleep(time) => {}
                    () = drain.reached(Stage::Closing) => {}
                }
            });
        }
    }

    async fn update(&mut self, ports: BTreeSet<u16>) {
        let mut failed = None;
        let all_were_inside = self.outside.is_empty();
        for port in ports {
            if let Err(error) = self.update_port(port).await {
                failed = Some((port, error));
                self.later.insert(port, PortState::Failed);
            }
        }
        if let Some((port, error)) = failed {
            let failed = self.later.values().filter(|state| **state == PortState::Failed).count();
            warn!(port, %error, failed, "ports of Sandboxes cannot be opened, and are tried again");
        }
        if let Some(port) = self.outside.first().filter(|_| all_were_inside) {
            let range = self.ports.map_or_else(|| "0".to_owned(), |range| range.to_string());
            warn!(
                port,
                range,
                "a Sandbox has a port that this gateway does not open: give --tcp-wake-ports of the operator to the gateway"
            );
        }
        self.of.metrics.ports(self.open.len(), self.outside.len(), self.later.values());
    }

    async fn update_port(&mut self, port: u16) -> std::io::Result<()> {
        let recorded = self.of.sandboxes.last_allotment(port);
        let is_outside = recorded.is_some() && !self.ports.is_some_and(|range| range.contains(port));
        if is_outside {
            self.outside.insert(port)
        } else {
            self.outside.remove(&port)
        };
        let owner = recorded.filter(|_| !is_outside);
        let known = self.open.get(&port);
        if known.map(|listener| &listener.owner) == owner.as_ref() {
            return Ok(());
        }
        if let Some(closed) = self.open.remove(&port) {
            closed.stop.cancel();
            self.former.insert(port, (closed.owner.uid, Instant::now()));
        }
        let Some(owner) = owner else { return Ok(()) };
        // A client of the former owner may still be led to the port.
        let rests = |(uid, since): &(Arc<str>, Instant)| *uid != owner.uid && since.elapsed() < limits::TCP_PORT_REST;
        if self.former.get(&port).is_some_and(rests) {
            self.later.insert(port, PortState::Resting);
            return Ok(());
        }
        let Some(address) = self.bind.on_port(port) else { return Ok(()) };
        let Some(listener) = address.listen().await? else { return Ok(()) };
        debug!(port, sandbox = %owner.target(), "a port of the gateway stands for a Sandbox");
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, port, owner.clone(), stop.clone(), self.of.clone()));
        self.open.insert(port, Listener { owner, stop });
        Ok(())
    }
}

impl Drop for TcpPorts {
    fn drop(&mut self) {
        self.open.values().for_each(|listener| listener.stop.cancel());
    }
}

/// Accepts connections for one Sandbox until the port is withdrawn or the gateway has drained.
async fn serve(listener: TcpListener, port: u16, owner: Allotment, stop: CancellationToken, of: Arc<Shared>) {
    let drain = of.proxy.drain.clone();
    loop {
        let (stream, address) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = drain.reached(Stage::Closing) => return,
            accepted = accept(&listener) => accepted,
        };
        let Some(client) = of.places.admit_tcp(address, &of.proxy.metrics) else {
            of.proxy.metrics.connection_fault(ConnectionFault::Refused);
            of.metrics.connection(false);
            reset(stream);
            continue;
        };
        let connection = Connection { stream, client, gateway_port: port, owner: owner.clone() };
        drain.tasks.spawn(connection.serve(of.clone(), stop.clone()));
    }
}

#[cfg(test)]
mod tests;
