//! One TCP connection: it is counted, waits for its Sandbox, and is forwarded.

use std::sync::Arc;

use paddock_kube::logs::ACCESS_LOG;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::shared::Shared;
use crate::arrival::{Arrival, Purpose};
use crate::client::Client;
use crate::metrics::{Inflight, NO_NAMESPACE};
use crate::only::Only;
use crate::proxy::StreamShares;
use crate::refusal::{Reason, Refusal};
use crate::sandboxes::{Allotment, Connected};
use crate::tunnel::{Ended, Protocol, copy};

/// A connection that a client opened to a port of the gateway.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) client: Client,
    pub(super) gateway_port: u16,
    pub(super) owner: Allotment,
}

impl Connection {
    /// Forwards the connection until it ends. `withdrawn` says that the port does not stand for the Sandbox any more, so
    /// that the client may not use the Sandbox by this way any more.
    pub(super) async fn serve(self, of: Arc<Shared>, withdrawn: CancellationToken) {
        let mut record = Record::new(&self, &of);
        let held = tokio::select! {
            biased;
            () = withdrawn.cancelled() => Err(Refusal::new(Reason::SandboxNotFound, "the port was withdrawn")),
            connected = self.connect(&of) => connected,
        };
        let (Connected { stream: sandbox, activity, .. }, shares) = match held {
            Ok(connected) => connected,
            Err(refusal) => {
                record.closed(&refusal);
                return reset(self.stream);
            }
        };
        of.metrics.connection(true);
        let (timeouts, drain) = (of.proxy.config.timeouts, of.proxy.drain.clone());
        // Small messages must not wait for the answer to the ones before. A connection that has ended has no options.
        let _ = self.stream.set_nodelay(true);
        let (mut client, mut sandbox) = (self.stream, sandbox);
        record.ended = tokio::select! {
            biased;
            () = withdrawn.cancelled() => None,
            ended = copy(&mut client, &mut sandbox, Protocol::Other, &timeouts, &drain) => Some(ended),
        };
        if record.ended.is_none_or(|ended| ended.cut) {
            reset(client);
            reset(sandbox);
        }
        drop((activity, shares, self.client));
    }

    async fn connect(&self, of: &Shared) -> Result<(Connected, StreamShares), Refusal> {
        // Nothing says whether the policies of the Sandbox that connects allow this.
        if of.sandboxes.is_pod(self.client.address) {
            return Err(Refusal::new(Reason::Forbidden, "a sandbox may not use other sandboxes without a credential"));
        }
        let shares = of.proxy.stream_shares(self.client.address, &self.owner.target())?;
        // The client may wait for the Sandbox to speak first, so a connection without a byte is a use.
        let arrival = Arrival { client: self.client.address, purpose: Purpose::Use, held_bytes: 0, only: Only::Any };
        let deadline = Instant::now() + of.proxy.config.timeouts.proxy;
        let connected = of.sandboxes.connect_port(self.gateway_port, &self.owner, &arrival, deadline).await?;
        Ok((connected, shares))
    }
}

/// Closes a connection by a reset. The other side must not take its end for the end of an answer that is complete.
pub(super) fn reset(stream: TcpStream) {
    // A connection that has ended has no options.
    let _ = stream.set_zero_linger();
    drop(stream);
}

/// The line of a connection in the access log, and its metrics. It is written when the connection has ended, however it
/// ended.
struct Record {
    of: Arc<Shared>,
    begin: Instant,
    client: std::net::IpAddr,
    owner: Allotment,
    reason: Option<Reason>,
    /// The end of the forwarded bytes. `None` if there were none, or if they were cut.
    ended: Option<Ended>,
    _inflight: Inflight,
}

impl Record {
    fn new(connection: &Connection, of: &Arc<Shared>) -> Self {
        Self {
            of: of.clone(),
            begin: Instant::now(),
            client: connection.client.address,
            owner: connection.owner.clone(),
            reason: None,
            ended: None,
            _inflight: of.proxy.metrics.begin(),
        }
    }

    fn closed(&mut self, refusal: &Refusal) {
        debug!(reason = refusal.reason.as_str(), detail = refusal.detail, "a TCP connection was closed");
        self.reason = Some(refusal.reason);
        self.of.metrics.connection(false);
        let known = refusal.reason != Reason::SandboxNotFound;
        let namespace = if known { &*self.owner.name.namespace } else { NO_NAMESPACE };
        self.of.proxy.metrics.refused(refusal.reason, namespace);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.of.proxy.config.access_log {
            return;
        }
        info!(
            target: ACCESS_LOG,
            namespace = &*self.owner.name.namespace,
            sandbox = &*self.owner.name.name,
            port = self.owner.port,
            client = %self.client,
            reason = self.reason.map(Reason::as_str),
            bytes = self.ended.map_or(0, |ended| ended.bytes),
            bytes_received = self.ended.map_or(0, |ended| ended.from_client),
            cut = self.reason.is_none() && self.ended.is_none_or(|ended| ended.cut),
            milliseconds = self.begin.elapsed().as_secs_f64() * 1000.0,
            "TCP connection"
        );
    }
}
