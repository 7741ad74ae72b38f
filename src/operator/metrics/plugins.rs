//! The metrics of calls of plugins: their times, what they use, and their results.
//!
//! A call takes microseconds. The series of a plugin and hook are therefore looked up once, and a call finds all of them
//! together. The series of a plugin end with the plugin.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use paddock_core::question::{
    Answer, ClassChoice, Failure, FailureKind, Hook, IdleTier, PluginRequest, Question, Verdict,
};
use paddock_plugin_host::{TrapKind, Usage};
use parking_lot::{Mutex, RwLock};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use strum::IntoStaticStr;

use super::number::as_i64;
use super::table::families;
use crate::limits;
use crate::plugins::{PluginState, PluginStatus};

/// Buckets from a microsecond (a part of a call of a native guest) to beyond the longest deadline of plugins.
const CALL_SECONDS: &[f64] = &[
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5,
];

/// Buckets from half a millisecond (a component that does nothing) to a minute. An interpreter takes seconds.
const COMPILE_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Buckets from a trivial answer to the largest limit. One of them is the default limit.
const FUEL: &[f64] = &[1e3, 5e3, 1e4, 5e4, 1e5, 5e5, 1e6, 5e6, 1e7, 5e7, 1e8, 2e8, 1e9, 5e9];

families! {
    /// The metric families of calls.
    struct Families(registry) {
        calls: IntCounterVec, registry, ["plugin", "hook"] => "paddock_plugin_calls_total": "Questions to plugins.";
        failures: IntCounterVec, registry, ["plugin", "hook", "failure"] =>
            "paddock_plugin_failures_total": "Questions that a plugin did not answer, by failure.";
        traps: IntCounterVec, registry, ["plugin", "hook", "trap"] =>
            "paddock_plugin_traps_total": "Calls that ended with a trap of the component, by the kind of the trap.";
        decisions: IntCounterVec, registry, ["plugin", "hook", "decision"] =>
            "paddock_plugin_decisions_total": "Answers of plugins, by decision.";
        seconds: HistogramVec, registry, ["plugin", "hook"], CALL_SECONDS =>
            "paddock_plugin_duration_seconds":
            "Time from the question to the answer of a plugin, with the wait and the instantiation, in seconds.";
        queue_seconds: HistogramVec, registry, ["plugin", "hook"], CALL_SECONDS =>
            "paddock_plugin_queue_duration_seconds":
            "Time that a call waited for room in the memory of all calls, in seconds.";
        instantiate_seconds: HistogramVec, registry, ["plugin", "hook"], CALL_SECONDS =>
            "paddock_plugin_instantiate_duration_seconds": "Time to create the store and the instance of a call, in seconds.";
        compile_seconds: HistogramVec, registry, ["plugin"], COMPILE_SECONDS =>
            "paddock_plugin_compile_duration_seconds": "Time to compile and link the component of a plugin, in seconds.";
        fuel: HistogramVec, registry, ["plugin", "hook"], FUEL =>
            "paddock_plugin_fuel_units": "Fuel that a call used, in units of about one WebAssembly instruction.";
        memory: IntGaugeVec, registry, ["plugin", "hook"] =>
            "paddock_plugin_memory_high_water_bytes":
            "The most linear memory that one call used since the version of the plugin was loaded, in bytes.";
    }
}

/// The families of calls, and the series of each plugin.
pub(super) struct PluginMetrics {
    families: Families,
    plugins: RwLock<Plugins>,
}

/// The plugins that have series, or may not get any.
#[derive(Default)]
struct Plugins {
    series: HashMap<String, OfPlugin>,
    /// The plugins in the last report of the states.
    reported: HashSet<String>,
    /// The plugins that were removed, each with the time. A decision that began before may still ask the plugin, and must
    /// not bring its series back.
    removed: HashMap<String, Instant>,
}

/// What the metrics keep of one plugin.
struct OfPlugin {
    hooks: BTreeMap<Hook, OfHook>,
    /// The digest of the version that the plugin had last. `None` until its state was first reported.
    digest: Option<String>,
    /// Whether the plugin appeared after the last report of the states, which may be older than the plugin.
    is_new: bool,
}

/// The series of one hook of a plugin.
struct OfHook {
    calls: IntCounter,
    failures: Vec<(FailureKind, IntCounter)>,
    traps: Vec<(TrapKind, IntCounter)>,
    decisions: Vec<(Decision, IntCounter)>,
    seconds: Histogram,
    queue_seconds: Histogram,
    instantiate_seconds: Histogram,
    fuel: Histogram,
    memory: IntGauge,
    /// Held while the high-water mark is raised.
    raising: Mutex<()>,
}

/// The decision in an answer, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
enum Decision {
    /// The object is admitted as it is.
    Allow,
    /// The object is admitted with a patch.
    Patch,
    /// The object is denied.
    Deny,
    /// The pod gets a RuntimeClass.
    Class,
    /// The pod runs with the default runtime.
    Default,
    /// No pod is created.
    Refuse,
    /// The sandbox stays as it is, or the pool keeps its size.
    Keep,
    Throttle,
    Suspend,
    Hibernate,
    Delete,
    /// The pool should be larger than it is.
    Grow,
    /// The pool should be smaller than it is.
    Shrink,
}

impl Decision {
    /// All decisions of a hook.
    fn of_hook(hook: Hook) -> &'static [Self] {
        match hook {
            Hook::Admission => &[Self::Allow, Self::Patch, Self::Deny],
            Hook::RuntimeClass => &[Self::Class, Self::Default, Self::Refuse],
            Hook::Idle => &[Self::Keep, Self::Throttle, Self::Suspend, Self::Hibernate, Self::Delete],
            Hook::PoolSize => &[Self::Keep, Self::Grow, Self::Shrink],
        }
    }

    /// The decision in the answer to a question.
    fn of(question: &Question, answer: &Answer) -> Self {
        match answer {
            Answer::Admission(answer) => match (&answer.verdict, &answer.patch) {
                (Verdict::Deny(_), _) => Self::Deny,
                (Verdict::Allow, Some(_)) => Self::Patch,
                (Verdict::Allow, None) => Self::Allow,
            },
            Answer::RuntimeClass(answer) => match answer.choice {
                ClassChoice::Class(_) => Self::Class,
                ClassChoice::Default => Self::Default,
                ClassChoice::Refuse => Self::Refuse,
            },
            Answer::Idle(answer) => match answer.action {
                None => Self::Keep,
                Some(IdleTier::Throttle) => Self::Throttle,
                Some(IdleTier::Suspend) => Self::Suspend,
                Some(IdleTier::Hibernate) => Self::Hibernate,
                Some(IdleTier::Delete) => Self::Delete,
            },
            Answer::PoolSize(answer) => {
                let size = match question {
                    Question::PoolSize(question) => question.ready.saturating_add(question.creating),
                    // The host accepts no answer to another hook.
                    Question::Admission(_) | Question::RuntimeClass(_) | Question::Idle(_) => answer.desired,
                };
                match answer.desired.cmp(&size) {
                    std::cmp::Ordering::Greater => Self::Grow,
                    std::cmp::Ordering::Equal => Self::Keep,
                    std::cmp::Ordering::Less => Self::Shrink,
                }
            }
        }
    }

    fn as_str(self) -> &'static str {
        self.into()
    }
}

impl PluginMetrics {
    /// Declares the families.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self { families: Families::declare(registry)?, plugins: RwLock::default() })
    }

    /// Records one question to a plugin: its result, what the call used, and the time of the whole call.
    pub(super) fn asked(
        &self,
        ask: &PluginRequest,
        result: &Result<Answer, Failure>,
        (usage, took): (Usage, Duration),
    ) {
        let (name, hook) = (ask.plugin.name.as_str(), ask.question.hook());
        let plugins = self.plugins.read();
        if let Some(series) = plugins.series.get(name).and_then(|plugin| plugin.hooks.get(&hook)) {
            return series.count(&ask.question, result, (usage, took));
        }
        drop(plugins);
        let mut plugins = self.plugins.write();
        if plugins.removed.contains_key(name) {
            return;
        }
        let plugin = plugins.series.entry(name.to_owned()).or_insert_with(OfPlugin::new);
        let series = plugin.hooks.entry(hook).or_insert_with(|| OfHook::new(&self.families, name, hook));
        series.count(&ask.question, result, (usage, took));
    }

    /// Records the compilation of the component of a plugin. A plugin that was removed before is there again.
    pub(super) fn compiled(&self, name: &str, took: Duration) {
        let mut plugins = self.plugins.write();
        plugins.removed.remove(name);
        plugins.series.entry(name.to_owned()).or_insert_with(OfPlugin::new);
        self.families.compile_seconds.with_label_values(&[name]).observe(took.as_secs_f64());
    }

    /// Takes the states of all plugins into account. The series of a plugin that is removed end, and the high-water marks
    /// of a plugin with a new version start again.
    pub(super) fn follow(&self, states: &[PluginStatus]) {
        let states = states.iter().filter(|status| status.state != PluginState::Ignored);
        // Two plugins with the same name have two states, and only one of them has a version.
        let mut there: HashMap<&str, Option<&String>> = HashMap::new();
        for status in states {
            let digest = there.entry(&status.name).or_default();
            *digest = digest.or(status.digest.as_ref());
        }
        let now = Instant::now();
        let mut plugins = self.plugins.write();
        let Plugins { series, reported, removed } = &mut *plugins;
        let is_there = |name: &str| there.contains_key(name);
        removed.retain(|name, at| now.duration_since(*at) < limits::REPLACED_PLUGIN_LIFETIME && !is_there(name));
        removed.extend(reported.drain().filter(|name| !is_there(name)).map(|name| (name, now)));
        reported.extend(there.keys().map(|name| (*name).to_owned()));
        series.retain(|name, plugin| {
            let was_new = std::mem::take(&mut plugin.is_new);
            let Some(&digest) = there.get(name.as_str()) else {
                if !was_new {
                    self.remove(name, plugin);
                }
                return was_new;
            };
            if let Some(digest) = digest.filter(|digest| plugin.digest.as_ref() != Some(*digest)) {
                let former = plugin.digest.replace(digest.clone());
                if former.is_some() {
                    plugin.hooks.values().for_each(|series| series.memory.set(0));
                }
            }
            true
        });
    }

    /// Removes the series of a plugin. Calls that still run keep counting in series that nobody sees.
    fn remove(&self, name: &str, plugin: &OfPlugin) {
        let Families { calls, failures, traps, decisions, seconds, .. } = &self.families;
        let Families { queue_seconds, instantiate_seconds, compile_seconds, fuel, memory, .. } = &self.families;
        // A plugin may have been compiled and never called, or called and never compiled.
        drop(compile_seconds.remove_label_values(&[name]));
        for (hook, series) in &plugin.hooks {
            let of_hook = [name, hook.as_str()];
            let with = |word: &'static str| [name, hook.as_str(), word];
            drop((calls.remove_label_values(&of_hook), memory.remove_label_values(&of_hook)));
            for family in [seconds, queue_seconds, instantiate_seconds, fuel] {
                drop(family.remove_label_values(&of_hook));
            }
            for (kind, _) in &series.failures {
                drop(failures.remove_label_values(&with(kind.as_str())));
            }
            for (kind, _) in &series.traps {
                drop(traps.remove_label_values(&with(kind.as_str())));
            }
            for (decision, _) in &series.decisions {
                drop(decisions.remove_label_values(&with(decision.as_str())));
            }
        }
    }
}

impl OfPlugin {
    fn new() -> Self {
        Self { hooks: BTreeMap::new(), digest: None, is_new: true }
    }
}

impl OfHook {
    /// Creates the series at 0, so that a rate shows the first count.
    fn new(families: &Families, plugin: &str, hook: Hook) -> Self {
        let (of_hook, decisions) = ([plugin, hook.as_str()], Decision::of_hook(hook));
        let counter = |family: &IntCounterVec, word: &str| family.with_label_values(&[plugin, hook.as_str(), word]);
        Self {
            calls: families.calls.with_label_values(&of_hook),
            failures: FailureKind::ALL.iter().map(|kind| (*kind, counter(&families.failures, kind.as_str()))).collect(),
            traps: TrapKind::ALL.iter().map(|kind| (*kind, counter(&families.traps, kind.as_str()))).collect(),
            decisions: decisions.iter().map(|d| (*d, counter(&families.decisions, d.as_str()))).collect(),
            seconds: families.seconds.with_label_values(&of_hook),
            queue_seconds: families.queue_seconds.with_label_values(&of_hook),
            instantiate_seconds: families.instantiate_seconds.with_label_values(&of_hook),
            fuel: families.fuel.with_label_values(&of_hook),
            memory: families.memory.with_label_values(&of_hook),
            raising: Mutex::new(()),
        }
    }

    fn count(&self, question: &Question, result: &Result<Answer, Failure>, (usage, took): (Usage, Duration)) {
        self.calls.inc();
        self.seconds.observe(took.as_secs_f64());
        if let Some(waited) = usage.waited {
            self.queue_seconds.observe(waited.as_secs_f64());
        }
        // A call that found no room used nothing.
        if let Some(instantiated) = usage.instantiated {
            self.instantiate_seconds.observe(instantiated.as_secs_f64());
            self.fuel.observe(usage.fuel as f64);
            self.raise_memory(as_i64(usage.memory_bytes));
        }
        match result {
            Ok(answer) => inc(&self.decisions, Decision::of(question, answer)),
            Err(failure) => {
                inc(&self.failures, failure.kind);
                if failure.kind == FailureKind::Trap {
                    inc(&self.traps, usage.trap.unwrap_or(TrapKind::Other));
                }
            }
        }
    }

    /// Raises the high-water mark. Most calls use no more than an earlier one, and do not wait for the lock.
    fn raise_memory(&self, bytes: i64) {
        if self.memory.get() < bytes {
            let _raising = self.raising.lock();
            if self.memory.get() < bytes {
                self.memory.set(bytes);
            }
        }
    }
}

fn inc<T: PartialEq>(counters: &[(T, IntCounter)], of: T) {
    if let Some((_, counter)) = counters.iter().find(|(label, _)| *label == of) {
        counter.inc();
    }
}

#[cfg(test)]
mod tests;
