//! The parts of the gateway that TCP connections use.

use std::sync::Arc;

use super::metrics::TcpMetrics;
use crate::client::Places;
use crate::proxy::Proxy;
use crate::sandboxes::Sandboxes;

/// The parts of the gateway that connections use.
pub(crate) struct Shared {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) places: Places,
    pub(crate) metrics: TcpMetrics,
}
