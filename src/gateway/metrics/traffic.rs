//! The bytes of requests and of their answers, by the names of upstream's router. The body of gRPC-Web is counted as the
//! client sends and gets it.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Registry, Result};

use super::registration::{counters, register};

/// The bounds of the sizes of bodies, in bytes: those of upstream's router.
const SIZES: [f64; 8] = [100.0, 1024.0, 10_240.0, 102_400.0, 1_048_576.0, 10_485_760.0, 104_857_600.0, 1_073_741_824.0];

const LABELS: [&str; 1] = ["sandbox_namespace"];

/// The families of the traffic.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    from_clients: IntCounterVec,
    to_clients: IntCounterVec,
    from_sandboxes: IntCounterVec,
    to_sandboxes: IntCounterVec,
    request_sizes: HistogramVec,
    response_sizes: HistogramVec,
}

impl Traffic {
    pub(super) fn register(registry: &Registry) -> Result<Self> {
        let bytes = |name, help| counters(registry, name, help, &LABELS);
        let sizes = |name: &str, help: &str| {
            let family = HistogramVec::new(HistogramOpts::new(name, help).buckets(SIZES.to_vec()), &LABELS)?;
            register(registry, family)
        };
        Ok(Self {
            from_clients: bytes("sandbox_router_client_rx_bytes_total", "Bytes of bodies and streams from clients.")?,
            to_clients: bytes("sandbox_router_client_tx_bytes_total", "Bytes of bodies and streams to clients.")?,
            from_sandboxes: bytes(
                "sandbox_router_upstream_rx_bytes_total",
                "Bytes of bodies and streams from Sandboxes.",
            )?,
            to_sandboxes: bytes("sandbox_router_upstream_tx_bytes_total", "Bytes of bodies and streams to Sandboxes.")?,
            request_sizes: sizes("sandbox_router_request_size_bytes", "The sizes of the bodies of requests.")?,
            response_sizes: sizes("sandbox_router_response_size_bytes", "The sizes of the bodies of answers.")?,
        })
    }

    /// Counts a request of a client that has ended. `received` is absent if it had no body.
    pub(super) fn of_client(&self, namespace: &str, received: Option<u64>, sent: u64) {
        if let Some(received) = received {
            self.from_clients.with_label_values(&[namespace]).inc_by(received);
            self.request_sizes.with_label_values(&[namespace]).observe(received as f64);
        }
        self.to_clients.with_label_values(&[namespace]).inc_by(sent);
        self.response_sizes.with_label_values(&[namespace]).observe(sent as f64);
    }

    /// Counts a request that was sent to its Sandbox and has ended.
    pub(super) fn of_sandbox(&self, namespace: &str, sent: u64, received: u64) {
        self.to_sandboxes.with_label_values(&[namespace]).inc_by(sent);
        self.from_sandboxes.with_label_values(&[namespace]).inc_by(received);
    }
}
