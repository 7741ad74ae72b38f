//! Metrics of waking, holding, dialling and activity.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
};
use strum::{IntoStaticStr, VariantArray};

use crate::metrics::register;

/// Buckets from a millisecond (an open port on the same node) to the longest time for which a request is held.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 15.0, 60.0];

/// The result of a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum WakeResult {
    /// The write was stored.
    Woken,
    /// Another process was faster, or the Sandbox was deleted.
    NotNeeded,
    /// The API server refused the write.
    Refused,
    /// The API server could not be asked, or too many wakes waited.
    Failed,
}

/// A phase of a wake. The phases of one request add up to the time for which it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Phase {
    /// From the decision to wake to the reply of the API server.
    Write,
    /// From there until the pod has an address.
    Pod,
    /// From there until the port is open.
    Port,
}

/// The result of a record of activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum RecordResult {
    /// The record was stored.
    Written,
    /// Another process wrote a record meanwhile, or the Sandbox was deleted.
    NotNeeded,
    /// The API server refused the record or could not be asked.
    Failed,
    /// The queue was full. The record is tried again.
    Dropped,
}

/// The metrics. Clones are handles on the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    wakes: IntCounterVec,
    wake_phases: HistogramVec,
    held: IntGauge,
    hold_time: Histogram,
    refused: IntCounterVec,
    dial_time: Histogram,
    records: IntCounterVec,
    objects: IntGaugeVec,
    watch_errors: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If the registry has a metric of one of the names.
    pub fn register(to: &Registry) -> Result<Self> {
        let counter =
            |name: &str, help: &str, labels: &[&str]| register(to, IntCounterVec::new(Opts::new(name, help), labels)?);
        let seconds = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let metrics = Self {
            wakes: counter(
                "paddock_gateway_wakes_total",
                "Wakes of suspended Sandboxes, by result. Requests for one Sandbox share a wake.",
                &["result"],
            )?,
            wake_phases: register(
                to,
                HistogramVec::new(
                    seconds(
                        "paddock_gateway_wake_phase_duration_seconds",
                        "Time that a request is held for a wake, by phase: the write of the mode, until the pod has an \
                         address, and until its port is open.",
                    ),
                    &["phase"],
                )?,
            )?,
            held: register(
                to,
                IntGauge::new("paddock_gateway_held_requests", "Requests that wait for their Sandbox.")?,
            )?,
            hold_time: register(
                to,
                Histogram::with_opts(seconds(
                    "paddock_gateway_hold_duration_seconds",
                    "Time for which requests waited for their Sandbox.",
                ))?,
            )?,
            refused: counter(
                "paddock_gateway_hold_refusals_total",
                "Requests that were not held, by the limit: that of the Sandbox or that of its namespace.",
                &["limit"],
            )?,
            dial_time: register(
                to,
                Histogram::with_opts(seconds(
                    "paddock_gateway_dial_duration_seconds",
                    "Time from the first connection attempt to the pod of a running Sandbox until its port answered.",
                ))?,
            )?,
            records: counter(
                "paddock_gateway_activity_records_total",
                "Records of activity on Sandboxes, by result.",
                &["result"],
            )?,
            objects: register(
                to,
                IntGaugeVec::new(
                    Opts::new("paddock_gateway_objects", "Objects that the gateway knows, by kind."),
                    &["kind"],
                )?,
            )?,
            watch_errors: counter(
                "paddock_gateway_watch_errors_total",
                "Interruptions of the watches, by kind and reason.",
                &["kind", "reason"],
            )?,
        };
        metrics.sizes((0, 0));
        for result in WakeResult::VARIANTS {
            metrics.wakes.with_label_values(&[<&str>::from(result)]);
        }
        for result in RecordResult::VARIANTS {
            metrics.records.with_label_values(&[<&str>::from(result)]);
        }
        for phase in Phase::VARIANTS {
            metrics.wake_phases.with_label_values(&[<&str>::from(phase)]);
        }
        Ok(metrics)
    }

    pub(crate) fn wake(&self, result: WakeResult) {
        self.wakes.with_label_values(&[<&str>::from(result)]).inc();
    }

    pub(crate) fn phase(&self, phase: Phase, took: Duration) {
        self.wake_phases.with_label_values(&[<&str>::from(phase)]).observe(took.as_secs_f64());
    }

    pub(crate) fn held(&self, change: i64) {
        self.held.add(change);
    }

    pub(crate) fn hold_time(&self, took: Duration) {
        self.hold_time.observe(took.as_secs_f64());
    }

    pub(crate) fn not_held(&self, limit: &'static str) {
        self.refused.with_label_values(&[limit]).inc();
    }

    pub(crate) fn dial_time(&self, took: Duration) {
        self.dial_time.observe(took.as_secs_f64());
    }

    pub(crate) fn record(&self, result: RecordResult) {
        self.records.with_label_values(&[<&str>::from(result)]).inc();
    }

    pub(crate) fn sizes(&self, (sandboxes, pods): (usize, usize)) {
        for (kind, count) in [("sandboxes", sandboxes), ("pods", pods)] {
            self.objects.with_label_values(&[kind]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn watch_error(&self, kind: &'static str, reason: &'static str) {
        self.watch_errors.with_label_values(&[kind, reason]).inc();
    }

    /// The number of wakes with this result.
    #[cfg(test)]
    pub(crate) fn wakes_of(&self, result: WakeResult) -> u64 {
        self.wakes.with_label_values(&[<&str>::from(result)]).get()
    }

    /// The number of requests that were held in this phase of a wake, and their time.
    #[cfg(test)]
    pub(crate) fn time_of(&self, phase: Phase) -> (u64, Duration) {
        let phase = self.wake_phases.with_label_values(&[<&str>::from(phase)]);
        (phase.get_sample_count(), Duration::from_secs_f64(phase.get_sample_sum()))
    }

    /// The number of records with this result.
    #[cfg(test)]
    pub(crate) fn records_of(&self, result: RecordResult) -> u64 {
        self.records.with_label_values(&[<&str>::from(result)]).get()
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::register(&Registry::new()).unwrap()
    }
}
