//! The host: holds the loaded plugins, and runs each question in a new instance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use paddock_core::binding::Mode;
use paddock_core::question::limits::MAX_MESSAGE_CHARS;
use paddock_core::question::{Answer, Caller, Failure, FailureKind, Hook, PluginRef, PluginRequest};
use paddock_core::text::truncate;
use serde_json::{Map, Value};
use wasmtime::Store;
use wasmtime::component::{Instance, Linker};

use crate::answer::{InvalidReply, validate};
use crate::call::{self, CallLog, CallState, Usage};
use crate::concurrency::{CallBudget, Holder, Permit, Share};
use crate::config::{HostConfig, Limits};
use crate::engine::MeteredEngine;
use crate::lanes::{Lane, PerLane};
use crate::load::{self, Linked, LoadError, Plugin, Source, Surface};
use crate::log_budget::LogBudget;
use crate::quarantine::Quarantines;
use crate::report::{PluginReport, QuarantineReport};
use crate::schema::{SettingsError, SettingsSchema};
use crate::trap::TrapKind;
use crate::wit::{self, Reply};

/// The time for which the trial of a new component waits for room in the budget.
const TRIAL_WAIT: Duration = Duration::from_secs(5);

/// Loads plugins and asks them questions. All threads of the operator share one host.
pub struct Host {
    config: HostConfig,
    engine: MeteredEngine,
    linker: Linker<CallState>,
    budget: Arc<CallBudget>,
    ticker: Option<JoinHandle<()>>,
    plugins: RwLock<BTreeMap<PluginRef, Arc<Loaded>>>,
    on_compiled: Option<OnCompiled>,
}

/// Receives the name of a plugin and the time that its component took to compile.
type OnCompiled = Box<dyn Fn(&str, Duration) + Send + Sync>;

struct Loaded {
    info: Plugin,
    name: Arc<str>,
    linked: Arc<Linked>,
    /// The quarantines of each hook, by the mode of the binding and by the caller: the failures of a policy in the mode
    /// Shadow do not stop the one that decides, and made-up reviews do not stop a reconcile.
    quarantines: BTreeMap<(Hook, Mode, Caller), Mutex<Quarantines>>,
    /// The schemas of the settings, by hook. Plugins of version 0.1.0 have none.
    schemas: BTreeMap<Hook, SettingsSchema>,
    logs: PerLane<Arc<Mutex<LogBudget>>>,
}

impl Loaded {
    /// The log of a call with this permit.
    fn log_of(&self, permit: &Permit) -> CallLog {
        let Holder { lane, namespace } = permit.holder();
        CallLog::new(&self.name, namespace, self.logs.get(*lane))
    }
}

/// The namespace of the calls that the host makes itself: trials of components, and checks of settings.
const NO_NAMESPACE: &str = "";

/// The right to run one call, and the time at which the call has to end.
struct Slot {
    permit: Permit,
    deadline: Instant,
}

/// A component that compiled and passed its trial. Questions reach it after [`Host::admit`].
#[derive(Clone)]
pub struct Candidate(Arc<Loaded>);

impl Candidate {
    /// The description of the plugin that the candidate becomes.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        &self.0.info
    }

    /// The JSON Schema of the settings of a hook. `None` if the plugin has no such hook, or gives no schemas.
    #[must_use]
    pub fn settings_schema(&self, hook: Hook) -> Option<&Value> {
        self.0.schemas.get(&hook).map(SettingsSchema::document)
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Candidate").field(&self.0.info).finish()
    }
}

/// The reason why a host cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// wasmtime cannot set up the engine on this machine.
    #[error("the WebAssembly engine cannot be set up: {0}")]
    Engine(String),
    /// The memory of all calls together is too small for one call.
    #[error("the memory for plugins is {} MiB, but must be at least {} MiB", .0 >> 20, HostConfig::LEAST_MEMORY >> 20)]
    Memory(usize),
    /// The operating system did not start the thread that enforces deadlines.
    #[error("the thread that enforces deadlines cannot be started: {0}")]
    Ticker(#[from] std::io::Error),
}

impl Host {
    /// Creates a host without plugins, and starts the thread that enforces deadlines.
    ///
    /// # Errors
    /// If the memory is too small for one call, or if the machine lacks a resource that the engine needs. This is mostly
    /// address space.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        if HostConfig::bytes_of_call(config.limits) > config.budget().bytes {
            return Err(HostError::Memory(config.memory_bytes));
        }
        let engine = MeteredEngine::new(&config).map_err(|error| HostError::Engine(load::text(&error)))?;
        let mut linker = Linker::new(&engine.engine);
        wit::add_to_linker(&mut linker).map_err(|error| HostError::Engine(load::text(&error)))?;
        let budget = CallBudget::new(config.budget());
        let ticker = std::thread::Builder::new().name("plugin-deadlines".into()).spawn({
            let (budget, engine) = (Arc::clone(&budget), engine.clone());
            move || budget.tick_while_busy(engine.tick(), || engine.engine.increment_epoch())
        })?;
        let (ticker, plugins) = (Some(ticker), RwLock::default());
        Ok(Self { config, engine, linker, budget, ticker, plugins, on_compiled: None })
    }

    /// The same host, which reports the time of each compilation. A component with the bytes of a loaded one is not
    /// compiled again.
    #[must_use]
    pub fn on_compiled(mut self, report: impl Fn(&str, Duration) + Send + Sync + 'static) -> Self {
        self.on_compiled = Some(Box::new(report));
        self
    }

    /// Loads a component beside the others: [`prepare`](Self::prepare), then [`admit`](Self::admit).
    ///
    /// # Errors
    /// The fault of the component. The other plugins stay loaded.
    pub fn load(&self, source: Source<'_>) -> Result<Plugin, LoadError> {
        self.prepare(source).map(|candidate| self.admit(candidate))
    }

    /// Compiles, links and tries a component. The candidate gets no questions yet, and the other plugins are not
    /// affected.
    ///
    /// # Errors
    /// The fault of the component.
    pub fn prepare(&self, source: Source<'_>) -> Result<Candidate, LoadError> {
        let Source { name, component, limits } = source;
        self.check_size(component)?;
        let limits = limits.unwrap_or(self.config.limits).at_most(Limits::MAX);
        let (call, budget) = (HostConfig::bytes_of_call(limits), self.config.budget().bytes);
        if call > budget {
            return Err(LoadError::Memory { call, budget });
        }
        let linked = match self.linked(&load::digest(component)) {
            Some(linked) => linked,
            None => Arc::new(self.compile(name, component)?),
        };
        let info = Plugin {
            plugin: PluginRef { name: name.to_owned(), digest: linked.digest.clone() },
            hooks: linked.hooks.clone(),
            wit_version: linked.version.name.to_owned(),
            limits,
        };
        let keys = |hook: &Hook| {
            let hook = *hook;
            Mode::ALL.into_iter().flat_map(move |mode| Caller::ALL.map(|caller| (hook, mode, caller)))
        };
        let quarantines = info.hooks.iter().flat_map(keys).map(|key| (key, Mutex::default())).collect();
        let schemas = BTreeMap::new();
        let mut loaded = Loaded { info, name: name.into(), linked, quarantines, schemas, logs: PerLane::default() };
        loaded.schemas = self.try_out(&loaded)?;
        Ok(Candidate(Arc::new(loaded)))
    }

    /// Makes a candidate available. It replaces a loaded plugin of the same name and bytes, including the limits and
    /// the quarantines of that plugin.
    pub fn admit(&self, Candidate(loaded): Candidate) -> Plugin {
        let info = loaded.info.clone();
        let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        plugins.insert(info.plugin.clone(), loaded);
        info
    }

    /// Removes a plugin. Its running calls continue to their end.
    pub fn unload(&self, plugin: &PluginRef) {
        self.plugins.write().unwrap_or_else(PoisonError::into_inner).remove(plugin);
    }

    /// The interfaces that a component imports and exports. The component is not linked, so the host may refuse to load
    /// it.
    ///
    /// # Errors
    /// If the bytes are no component or too many, or the component does not compile.
    pub fn surface(&self, component: &[u8]) -> Result<Surface, LoadError> {
        self.check_size(component)?;
        load::surface(&self.engine, component)
    }

    /// Checks settings for a hook of a candidate, as [`check_settings_for`](Self::check_settings_for) does for the operator
    /// itself.
    ///
    /// # Errors
    /// Those of `check_settings_for`.
    pub fn check_settings(&self, candidate: &Candidate, hook: Hook, settings: &str) -> Result<(), SettingsError> {
        self.check_settings_for(Caller::Verified, candidate, (hook, settings))
    }

    /// Checks settings for a hook of a candidate: first with the schema that the plugin gives, then by asking the plugin.
    ///
    /// # Errors
    /// [`SettingsError::Refused`] with [`FailureKind::Error`] if they are not valid. The message begins with the JSON
    /// pointer of the wrong field if they do not match the schema, and otherwise is that of the plugin. Another kind if
    /// the call fails. [`SettingsError::Busy`] if the call had no room.
    pub fn check_settings_for(
        &self,
        caller: Caller,
        Candidate(loaded): &Candidate,
        (hook, settings): (Hook, &str),
    ) -> Result<(), SettingsError> {
        let refused = |message: &str| SettingsError::Refused(failure(FailureKind::Error, message));
        let object: Map<String, Value> =
            serde_json::from_str(settings).map_err(|error| refused(&format!("not a JSON object: {error}")))?;
        if let Some(schema) = loaded.schemas.get(&hook) {
            schema.check(&Value::Object(object)).map_err(|violation| refused(&violation.to_string()))?;
        }
        let (holder, mut usage) = ((Lane::of_settings(caller), NO_NAMESPACE), Usage::default());
        let slot = self.slot(loaded, holder, &mut usage).map_err(|late| SettingsError::Busy(late.message))?;
        let validated = self.call(loaded, &slot, &mut usage, |store, instance| {
            loaded.linked.exports.adapter().validate_settings(store, instance, (hook, settings))
        });
        validated.map_err(SettingsError::Refused)?.map_err(|message| refused(&message))
    }

    /// Asks a plugin one question of the operator itself. The method blocks. It returns at most two ticks after the
    /// plugin's deadline.
    ///
    /// # Errors
    /// The reason why there is no valid answer.
    pub fn ask(&self, ask: &PluginRequest, now: Timestamp) -> Result<Answer, Failure> {
        self.ask_within(ask, (Caller::Verified, now), &mut Usage::default())
    }

    /// Asks a plugin one question as [`ask`](Self::ask) does, for any caller, and reports what the call used. A call that
    /// did not begin used nothing.
    pub fn ask_measured(
        &self,
        ask: &PluginRequest,
        caller: Caller,
        now: Timestamp,
    ) -> (Result<Answer, Failure>, Usage) {
        let mut usage = Usage::default();
        (self.ask_within(ask, (caller, now), &mut usage), usage)
    }

    fn ask_within(
        &self,
        ask: &PluginRequest,
        (caller, now): (Caller, Timestamp),
        usage: &mut Usage,
    ) -> Result<Answer, Failure> {
        let loaded = self.find(&ask.plugin)?;
        let hook = ask.question.hook();
        let namespace = ask.question.namespace();
        let Some(quarantines) = loaded.quarantines.get(&(hook, ask.mode, caller)) else {
            let message = format!("{} has no hook {}", ask.plugin.name, hook.as_str());
            return Err(failure(FailureKind::Missing, &message));
        };
        let lock = || quarantines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = lock().until(namespace, now) {
            let message = format!(
                "{} failed too often for namespace {namespace} and is not asked about it until {until}",
                ask.plugin.name
            );
            return Err(failure(FailureKind::Quarantined, &message));
        }
        // A lack of room in the budget is not the plugin's failure. The method returns here in that case, before a
        // failure is counted.
        let slot = self.slot(&loaded, (Lane::of_question(caller), namespace), usage)?;
        let result = self.call_and_validate(&loaded, &slot, ask, usage);
        match result.as_ref().map_err(|failure| failure.kind) {
            // The plugin returned this error itself, so the plugin works.
            Ok(_) | Err(FailureKind::Error) => lock().succeeded(namespace),
            Err(FailureKind::Deadline) => {
                let whole = loaded.info.limits.deadline;
                lock().timed_out(namespace, now, (usage.left_of(whole), whole), self.config.quarantine);
            }
            Err(FailureKind::Fuel | FailureKind::Memory | FailureKind::Trap | FailureKind::Invalid) => {
                lock().failed(namespace, now, self.config.quarantine);
            }
            Err(FailureKind::Missing | FailureKind::Quarantined) => {}
        }
        result
    }

    /// The version of `paddock:policy` that a loaded plugin implements.
    #[must_use]
    pub fn wit_version(&self, plugin: &PluginRef) -> Option<&'static str> {
        self.find(plugin).ok().map(|loaded| loaded.linked.version.name)
    }

    /// The configuration that the host was created with.
    #[must_use]
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// Reports on every loaded plugin, sorted by name and digest. `now` decides which quarantines are over.
    #[must_use]
    pub fn plugins(&self, now: Timestamp) -> Vec<PluginReport> {
        let plugins = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        let report = |loaded: &Arc<Loaded>| PluginReport {
            plugin: loaded.info.clone(),
            quarantined: loaded
                .quarantines
                .iter()
                .flat_map(|((hook, mode, caller), quarantines)| {
                    let quarantines = quarantines.lock().unwrap_or_else(PoisonError::into_inner);
                    let report = |(namespace, until): (&str, Timestamp)| QuarantineReport {
                        hook: *hook,
                        mode: *mode,
                        caller: *caller,
                        namespace: namespace.to_owned(),
                        until,
                    };
                    quarantines.current(now).map(report).collect::<Vec<_>>()
                })
                .collect(),
        };
        plugins.values().map(report).collect()
    }

    fn call_and_validate(
        &self,
        loaded: &Loaded,
        slot: &Slot,
        ask: &PluginRequest,
        usage: &mut Usage,
    ) -> Result<Answer, Failure> {
        let reply = self.call(loaded, slot, usage, |store, instance| {
            loaded.linked.exports.adapter().decide(store, instance, (&ask.question, &ask.settings))
        })?;
        let invalid = |reply: InvalidReply| failure(FailureKind::Invalid, &reply.to_string());
        match reply {
            Reply::NoSuchHook => Err(failure(FailureKind::Missing, "no such hook")),
            Reply::Refused(message) => Err(failure(FailureKind::Error, &message)),
            Reply::Invalid(reply) => Err(invalid(reply)),
            Reply::Answer(answer) => validate(answer).map_err(invalid),
        }
    }

    /// Waits until the plugin's deadline for room in the budget.
    fn slot(&self, loaded: &Loaded, holder: (Lane, &str), usage: &mut Usage) -> Result<Slot, Failure> {
        let (limits, began) = (loaded.info.limits, Instant::now());
        let permit = self.room(limits, holder, limits.deadline);
        usage.waited = Some(began.elapsed());
        let permit = permit.map_err(|message| failure(FailureKind::Deadline, &message))?;
        Ok(Slot { permit, deadline: began + limits.deadline })
    }

    /// Waits at most this long for room for one call. The error is a message to the user.
    fn room(&self, limits: Limits, holder: (Lane, &str), wait: Duration) -> Result<Permit, String> {
        let share = Share::of_call(HostConfig::bytes_of_call(limits));
        let permit = self.budget.acquire(holder, share, Instant::now() + wait);
        permit.ok_or_else(|| no_room(share.bytes, wait))
    }

    /// Runs one call in a new instance. The instance is dropped, whether the call succeeds or not.
    fn call<T>(
        &self,
        loaded: &Loaded,
        slot: &Slot,
        usage: &mut Usage,
        run: impl FnOnce(&mut Store<CallState>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        let (limits, began) = (loaded.info.limits, Instant::now());
        let log = loaded.log_of(&slot.permit);
        let mut store = call::store(&self.engine, log, limits, slot.deadline)
            .map_err(|error| failure(FailureKind::Trap, &load::text(&error)))?;
        let instance = loaded.linked.pre.instantiate(&mut store);
        usage.instantiated = Some(began.elapsed());
        let result = instance.and_then(|instance| run(&mut store, &instance));
        store.data().finish_log();
        call::measure(&store, limits, usage);
        result.map_err(|error| {
            let failure = call::failure(&error, &store, limits);
            usage.trap = (failure.kind == FailureKind::Trap).then(|| TrapKind::of(&error));
            failure
        })
    }

    /// Compiles and links the component of a plugin, and reports the time.
    fn compile(&self, name: &str, component: &[u8]) -> Result<Linked, LoadError> {
        let began = Instant::now();
        let linked = load::link(&self.engine, &self.linker, component)?;
        if let Some(report) = &self.on_compiled {
            report(name, began.elapsed());
        }
        Ok(linked)
    }

    /// Creates an instance as a trial, and reads the schemas of the settings. A component is rejected if it cannot start,
    /// if an export has the wrong type, or if a schema has a fault.
    fn try_out(&self, loaded: &Loaded) -> Result<BTreeMap<Hook, SettingsSchema>, LoadError> {
        let limits = loaded.info.limits;
        let permit = self.room(limits, (Lane::Verified, NO_NAMESPACE), TRIAL_WAIT).map_err(LoadError::Busy)?;
        let start = |error: &wasmtime::Error| LoadError::Start(load::text(error));
        let log = loaded.log_of(&permit);
        let mut store =
            call::store(&self.engine, log, limits, Instant::now() + limits.deadline).map_err(|error| start(&error))?;
        let instance = match loaded.linked.pre.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => return Err(LoadError::Start(call::failure(&error, &store, limits).message)),
        };
        let adapter = loaded.linked.exports.adapter();
        adapter.check_types(&mut store, &instance).map_err(|error| LoadError::Interface(load::text(&error)))?;
        // Limits that fit the questions may be too small for a schema, which is read once.
        let limits = Limits { fuel: limits.fuel.max(self.config.limits.fuel), ..limits };
        store.set_fuel(limits.fuel).map_err(|error| start(&error))?;
        let mut schemas = BTreeMap::new();
        for hook in &loaded.info.hooks {
            let fault =
                |reason: &str| LoadError::Schema { hook: hook.as_str(), reason: truncate(reason, MAX_MESSAGE_CHARS) };
            let text = match adapter.settings_schema(&mut store, &instance, *hook) {
                Ok(text) => text,
                Err(error) => return Err(fault(&call::failure(&error, &store, limits).message)),
            };
            if let Some(text) = text {
                schemas.insert(*hook, SettingsSchema::parse(&text).map_err(|reason| fault(&reason))?);
            }
        }
        Ok(schemas)
    }

    fn check_size(&self, component: &[u8]) -> Result<(), LoadError> {
        let (size, limit) = (component.len(), self.config.component_bytes);
        if size > limit { Err(LoadError::TooLarge { size, limit }) } else { Ok(()) }
    }

    fn find(&self, plugin: &PluginRef) -> Result<Arc<Loaded>, Failure> {
        let plugins = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        plugins
            .get(plugin)
            .cloned()
            .ok_or_else(|| failure(FailureKind::Missing, &format!("{} ({}) is not loaded", plugin.name, plugin.digest)))
    }

    fn linked(&self, digest: &str) -> Option<Arc<Linked>> {
        let plugins = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        plugins.values().find(|loaded| loaded.linked.digest == digest).map(|loaded| Arc::clone(&loaded.linked))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.budget.close();
        if let Some(ticker) = self.ticker.take() {
            // This thread does not panic. Even if it did, the host is being dropped, so the result is not needed.
            drop(ticker.join());
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The message about a call that found no room in the memory of all calls.
fn no_room(bytes: usize, waited: Duration) -> String {
    format!(
        "no room for a call of {} MiB within {} ms, because other calls of plugins took the memory; raise \
         --plugin-memory-budget, or lower limits.memory of the plugins",
        bytes.div_ceil(1 << 20),
        waited.as_millis()
    )
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure { kind, message: truncate(message, MAX_MESSAGE_CHARS) }
}
