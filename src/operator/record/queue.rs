//! The queue of the decisions that are to be written, and the thread that writes them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use paddock_core::record::Decision;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::sink::Sink;
use crate::limits;
use crate::metrics::Metrics;

/// The results of a record, as the metric names them.
const WRITTEN: &str = "written";
const DROPPED: &str = "dropped";
const FAILED: &str = "failed";

/// The decisions that wait for the thread. A decision that finds no room is dropped and counted.
pub(super) struct Queue {
    sender: mpsc::Sender<Work>,
    /// The bytes of the decisions that wait.
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
}

enum Work {
    Write(Arc<Decision>),
    /// Nothing follows. The sender learns that everything is written.
    End(oneshot::Sender<()>),
}

impl Queue {
    /// Starts the thread.
    pub(super) fn start(sink: Sink, annotation_domains: Arc<[String]>, metrics: Metrics) -> io::Result<Self> {
        let (sender, work) = mpsc::channel(limits::RECORD_QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer =
            Writer { sink, annotation_domains, waiting: Arc::clone(&waiting), metrics: metrics.clone(), warned: None };
        std::thread::Builder::new().name("decisions".to_owned()).spawn(move || writer.run(work))?;
        Ok(Self { sender, waiting, metrics })
    }

    /// Whether there is room for these bytes. Counts the decision as dropped if not.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let room = self.waiting.load(Ordering::Relaxed).saturating_add(bytes) <= limits::RECORD_QUEUE_BYTES;
        if !room {
            self.metrics.recorded(DROPPED);
        }
        room
    }

    pub(super) fn push(&self, decision: Arc<Decision>) {
        let bytes = decision.bytes();
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        if self.sender.try_send(Work::Write(decision)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.recorded(DROPPED);
        }
    }

    /// Waits for a limited time until everything is written. The thread then ends.
    pub(super) async fn finish(&self) {
        let (done, written) = oneshot::channel();
        let end = async {
            // An error means that the thread has ended already.
            if self.sender.send(Work::End(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        if tokio::time::timeout(limits::RECORD_END_TIMEOUT, end).await.is_err() {
            warn!("the time for the shutdown ended before all decisions were recorded");
        }
    }
}

/// The thread that writes the records.
struct Writer {
    sink: Sink,
    annotation_domains: Arc<[String]>,
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
    /// The time of the last warning.
    warned: Option<Instant>,
}

impl Writer {
    fn run(mut self, mut work: mpsc::Receiver<Work>) {
        while let Some(work) = work.blocking_recv() {
            match work {
                Work::Write(decision) => {
                    let result = self.write(&decision);
                    self.waiting.fetch_sub(decision.bytes(), Ordering::Relaxed);
                    self.metrics.recorded(result);
                }
                Work::End(done) => {
                    // Nobody waits any more if the shutdown took too long.
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn write(&mut self, decision: &Decision) -> &'static str {
        let line = match serde_json::to_string(&decision.record(&self.annotation_domains)) {
            Ok(line) => line + "\n",
            Err(error) => return self.failed(&error),
        };
        if !self.sink.takes(line.len()) {
            return DROPPED;
        }
        match self.sink.write(&line) {
            Ok(()) => WRITTEN,
            Err(error) => self.failed(&error),
        }
    }

    /// A full disk fails every record, so the log has a line once in a while.
    fn failed(&mut self, error: &dyn std::error::Error) -> &'static str {
        let due = |warned: Instant| warned.elapsed() >= limits::RECORD_FAILURE_LOG_INTERVAL;
        if self.warned.is_none_or(due) {
            self.warned = Some(Instant::now());
            warn!(%error, "--record-decisions: a decision cannot be recorded");
        }
        FAILED
    }
}
