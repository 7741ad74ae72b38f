//! The figures of a soak.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Phase;
use crate::upstream::Arrivals;

/// The requests that ended in one part of a soak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The requests that the Sandbox answered.
    pub answered: u64,
    /// The requests that the Sandbox did not answer.
    pub lost: u64,
    /// Those of the lost ones that arrived at the Sandbox.
    pub lost_after_arrival: u64,
    /// The attempts that were repeated, because no byte of the request was sent.
    pub repeated: u64,
    /// The requests over HTTP/2 that the last stream of a GOAWAY excluded, and that were sent elsewhere.
    pub not_taken: u64,
    /// The connections that were refused and tried again.
    pub refused: u64,
    /// The reasons of the losses, with their numbers.
    pub reasons: BTreeMap<String, u64>,
}

/// The streams of one kind that ended in one part of a soak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// The streams that the gateway ended with GOAWAY, or with a close frame with code 1001.
    pub in_order: u64,
    /// The streams that ended otherwise, by their reasons.
    pub faults: BTreeMap<String, u64>,
}

/// The figures of a soak.
#[derive(Clone, Debug)]
pub struct Report {
    /// The time until the kill.
    pub time: Duration,
    /// The time from SIGTERM to the end of the process, for each restart of a replica.
    pub drains: Vec<Duration>,
    /// The ids that arrived at the Sandbox more than once.
    pub duplicated: u64,
    /// The most resident memory of a replica just before a restart, in bytes.
    pub memory: u64,
    /// The requests until the kill, and from the kill on.
    pub requests: [Counts; 2],
    /// The WebSockets until the kill, and from the kill on.
    pub websockets: [Streams; 2],
    /// The streams of server-sent events until the kill, and from the kill on.
    pub events: [Streams; 2],
}

/// The kinds of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    WebSocket,
    Events,
}

/// The end of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The gateway said that it leaves.
    InOrder,
    /// The client ended it with the soak.
    Stopped,
    /// The gateway was about to leave before the stream began.
    NotBegun,
    /// It ended in another way.
    Fault(String),
}

/// The figures while a soak runs.
#[derive(Debug, Default)]
pub(super) struct Counting {
    ids: u64,
    requests: [Counts; 2],
    lost: Vec<(u64, Phase)>,
    websockets: [Streams; 2],
    events: [Streams; 2],
}

fn of<T>(both: &mut [T; 2], phase: Phase) -> &mut T {
    let [restarts, kill] = both;
    match phase {
        Phase::Restarts => restarts,
        Phase::Kill => kill,
    }
}

impl Counting {
    pub(super) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// A request has ended. The text is the reason if it was lost.
    pub(super) fn ended(&mut self, id: u64, phase: Phase, lost: Option<String>) {
        let counts = of(&mut self.requests, phase);
        match lost {
            None => counts.answered += 1,
            Some(reason) => {
                counts.lost += 1;
                *counts.reasons.entry(reason.replace(&id.to_string(), "ID")).or_default() += 1;
                self.lost.push((id, phase));
            }
        }
    }

    pub(super) fn repeated(&mut self, phase: Phase) {
        of(&mut self.requests, phase).repeated += 1;
    }

    pub(super) fn not_taken(&mut self, phase: Phase) {
        of(&mut self.requests, phase).not_taken += 1;
    }

    pub(super) fn refused(&mut self, phase: Phase, count: u64) {
        of(&mut self.requests, phase).refused += count;
    }

    pub(super) fn stream(&mut self, kind: Kind, phase: Phase, end: End) {
        let streams = match kind {
            Kind::WebSocket => of(&mut self.websockets, phase),
            Kind::Events => of(&mut self.events, phase),
        };
        match end {
            End::InOrder => streams.in_order += 1,
            End::Fault(reason) => *streams.faults.entry(reason).or_default() += 1,
            End::Stopped | End::NotBegun => {}
        }
    }

    pub(super) fn progress(&self) -> String {
        let sum = |of: fn(&Counts) -> u64| self.requests.iter().map(of).sum::<u64>();
        format!("{} answered, {} lost", sum(|counts| counts.answered), sum(|counts| counts.lost))
    }

    pub(super) fn report(mut self, arrivals: &Arrivals, time: Duration, drains: Vec<Duration>, memory: u64) -> Report {
        for (id, phase) in &self.lost {
            if arrivals.of(*id) > 0 {
                of(&mut self.requests, *phase).lost_after_arrival += 1;
            }
        }
        let Self { requests, websockets, events, .. } = self;
        Report { time, drains, duplicated: arrivals.repeated(), memory, requests, websockets, events }
    }
}

impl Report {
    /// The faults until the kill: lost and duplicated requests, and streams that did not end in order. A gateway that is
    /// restarted must have none.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let [requests, _] = &self.requests;
        let mut faults: Vec<String> =
            requests.reasons.iter().map(|(reason, count)| format!("{count} lost: {reason}")).collect();
        if self.duplicated > 0 {
            faults.push(format!("{} duplicated", self.duplicated));
        }
        for (kind, [streams, _]) in [("WebSockets", &self.websockets), ("events", &self.events)] {
            faults.extend(streams.faults.iter().map(|(reason, count)| format!("{count} {kind}: {reason}")));
        }
        faults
    }

    /// The figures as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let counts = |counts: &Counts| {
            json!({
                "answered": counts.answered, "lost": counts.lost, "lost_after_arrival": counts.lost_after_arrival,
                "repeated_unsent": counts.repeated, "repeated_not_taken": counts.not_taken, "refused_connections": counts.refused, "reasons": counts.reasons,
            })
        };
        let streams = |streams: &Streams| json!({ "in_order": streams.in_order, "faults": streams.faults });
        let [restarts, kill] = &self.requests;
        let drains: Vec<f64> = self.drains.iter().map(Duration::as_secs_f64).collect();
        json!({
            "seconds": self.time.as_secs_f64(),
            "drains_s": drains,
            "duplicated": self.duplicated,
            "replica_mb": self.memory as f64 / 1e6,
            "until_kill": {
                "requests": counts(restarts), "websockets": streams(&self.websockets[0]),
                "events": streams(&self.events[0]),
            },
            "from_kill": {
                "requests": counts(kill), "websockets": streams(&self.websockets[1]), "events": streams(&self.events[1]),
            },
        })
    }

    /// A table in Markdown, and the reasons of losses below it.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from("| | until the kill | from the kill on |\n|---|---|---|\n");
        let mut row = |name: &str, cell: &dyn Fn(usize) -> u64| {
            let _ = writeln!(text, "| {name} | {} | {} |", cell(0), cell(1));
        };
        row("requests answered", &|phase| self.requests[phase].answered);
        row("requests lost", &|phase| self.requests[phase].lost);
        row("of them after they arrived", &|phase| self.requests[phase].lost_after_arrival);
        row("repeated, no byte was sent", &|phase| self.requests[phase].repeated);
        row("repeated, excluded by a GOAWAY", &|phase| self.requests[phase].not_taken);
        row("connections refused and tried again", &|phase| self.requests[phase].refused);
        row("WebSockets closed with 1001", &|phase| self.websockets[phase].in_order);
        row("WebSockets ended otherwise", &|phase| self.websockets[phase].faults.values().sum());
        row("events ended with GOAWAY", &|phase| self.events[phase].in_order);
        row("events ended otherwise", &|phase| self.events[phase].faults.values().sum());
        let longest = self.drains.iter().max().copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "\n{} requests arrived more than once. {} restarts of a replica in {:.0} s; the longest took {:.1} s until its \
             end. A replica took at most {:.1} MB.",
            self.duplicated,
            self.drains.len(),
            self.time.as_secs_f64(),
            longest.as_secs_f64(),
            self.memory as f64 / 1e6
        );
        for (reason, count) in self.requests.iter().flat_map(|counts| &counts.reasons) {
            let _ = writeln!(text, "- {count} lost: {reason}");
        }
        let streams = self.websockets.iter().chain(&self.events);
        for (reason, count) in streams.flat_map(|streams| &streams.faults) {
            let _ = writeln!(text, "- {count} streams: {reason}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_count_in_the_part_in_which_they_ended_and_the_kill_is_no_fault() {
        let mut counting = Counting::default();
        let ids = [counting.next_id(), counting.next_id(), counting.next_id()];
        assert_eq!(ids, [1, 2, 3]);
        counting.ended(1, Phase::Restarts, None);
        counting.ended(2, Phase::Kill, Some("the answer to 2 ended early".to_owned()));
        counting.stream(Kind::WebSocket, Phase::Restarts, End::InOrder);
        counting.stream(Kind::Events, Phase::Kill, End::Fault("cut".to_owned()));
        let report = counting.report(&Arrivals::default(), Duration::from_secs(60), Vec::new(), 0);
        assert_eq!(report.faults(), Vec::<String>::new());
        assert_eq!((report.requests[0].answered, report.requests[1].lost), (1, 1));
        assert!(report.table().contains("- 1 lost: the answer to ID ended early"), "{}", report.table());

        let mut counting = Counting::default();
        counting.ended(3, Phase::Restarts, Some("late".to_owned()));
        counting.stream(Kind::Events, Phase::Restarts, End::Fault("cut".to_owned()));
        let report = counting.report(&Arrivals::default(), Duration::from_secs(60), Vec::new(), 0);
        assert_eq!(report.faults(), ["1 lost: late", "1 events: cut"]);
        assert_eq!(report.json()["until_kill"]["requests"]["lost"], 1);
    }
}
