//! The signals that end a program.

use tokio::signal::unix::{SignalKind, signal};

use crate::{Error, Result};

/// Waits for Ctrl-C or another signal that asks this process to end.
///
/// # Errors
/// Returns an error if the process cannot listen for signals.
pub async fn stopped() -> Result<()> {
    let listen = |kind| signal(kind).map_err(Error::io("listening for signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
