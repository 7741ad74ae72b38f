//! The number of log lines that a plugin may write in all its calls together.
//!
//! Each call has a limit of its own, but users decide how many calls there are. So each plugin has a number of lines a
//! minute, and of these each namespace has a share. Each lane of calls has such a number.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The time after which the numbers begin anew.
pub const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The number of lines that one plugin may write in [`LOG_INTERVAL`], for the calls of one lane.
pub const LOG_LINES_PER_PLUGIN: u32 = 240;
/// The number of these lines that may be about objects of one namespace.
pub const LOG_LINES_PER_NAMESPACE: u32 = 60;

/// The lines of one plugin in the current interval.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    since: Option<Instant>,
    lines: u32,
    /// Namespaces without a line have no entry, so there are at most as many entries as lines.
    by_namespace: BTreeMap<String, u32>,
    dropped: u64,
}

/// What happens to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It is written, after a report of the lines that were dropped in the interval before.
    Written {
        /// The number of lines to report. Zero if there are none.
        dropped_before: u64,
    },
    /// It is counted and dropped.
    Dropped,
}

impl LogBudget {
    /// Decides about a line that concerns an object of a namespace.
    pub(crate) fn line(&mut self, namespace: &str, now: Instant) -> Line {
        let mut dropped_before = 0;
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= LOG_INTERVAL) {
            dropped_before = self.dropped;
            *self = Self { since: Some(now), ..Self::default() };
        }
        let of_namespace = self.by_namespace.get(namespace).copied().unwrap_or_default();
        if self.lines >= LOG_LINES_PER_PLUGIN || of_namespace >= LOG_LINES_PER_NAMESPACE {
            self.dropped = self.dropped.saturating_add(1);
            return Line::Dropped;
        }
        self.lines += 1;
        self.by_namespace.insert(namespace.to_owned(), of_namespace + 1);
        Line::Written { dropped_before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_over_all_calls_with_a_share_for_each_namespace() {
        let (mut budget, start) = (LogBudget::default(), Instant::now());
        let mut written = |namespace: &str, count: u32, now: Instant| {
            let lines = (0..count).map(|_| budget.line(namespace, now));
            lines.filter(|line| *line != Line::Dropped).count()
        };
        assert_eq!(written("hostile", 10_000, start), LOG_LINES_PER_NAMESPACE as usize);
        assert_eq!(written("good", 10, start), 10, "another namespace has its own share");
        let rest = (0..1000).map(|n| written(&format!("n{n}"), 1, start)).sum::<usize>();
        assert_eq!(rest, LOG_LINES_PER_PLUGIN as usize - LOG_LINES_PER_NAMESPACE as usize - 10);
        assert_eq!(written("late", 1, start), 0, "the plugin has no line left");
        let dropped_before = 10_000 - u64::from(LOG_LINES_PER_NAMESPACE) + 1000 - rest as u64 + 1;
        assert_eq!(budget.line("late", start + LOG_INTERVAL), Line::Written { dropped_before });
        assert_eq!(budget.line("late", start + LOG_INTERVAL), Line::Written { dropped_before: 0 });
    }
}
