//! Every metric family with its name, its labels and its buckets.

use paddock_api::kind::Kind;
use paddock_kube::build_info;
use paddock_kube::watch::WatchError;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use strum::{VariantArray, VariantNames};

use super::cpu_use::CpuUseResult;
use super::open_connections::ConnectionsResult;
use super::table::families;
use crate::queue::{Done, Trigger};

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

/// The results of an Event.
pub(super) const EVENT_RESULTS: [&str; 5] = ["sent", "merged", "repeated", "dropped", "failed"];

/// The results of a record of a decision.
pub(super) const RECORD_RESULTS: [&str; 3] = ["written", "dropped", "failed"];

/// The causes that keep a replica from leading.
pub(super) const BLOCKED_BY: [&str; 2] = ["held-elsewhere", "unknown"];

/// The labels of the families about the start of a claim.
const CLAIM_LABELS: [&str; 2] = ["launch_type", "sandbox_template"];
/// The labels of the count of Sandboxes for claims.
const CREATION_LABELS: [&str; 6] =
    ["namespace", "sandbox_template", "launch_type", "warmpool_name", "pod_condition", "created_by"];
/// The labels of the number of Sandboxes.
const SANDBOX_LABELS: [&str; 8] = [
    "namespace",
    "ready_condition",
    "expired",
    "launch_type",
    "sandbox_template",
    "owned_by",
    "created_by",
    "operating_mode",
];

families! {
    /// Every family of the operator. The families that describe the cluster instead of this process are in `leader`.
    pub(super) struct Families(all, leader) {
        claim_startup: HistogramVec, all, CLAIM_LABELS, CLAIM_MS =>
            "agent_sandbox_claim_startup_latency_ms":
            "Time from the creation of a claim until it is Ready, in milliseconds.";
        claim_controller_startup: HistogramVec, all, CLAIM_LABELS, CLAIM_MS =>
            "agent_sandbox_claim_controller_startup_latency_ms":
            "Time from the first observation of a claim by the operator until the claim is Ready, in milliseconds.";
        claim_client_startup: HistogramVec, all, CLAIM_LABELS, CLAIM_MS =>
            "agent_sandbox_client_claim_startup_latency_ms":
            "Time from the request of the client, if the claim states it, until the claim is Ready, in milliseconds.";
        creation: HistogramVec, all, ["namespace", "launch_type", "sandbox_template"], CREATION_MS =>
            "agent_sandbox_creation_latency_ms":
            "Time from the creation of a Sandbox until it is first Ready, in milliseconds.";
        claim_creations: IntCounterVec, all, CREATION_LABELS =>
            "agent_sandbox_claim_creation_total": "Sandboxes that were created or adopted for claims.";
        sandboxes: IntGaugeVec, leader, SANDBOX_LABELS =>
            "agent_sandboxes": "The current number of Sandboxes.";
        pool_sandboxes: IntGaugeVec, leader, ["namespace", "pool", "state"] =>
            "paddock_pool_sandboxes": "Sandboxes of a pool according to its status: desired, total and ready.";
        pool_arrivals: IntCounterVec, all, ["namespace", "pool"] =>
            "paddock_pool_arrivals_total": "New claims for which a pool could have a warm Sandbox.";
        pool_claims: IntCounterVec, all, ["namespace", "pool", "start"] =>
            "paddock_pool_claims_total":
            "Claims that got a Sandbox: a warm one of a pool, or a new one although they looked in the pool. The label \
             start is warm, or the reason of the cold start.";
        not_isolated: IntGaugeVec, leader, ["namespace"] =>
            "paddock_sandboxes_not_isolated":
            "Running Sandboxes whose pod is not isolated although it should be, by namespace.";
        reconciles: IntCounterVec, all, ["kind", "trigger", "result"] =>
            "paddock_reconciles_total": "Reconciles, by kind, trigger and result.";
        reconcile_seconds: HistogramVec, all, ["kind"], SECONDS =>
            "paddock_reconcile_duration_seconds":
            "Time from the snapshot of a reconcile to its last reply, in seconds.";
        stale_plans: IntCounterVec, all, ["kind"] =>
            "paddock_stale_plans_total": "Plans that were out of date before one of their steps began.";
        queue_depth: IntGaugeVec, all, ["lane", "state"] =>
            "paddock_queue_depth": "Keys that are ready to be reconciled or are being reconciled.";
        queue_seconds: HistogramVec, all, ["kind"], SECONDS =>
            "paddock_queue_duration_seconds": "Time that a key was ready before its reconcile began, in seconds.";
        writes: IntCounterVec, all, ["kind", "verb", "reason", "outcome"] =>
            "paddock_writes_total": "Writes to the API server, by kind, verb, reason and outcome.";
        write_seconds: HistogramVec, all, ["kind", "verb"], SECONDS =>
            "paddock_write_duration_seconds": "Time from sending a write to its reply or its timeout, in seconds.";
        write_slots: IntGaugeVec, all, ["state"] =>
            "paddock_write_slots": "The maximum number of concurrent writes, and the number of writes under way.";
        unenforced: IntCounterVec, all, ["policy", "hook", "mode", "effect"] =>
            "paddock_policy_unenforced_total":
            "Answers for SandboxPolicies in the modes Warn, Audit and Shadow, by the effect that they would have had.";
        plugin_info: IntGaugeVec, all, ["plugin", "digest"] =>
            "paddock_plugin_info": "1 for the digest of the component that a plugin uses on this replica.";
        plugin_refused: IntGaugeVec, all, ["plugin"] =>
            "paddock_plugin_refused":
            "1 if the current files of a plugin are refused on this replica, and an older version may be used.";
        plugin_not_loaded: IntGaugeVec, all, ["plugin"] =>
            "paddock_plugin_not_loaded":
            "1 if a plugin is configured and not loaded on this replica, so that its failure policy applies.";
        plugin_pulls: IntCounterVec, all, ["outcome"] =>
            "paddock_plugin_pulls_total":
            "Attempts to get the image of a SandboxPlugin, by outcome: Pulled, Unchanged, or the reason of the failure.";
        plugin_last_pull: IntGaugeVec, all, ["plugin"] =>
            "paddock_plugin_last_pull_timestamp_seconds":
            "Unix time of the last successful attempt to get the image of a SandboxPlugin, in seconds.";
        decisions_recorded: IntCounterVec, all, ["result"] =>
            "paddock_decisions_recorded_total":
            "Decisions of plugins for --record-decisions, by result: written, dropped or failed.";
        events: IntCounterVec, all, ["result"] =>
            "paddock_events_total":
            "Kubernetes Events, by result: sent, merged into one that waited, repeated (not sent again), dropped or failed.";
        watch_events: IntCounterVec, all, ["kind"] =>
            "paddock_watch_events_total": "Objects that the watches delivered.";
        watch_lists: IntCounterVec, all, ["kind"] =>
            "paddock_watch_lists_total": "Complete lists of a kind. More than one means that the watch restarted.";
        watch_errors: IntCounterVec, all, ["kind", "cause"] =>
            "paddock_watch_breaks_total": "Interruptions of watches, by cause.";
        watch_failing: IntGaugeVec, all, ["kind"] =>
            "paddock_watch_failing":
            "1 if the watch of a kind has failed for a minute. This replica then makes no decisions, or, for plugins and \
             policies, uses those that it knows.";
        cpu_use_lists: IntCounterVec, all, ["result"] =>
            "paddock_cpu_use_lists_total":
            "Lists of the CPU use of pods, by result: served, absent, forbidden or failed.";
        cpu_use_pods: IntGauge, all, [] =>
            "paddock_cpu_use_pods": "Pods of Sandboxes in the last list of CPU use.";
        connection_rounds: IntCounterVec, all, ["result"] =>
            "paddock_connection_rounds_total":
            "Rounds of questions to all gateways for their open connections, by result: complete, silent, forbidden or failed.";
        connection_gateways: IntGauge, all, [] =>
            "paddock_connection_gateways":
            "Gateways that answered in the last round of questions for open connections. 0 if one of them did not answer.";
        watch_lag: HistogramVec, all, ["kind"], SECONDS =>
            "paddock_watch_lag_seconds":
            "Time from the reply to a write of this operator until the watch delivers its event, in seconds.";
        listener_incidents: IntCounterVec, all, ["listener", "incident"] =>
            "paddock_listener_incidents_total":
            "Connections that the limits of a listener closed, by listener and cause.";
        build: IntGaugeVec, all, build_info::LABELS =>
            "agent_sandbox_build_info": "The build of this operator, in the labels. The value is always 1.";
        leader: IntGauge, all, [] => "paddock_leader": "1 if this replica is the leader, 0 otherwise.";
        clock_skew: IntGauge, all, [] =>
            "paddock_clock_skew_seconds":
            "Seconds by which the clock of this replica is behind the API server's. 0 if they differ by at most 2 s.";
        guard_absent: IntGaugeVec, all, ["policy"] =>
            "paddock_guard_absent":
            "1 if a ValidatingAdmissionPolicy of the operator is not in force, or if that is not known.";
        crd_fields_missing: IntGaugeVec, all, ["kind"] =>
            "paddock_crd_fields_missing":
            "Fields of a status that this version writes and the CustomResourceDefinition of the cluster does not have.";
        leadership_blocked: IntGaugeVec, all, ["cause"] =>
            "paddock_leadership_blocked":
            "1 if this replica does not act because of the Leases of other namespaces, by cause.";
    }
}

impl Families {
    /// Declares every family. The families that describe the cluster instead of this process are registered in
    /// `leader`.
    pub(super) fn register(all: &Registry, leader: &Registry) -> prometheus::Result<Self> {
        let families = Self::declare(all, leader)?;
        build_info::set(&families.build);
        families.begin();
        Ok(families)
    }

    /// Sets the counters with known labels to 0. A rate then shows the first count, and an alert has a value to compare
    /// even if the counter never counted.
    fn begin(&self) {
        for result in EVENT_RESULTS {
            self.events.with_label_values(&[result]);
        }
        for result in RECORD_RESULTS {
            self.decisions_recorded.with_label_values(&[result]);
        }
        for result in CpuUseResult::VARIANTS {
            self.cpu_use_lists.with_label_values(&[result.as_str()]);
        }
        for result in ConnectionsResult::VARIANTS {
            self.connection_rounds.with_label_values(&[result.as_str()]);
        }
        for cause in BLOCKED_BY {
            self.leadership_blocked.with_label_values(&[cause]);
        }
        for kind in Kind::OWN.map(Kind::name) {
            self.stale_plans.with_label_values(&[kind]);
            for trigger in Trigger::VARIANTS {
                for &result in Done::VARIANTS {
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
