//! The phases of one wake. They follow each other without a gap, so they add up to the whole time.

use std::time::Duration;

use jiff::Timestamp;

/// A part of the time between a request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// From the client's request until the gateway's write reaches the API server.
    Decision,
    /// Until the API server has stored the mode.
    Write,
    /// Until the operator's pod is stored.
    Pod,
    /// Until the pod is bound to a node.
    Scheduling,
    /// Until the gateway's watch shows the address of the pod.
    Start,
    /// Until the gateway has a connection to the port.
    Port,
    /// Until the first byte of the answer reaches the client.
    Answer,
}

impl Phase {
    pub(crate) const ALL: [Self; 7] =
        [Self::Decision, Self::Write, Self::Pod, Self::Scheduling, Self::Start, Self::Port, Self::Answer];

    /// The name in tables and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Decision => "wake decision",
            Self::Write => "write of the mode",
            Self::Pod => "creation of the pod",
            Self::Scheduling => "scheduling",
            Self::Start => "pod start",
            Self::Port => "port open",
            Self::Answer => "first byte",
        }
    }

    /// Whether the time is the gateway's and the operator's, with the API server's time for their writes. The last phase
    /// contains the application's time for its answer too.
    pub(crate) fn is_ours(self) -> bool {
        match self {
            Self::Decision | Self::Write | Self::Pod | Self::Answer => true,
            Self::Scheduling | Self::Start | Self::Port => false,
        }
    }
}

/// The moments of one wake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    /// The client began to connect.
    pub(super) sent: Timestamp,
    /// The API server received the gateway's write, and replied.
    pub(super) patch: (Timestamp, Timestamp),
    /// The API server replied to the creation of the pod.
    pub(super) created: Timestamp,
    /// The API server replied to the binding of the pod.
    pub(super) bound: Timestamp,
    /// The gateway's watch showed the address of the pod.
    pub(super) address: Timestamp,
    /// The client read the first byte of the answer.
    pub(super) answered: Timestamp,
    /// The gateway's time from the address to the connection. `None` if several wakes share its metric: then the phase
    /// `Port` contains the phase `Answer`.
    pub(super) port: Option<Duration>,
}

/// One wake.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    /// The length of each phase in milliseconds, in the order of [`Phase::ALL`].
    parts: [f64; 7],
}

impl Moments {
    /// The phases. A moment that another clock saw too early counts as the moment before it.
    pub(super) fn phases(&self) -> Wake {
        let mut last = self.sent;
        let mut until = |moment: Timestamp| {
            let moment = moment.clamp(last, self.answered.max(last));
            let part = moment.duration_since(last).as_secs_f64() * 1000.0;
            last = moment;
            part
        };
        let [decision, write] = [until(self.patch.0), until(self.patch.1)];
        let [pod, scheduling, start] = [until(self.created), until(self.bound), until(self.address)];
        let rest = until(self.answered);
        let port = self.port.map_or(rest, |port| (port.as_secs_f64() * 1000.0).min(rest));
        Wake { parts: [decision, write, pod, scheduling, start, port, rest - port] }
    }
}

impl Wake {
    /// The length of a phase in milliseconds.
    pub(crate) fn part(&self, phase: Phase) -> f64 {
        let all = Phase::ALL.iter().zip(self.parts);
        all.filter(|(known, _)| **known == phase).map(|(_, part)| part).sum()
    }

    /// The whole time in milliseconds.
    pub(crate) fn total(&self) -> f64 {
        self.parts.iter().sum()
    }

    /// The gateway's and the operator's own time in milliseconds.
    pub(crate) fn ours(&self) -> f64 {
        Phase::ALL.into_iter().filter(|phase| phase.is_ours()).map(|phase| self.part(phase)).sum()
    }
}

#[cfg(test)]
impl Wake {
    pub(super) fn for_tests(parts: [f64; 7]) -> Self {
        Self { parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    fn moments() -> Moments {
        Moments {
            sent: at(0),
            patch: (at(2), at(10)),
            created: at(25),
            bound: at(30),
            address: at(900),
            answered: at(1300),
            port: Some(Duration::from_millis(380)),
        }
    }

    #[test]
    fn phases_follow_each_other_and_add_up_to_the_whole_time() {
        let wake = moments().phases();
        let parts = Phase::ALL.map(|phase| wake.part(phase).round());
        assert_eq!(parts, [2.0, 8.0, 15.0, 5.0, 870.0, 380.0, 20.0]);
        assert!((wake.total() - 1300.0).abs() < 0.001, "{wake:?}");
        assert!((wake.ours() - 45.0).abs() < 0.001, "{wake:?}");
    }

    #[test]
    fn without_a_time_of_its_own_the_port_takes_the_rest() {
        let wake = Moments { port: None, ..moments() }.phases();
        assert_eq!((wake.part(Phase::Port).round(), wake.part(Phase::Answer)), (400.0, 0.0));
    }

    #[test]
    fn moments_of_other_clocks_never_make_a_phase_negative_or_the_sum_another_one() {
        for (what, wrong) in [
            ("an early write", Moments { patch: (at(-5), at(-4)), ..moments() }),
            ("a late address", Moments { address: at(1400), ..moments() }),
            ("a binding before the reply to the creation", Moments { bound: at(20), ..moments() }),
            ("a long port", Moments { port: Some(Duration::from_secs(9)), ..moments() }),
        ] {
            let wake = wrong.phases();
            assert!(Phase::ALL.iter().all(|phase| wake.part(*phase) >= 0.0), "{what}: {wake:?}");
            assert!((wake.total() - 1300.0).abs() < 0.001, "{what}: {wake:?}");
        }
    }
}
