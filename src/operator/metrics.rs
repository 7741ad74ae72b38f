//! Prometheus metrics: the names of upstream, which dashboards and deployment gates read, and our own (`paddock_…`).
//!
//! Every value is updated when something happens, so the cost of a scrape is the cost of printing. The output is the
//! text format as Go's client writes it (`le="100"`, counters with the registered name), because upstream's readers
//! parse that form. Label values come from enums, or from the names of pools, templates and namespaces.

mod cpu_use;
mod families;
mod label_names;
mod number;
mod open_connections;
mod plugins;
pub(crate) mod table;
mod tally;
mod watch_lag;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use paddock_api::kind::{Key, Kind};
use paddock_core::binding::Binding;
use paddock_core::object::Object;
use paddock_core::plan::{ClaimStart, Op, Outcome};
use paddock_core::question::{Answer, Failure, PluginRequest};
use paddock_core::unenforced::UnenforcedAnswer;
use paddock_kube::leader::Obstacle;
use paddock_kube::server::Incident;
use paddock_plugin_host::Usage;
use parking_lot::Mutex;
use prometheus::{Encoder, Registry, TextEncoder};
use strum::VariantArray;
use tokio::time::Instant;

pub use self::cpu_use::CpuUseResult;
use self::families::{BLOCKED_BY, Families};
use self::number::as_i64;
pub use self::open_connections::ConnectionsResult;
use self::plugins::PluginMetrics;
use self::tally::Tally;
use self::watch_lag::WatchLag;
use crate::plugins::registry::PullCount;
use crate::plugins::{PluginState, PluginStatus};

/// All metrics of the operator. Clones are handles on the same metrics.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    /// The families that only the leader serves, so that a sum over replicas counts every Sandbox once.
    leader_registry: Registry,
    families: Families,
    plugins: PluginMetrics,
    tally: Mutex<Tally>,
    echoes: Mutex<WatchLag>,
}

/// The end of a reconcile, as the metrics record it.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The label of the event that queued the key.
    pub trigger: &'static str,
    /// The label of the result.
    pub result: &'static str,
    /// The time for which the key was ready before the reconcile began.
    pub waited: Duration,
    /// The duration of the reconcile.
    pub took: Duration,
}

/// The metrics could not be set up, because two families have the same name.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

impl Metrics {
    /// Creates all families.
    ///
    /// # Errors
    /// If a family is declared twice.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let leader_registry = Registry::new();
        let families = Families::register(&registry, &leader_registry)?;
        let plugins = PluginMetrics::register(&registry)?;
        paddock_kube::traces::register(&registry)?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let tally = Mutex::new(Tally::new(families.clone()));
        let echoes = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { registry, leader_registry, families, plugins, tally, echoes }) })
    }

    /// The metrics in the text format.
    ///
    /// # Errors
    /// If a family cannot be encoded. The declaration of the families excludes that.
    pub fn text(&self) -> Result<Vec<u8>, MetricsError> {
        let mut families = self.inner.registry.gather();
        if self.inner.families.leader.get() == 1 {
            families.extend(self.inner.leader_registry.gather());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    /// Records whether this replica leads.
    pub fn leading(&self, leading: bool) {
        self.inner.families.leader.set(i64::from(leading));
        self.tally(|tally| tally.leading = leading);
    }

    /// Sets the correction of the clock.
    pub fn clock_skew(&self, skew: SignedDuration) {
        self.inner.families.clock_skew.set(skew.as_secs());
    }

    /// Records whether an admission policy of the operator is in force.
    pub fn guard(&self, policy: &str, in_force: bool) {
        self.inner.families.guard_absent.with_label_values(&[policy]).set(i64::from(!in_force));
    }

    /// Sets how many fields the definition of each kind lacks. A kind that is not served any more has no series.
    pub fn fields_missing<'a>(&self, kinds: impl IntoIterator<Item = (&'a str, usize)>) {
        let family = &self.inner.families.crd_fields_missing;
        family.reset();
        for (kind, fields) in kinds {
            family.with_label_values(&[kind]).set(as_i64(fields));
        }
    }

    /// Records what keeps this replica from leading.
    pub fn obstacle(&self, obstacle: Option<&Obstacle>) {
        let now = obstacle.map(|obstacle| match obstacle {
            Obstacle::HeldElsewhere { .. } => "held-elsewhere",
            Obstacle::Unknown(_) => "unknown",
        });
        for cause in BLOCKED_BY {
            let blocked = now == Some(cause);
            self.inner.families.leadership_blocked.with_label_values(&[cause]).set(i64::from(blocked));
        }
    }

    /// Records the end of a reconcile.
    pub fn reconciled(&self, kind: Kind, ended: &Ended) {
        let families = &self.inner.families;
        let kind = kind.name();
        families.reconciles.with_label_values(&[kind, ended.trigger, ended.result]).inc();
        families.reconcile_seconds.with_label_values(&[kind]).observe(ended.took.as_secs_f64());
        families.queue_seconds.with_label_values(&[kind]).observe(ended.waited.as_secs_f64());
    }

    /// Records a plan that was stale before one of its steps began.
    pub fn stale_plan(&self, kind: Kind) {
        self.inner.families.stale_plans.with_label_values(&[kind.name()]).inc();
    }

    /// Records the outcome of a write.
    pub fn write(&self, op: &Op, outcome: &Outcome) {
        let labels = [op.key.kind.name(), op.action.verb(), op.reason.as_str(), outcome.as_str()];
        self.inner.families.writes.with_label_values(&labels).inc();
    }

    /// Records the time between sending a write and its reply or its timeout.
    pub fn write_duration(&self, op: &Op, took: Duration) {
        let labels = [op.key.kind.name(), op.action.verb()];
        self.inner.families.write_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// Records one question to a plugin: its result, what the call used, and the time of the whole call.
    pub fn asked(&self, ask: &PluginRequest, result: &Result<Answer, Failure>, call: (Usage, Duration)) {
        self.inner.plugins.asked(ask, result, call);
    }

    /// Records the compilation of the component of a plugin.
    pub fn compiled(&self, plugin: &str, took: Duration) {
        self.inner.plugins.compiled(plugin, took);
    }

    /// Sets the state of every plugin of a user. A plugin that is removed has no series any more.
    pub fn plugins(&self, plugins: &[PluginStatus]) {
        let Families { plugin_info, plugin_refused, plugin_not_loaded, .. } = &self.inner.families;
        [plugin_info, plugin_refused, plugin_not_loaded].into_iter().for_each(|family| family.reset());
        self.inner.plugins.follow(plugins);
        for plugin in plugins {
            let name = plugin.name.as_str();
            if let Some(digest) = &plugin.digest {
                plugin_info.with_label_values(&[name, digest]).set(1);
            }
            let (refused, not_loaded) = match plugin.state {
                PluginState::Loaded => (false, false),
                PluginState::FormerVersion => (true, false),
                PluginState::NotLoaded => (true, true),
                PluginState::Ignored => continue,
            };
            plugin_refused.with_label_values(&[name]).set(i64::from(refused));
            plugin_not_loaded.with_label_values(&[name]).set(i64::from(not_loaded));
        }
    }

    /// Records an attempt to get the image of a plugin. A plugin without an image has no series any more.
    pub fn pulled(&self, count: PullCount<'_>) {
        let Families { plugin_pulls, plugin_last_pull, .. } = &self.inner.families;
        match count {
            PullCount::Tried { plugin, outcome, is_good } => {
                plugin_pulls.with_label_values(&[outcome]).inc();
                if is_good {
                    plugin_last_pull.with_label_values(&[plugin]).set(Timestamp::now().as_second());
                }
            }
            PullCount::Ended { plugin } => {
                // A plugin that was never pulled has no series.
                drop(plugin_last_pull.remove_label_values(&[plugin]));
            }
        }
    }

    /// Counts the answers for policies that do not act.
    pub fn unenforced(&self, answers: &[UnenforcedAnswer]) {
        for UnenforcedAnswer { binding, hook, mode, effect, .. } in answers {
            let policy = Binding::policy_of_name(binding).unwrap_or(binding);
            let labels = [policy, hook.as_str(), mode.as_str(), effect.as_str()];
            self.inner.families.unenforced.with_label_values(&labels).inc();
        }
    }

    /// Records the result of an Event: sent, repeated, dropped or failed.
    pub fn event(&self, result: &'static str) {
        self.inner.families.events.with_label_values(&[result]).inc();
    }

    /// Records what became of a decision that was to be written.
    pub(crate) fn recorded(&self, result: &'static str) {
        self.inner.families.decisions_recorded.with_label_values(&[result]).inc();
    }

    /// Records the interruption of a watch.
    pub fn watch_error(&self, kind: Kind, cause: &'static str) {
        self.inner.families.watch_errors.with_label_values(&[kind.name(), cause]).inc();
    }

    /// Sets whether the watch of a kind has failed for a while.
    pub fn watch_failing(&self, kind: &'static str, is_failing: bool) {
        self.inner.families.watch_failing.with_label_values(&[kind]).set(i64::from(is_failing));
    }

    /// Records the result of a list of CPU use, and the number of its pods.
    pub fn cpu_use_listed(&self, result: CpuUseResult, pods: usize) {
        self.inner.families.cpu_use_lists.with_label_values(&[result.as_str()]).inc();
        self.inner.families.cpu_use_pods.set(as_i64(pods));
    }

    /// Records the result of a round of questions to all gateways, and the number of those that answered.
    pub fn gateways_asked(&self, result: ConnectionsResult, gateways: usize) {
        self.inner.families.connection_rounds.with_label_values(&[result.as_str()]).inc();
        self.inner.families.connection_gateways.set(as_i64(gateways));
    }

    /// Records a stored write of ours. The time until its event on the watch is the lag of the watch.
    pub fn expect_event(&self, object: &Object) {
        let mut echoes = self.inner.echoes.lock();
        echoes.expect(object, Instant::now());
    }

    /// Records an object that a watch delivered.
    pub fn applied(&self, object: &Object, now: Timestamp) {
        let families = &self.inner.families;
        families.watch_events.with_label_values(&[object.key.kind.name()]).inc();
        let echo = self.inner.echoes.lock().take(object, Instant::now());
        if let Some(lag) = echo {
            families.watch_lag.with_label_values(&[object.key.kind.name()]).observe(lag.as_secs_f64());
        }
        self.tally(|tally| tally.applied(object, now));
    }

    /// Records a claim that arrived at these pools.
    pub fn claim_arrived(&self, pools: &[Key]) {
        self.tally(|tally| tally.arrived(pools));
    }

    /// Records a claim that got its Sandbox.
    pub fn claim_started(&self, start: &ClaimStart) {
        self.tally(|tally| tally.started(start));
    }

    /// Records a deletion that a watch delivered.
    pub fn deleted(&self, object: &Object) {
        self.inner.families.watch_events.with_label_values(&[object.key.kind.name()]).inc();
        self.tally(|tally| tally.deleted(&object.key));
    }

    /// Records a complete list, with which a watch starts.
    pub fn listed(&self, kind: Kind, objects: &[Object]) {
        self.inner.families.watch_lists.with_label_values(&[kind.name()]).inc();
        self.tally(|tally| tally.listed(kind, objects));
    }

    /// Removes the objects of a kind that is not served.
    pub fn no_objects(&self, kind: Kind) {
        self.tally(|tally| tally.listed(kind, &[]));
    }

    /// Sets the number of ready and of running keys of a lane.
    pub fn queue_depth(&self, lane: &'static str, ready: usize, running: usize) {
        let families = &self.inner.families;
        families.queue_depth.with_label_values(&[lane, "ready"]).set(as_i64(ready));
        families.queue_depth.with_label_values(&[lane, "running"]).set(as_i64(running));
    }

    /// Sets the number of writes that may be in flight, and the number that are.
    pub fn write_slots(&self, limit: usize, used: usize) {
        let families = &self.inner.families;
        families.write_slots.with_label_values(&["limit"]).set(as_i64(limit));
        families.write_slots.with_label_values(&["used"]).set(as_i64(used));
    }

    /// Counts the incidents of a listener. `flag` is the flag with its address.
    #[must_use]
    pub fn incidents(&self, flag: &'static str) -> Arc<dyn Fn(Incident) + Send + Sync> {
        let listener = flag.strip_suffix("-bind-address").unwrap_or(flag);
        let counter = self.inner.families.listener_incidents.clone();
        for incident in Incident::VARIANTS {
            counter.with_label_values(&[listener, incident.as_str()]);
        }
        Arc::new(move |incident| counter.with_label_values(&[listener, incident.as_str()]).inc())
    }

    /// The registry for families that other parts of the operator declare themselves, such as the webhook.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    fn tally(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.inner.tally.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_every_plugin_is_a_metric_and_ends_with_the_plugin() {
        let metrics = Metrics::new().unwrap();
        let plugin = |name: &str, state, digest: Option<&str>| PluginStatus {
            name: name.to_owned(),
            state,
            path: None,
            digest: digest.map(str::to_owned),
            wit_version: None,
            hooks: vec![],
            error: None,
        };
        let all = [
            plugin("good", PluginState::Loaded, Some("sha256:1")),
            plugin("former", PluginState::FormerVersion, Some("sha256:2")),
            plugin("gone", PluginState::NotLoaded, None),
            plugin("note.yml", PluginState::Ignored, None),
        ];
        metrics.plugins(&all);
        let text = || String::from_utf8(metrics.text().unwrap()).unwrap();
        for line in [
            "paddock_plugin_info{digest=\"sha256:2\",plugin=\"former\"} 1",
            "paddock_plugin_refused{plugin=\"good\"} 0",
            "paddock_plugin_refused{plugin=\"former\"} 1",
            "paddock_plugin_not_loaded{plugin=\"former\"} 0",
            "paddock_plugin_not_loaded{plugin=\"gone\"} 1",
        ] {
            assert!(text().lines().any(|l| l == line), "{line} is not in:\n{}", text());
        }
        assert!(!text().contains("note.yml"));
        metrics.plugins(&all[..1]);
        assert!(!text().contains("plugin=\"gone\""), "{}", text());
    }

    #[test]
    fn last_good_pull_of_a_plugin_is_a_metric_until_the_plugin_has_no_image() {
        let metrics = Metrics::new().unwrap();
        let tried = |outcome, is_good| PullCount::Tried { plugin: "p", outcome, is_good };
        let text = || String::from_utf8(metrics.text().unwrap()).unwrap();
        metrics.pulled(PullCount::Ended { plugin: "p" });
        metrics.pulled(tried("Unreachable", false));
        assert!(!text().contains("last_pull_timestamp_seconds{"), "{}", text());
        metrics.pulled(tried("Pulled", true));
        metrics.pulled(tried("Unreachable", false));
        for line in [
            "paddock_plugin_pulls_total{outcome=\"Unreachable\"} 2",
            "paddock_plugin_pulls_total{outcome=\"Pulled\"} 1",
            "paddock_plugin_last_pull_timestamp_seconds{plugin=\"p\"} ",
        ] {
            assert!(text().contains(line), "{}", text());
        }
        metrics.pulled(PullCount::Ended { plugin: "p" });
        assert!(!text().contains("plugin=\"p\""), "{}", text());
    }
}
