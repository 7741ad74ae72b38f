//! The metrics of reviews.

use std::time::Duration;

use paddock_core::admission::{Entry, Phase, ReviewVerdict, Why};
use paddock_core::binding::FailurePolicy;
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::registered::RegisteredEntry;
use crate::metrics::table::families;

/// Buckets from a tenth of a millisecond (no plugin is asked) to the API server's timeout.
const SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];

/// The results of writing an activity record.
const ACTIVITY_RESULTS: [&str; 4] = ["written", "merged", "failed", "dropped"];

families! {
    /// The metric families of reviews. Clones are handles on the same families.
    pub struct Reviews(registry) {
        verdicts: IntCounterVec, registry, ["entry", "phase", "verdict"] =>
            "paddock_webhook_reviews_total": "Admission reviews, by entry, phase and verdict.";
        seconds: HistogramVec, registry, ["entry", "phase"], SECONDS =>
            "paddock_webhook_review_seconds": "Duration of an admission review, in seconds.";
        registered: IntGaugeVec, registry, ["entry", "phase"] =>
            "paddock_webhook_registered":
            "1 if the API server has this webhook entry as this version registers it, 0 otherwise.";
        plugin_failures: IntCounterVec, registry, ["plugin", "failure", "policy"] =>
            "paddock_webhook_plugin_troubles_total":
            "Plugins that gave no valid answer in an admission review, by failure and failure policy.";
        activity: IntCounterVec, registry, ["result"] =>
            "paddock_activity_signs_total":
            "Starts of an exec, attach or port-forward, by the result of the activity record on the Sandbox.";
    }
}

impl Reviews {
    /// Declares the families.
    ///
    /// # Errors
    /// If they are declared already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reviews = Self::declare(registry)?;
        reviews.begin();
        Ok(reviews)
    }

    /// Sets the counters with known labels to 0, so that a rate shows the first count.
    fn begin(&self) {
        for result in ACTIVITY_RESULTS {
            self.activity.with_label_values(&[result]);
        }
        let verdicts = Why::ALL.map(Why::as_str).into_iter().chain(["allowed", "unanswered"]);
        for verdict in verdicts {
            for &entry in Entry::ALL {
                for phase in [Phase::Mutate, Phase::Validate] {
                    self.verdicts.with_label_values(&[entry.as_str(), word(phase), verdict]);
                }
            }
        }
    }

    pub(super) fn answered(&self, phase: Phase, entry: Entry, verdict: &str, took: Duration) {
        let phase = word(phase);
        self.verdicts.with_label_values(&[entry.as_str(), phase, verdict]).inc();
        self.seconds.with_label_values(&[entry.as_str(), phase]).observe(took.as_secs_f64());
    }

    /// Sets the state of a webhook entry.
    pub(super) fn registered(&self, entry: &RegisteredEntry) {
        let labels = [entry.entry.as_str(), word(entry.phase)];
        self.registered.with_label_values(&labels).set(i64::from(entry.is_registered()));
    }

    /// Counts an activity record: `written`, `merged` into another one, `failed` or `dropped`.
    pub(super) fn activity(&self, result: &str) {
        self.activity.with_label_values(&[result]).inc();
    }

    pub(super) fn plugin_failures(&self, verdict: &ReviewVerdict) {
        for plugin_failure in &verdict.plugin_failures {
            let policy = match plugin_failure.policy {
                FailurePolicy::Fail => "fail",
                FailurePolicy::Ignore => "ignore",
                FailurePolicy::Fallback => "fallback",
            };
            let labels = [plugin_failure.plugin.as_str(), plugin_failure.failure.kind.as_str(), policy];
            self.plugin_failures.with_label_values(&labels).inc();
        }
    }
}

pub(super) fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Mutate => "mutate",
        Phase::Validate => "validate",
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn what_was_never_counted_is_zero_and_not_absent() {
        let registry = Registry::new();
        let _reviews = Reviews::register(&registry).unwrap();
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            r#"paddock_activity_signs_total{result="dropped"} 0"#,
            r#"paddock_webhook_reviews_total{entry="connect",phase="validate",verdict="allowed"} 0"#,
            r#"paddock_webhook_reviews_total{entry="generated-code",phase="mutate",verdict="unanswered"} 0"#,
            r#"paddock_webhook_reviews_total{entry="sandboxes",phase="validate",verdict="invalid"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
