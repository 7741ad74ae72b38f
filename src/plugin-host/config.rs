//! Every limit of the host.

use std::time::Duration;

/// The limits of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance, in bytes, over all its memories.
    pub memory_bytes: usize,
    /// Units of fuel, about one WebAssembly instruction each. The same question uses the same fuel.
    pub fuel: u64,
    /// Wall-clock time from the question to the answer, including the wait for a free instance.
    pub deadline: Duration,
}

impl Default for Limits {
    /// A plugin in Rust or C answers in microseconds, with less than 1 MiB and 100,000 units. Interpreters (JavaScript,
    /// Python) need about a millisecond, 40 MiB and some million units. The webhook's own timeout is 2 s, which leaves
    /// time for several plugins.
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, fuel: 200_000_000, deadline: Duration::from_millis(500) }
    }
}

impl Limits {
    /// The largest limits. Memory is what the pool reserves for a slot. The deadline is the webhook's own timeout,
    /// since a later answer would not be used. `docs/plugins.md` states these numbers.
    pub const MAX: Limits = Limits { memory_bytes: 256 << 20, fuel: 5_000_000_000, deadline: Duration::from_secs(2) };

    /// At most these limits in each dimension.
    #[must_use]
    pub fn at_most(self, other: Limits) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            fuel: self.fuel.min(other.fuel),
            deadline: self.deadline.min(other.deadline),
        }
    }
}

/// When a plugin that keeps failing is not called for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantinePolicy {
    /// Number of consecutive failures that begin a quarantine.
    pub failures: u32,
    /// The length of the first quarantine; each further one without a success in between is twice as long.
    pub first: Duration,
    /// The longest quarantine.
    pub longest: Duration,
}

impl Default for QuarantinePolicy {
    fn default() -> Self {
        Self { failures: 5, first: Duration::from_secs(30), longest: Duration::from_secs(600) }
    }
}

/// The configuration of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Limits of a plugin for which none are given.
    pub limits: Limits,
    /// Number of calls that run at the same time; others wait, within their deadlines.
    pub concurrency: u32,
    /// The resolution of deadlines: a call is stopped at most two ticks late.
    pub tick: Duration,
    /// When a plugin is in quarantine.
    pub quarantine: QuarantinePolicy,
    /// The largest component that is loaded, in bytes.
    pub component_bytes: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            concurrency: 64,
            tick: Duration::from_millis(5),
            quarantine: QuarantinePolicy::default(),
            // A plugin in Python has 18 MB with its interpreter.
            component_bytes: 64 << 20,
        }
    }
}

/// The most that a call hands to the host at once (an answer, a log line), in bytes. Without it a guest
/// could make a list whose entries all point at the same memory, and the host would copy each.
pub(crate) const LIFTED_BYTES: usize = 1 << 20;
/// Log lines of one call.
pub const LOG_LINES: u32 = 16;
/// The longest log line, in characters.
pub const LOG_CHARS: usize = 1024;
