//! Every metric family with its name, its labels and its buckets.

use paddock_api::kind::Kind;
use paddock_kube::watch::WatchError;
use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use strum::VariantArray;

use crate::queue::Trigger;

/// Buckets for claims, in milliseconds: upstream's (100 and above), with more below and between.
const CLAIM_MS: &[f64] = &[
    5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 750.0,
    1000.0, 1250.0, 1500.0, 2000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 120_000.0, 240_000.0,
];

/// Buckets for creations, in milliseconds: upstream's (50 and above), with more below and between.
const CREATION_MS: &[f64] = &[
    5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 750.0, 1000.0, 1500.0, 2500.0, 5000.0, 10000.0, 30000.0,
    60000.0, 120_000.0, 240_000.0, 300_000.0, 600_000.0,
];

/// Buckets from half a millisecond (a fast API server on the same machine) to the longest write.
const SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Buckets from ten microseconds (a native guest) to a second (beyond the default deadline of plugins).
const CALL_SECONDS: &[f64] =
    &[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0];

/// The results of an Event.
pub(super) const EVENT_RESULTS: [&str; 4] = ["sent", "repeated", "dropped", "failed"];

/// The results of a reconcile.
pub(super) const RECONCILE_RESULTS: [&str; 3] = ["converged", "again", "failed"];

#[derive(Clone)]
pub(super) struct Families {
    pub(super) claim_startup: HistogramVec,
    pub(super) claim_controller_startup: HistogramVec,
    pub(super) claim_client_startup: HistogramVec,
    pub(super) creation: HistogramVec,
    pub(super) claim_creations: IntCounterVec,
    pub(super) sandboxes: IntGaugeVec,
    pub(super) pool_sandboxes: IntGaugeVec,
    pub(super) leader: IntGauge,
    pub(super) reconciles: IntCounterVec,
    pub(super) reconcile_seconds: HistogramVec,
    pub(super) stale_plans: IntCounterVec,
    pub(super) queue_depth: IntGaugeVec,
    pub(super) queue_seconds: HistogramVec,
    pub(super) writes: IntCounterVec,
    pub(super) write_seconds: HistogramVec,
    pub(super) write_slots: IntGaugeVec,
    pub(super) plugin_calls: IntCounterVec,
    pub(super) plugin_failures: IntCounterVec,
    pub(super) plugin_seconds: HistogramVec,
    pub(super) events: IntCounterVec,
    pub(super) watch_events: IntCounterVec,
    pub(super) watch_lists: IntCounterVec,
    pub(super) watch_errors: IntCounterVec,
    pub(super) watch_lag: HistogramVec,
}

impl Families {
    /// Declares every family. The families that describe the cluster instead of this process are registered in
    /// `leader`.
    pub(super) fn register(all: &Registry, leader: &Registry) -> prometheus::Result<Self> {
        let build = IntGaugeVec::new(
            Opts::new("agent_sandbox_build_info", "The build of this operator, in the labels. The value is always 1."),
            &["git_version", "implementation", "platform"],
        )?;
        let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        build.with_label_values(&[version, "paddock", platform.as_str()]).set(1);
        register(all, build)?;
        let claim = ["launch_type", "sandbox_template"];
        let families = Self {
            claim_startup: histogram(
                all,
                (
                    "agent_sandbox_claim_startup_latency_ms",
                    "Time from the creation of a claim until it is Ready, in milliseconds.",
                ),
                &claim,
                CLAIM_MS,
            )?,
            claim_controller_startup: histogram(
                all,
                (
                    "agent_sandbox_claim_controller_startup_latency_ms",
                    "Time from the first observation of a claim by the operator until the claim is Ready, in milliseconds.",
                ),
                &claim,
                CLAIM_MS,
            )?,
            claim_client_startup: histogram(
                all,
                (
                    "agent_sandbox_client_claim_startup_latency_ms",
                    "Time from the request of the client, if the claim states it, until the claim is Ready, in milliseconds.",
                ),
                &claim,
                CLAIM_MS,
            )?,
            creation: histogram(
                all,
                (
                    "agent_sandbox_creation_latency_ms",
                    "Time from the creation of a Sandbox until it is first Ready, in milliseconds.",
                ),
                &["namespace", "launch_type", "sandbox_template"],
                CREATION_MS,
            )?,
            claim_creations: counter(
                all,
                ("agent_sandbox_claim_creation_total", "Sandboxes that were created or adopted for claims."),
                &["namespace", "sandbox_template", "launch_type", "warmpool_name", "pod_condition", "created_by"],
            )?,
            sandboxes: gauge(
                leader,
                ("agent_sandboxes", "The current number of Sandboxes."),
                &[
                    "namespace",
                    "ready_condition",
                    "expired",
                    "launch_type",
                    "sandbox_template",
                    "owned_by",
                    "created_by",
                ],
            )?,
            pool_sandboxes: gauge(
                leader,
                ("paddock_pool_sandboxes", "Sandboxes of a pool according to its status: desired, total and ready."),
                &["namespace", "pool", "state"],
            )?,
            leader: {
                let leader = IntGauge::new("paddock_leader", "1 if this replica is the leader, 0 otherwise.")?;
                all.register(Box::new(leader.clone()))?;
                leader
            },
            reconciles: counter(
                all,
                ("paddock_reconciles_total", "Reconciles, by kind, trigger and result."),
                &["kind", "trigger", "result"],
            )?,
            reconcile_seconds: histogram(
                all,
                (
                    "paddock_reconcile_duration_seconds",
                    "Time from the snapshot of a reconcile to its last reply, in seconds.",
                ),
                &["kind"],
                SECONDS,
            )?,
            stale_plans: counter(
                all,
                ("paddock_stale_plans_total", "Plans that were out of date before one of their steps began."),
                &["kind"],
            )?,
            queue_depth: gauge(
                all,
                ("paddock_queue_depth", "Keys that are ready to be reconciled or are being reconciled."),
                &["lane", "state"],
            )?,
            queue_seconds: histogram(
                all,
                ("paddock_queue_duration_seconds", "Time that a key was ready before its reconcile began, in seconds."),
                &["kind"],
                SECONDS,
            )?,
            writes: counter(
                all,
                ("paddock_writes_total", "Writes to the API server, by kind, verb, reason and outcome."),
                &["kind", "verb", "reason", "outcome"],
            )?,
            write_seconds: histogram(
                all,
                (
                    "paddock_write_duration_seconds",
                    "Time from sending a write to its reply or its timeout, in seconds.",
                ),
                &["kind", "verb"],
                SECONDS,
            )?,
            write_slots: gauge(
                all,
                ("paddock_write_slots", "The maximum number of concurrent writes, and the number of writes under way."),
                &["state"],
            )?,
            plugin_calls: counter(all, ("paddock_plugin_calls_total", "Questions to plugins."), &["plugin", "hook"])?,
            plugin_failures: counter(
                all,
                ("paddock_plugin_failures_total", "Questions that a plugin did not answer, by failure."),
                &["plugin", "hook", "failure"],
            )?,
            plugin_seconds: histogram(
                all,
                ("paddock_plugin_duration_seconds", "Time that a plugin took to answer, in seconds."),
                &["plugin", "hook"],
                CALL_SECONDS,
            )?,
            events: counter(
                all,
                (
                    "paddock_events_total",
                    "Kubernetes Events, by result: sent, repeated (not sent again), dropped or failed.",
                ),
                &["result"],
            )?,
            watch_events: counter(
                all,
                ("paddock_watch_events_total", "Objects that the watches delivered."),
                &["kind"],
            )?,
            watch_lists: counter(
                all,
                (
                    "paddock_watch_lists_total",
                    "Complete lists of a kind. More than one means that the watch restarted.",
                ),
                &["kind"],
            )?,
            watch_errors: counter(
                all,
                ("paddock_watch_breaks_total", "Interruptions of watches, by cause."),
                &["kind", "cause"],
            )?,
            watch_lag: histogram(
                all,
                (
                    "paddock_watch_lag_seconds",
                    "Time from the reply to a write of this operator until the watch delivers its event, in seconds.",
                ),
                &["kind"],
                SECONDS,
            )?,
        };
        families.begin();
        Ok(families)
    }

    /// Sets the counters with known labels to 0. A rate then shows the first count, and an alert has a value to compare
    /// even if the counter never counted.
    fn begin(&self) {
        for result in EVENT_RESULTS {
            self.events.with_label_values(&[result]);
        }
        for kind in Kind::OWN.map(Kind::name) {
            self.stale_plans.with_label_values(&[kind]);
            for trigger in Trigger::VARIANTS {
                for result in RECONCILE_RESULTS {
                    self.reconciles.with_label_values(&[kind, trigger.as_str(), result]);
                }
            }
        }
        for kind in Kind::ALL.map(Kind::name) {
            self.watch_events.with_label_values(&[kind]);
            self.watch_lists.with_label_values(&[kind]);
            for cause in WatchError::VARIANTS {
                self.watch_errors.with_label_values(&[kind, cause.as_str()]);
            }
        }
    }
}

type Name<'a> = (&'a str, &'a str);

fn histogram(
    to: &Registry,
    (name, help): Name<'_>,
    labels: &[&str],
    buckets: &[f64],
) -> prometheus::Result<HistogramVec> {
    register(to, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
}

fn counter(to: &Registry, (name, help): Name<'_>, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    register(to, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauge(to: &Registry, (name, help): Name<'_>, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    register(to, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn register<C: Collector + Clone + 'static>(to: &Registry, family: C) -> prometheus::Result<C> {
    to.register(Box::new(family.clone()))?;
    Ok(family)
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn what_was_never_counted_is_zero_and_not_absent() {
        let (all, leader) = (Registry::new(), Registry::new());
        let _families = Families::register(&all, &leader).unwrap();
        let mut text = Vec::new();
        TextEncoder::new().encode(&all.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            r#"paddock_events_total{result="failed"} 0"#,
            r#"paddock_stale_plans_total{kind="SandboxClaim"} 0"#,
            r#"paddock_reconciles_total{kind="Sandbox",result="failed",trigger="retry"} 0"#,
            r#"paddock_watch_events_total{kind="Pod"} 0"#,
            r#"paddock_watch_lists_total{kind="Node"} 0"#,
            r#"paddock_watch_breaks_total{cause="forbidden",kind="SandboxWarmPool"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
