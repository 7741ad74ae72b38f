//! One call: a new store with its limits, and the failure that a wasmtime error stands for.

use std::sync::Arc;

use paddock_core::question::limits::MAX_MESSAGE_CHARS;
use paddock_core::question::{Failure, FailureKind};
use paddock_core::text::truncate;
use wasmtime::{Error, ResourceLimiter, Result, Store, StoreLimits, StoreLimitsBuilder, Trap};

use crate::config::{LIFTED_BYTES, LOG_CHARS, LOG_LINES, Limits};
use crate::engine::MeteredEngine;

/// The state of one call, which is dropped with it.
pub(crate) struct CallState {
    plugin: Arc<str>,
    lines: u32,
    memory: Memory,
}

/// Refuses memory beyond the limit and records that it did, so that the trap that mostly follows is reported as a lack
/// of memory.
struct Memory {
    limits: StoreLimits,
    left: usize,
    refused: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // The limit is for all memories of the instance together.
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
    /// Writes a line of the plugin to the operator's log.
    pub(crate) fn log(&mut self, level: tracing::Level, message: &str) {
        self.lines = self.lines.saturating_add(1);
        if self.lines > LOG_LINES {
            return;
        }
        let (plugin, message) = (&*self.plugin, truncate(message, LOG_CHARS));
        match level {
            tracing::Level::ERROR => tracing::error!(target: "paddock::plugin", plugin, "{message}"),
            tracing::Level::WARN => tracing::warn!(target: "paddock::plugin", plugin, "{message}"),
            tracing::Level::INFO => tracing::info!(target: "paddock::plugin", plugin, "{message}"),
            _ => tracing::debug!(target: "paddock::plugin", plugin, "{message}"),
        }
    }

    /// Logs the number of lines that were dropped.
    pub(crate) fn finish_log(&self) {
        let dropped = self.lines.saturating_sub(LOG_LINES);
        if dropped > 0 {
            tracing::warn!(target: "paddock::plugin", plugin = &*self.plugin, dropped, "more log lines than a call may write");
        }
    }
}

/// A store for one call, which ends after this number of ticks.
pub(crate) fn store(engine: &MeteredEngine, plugin: &Arc<str>, limits: Limits, ticks: u64) -> Result<Store<CallState>> {
    let memory = Memory {
        limits: StoreLimitsBuilder::new().memory_size(limits.memory_bytes).build(),
        left: limits.memory_bytes,
        refused: false,
    };
    let state = CallState { plugin: Arc::clone(plugin), lines: 0, memory };
    let mut store = Store::new(&engine.engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_fuel(limits.fuel)?;
    store.set_epoch_deadline(ticks);
    store.set_hostcall_fuel(LIFTED_BYTES);
    Ok(store)
}

/// The failure that a wasmtime error stands for, by its trap code and by refused memory, never by its text.
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
        // No trap: the host could not read what the plugin passed (bad pointer, bad UTF-8, too large).
        None => (FailureKind::Invalid, format!("{error:#}")),
    };
    Failure { kind, message: truncate(&message, MAX_MESSAGE_CHARS) }
}
