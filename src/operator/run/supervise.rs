//! Waits for the end of an operator, and ends its parts in order.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use super::running::Error;
use crate::queue::Queue;
use crate::record::Recorder;
use crate::tasks::{Tasks, ended};
use crate::world::SharedWorld;

/// A part of the operator that is stopped by a token and then ends in order. If it ends before that, the operator ends.
pub(super) struct Part {
    name: &'static str,
    stop: CancellationToken,
    /// `None` if the part has ended.
    handle: Option<JoinHandle<()>>,
}

impl Part {
    /// Starts a part, which ends after `stop`.
    pub(super) fn spawn(
        name: &'static str,
        stop: CancellationToken,
        part: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { name, stop, handle: Some(tokio::spawn(part)) }
    }

    /// Waits until the part ends or panics, and returns its name.
    async fn ended(&mut self) -> &'static str {
        if let Some(handle) = &mut self.handle {
            // A panic has been reported on standard error.
            let _ = handle.await;
        }
        self.handle = None;
        self.name
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.ended().await;
    }
}

/// The parts of an operator that end in order.
pub(super) struct Parts {
    pub(super) tasks: Tasks,
    /// The reconciles. They end with the queue.
    pub(super) work: Part,
    pub(super) election: Option<Part>,
    pub(super) webhook: Option<Part>,
    /// The reports of the status of plugins.
    pub(super) reports: Part,
    pub(super) world: SharedWorld,
    pub(super) queue: Queue,
    pub(super) recorder: Recorder,
    /// Ends the task of the plugins when it is dropped.
    pub(super) _plugins: DropGuard,
}

/// Waits until the operator is stopped or a part ends, and then ends the other parts in order.
pub(super) async fn supervise(mut parts: Parts, stop: CancellationToken) -> Result<(), Error> {
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        // A panic that breaks the World may also end a part.
        () = parts.world.broken().cancelled() => Err(Error::WorldBroken),
        name = ended(&mut parts.tasks) => Err(Error::Ended(name)),
        name = parts.work.ended() => Err(Error::Ended(name)),
        name = parts.reports.ended() => Err(Error::Ended(name)),
        name = optional(&mut parts.election) => Err(Error::Ended(name)),
        name = optional(&mut parts.webhook) => Err(Error::Ended(name)),
    };
    if let Err(error) = &result {
        error!(%error, "shutting down after an error");
    }
    parts.queue.close();
    // This wait has its own time limit.
    parts.work.stop().await;
    // This wait has its own time limit.
    parts.reports.stop().await;
    if let Some(election) = parts.election {
        let most = paddock_kube::limits::LEASE_REQUEST_TIMEOUT + Duration::from_secs(1);
        let _ = tokio::time::timeout(most, election.stop()).await;
    }
    // The webhook ends after everything except the listeners, because the API server may still ask it. This wait has
    // its own time limit.
    if let Some(webhook) = parts.webhook {
        webhook.stop().await;
    }
    parts.tasks.shutdown().await;
    // Nobody asks plugins any more. This wait has its own time limit.
    parts.recorder.finish().await;
    result
}

async fn optional(part: &mut Option<Part>) -> &'static str {
    match part {
        Some(part) => part.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits until the sender of the values ends.
pub(super) async fn sender_ended<T>(mut values: watch::Receiver<T>) {
    while values.changed().await.is_ok() {}
}

/// Waits for the next value, and for ever if there is none, because the sender ended.
pub(super) async fn changed<T>(values: &mut watch::Receiver<T>) {
    if values.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use paddock_core::settings::Settings;
    use paddock_core::world::World;
    use tokio::time::timeout;

    use super::*;
    use crate::metrics::Metrics;
    use crate::queue::Workers;
    use crate::record::RecordConfig;
    use crate::tasks::spawn;

    /// A part that runs until it is stopped.
    fn steady(name: &'static str) -> Part {
        let stop = CancellationToken::new();
        Part::spawn(name, stop.clone(), async move { stop.cancelled().await })
    }

    fn parts() -> Parts {
        let metrics = Metrics::new().unwrap();
        let mut tasks = Tasks::new();
        spawn(&mut tasks, "watch", std::future::pending());
        Parts {
            tasks,
            work: steady("reconciler"),
            election: Some(steady("leader election")),
            webhook: Some(steady("webhook")),
            reports: steady("status of plugins"),
            world: SharedWorld::new(World::new(Settings::default())),
            queue: Queue::new(Workers::default(), 1),
            recorder: Recorder::start(&RecordConfig::default(), 1, &metrics).unwrap(),
            _plugins: CancellationToken::new().drop_guard(),
        }
    }

    async fn ends(parts: Parts, stop: CancellationToken) -> Option<Result<(), Error>> {
        timeout(Duration::from_secs(60), supervise(parts, stop)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn operator_ends_when_it_is_stopped() {
        assert!(ends(parts(), CancellationToken::new()).await.is_none(), "ended by itself");
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(matches!(ends(parts(), stop).await, Some(Ok(()))));
    }

    /// Puts a part in the place of one of these.
    type Put = fn(&mut Parts, Part);

    #[tokio::test(start_paused = true)]
    async fn operator_ends_with_any_part_of_it() {
        let part = |name, panics: bool| {
            let task = async move { assert!(!panics, "as expected") };
            Part::spawn(name, CancellationToken::new(), task)
        };
        for panics in [false, true] {
            let broken: [(&str, Put); 4] = [
                ("reconciler", |parts, part| parts.work = part),
                ("leader election", |parts, part| parts.election = Some(part)),
                ("webhook", |parts, part| parts.webhook = Some(part)),
                ("status of plugins", |parts, part| parts.reports = part),
            ];
            for (name, put) in broken {
                let mut parts = parts();
                put(&mut parts, part(name, panics));
                let result = ends(parts, CancellationToken::new()).await;
                let is_named = matches!(result, Some(Err(Error::Ended(ended))) if ended == name);
                assert!(is_named, "{name} {panics}: {result:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn operator_ends_with_the_task_of_the_plugins() {
        let (sender, status) = watch::channel(0);
        let mut parts = parts();
        spawn(&mut parts.tasks, "plugins", sender_ended(status));
        let panics: JoinHandle<()> = tokio::spawn(async move {
            sender.send_replace(1);
            panic!("as expected");
        });
        assert!(matches!(ends(parts, CancellationToken::new()).await, Some(Err(Error::Ended("plugins")))));
        assert!(panics.await.is_err());
    }
}
