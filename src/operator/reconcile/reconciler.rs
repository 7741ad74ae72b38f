//! The reconcile loop: takes a snapshot, asks the plugins, decides on a plan, and writes it. The loop is the same for
//! every kind.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_core::decide::{decide, questions};
use paddock_core::plan::Requeue;
use paddock_core::question::PluginReply;
use paddock_core::record::Subject;
use paddock_core::snapshot::Snapshot;
use paddock_core::unenforced::unenforced;
use paddock_kube::traces;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Level, Span, debug, error, info_span, span, warn};

use super::trace::{Trace, Traces};
use crate::limits;
use crate::metrics::{Ended, Metrics};
use crate::plugins::{PluginClient, ask_all};
use crate::queue::{Done, Job, Queue};
use crate::world::SharedWorld;
use crate::write::Events;
use crate::write::{LargePlace, Progress, Writer};

/// Reconciles the keys of a queue.
pub struct Reconciler {
    /// The source of snapshots.
    pub world: SharedWorld,
    /// The plugins that answer questions.
    pub plugin_client: PluginClient,
    /// Sends the operations of a plan.
    pub writer: Writer,
    /// Publishes the Events of a plan.
    pub events: Events,
    /// Counts and times the reconciles.
    pub metrics: Metrics,
    /// Keeps the last reconcile of each key for `/debug/seen`.
    pub traces: Traces,
}

impl Reconciler {
    /// Reconciles keys until the queue is closed. Then waits for running reconciles, for a limited time.
    pub async fn run(self, queue: Queue) {
        let this = Arc::new(self);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                job = queue.next() => {
                    let Some(job) = job else { break };
                    let span = info_span!("reconcile", key = %job.key, trigger = job.trigger.as_str());
                    running.spawn(this.clone().work(job).instrument(span));
                }
                Some(ended) = running.join_next() => report(ended),
            }
        }
        let drained = timeout(limits::WRITE_DRAIN_TIMEOUT, async {
            while let Some(ended) = running.join_next().await {
                report(ended);
            }
        });
        if drained.await.is_err() {
            warn!(left = running.len(), "the time for the shutdown ended while writes were under way");
        }
    }

    async fn work(self: Arc<Self>, job: Job) {
        let started = Instant::now();
        let place = self.writer.place(&job.key).await;
        let (done, wake) = self.reconcile(&job, place.as_ref()).await;
        let (trigger, result) = (job.trigger.as_str(), done.as_str());
        let ended = Ended { trigger, result, waited: job.waited, took: started.elapsed() };
        self.metrics.reconciled(job.key.kind, &ended);
        job.done(done, wake.as_ref().map(|wake| instant(wake, self.world.now())));
    }

    async fn reconcile(&self, job: &Job, place: Option<&LargePlace>) -> (Done, Option<Requeue>) {
        let (key, trigger) = (&job.key, job.trigger);
        for _ in 0..limits::STALE_PLAN_ATTEMPTS {
            let now = self.world.now();
            let looked = Instant::now();
            self.world.take_ports(key, now);
            let snapshot = Arc::new(self.world.snapshot(key, now));
            let mut looking = looked.elapsed();
            let span = span_of(&snapshot);
            let answers = self.ask(&snapshot, now, &span).await;
            let decided = Instant::now();
            let plan = decide(&snapshot, &answers);
            looking += decided.elapsed();
            job.took(looking);
            let progress = self.writer.execute(&plan, place).await;
            span.record("paddock.writes", plan.ops().count());
            traces::end(&span);

            let wake = plan.requeue.clone();
            if progress != Progress::Stale {
                self.events.send(plan.events.iter().cloned());
            }
            if progress == Progress::Stored {
                self.events.send(plan.results.iter().cloned());
            }
            let large = place.is_some();
            self.traces.keep(Trace { key: key.clone(), at: now, trigger, large, snapshot, answers, plan, progress });
            match progress {
                Progress::Stored => return (Done::Converged, wake),
                Progress::Stopped(done) => return (done, wake),
                Progress::Stale => {
                    debug!("the plan is stale; taking a new snapshot");
                    self.metrics.stale_plan(key.kind);
                }
            }
        }
        (Done::Again, None)
    }

    /// Asks until the core has no more questions. A plugin may use the processor for milliseconds, so the questions run
    /// on a blocking thread.
    async fn ask(&self, snapshot: &Arc<Snapshot>, now: Timestamp, span: &Span) -> Vec<PluginReply> {
        let first = questions(snapshot, &[]);
        if first.is_empty() {
            return Vec::new();
        }
        let subject = Arc::new(Subject::of(snapshot));
        let (snapshot, plugin_client) = (snapshot.clone(), self.plugin_client.clone());
        let span = span.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _entered = span.entered();
            // Each round asks another binding, or asks it about another object.
            let rounds = snapshot.most_questions();
            let next = |answers: &[PluginReply]| questions(&snapshot, answers);
            ask_all((&plugin_client, &subject), now, rounds, first, next).unwrap_or_else(|answers| {
                warn!(key = %snapshot.key(), rounds, "too many question rounds; using the answers so far");
                answers
            })
        });
        match asked.await {
            Ok(answers) => {
                self.metrics.unenforced(&unenforced(&answers));
                answers
            }
            Err(error) => {
                // The plugin host panicked. The questions stay unanswered, and the core decides what follows.
                error!(%error, "the plugin host panicked");
                Vec::new()
            }
        }
    }
}

/// The span of a reconcile that belongs to the trace of a client. Other reconciles have none: there are many, and they belong
/// to no request.
fn span_of(snapshot: &Snapshot) -> Span {
    let Some(context) = snapshot.trace_context() else { return Span::none() };
    let key = snapshot.key();
    let span = span!(
        target: traces::TARGET,
        Level::INFO,
        "reconcile",
        k8s.namespace.name = &*key.namespace,
        paddock.kind = key.kind.name(),
        paddock.name = &*key.name,
        paddock.writes = Empty,
    );
    traces::continue_annotation(&span, context);
    span
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // The job of this reconcile counts as failed, so the key is reconciled again after a while. Other keys are not
        // affected.
        error!(%error, "a reconcile panicked");
    }
}

/// The time of a requeue on the monotonic clock. If the wall clock is set before that time, the resync queues every
/// object.
fn instant(wake: &Requeue, now: Timestamp) -> Instant {
    let ahead = wake.at.duration_since(now);
    Instant::now() + Duration::try_from(ahead).unwrap_or_default()
}
