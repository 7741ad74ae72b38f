//! Records the decisions of plugins: the last ones in memory, for `/debug/decisions`, and a sample of them in a file or on
//! standard output, for `paddock plugin replay`.
//!
//! A call never waits for its record. The caller puts a copy of the decision into a bounded queue, or drops and counts it
//! if the queue is full. A thread of its own removes the secrets and writes the lines.

mod queue;
mod recent;
mod sink;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_core::question::{Answer, Failure, PluginRequest};
use paddock_core::record::{Decision, Record, Subject, decision_bytes};
use paddock_plugin_host::Usage;
use parking_lot::Mutex;

use self::queue::Queue;
use self::recent::Recent;
pub use self::sink::Destination;
use self::sink::Sink;
use crate::limits;
use crate::metrics::Metrics;

/// The configuration of the recording.
#[derive(Clone, Debug)]
pub struct RecordConfig {
    /// The place to which records are written. If absent, none are written.
    pub to: Option<Destination>,
    /// The part of the decisions that is written, from 0 to 1.
    pub sample: f64,
    /// The size of a file in bytes at which it is renamed, and a new file begins.
    pub max_bytes: u64,
    /// The number of decisions in memory.
    pub recent: usize,
    /// The domains of the annotations whose values are recorded, besides Paddock's own.
    pub annotation_domains: Vec<String>,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            to: None,
            sample: 1.0,
            max_bytes: limits::RECORDING_BYTES,
            recent: limits::RECENT_DECISIONS,
            annotation_domains: Vec::new(),
        }
    }
}

/// Records decisions. Clones are handles on the same recording.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    /// The last decisions.
    recent: Recent,
    /// The decisions that are to be written, and their sample. `None` if none are written.
    written: Option<Written>,
    annotation_domains: Arc<[String]>,
}

struct Written {
    queue: Queue,
    sample: f64,
    /// Chance decides, and not a count: a count could meet the same hook of every object.
    chance: Mutex<fastrand::Rng>,
}

impl Recorder {
    /// Opens the recording, and starts the thread that writes it.
    ///
    /// # Errors
    /// If the file cannot be opened, or the thread cannot be started.
    pub fn start(config: &RecordConfig, seed: u64, metrics: &Metrics) -> io::Result<Self> {
        let annotation_domains: Arc<[String]> = config.annotation_domains.clone().into();
        let written = match &config.to {
            None => None,
            Some(destination) => {
                let sink = Sink::open(destination, config.max_bytes)?;
                let queue = Queue::start(sink, Arc::clone(&annotation_domains), metrics.clone())?;
                let chance = Mutex::new(fastrand::Rng::with_seed(seed));
                Some(Written { queue, sample: config.sample, chance })
            }
        };
        let recent = Recent::new(config.recent, limits::RECENT_DECISIONS_BYTES);
        Ok(Self { shared: Arc::new(Shared { recent, written, annotation_domains }) })
    }

    /// Records a decision. Does not wait.
    pub(crate) fn decided(
        &self,
        (now, subject): (Timestamp, &Arc<Subject>),
        request: &PluginRequest,
        result: &Result<Answer, Failure>,
        (usage, took): (Usage, Duration),
    ) {
        let Shared { recent, written, .. } = &*self.shared;
        let chosen = written.as_ref().filter(|written| written.chance.lock().f64() < written.sample);
        let bytes = decision_bytes(request, result);
        // The copy of a large question takes time, so there is none that nobody keeps.
        let chosen = chosen.and_then(|written| Some((written, written.queue.room(&subject.object.namespace, bytes)?)));
        if chosen.is_none() && !recent.takes(bytes) {
            return;
        }
        let decision = Arc::new(Decision {
            time: now,
            subject: Arc::clone(subject),
            request: request.clone(),
            result: result.clone(),
            fuel: usage.fuel,
            memory_bytes: usage.memory_bytes as u64,
            took,
        });
        if let Some((written, room)) = chosen {
            written.queue.push(Arc::clone(&decision), room);
        }
        recent.push(decision);
    }

    /// The last decisions that fulfil the predicate, without secrets, the newest first.
    pub fn recent(&self, wanted: impl Fn(&Decision) -> bool) -> impl Iterator<Item = Record> {
        let decisions = self.shared.recent.all().into_iter().rev();
        decisions.filter(move |decision| wanted(decision)).map(move |decision| self.record(&decision))
    }

    /// A decision without secrets.
    pub(crate) fn record(&self, decision: &Decision) -> Record {
        decision.record(&self.shared.annotation_domains)
    }

    /// Waits for a limited time until the decisions so far are written, and ends the recording.
    pub(crate) async fn finish(&self) {
        if let Some(written) = &self.shared.written {
            written.queue.finish().await;
        }
    }
}
