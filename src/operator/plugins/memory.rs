//! The memory that all calls of plugins together may use: a part of what the process may use.

use paddock_kube::memory;
use paddock_plugin_host::HostConfig;

/// The part of the memory of the process that plugins get, as a divisor. The World needs the larger part.
const PART: u64 = 4;
/// The most bytes that plugins get without `--plugin-memory-budget`. It is enough for a dozen calls with the default
/// limits, and a call takes well under a millisecond.
const MOST: u64 = 1 << 30;

/// The memory of all calls, in bytes: a quarter of the limit of the process's cgroup, or of the machine's memory if no
/// cgroup has a limit.
#[must_use]
pub fn default_budget() -> usize {
    part_of(memory::limit())
}

fn part_of(limit: Option<u64>) -> usize {
    let bytes = limit.map_or(MOST, |limit| limit / PART).min(MOST);
    usize::try_from(bytes).unwrap_or(usize::MAX).max(HostConfig::LEAST_MEMORY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_get_a_quarter_within_bounds() {
        assert_eq!(part_of(Some(2 << 30)), 512 << 20, "the limit in deploy/base");
        assert_eq!(part_of(Some(128 << 20)), HostConfig::LEAST_MEMORY);
        assert_eq!(part_of(Some(64 << 30)), 1 << 30);
        assert_eq!(part_of(None), 1 << 30);
    }
}
