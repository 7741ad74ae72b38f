//! Every limit of the host in one table.

use std::time::Duration;

/// What one call of a plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance, in bytes, over all its memories.
    pub memory_bytes: usize,
    /// Units of fuel, about one WebAssembly instruction each: the same question uses the same fuel.
    pub fuel: u64,
    /// Wall-clock time from asking to answering, waiting for a free instance included.
    pub deadline: Duration,
}

impl Default for Limits {
    /// A Rust or C guest answers in microseconds with less than 1 MiB and 100,000 units; interpreters
    /// (JavaScript, Python) need about a millisecond, 40 MiB and some millions. The webhook's own timeout
    /// is 2 s, so that several plugins fit in.
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, fuel: 200_000_000, deadline: Duration::from_millis(500) }
    }
}

impl Limits {
    /// The most that any plugin can be given. Memory is what the pool reserves for a slot. The deadline is the webhook's
    /// own timeout, since a later answer reaches nobody. `docs/plugins.md` states these numbers.
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
    /// Failures in a row that bring it there.
    pub failures: u32,
    /// The first stay; each further one without a success between is twice as long.
    pub first: Duration,
    /// The longest stay.
    pub longest: Duration,
}

impl Default for QuarantinePolicy {
    fn default() -> Self {
        Self { failures: 5, first: Duration::from_secs(30), longest: Duration::from_secs(600) }
    }
}

/// How the host is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Limits of a plugin for which none are given.
    pub limits: Limits,
    /// Calls that run at the same time; more wait, within their deadlines.
    pub concurrency: u32,
    /// The grain of deadlines: a call is stopped at most two ticks late.
    pub tick: Duration,
    /// Quarantine.
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
            // A Python guest with its interpreter is 18 MB.
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
