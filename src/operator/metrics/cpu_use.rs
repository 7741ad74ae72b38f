//! The result of a list of the CPU use of pods, which is a label of metrics.

use strum::{IntoStaticStr, VariantArray};

/// The result of a list of the CPU use of pods, as the metrics record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum CpuUseResult {
    /// The list is complete.
    Served,
    /// The API is not served, because no metrics-server is installed.
    Absent,
    /// The operator has no right to list the CPU use.
    Forbidden,
    /// Any other failure.
    Failed,
}

impl CpuUseResult {
    /// The word in the label of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
