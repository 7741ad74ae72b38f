//! The time that a test takes, for tests of work that must grow linearly with its input.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "only tests use this clock")]

use std::time::{Duration, Instant};

/// Linear work on the inputs of these tests takes well under a second, and quadratic work takes minutes. The bound is
/// between the two, so that a busy machine passes.
const AT_MOST: Duration = Duration::from_secs(30);

/// Measures the work of a test.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Panics if the work since the start took longer than linear work can take.
    pub(crate) fn assert_linear(&self) {
        let taken = self.0.elapsed();
        assert!(taken < AT_MOST, "{taken:?}");
    }
}
