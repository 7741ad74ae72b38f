//! The queue of the decisions that are to be written, and the thread that writes them.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use paddock_core::record::Decision;
use paddock_kube::budget::{Budget, Bytes};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::sink::Sink;
use crate::limits;
use crate::metrics::Metrics;

/// The results of a record, as the metric names them.
const WRITTEN: &str = "written";
const DROPPED: &str = "dropped";
const FAILED: &str = "failed";

/// The decisions that wait for the thread. A decision that finds no room is dropped and counted. The namespaces share the
/// room, so that a busy one leaves some for the others.
pub(super) struct Queue {
    sender: mpsc::Sender<Work>,
    room: Budget<String>,
    metrics: Metrics,
}

/// The room of a decision in the queue.
pub(super) type Room = Bytes<String>;

enum Work {
    Write(Arc<Decision>, Room),
    /// Nothing follows. The sender learns that everything is written.
    End(oneshot::Sender<()>),
}

impl Queue {
    /// Starts the thread.
    pub(super) fn start(sink: Sink, annotation_domains: Arc<[String]>, metrics: Metrics) -> io::Result<Self> {
        let (sender, work) = mpsc::channel(limits::RECORD_QUEUE);
        let writer = Writer { sink, annotation_domains, metrics: metrics.clone(), warned: None };
        std::thread::Builder::new().name("decisions".to_owned()).spawn(move || writer.run(work))?;
        Ok(Self { sender, room: Budget::new(limits::RECORD_QUEUE_BYTES), metrics })
    }

    /// The room for a decision of a namespace with these bytes. Counts the decision as dropped if there is none.
    pub(super) fn room(&self, namespace: &str, bytes: usize) -> Option<Room> {
        let room = self.room.take(&namespace.to_owned(), bytes);
        if room.is_none() {
            self.metrics.recorded(DROPPED);
        }
        room
    }

    pub(super) fn push(&self, decision: Arc<Decision>, room: Room) {
        if self.sender.try_send(Work::Write(decision, room)).is_err() {
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
    metrics: Metrics,
    /// The time of the last warning.
    warned: Option<Instant>,
}

impl Writer {
    fn run(mut self, mut work: mpsc::Receiver<Work>) {
        while let Some(work) = work.blocking_recv() {
            match work {
                Work::Write(decision, _room) => {
                    let result = self.write(&decision);
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
