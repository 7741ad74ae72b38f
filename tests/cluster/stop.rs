//! What ends a program from outside.

use tokio::signal::unix::{SignalKind, signal};

use crate::{Error, Result};

/// Waits for Ctrl-C, or whatever else asks this process to end.
///
/// # Errors
/// Where signals cannot be listened for.
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
