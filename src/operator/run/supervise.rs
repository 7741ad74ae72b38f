//! Waits for the end of an operator, and ends its parts in order.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use super::running::Error;
use crate::queue::Queue;
use crate::record::Recorder;
use crate::world::SharedWorld;

/// A part of the operator that is stopped by a token and then ends in order.
pub(super) type Stoppable = Option<(CancellationToken, JoinHandle<()>)>;

/// The parts of an operator that end in order.
pub(super) struct Parts {
    pub(super) tasks: JoinSet<&'static str>,
    pub(super) work: JoinHandle<()>,
    pub(super) election: Stoppable,
    pub(super) webhook: Stoppable,
    /// The reports of the status of plugins.
    pub(super) reports: Stoppable,
    pub(super) world: SharedWorld,
    pub(super) queue: Queue,
    pub(super) recorder: Recorder,
    /// Ends the task of the plugins when it is dropped.
    pub(super) _plugins: DropGuard,
}

/// Waits until the operator is stopped or a part ends, and then ends the other parts in order.
pub(super) async fn supervise(mut parts: Parts, stop: CancellationToken) -> Result<(), Error> {
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = parts.world.broken().cancelled() => Err(Error::WorldBroken),
        ended = parts.tasks.join_next() => Err(Error::Ended(match ended {
            Some(Ok(name)) => name,
            Some(Err(_)) | None => "a task",
        })),
    };
    if let Err(error) = &result {
        error!(%error, "shutting down after an error");
    }
    parts.queue.close();
    // This wait has its own time limit.
    let _ = parts.work.await;
    if let Some((stop, reports)) = parts.reports {
        stop.cancel();
        // This wait has its own time limit.
        let _ = reports.await;
    }
    if let Some((stop, election)) = parts.election {
        stop.cancel();
        let _ =
            tokio::time::timeout(paddock_kube::limits::LEASE_REQUEST_TIMEOUT + Duration::from_secs(1), election).await;
    }
    // The webhook ends after everything except the listeners, because the API server may still ask it. This wait has
    // its own time limit.
    if let Some((stop, webhook)) = parts.webhook {
        stop.cancel();
        let _ = webhook.await;
    }
    parts.tasks.shutdown().await;
    // Nobody asks plugins any more. This wait has its own time limit.
    parts.recorder.finish().await;
    result
}

/// Waits for the next value, and for ever if there is none, because the sender ended.
pub(super) async fn changed<T>(values: &mut watch::Receiver<T>) {
    if values.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
