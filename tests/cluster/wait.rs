//! Waits for a predicate, with one deadline for all tests.

use std::time::{Duration, Instant};

/// The time that a test waits for any event. It is long, because a machine with two cores may run every other test and
/// a build at the same time. Only a test that fails waits this long.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Polls until a predicate holds.
///
/// # Panics
/// The predicate does not hold within [`PATIENCE`].
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually_some(what, async || if holds().await { Ok(()) } else { Err("not yet") }).await;
}

/// Polls until there is a result, and returns it. Each error describes the observed state, for the panic's message.
///
/// # Panics
/// There is no result within [`PATIENCE`].
#[expect(clippy::panic, reason = "a test that waits in vain fails")]
pub async fn eventually_some<T, E: std::fmt::Display>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(state) if began.elapsed() > PATIENCE => panic!("not within {PATIENCE:?}: {what}; last state: {state}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
