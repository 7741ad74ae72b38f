//! The configuration of the host: every limit, with its unit and the reason for its value.

use std::time::Duration;

use crate::concurrency::Share;

/// The limits of one call of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The linear memory of an instance, in bytes. All memories of the instance share it.
    pub memory_bytes: usize,
    /// Units of fuel. One unit is about one WebAssembly instruction. The same question uses the same fuel.
    pub fuel: u64,
    /// The wall-clock time from the question to the answer, including the wait for a free instance.
    pub deadline: Duration,
}

impl Default for Limits {
    /// A plugin in Rust or C answers in microseconds, with less than 1 MiB and 100,000 units of fuel. An interpreter
    /// (JavaScript, Python) needs about a millisecond, 40 MiB and some million units. The webhook's own timeout is 2 s,
    /// so a review has time for several plugins.
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, fuel: 200_000_000, deadline: Duration::from_millis(500) }
    }
}

impl Limits {
    /// The largest limits that a plugin can have. The memory is the size that the pool reserves for a slot. The
    /// deadline is the webhook's own timeout, because a later answer could not be used. `docs/plugins.md` states these
    /// numbers.
    pub const MAX: Limits = Limits { memory_bytes: 256 << 20, fuel: 5_000_000_000, deadline: Duration::from_secs(2) };

    /// The smaller of both limits, for each field.
    #[must_use]
    pub fn at_most(self, other: Limits) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            fuel: self.fuel.min(other.fuel),
            deadline: self.deadline.min(other.deadline),
        }
    }
}

/// The rules by which a plugin that keeps failing enters quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantinePolicy {
    /// The number of consecutive failures after which the first quarantine begins.
    pub failures: u32,
    /// The length of the first quarantine. Each further quarantine without a success in between is twice as long.
    pub first: Duration,
    /// The length of the longest quarantine.
    pub longest: Duration,
}

impl Default for QuarantinePolicy {
    fn default() -> Self {
        Self { failures: 5, first: Duration::from_secs(30), longest: Duration::from_secs(600) }
    }
}

/// The configuration of a [`Host`](crate::Host).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The limits of a plugin whose configuration states none.
    pub limits: Limits,
    /// The memory that all calls together may use, in bytes, with the memory that free instances keep resident. A call
    /// that finds no room waits, within its deadline.
    pub memory_bytes: usize,
    /// The interval of the clock that enforces deadlines. A call is stopped at most two ticks late.
    pub tick: Duration,
    /// The rules for the quarantine of failing plugins.
    pub quarantine: QuarantinePolicy,
    /// The size of the largest component that is loaded, in bytes.
    pub component_bytes: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            memory_bytes: 1 << 30,
            tick: Duration::from_millis(5),
            quarantine: QuarantinePolicy::default(),
            // A plugin in Python has 18 MB, because it contains its interpreter.
            component_bytes: 64 << 20,
        }
    }
}

impl HostConfig {
    /// The smallest budget: enough for one call with the default limits.
    pub const LEAST_MEMORY: usize = 128 << 20;
    /// The bytes of the budget for each instance. It is the default memory limit of a call with its other memory, so
    /// that a call rarely lacks an instance while there is memory for it.
    const BYTES_PER_INSTANCE: usize = 32 << 20;
    /// The bytes that a call takes in addition to its memory limit: its tables and stacks, and the copies of the
    /// question and of the answer.
    pub(crate) const CALL_BYTES: usize = 4 << 20;

    /// The number of instances: from two to 64.
    pub(crate) fn instances(&self) -> u32 {
        u32::try_from(self.memory_bytes / Self::BYTES_PER_INSTANCE).unwrap_or(u32::MAX).clamp(2, 64)
    }

    /// The budget of running calls: what remains of the memory beside what the instances keep resident.
    pub(crate) fn budget(&self) -> Share {
        let instances = self.instances();
        let resident = usize::try_from(instances).unwrap_or(usize::MAX).saturating_mul(RESIDENT_PER_INSTANCE);
        Share { instances, bytes: self.memory_bytes.saturating_sub(resident) }
    }

    /// The bytes that one call with this memory limit takes from the budget.
    pub(crate) fn bytes_of_call(limits: Limits) -> usize {
        limits.memory_bytes.saturating_add(Self::CALL_BYTES)
    }
}

/// The memories and tables that one component may have.
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 4;
pub(crate) const TABLES_PER_COMPONENT: u32 = 16;
/// The bytes that a slot for a linear memory keeps resident between calls. The kernel then does not map the pages
/// again, which halves the measured cost of a call. A plugin in Rust uses less than this.
pub(crate) const KEEP_RESIDENT: usize = 1 << 20;
/// The bytes that a slot for a table keeps resident between calls.
pub(crate) const TABLE_KEEP_RESIDENT: usize = 64 << 10;
/// The bytes that the slots of one instance keep resident between calls, at most.
const RESIDENT_PER_INSTANCE: usize =
    MEMORIES_PER_COMPONENT as usize * KEEP_RESIDENT + TABLES_PER_COMPONENT as usize * TABLE_KEEP_RESIDENT;
/// The most bytes that a plugin may pass to the host at once, in an answer or in a log line. Without this limit, a
/// guest could pass a list whose entries all point at the same memory, and the host would copy that memory for each
/// entry.
pub(crate) const LIFTED_BYTES: usize = 1 << 20;
/// The number of log lines that one call may write. The rest are counted and dropped.
pub const LOG_LINES: u32 = 16;
/// The length of the longest log line, in characters. Longer lines are truncated.
pub const LOG_CHARS: usize = 1024;
