//! The metrics of TCP connections and their ports.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, Result};

use crate::metrics::register;

/// The state of a port that a status records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortState {
    /// Another Sandbox had the port a moment ago.
    Resting,
    /// The port cannot be opened.
    Failed,
}

/// The metrics of TCP connections.
#[derive(Clone, Debug)]
pub(crate) struct TcpMetrics {
    connections: IntCounterVec,
    ports: IntGaugeVec,
}

impl TcpMetrics {
    pub(super) fn register(to: &Registry) -> Result<Self> {
        let connections = register(
            to,
            IntCounterVec::new(
                Opts::new(
                    "paddock_gateway_tcp_connections_total",
                    "TCP connections to ports that stand for Sandboxes. A connection that was not forwarded was closed.",
                ),
                &["result"],
            )?,
        )?;
        let ports = register(
            to,
            IntGaugeVec::new(
                Opts::new("paddock_gateway_tcp_ports", "Ports that stand for ports of Sandboxes, by state."),
                &["state"],
            )?,
        )?;
        for result in ["forwarded", "closed"] {
            connections.with_label_values(&[result]);
        }
        let metrics = Self { connections, ports };
        metrics.ports(0, 0, [].iter());
        Ok(metrics)
    }

    pub(super) fn connection(&self, forwarded: bool) {
        self.connections.with_label_values(&[if forwarded { "forwarded" } else { "closed" }]).inc();
    }

    pub(super) fn ports<'a>(&self, open: usize, outside: usize, later: impl Iterator<Item = &'a PortState> + Clone) {
        let count = |state| later.clone().filter(|of| **of == state).count();
        for (state, count) in [
            ("open", open),
            ("outside", outside),
            ("resting", count(PortState::Resting)),
            ("failed", count(PortState::Failed)),
        ] {
            self.ports.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
