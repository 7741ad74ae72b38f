//! Quarantine: the time for which a plugin that failed several times in a row is not called.
//!
//! Each plugin has one of these pure state machines for each hook and namespace, because the objects of one namespace
//! must not switch a plugin off for the others. Consecutive failures begin a quarantine. After the quarantine the plugin
//! is called again, and the next failure begins a quarantine of twice the length. A success resets the state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::QuarantinePolicy;

/// The recent failures of one plugin in one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quarantine {
    failures: u32,
    quarantines: u32,
    until: Option<Timestamp>,
    /// The time without an answer that is not yet a failure.
    unanswered: Duration,
}

impl Quarantine {
    /// The end of the current quarantine. `None` if the plugin may be called.
    pub(crate) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now)
    }

    /// Records a failure at this time. The failure may begin a quarantine.
    pub(crate) fn failed(&mut self, now: Timestamp, policy: QuarantinePolicy) {
        if self.until(now).is_some() {
            // The call began before the quarantine, so its failure does not count.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.quarantines == 0 && self.failures < policy.failures {
            return;
        }
        let length = length(self.quarantines, policy);
        self.quarantines = self.quarantines.saturating_add(1);
        self.failures = 0;
        self.until = Some(now.checked_add(length).unwrap_or(Timestamp::MAX));
    }

    /// Records a call that gave no answer in the part `left` of the `whole` time of the plugin. The wait for room took the
    /// rest, which is no fault of the plugin. The parts of several calls are one failure when they make up nine tenths of
    /// the whole time, because every call waits for a moment. A plugin that hangs thus fails, however long its calls wait.
    pub(crate) fn timed_out(&mut self, now: Timestamp, (left, whole): (Duration, Duration), policy: QuarantinePolicy) {
        if self.until(now).is_some() {
            return;
        }
        self.unanswered = self.unanswered.saturating_add(left);
        if self.unanswered >= whole.saturating_sub(whole / 10) {
            self.unanswered = Duration::ZERO;
            self.failed(now, policy);
        }
    }
}

/// The number of namespaces whose failures a hook of a plugin remembers. A plugin that fails in more namespaces than
/// this is called in the others, which costs time and no safety.
const MAX_NAMESPACES: usize = 1024;

/// The recent failures of one plugin in one hook, by namespace. Namespaces without failures have no entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantines(BTreeMap<Arc<str>, Quarantine>);

impl Quarantines {
    /// The end of the current quarantine in a namespace. `None` if the plugin may be called.
    pub(crate) fn until(&self, namespace: &str, now: Timestamp) -> Option<Timestamp> {
        self.0.get(namespace)?.until(now)
    }

    /// Records a success in a namespace, which resets its state.
    pub(crate) fn succeeded(&mut self, namespace: &str) {
        self.0.remove(namespace);
    }

    /// Records a failure in a namespace at this time. The failure may begin a quarantine.
    pub(crate) fn failed(&mut self, namespace: &str, now: Timestamp, policy: QuarantinePolicy) {
        if let Some(quarantine) = self.of(namespace, now) {
            quarantine.failed(now, policy);
        }
    }

    /// Records a call about a namespace that gave no answer in a part of the plugin's time, as [`Quarantine::timed_out`]
    /// does.
    pub(crate) fn timed_out(
        &mut self,
        namespace: &str,
        now: Timestamp,
        part: (Duration, Duration),
        policy: QuarantinePolicy,
    ) {
        if let Some(quarantine) = self.of(namespace, now) {
            quarantine.timed_out(now, part, policy);
        }
    }

    /// The state of a namespace that has a failure. `None` if too many others have one.
    fn of(&mut self, namespace: &str, now: Timestamp) -> Option<&mut Quarantine> {
        if self.0.len() >= MAX_NAMESPACES && !self.0.contains_key(namespace) {
            self.0.retain(|_, quarantine| quarantine.until(now).is_some());
            if self.0.len() >= MAX_NAMESPACES {
                return None;
            }
        }
        Some(self.0.entry(namespace.into()).or_default())
    }

    /// The namespaces in which the plugin is in quarantine, each with the end of the quarantine.
    pub(crate) fn current(&self, now: Timestamp) -> impl Iterator<Item = (&str, Timestamp)> {
        self.0.iter().filter_map(move |(namespace, quarantine)| Some((&**namespace, quarantine.until(now)?)))
    }
}

fn length(earlier: u32, policy: QuarantinePolicy) -> Duration {
    let factor = 1_u32.checked_shl(earlier).unwrap_or(u32::MAX);
    policy.first.saturating_mul(factor).min(policy.longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: QuarantinePolicy =
        QuarantinePolicy { failures: 3, first: Duration::from_secs(30), longest: Duration::from_secs(100) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The state after the events of a text, one each second from second 0. `F` is a failure, and `S` is a success.
    fn after(events: &str) -> Quarantine {
        let mut quarantine = Quarantine::default();
        for (second, event) in (0..).zip(events.chars()) {
            match event {
                'F' => quarantine.failed(at(second), POLICY),
                _ => quarantine = Quarantine::default(),
            }
        }
        quarantine
    }

    #[test]
    fn consecutive_failures_begin_a_quarantine() {
        for (events, until) in [("", None), ("FF", None), ("FFF", Some(32)), ("FFSFF", None), ("FFSFFF", Some(35))] {
            assert_eq!(after(events).until(at(6)), until.map(at), "{events}");
        }
    }

    #[test]
    fn failures_of_running_calls_do_not_prolong_it() {
        assert_eq!(after("FFFFFFFF").until(at(6)), Some(at(32)));
    }

    #[test]
    fn parts_of_the_time_are_a_failure_when_they_make_up_the_whole() {
        for (left, calls, begins) in
            [(500, 3, true), (450, 3, true), (449, 3, false), (100, 14, false), (100, 15, true), (0, 100, false)]
        {
            let mut quarantine = Quarantine::default();
            let part = (Duration::from_millis(left), Duration::from_millis(500));
            (0..calls).for_each(|_| quarantine.timed_out(at(0), part, POLICY));
            assert_eq!(quarantine.until(at(1)), begins.then(|| at(30)), "{calls} calls that had {left} ms");
        }
    }

    #[test]
    fn success_resets_the_time_without_an_answer() {
        let mut quarantines = Quarantines::default();
        let part = (Duration::from_millis(400), Duration::from_millis(500));
        for _ in 0..10 {
            quarantines.timed_out("agents", at(0), part, POLICY);
            quarantines.succeeded("agents");
        }
        assert_eq!(quarantines.until("agents", at(1)), None);
        (0..6).for_each(|_| quarantines.timed_out("agents", at(0), part, POLICY));
        assert_eq!(quarantines.until("agents", at(1)), Some(at(30)));
    }

    #[test]
    fn quarantine_ends_by_itself() {
        let quarantine = after("FFF");
        assert_eq!(quarantine.until(at(31)), Some(at(32)));
        assert_eq!(quarantine.until(at(32)), None);
    }

    #[test]
    fn next_failure_doubles_the_quarantine_up_to_the_longest() {
        let mut quarantine = after("FFF");
        let mut lengths = vec![];
        for _ in 0..4 {
            let end = quarantine.until.unwrap();
            quarantine.failed(end, POLICY);
            lengths.push(quarantine.until.unwrap().duration_since(end).as_secs());
        }
        assert_eq!(lengths, [60, 100, 100, 100]);
    }

    #[test]
    fn success_after_a_quarantine_resets_the_state() {
        let mut quarantines = Quarantines::default();
        (0..3).for_each(|second| quarantines.failed("agents", at(second), POLICY));
        quarantines.succeeded("agents");
        quarantines.failed("agents", at(100), POLICY);
        assert_eq!(quarantines.until("agents", at(100)), None);
    }

    #[test]
    fn failures_of_one_namespace_do_not_concern_another() {
        let mut quarantines = Quarantines::default();
        for second in 0..3 {
            quarantines.failed("hostile", at(second), POLICY);
        }
        assert_eq!(quarantines.until("hostile", at(3)), Some(at(32)));
        assert_eq!(quarantines.until("good", at(3)), None);
        assert_eq!(quarantines.current(at(3)).collect::<Vec<_>>(), [("hostile", at(32))]);
        quarantines.succeeded("good");
        assert_eq!(quarantines.until("hostile", at(3)), Some(at(32)), "a success elsewhere ends no quarantine");
    }

    #[test]
    fn number_of_remembered_namespaces_is_bounded() {
        let mut quarantines = Quarantines::default();
        for n in 0..2 * MAX_NAMESPACES {
            let namespace = format!("n{n}");
            (0..3).for_each(|_| quarantines.failed(&namespace, at(0), POLICY));
        }
        assert_eq!(quarantines.0.len(), MAX_NAMESPACES);
        assert_eq!(quarantines.until("n0", at(1)), Some(at(30)), "a quarantine is not forgotten");
        quarantines.failed("late", at(1000), POLICY);
        assert_eq!(quarantines.0.len(), 1, "those that are over make room");
    }
}
