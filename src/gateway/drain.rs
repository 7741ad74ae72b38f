//! The stages of a shutdown, and the tasks that it waits for.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::timeouts::Timeouts;

/// The stage of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The gateway serves.
    Serving,
    /// The gateway is not ready any more, and still accepts connections. Answers ask clients to connect elsewhere.
    Announced,
    /// The gateway accepts nothing, and waits for requests and streams.
    Draining,
    /// The streams that are left are told to close.
    Closing,
}

/// The shutdown of a gateway. Clones are handles on the same shutdown.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    stage: watch::Sender<Stage>,
    /// The connections and streams.
    pub(crate) tasks: TaskTracker,
    /// Other reasons to wait. Connections are accepted and served meanwhile.
    pub(crate) waits: TaskTracker,
}

/// The work that a shutdown had to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The connections and streams that outlasted the drain.
    pub cut: usize,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self { stage: watch::Sender::new(Stage::Serving), tasks: TaskTracker::new(), waits: TaskTracker::new() }
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Waits until the shutdown has reached this stage.
    pub(crate) async fn reached(&self, stage: Stage) {
        // The sender is alive as long as this handle is.
        let _ = self.stage.subscribe().wait_for(|now| *now >= stage).await;
    }

    /// Shuts down in order, and returns when nothing is left or the time is over.
    pub(crate) async fn run(&self, timeouts: &Timeouts) -> Drained {
        self.enter(Stage::Announced);
        sleep(timeouts.drain_delay).await;
        self.enter(Stage::Draining);
        self.waits.close();
        self.tasks.close();
        let nothing_is_left = async {
            self.waits.wait().await;
            self.tasks.wait().await;
        };
        if timeout(timeouts.drain, nothing_is_left).await.is_ok() {
            return Drained { cut: 0 };
        }
        let cut = self.tasks.len();
        warn!(connections = cut, "the time for the shutdown ended, and open streams are closed");
        self.enter(Stage::Closing);
        // Each connection ends within the time for closing. The second is for the tasks themselves.
        let _ = timeout(timeouts.close + Duration::from_secs(1), self.tasks.wait()).await;
        Drained { cut }
    }

    fn enter(&self, stage: Stage) {
        info!(?stage, connections = self.tasks.len(), "shutting down");
        self.stage.send_replace(stage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wait_that_outlasts_the_drain_is_no_connection_that_was_cut() {
        let drain = Drain::new();
        let of = drain.clone();
        drain.waits.spawn(async move { of.reached(Stage::Closing).await });
        assert_eq!(drain.run(&Timeouts::DEFAULT).await, Drained { cut: 0 });
        assert_eq!(drain.stage(), Stage::Closing, "the drain waited");
    }
}
