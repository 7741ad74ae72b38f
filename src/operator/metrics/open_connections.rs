//! The result of a round of questions to all gateways, which is a label of metrics.

use strum::{IntoStaticStr, VariantArray};

/// The result of a round of questions to all gateways for their open connections, as the metrics record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum ConnectionsResult {
    /// Every gateway answered.
    Complete,
    /// A gateway did not answer in time.
    Silent,
    /// A gateway or the API server did not admit the operator.
    Forbidden,
    /// Any other failure.
    Failed,
}

impl ConnectionsResult {
    /// The word in the label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
