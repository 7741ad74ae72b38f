//! One call: a new store with its limits, and the translation of a wasmtime error into a failure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use paddock_core::question::limits::MAX_MESSAGE_CHARS;
use paddock_core::question::{Failure, FailureKind};
use paddock_core::text::truncate;
use wasmtime::{Error, ResourceLimiter, Result, Store, StoreLimits, StoreLimitsBuilder, Trap, UpdateDeadline};

use crate::config::{LIFTED_BYTES, LOG_CHARS, LOG_LINES, Limits};
use crate::engine::MeteredEngine;
use crate::log_budget::{Line, LogBudget};
use crate::trap::TrapKind;

/// What one call used, and the times of its parts. A part that did not begin is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Units of fuel. One unit is about one WebAssembly instruction.
    pub fuel: u64,
    /// The size of the linear memories at the end of the call, in bytes. Linear memory never shrinks.
    pub memory_bytes: usize,
    /// The wait for room in the memory of all calls.
    pub waited: Option<Duration>,
    /// The creation of the store and of the instance, whether it succeeded or not.
    pub instantiated: Option<Duration>,
    /// The kind of the trap, if the call failed with [`FailureKind::Trap`] in the component.
    pub trap: Option<TrapKind>,
}

impl Usage {
    /// The part of the plugin's time that the wait for room left.
    pub(crate) fn left_of(&self, deadline: Duration) -> Duration {
        deadline.saturating_sub(self.waited.unwrap_or_default())
    }
}

/// The host's data of one call. It is dropped with the store at the end of the call.
pub(crate) struct CallState {
    log: CallLog,
    memory: Memory,
}

/// The log of one call.
pub(crate) struct CallLog {
    plugin: Arc<str>,
    namespace: Arc<str>,
    lines: u32,
    /// The lines of all calls of the plugin.
    budget: Arc<Mutex<LogBudget>>,
}

impl CallLog {
    pub(crate) fn new(plugin: &Arc<str>, namespace: &Arc<str>, budget: &Arc<Mutex<LogBudget>>) -> Self {
        Self { plugin: Arc::clone(plugin), namespace: Arc::clone(namespace), lines: 0, budget: Arc::clone(budget) }
    }

    /// Decides about a line in the limit of all calls.
    fn decide(&self) -> Line {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.line(&self.namespace, Instant::now())
    }
}

/// Refuses memory beyond the limit, and records the refusal. A guest that gets no memory mostly traps, and the record
/// lets the host report a lack of memory instead of a trap.
struct Memory {
    limits: StoreLimits,
    left: usize,
    refused: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // The limit applies to all memories of the instance together.
        let more = desired.saturating_sub(current);
        let granted = more <= self.left && self.limits.memory_growing(current, desired, maximum)?;
        if granted {
            self.left -= more;
        } else {
            self.refused = true;
        }
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }
}

impl CallState {
    /// Writes a line of the plugin to the operator's log, up to [`LOG_LINES`] lines a call and within the limit of all
    /// calls.
    pub(crate) fn log(&mut self, level: tracing::Level, message: &str) {
        self.log.lines = self.log.lines.saturating_add(1);
        if self.log.lines > LOG_LINES {
            return;
        }
        let plugin = &*self.log.plugin;
        match self.log.decide() {
            Line::Dropped => return,
            Line::Written { dropped_before: 0 } => {}
            Line::Written { dropped_before } => {
                tracing::warn!(target: "paddock::plugin", plugin, dropped_before, "the plugin wrote too many log lines");
            }
        }
        let message = truncate(message, LOG_CHARS);
        match level {
            tracing::Level::ERROR => tracing::error!(target: "paddock::plugin", plugin, "{message}"),
            tracing::Level::WARN => tracing::warn!(target: "paddock::plugin", plugin, "{message}"),
            tracing::Level::INFO => tracing::info!(target: "paddock::plugin", plugin, "{message}"),
            _ => tracing::debug!(target: "paddock::plugin", plugin, "{message}"),
        }
    }

    /// Logs the number of lines that were dropped because the call wrote too many.
    pub(crate) fn finish_log(&self) {
        let dropped = self.log.lines.saturating_sub(LOG_LINES);
        if dropped > 0 && self.log.decide() != Line::Dropped {
            let plugin = &*self.log.plugin;
            tracing::warn!(target: "paddock::plugin", plugin, dropped, "the call wrote too many log lines");
        }
    }
}

/// A store for one call. The engine interrupts the call at the first tick after the deadline.
pub(crate) fn store(
    engine: &MeteredEngine,
    log: CallLog,
    limits: Limits,
    deadline: Instant,
) -> Result<Store<CallState>> {
    let memory = Memory {
        limits: StoreLimitsBuilder::new().memory_size(limits.memory_bytes).build(),
        left: limits.memory_bytes,
        refused: false,
    };
    let state = CallState { log, memory };
    let mut store = Store::new(&engine.engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_fuel(limits.fuel)?;
    // The call looks at the time at each tick instead of counting ticks, because a busy machine delays the ticks.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        Ok(if Instant::now() < deadline { UpdateDeadline::Continue(1) } else { UpdateDeadline::Interrupt })
    });
    store.set_hostcall_fuel(LIFTED_BYTES);
    Ok(store)
}

/// Measures what a call has used of its limits.
pub(crate) fn measure(store: &Store<CallState>, limits: Limits, usage: &mut Usage) {
    // Every store has fuel, so the error does not occur.
    let fuel_left = store.get_fuel().unwrap_or_default();
    usage.fuel = limits.fuel.saturating_sub(fuel_left);
    usage.memory_bytes = limits.memory_bytes.saturating_sub(store.data().memory.left);
}

/// The failure that a wasmtime error represents. The trap code and the record of refused memory decide, never the text
/// of the error.
pub(crate) fn failure(error: &Error, store: &Store<CallState>, limits: Limits) -> Failure {
    let trap = error.downcast_ref::<Trap>().copied();
    let (kind, message) = match trap {
        Some(Trap::Interrupt) => {
            (FailureKind::Deadline, format!("no answer within {} ms", limits.deadline.as_millis()))
        }
        Some(Trap::OutOfFuel) => (FailureKind::Fuel, format!("no answer with {} units of fuel", limits.fuel)),
        _ if store.data().memory.refused => {
            (FailureKind::Memory, format!("wanted more than {} bytes of memory", limits.memory_bytes))
        }
        Some(trap) => (FailureKind::Trap, trap.to_string()),
        // Without a trap, the host could not read the plugin's values (a bad pointer, bad UTF-8, or too many bytes).
        None => (FailureKind::Invalid, format!("{error:#}")),
    };
    Failure { kind, message: truncate(&message, MAX_MESSAGE_CHARS) }
}
