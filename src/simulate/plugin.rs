//! A plugin as a contender: it is asked as the operator asks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::PolicyState;
use paddock_core::binding::{Binding, Bindings, FailurePolicy};
use paddock_core::decide::pool_size::{PoolFacts, Refilling, dip_ends, status_due};
use paddock_core::object::TextMap;
use paddock_core::question::{Answer, Failure, Hook, PluginReply, PluginRequest};
use paddock_core::snapshot::Common;
use paddock_plugin_host::{BUILT_INS, Host, Limits, LoadError, SettingsError, Source};

use crate::conditions::Conditions;
use crate::decision::{Decided, StatusWrite, View};
use crate::outcome::Failures;

/// The questions in each second of a trace after which a simulation stops. Changes of a pool cause at most 20 reconciles
/// in a second, and its status one more. A plugin that wants to be asked each millisecond would be asked 86 million times
/// in a day.
const QUESTIONS_PER_SECOND: u64 = 40;
/// The questions in addition to these.
const LEAST_QUESTIONS: u64 = 10_000;

/// The function that asks a plugin at a time of the simulation.
pub type Ask<'a> = dyn Fn(&PluginRequest, Timestamp) -> Result<Answer, Failure> + Sync + 'a;

/// A plugin that competes: its bindings, and the function that asks it. The caller owns the function.
pub struct PluginContender<'a> {
    label: String,
    bindings: Arc<Bindings>,
    ask: &'a Ask<'a>,
}

/// The reason why a component cannot compete.
#[derive(Debug, thiserror::Error)]
pub enum UnusablePlugin {
    /// The component does not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The component has other hooks.
    #[error("the plugin has no hook pool-size: it has {0}")]
    Hook(String),
    /// The plugin refuses its settings.
    #[error("settings: {0}")]
    Settings(SettingsError),
}

/// A component and its configuration.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The name of the plugin.
    pub name: &'a str,
    /// The bytes of the component.
    pub component: &'a [u8],
    /// The settings: a JSON object.
    pub settings: &'a str,
    /// The limits of a call, except for its deadline: the time of the machine is not that of the simulation.
    pub limits: Limits,
    /// The policy for a failure.
    pub failure_policy: FailurePolicy,
}

impl<'a> PluginContender<'a> {
    /// A contender with these bindings, which `ask` answers for.
    pub fn new(label: &str, bindings: Bindings, ask: &'a Ask<'a>) -> Self {
        Self { label: label.to_owned(), bindings: Arc::new(bindings), ask }
    }

    /// The bindings of a component: itself, and the built-in plugin, which answers in its place if it fails.
    ///
    /// # Errors
    /// If the component does not load, has no hook `pool-size`, or refuses the settings.
    pub fn bindings(host: &Host, candidate: &Candidate<'_>) -> Result<Bindings, UnusablePlugin> {
        let Candidate { name, component, settings, limits, failure_policy } = *candidate;
        let limits = Limits { deadline: Limits::MAX.deadline, ..limits };
        let prepared = host.prepare(Source { name, component, limits: Some(limits) })?;
        let hooks = &prepared.plugin().hooks;
        if !hooks.contains(&Hook::PoolSize) {
            let hooks: Vec<&str> = hooks.iter().map(|hook| hook.as_str()).collect();
            return Err(UnusablePlugin::Hook(hooks.join(", ")));
        }
        host.check_settings(&prepared, Hook::PoolSize, settings).map_err(UnusablePlugin::Settings)?;
        // Loaded first, because a plugin with the bytes of the built-in has limits of its own.
        let built_ins = BUILT_INS.iter().filter(|built_in| built_in.default && built_in.hook == Hook::PoolSize);
        let built_ins: Vec<Binding> =
            built_ins.map(|built_in| host.load_built_in(built_in)).collect::<Result<_, LoadError>>()?;
        let plugin = host.admit(prepared).plugin;
        let settings = settings.to_owned();
        let own = Binding { settings, failure_policy, ..Binding::new(plugin, Hook::PoolSize) };
        Ok(Bindings::new([own].into_iter().chain(built_ins).collect()))
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }
}

/// The counts of the pool that are in its status.
#[derive(Clone, Copy, PartialEq)]
struct Counts {
    members: usize,
    ready: usize,
    desired: u32,
}

/// The part of the pool's status that this process writes.
#[derive(Clone, PartialEq)]
struct Status {
    counts: Counts,
    state: Option<PolicyState>,
}

pub(crate) struct PluginSizer<'a> {
    contender: &'a PluginContender<'a>,
    common: Common,
    labels: TextMap,
    min: u32,
    max: u32,
    start: Timestamp,
    /// The status that is stored, and the time of its last write.
    status: Option<(Status, Timestamp)>,
    /// The last decision, which the next status write stores.
    decided: (u32, Option<PolicyState>),
    questions: u64,
    most_questions: u64,
    failures: BTreeMap<String, u64>,
    first_failure: Option<String>,
    replies: Vec<PluginReply>,
}

impl<'a> PluginSizer<'a> {
    pub(crate) fn new(
        contender: &'a PluginContender<'a>,
        conditions: &Conditions,
        (start, length): (Timestamp, u64),
    ) -> Self {
        let most = conditions.settings.max_pool_size;
        let common = Common {
            settings: Arc::new(conditions.settings.clone()),
            bindings: Arc::clone(&contender.bindings),
            namespace_labels: BTreeMap::new(),
            namespace_known: true,
            namespace_isolates: false,
            classes: Arc::new(Vec::new()),
            status_written: None,
            refusals: Vec::new(),
            now: start,
            passed: start,
        };
        Self {
            contender,
            common,
            labels: TextMap::default(),
            min: conditions.min.min(most),
            max: conditions.max.min(most),
            start,
            status: None,
            decided: (0, None),
            questions: 0,
            most_questions: LEAST_QUESTIONS + QUESTIONS_PER_SECOND * (length / 1000),
            failures: BTreeMap::new(),
            first_failure: None,
            replies: Vec::new(),
        }
    }

    pub(crate) fn min(&self) -> u32 {
        self.min
    }

    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    pub(crate) fn exhausted(&self) -> bool {
        self.questions >= self.most_questions
    }

    pub(crate) fn asked(&self) -> (u64, Option<Failures>) {
        let failures = self.first_failure.clone().map(|first| Failures { by_kind: self.failures.clone(), first });
        (self.questions, failures)
    }

    pub(crate) fn decide(&mut self, view: &View<'_>) -> Decided {
        (self.common.now, self.common.passed) = (view.now, view.now);
        let state = self.status.as_ref().and_then(|(status, _)| status.state.as_ref());
        let facts = PoolFacts {
            namespace: "simulation",
            name: "pool",
            labels: &self.labels,
            min: self.min,
            max: self.max,
            ready: view.ready,
            creating: view.creating,
            claimed: u32::try_from(view.claimed).unwrap_or(u32::MAX),
            demand: view.demand,
            state,
        };
        self.replies.clear();
        while let Some(request) = facts.request(&self.common, &self.replies) {
            self.questions += 1;
            let result = (self.contender.ask)(&request, view.now);
            if let Err(failure) = &result {
                *self.failures.entry(failure.kind.as_str().to_owned()).or_default() += 1;
                self.first_failure.get_or_insert_with(|| format!("{}: {failure}", request.plugin.name));
            }
            self.replies.push(PluginReply { request, result });
        }
        let sizing = facts.size(&self.common, &self.replies);
        let next = sizing.next_check.as_millisecond() - self.start.as_millisecond();
        let decided = Decided { desired: sizing.desired, next: u64::try_from(next).ok() };
        self.decided = (sizing.desired, sizing.state);
        decided
    }

    pub(crate) fn write_status(&mut self, view: &View<'_>, refilling: Refilling) -> StatusWrite {
        let (desired, state) = &self.decided;
        let counts = Counts { members: view.ready + view.creating, ready: view.ready, desired: *desired };
        let after = Status { counts, state: state.clone() };
        let settings = &self.common.settings;
        let due = match &self.status {
            Some((before, _)) if *before == after => return StatusWrite::None,
            Some((before, written)) => status_due(before.counts != counts, Some(*written), settings, view.now)
                .or_else(|| dip_ends(view.demand, refilling, settings, view.now)),
            None => None,
        };
        match due {
            Some(due) => {
                StatusWrite::Due(u64::try_from(due.as_millisecond() - self.start.as_millisecond()).unwrap_or_default())
            }
            None => {
                self.status = Some((after, view.now));
                StatusWrite::Written
            }
        }
    }
}
