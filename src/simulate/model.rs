//! The model of a pool: a simulation of discrete events in virtual time.
//!
//! There are three events: a member becomes Ready, a claim arrives, and the operator reconciles the pool. A claim takes
//! the oldest Ready member. If there is none, it starts cold, as in the cluster: it waits for a Sandbox of its own, and
//! takes no member that is being created.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use fastrand::Rng;
use jiff::Timestamp;
use paddock_core::decide::pool_size::{PoolCounts, Refilling};
use paddock_core::snapshot::Demand;

use crate::conditions::Conditions;
use crate::decision::{StatusWrite, View};
use crate::outcome::{Outcome, Tally};
use crate::random::{Purpose, stream};
use crate::sizer::{Contender, Sizer};
use crate::trace::Trace;

/// Simulates the claims of a trace with one contender. At the beginning, the pool has its smallest size, and all of its
/// members are Ready. The same arguments give the same outcome.
#[must_use]
pub fn simulate(trace: &Trace, conditions: &Conditions, contender: &Contender<'_>) -> Outcome {
    let mut model = Model::new(trace, conditions, contender);
    model.run();
    let (questions, failures) = model.sizer.asked();
    let stopped = model.sizer.exhausted();
    let outcome = model.tally.outcome(conditions, (contender.name(), contender.kind()));
    Outcome { questions, failures, stopped, ..outcome }
}

struct Model<'a> {
    trace: &'a Trace,
    conditions: &'a Conditions,
    sizer: Sizer<'a>,
    /// The time in milliseconds since the beginning of the trace.
    at: u64,
    /// The number of claims that have arrived.
    arrived: usize,
    /// The creation times of the members that are Ready, by their numbers. The oldest member has the lowest number.
    ready: BTreeMap<u64, i64>,
    /// The creation times of the members that are not Ready yet, by their numbers.
    creating: BTreeMap<u64, i64>,
    /// The times at which members become Ready, with their numbers. A member may have been deleted since.
    becoming: BinaryHeap<Reverse<(u64, u64)>>,
    /// The number of the next member.
    next_member: u64,
    /// The times at which claims end.
    claimed: VecDeque<u64>,
    demand: Demand,
    /// The time of the next reconcile.
    reconcile: Option<u64>,
    refills: Rng,
    cold_starts: Rng,
    tally: Tally,
}

enum Event {
    BecomesReady(u64),
    Arrives,
    Reconcile,
}

impl<'a> Model<'a> {
    fn new(trace: &'a Trace, conditions: &'a Conditions, contender: &Contender<'a>) -> Self {
        let sizer = Sizer::new(contender, conditions, trace);
        let initial = u64::from(sizer.initial());
        let start = trace.start.as_millisecond();
        Self {
            trace,
            conditions,
            at: 0,
            arrived: 0,
            ready: (0..initial).map(|member| (member, start)).collect(),
            creating: BTreeMap::new(),
            becoming: BinaryHeap::new(),
            next_member: initial,
            claimed: VecDeque::new(),
            demand: Demand::default(),
            reconcile: Some(0),
            refills: stream(conditions.seed, Purpose::Refills),
            cold_starts: stream(conditions.seed, Purpose::ColdStarts),
            tally: Tally::new(trace, sizer.initial(), conditions.learning),
            sizer,
        }
    }

    fn run(&mut self) {
        while let Some((at, event)) = self.next().filter(|_| !self.sizer.exhausted()) {
            self.advance(at);
            match event {
                Event::BecomesReady(member) => self.becomes_ready(member),
                Event::Arrives => self.arrives(),
                Event::Reconcile => self.reconcile(),
            }
        }
        self.advance(self.trace.length);
    }

    /// The next event before the end of the trace, with its time.
    fn next(&mut self) -> Option<(u64, Event)> {
        while let Some(Reverse((_, member))) = self.becoming.peek()
            && !self.creating.contains_key(member)
        {
            self.becoming.pop();
        }
        let ready = self.becoming.peek().map(|Reverse((at, member))| (*at, Event::BecomesReady(*member)));
        let arrival = self.trace.arrivals().get(self.arrived).map(|at| (*at, Event::Arrives));
        let reconcile = self.reconcile.map(|at| (at, Event::Reconcile));
        // Of several events at one time, the first of this list comes first.
        let next = [ready, arrival, reconcile].into_iter().flatten().min_by_key(|(at, _)| *at);
        next.filter(|(at, _)| *at < self.trace.length)
    }

    fn advance(&mut self, at: u64) {
        self.tally.pass(at, self.ready.len(), self.creating.len());
        self.at = at;
    }

    fn now(&self) -> Timestamp {
        let start = self.trace.start.as_millisecond();
        let now = start.saturating_add(i64::try_from(self.at).unwrap_or(i64::MAX));
        Timestamp::from_millisecond(now).unwrap_or(Timestamp::MAX)
    }

    /// The present as a `creationTimestamp`, which has whole seconds.
    fn creation_time(&self) -> Timestamp {
        Timestamp::from_second(self.now().as_second()).unwrap_or(Timestamp::MAX)
    }

    /// A change that concerns the pool: the operator reconciles it soon.
    fn changed(&mut self) {
        let gather = u64::try_from(self.conditions.gather.as_millis()).unwrap_or(u64::MAX);
        let due = self.at.saturating_add(gather);
        self.reconcile = Some(self.reconcile.map_or(due, |at| at.min(due)));
    }

    fn becomes_ready(&mut self, member: u64) {
        self.becoming.pop();
        if let Some(created) = self.creating.remove(&member) {
            self.ready.insert(member, created);
            let created = Timestamp::from_millisecond(created).unwrap_or(Timestamp::MIN);
            self.demand.note_refill(created, self.now());
            self.changed();
        }
    }

    fn arrives(&mut self) {
        self.arrived += 1;
        let (now, created) = (self.now(), self.creation_time());
        let settings = &self.conditions.settings;
        self.demand.note_arrival(created, settings);
        let hold = u64::try_from(self.conditions.hold.as_millis()).unwrap_or(u64::MAX);
        self.claimed.push_back(self.at.saturating_add(hold));
        if self.ready.pop_first().is_some() {
            self.demand.note_claimed(now, true, settings);
            self.tally.hit();
        } else {
            self.demand.note_claimed(created, false, settings);
            self.tally.miss(self.conditions.refill.sample(&mut self.cold_starts));
        }
        self.changed();
    }

    fn reconcile(&mut self) {
        while self.claimed.front().is_some_and(|end| *end <= self.at) {
            self.claimed.pop_front();
        }
        let view = View {
            at: self.at,
            now: self.now(),
            ready: self.ready.len(),
            creating: self.creating.len(),
            claimed: self.claimed.len(),
            demand: &self.demand,
            arrived: &self.trace.arrivals()[..self.arrived],
        };
        let decided = self.sizer.decide(&view);
        let maximum = usize::try_from(self.sizer.maximum()).unwrap_or(usize::MAX);
        let desired = usize::try_from(decided.desired).unwrap_or(usize::MAX);
        let members = view.ready + view.creating;
        // In the model, every member has its pod before the next reconcile.
        let counts = PoolCounts {
            ready: view.ready,
            creating: view.creating,
            leaving: 0,
            sent: 0,
            with_pod: members,
            alive: members,
        };
        let settings = &self.conditions.settings;
        let deleted = counts.excess(0, desired, maximum).min(settings.pool_batch);
        // As in the decision about a pool, nothing is created in a reconcile that deletes.
        let created = if deleted > 0 { 0 } else { counts.to_create(desired, maximum, settings) };
        // The members have numbers in the order of their creation.
        let oldest = self.creating.values().next().and_then(|at| Timestamp::from_millisecond(*at).ok());
        let refilling = Refilling { creating: view.creating, new: created, oldest };
        let status_due = match self.sizer.write_status(&view, refilling) {
            StatusWrite::None => None,
            StatusWrite::Due(at) => Some(at),
            // The watch delivers the write, which is a change of the pool itself, and the pool is reconciled at once.
            StatusWrite::Written => Some(self.at),
        };
        self.tally.sized(decided.desired);
        // A time that has passed is a time of the next millisecond.
        self.reconcile = [decided.next, status_due].into_iter().flatten().min().map(|at| at.max(self.at + 1));
        for _ in 0..deleted {
            // Those that are not Ready are deleted first, and of them the youngest.
            if self.creating.pop_last().is_none() {
                self.ready.pop_last();
            }
        }
        self.tally.deleted(deleted);
        self.create(created);
        if deleted + created > 0 {
            self.changed();
        }
    }

    fn create(&mut self, count: usize) {
        let created = self.creation_time().as_millisecond();
        for _ in 0..count {
            let ready = self.at + self.conditions.refill.sample(&mut self.refills);
            self.creating.insert(self.next_member, created);
            self.becoming.push(Reverse((ready, self.next_member)));
            self.next_member += 1;
        }
        self.tally.created(count);
    }
}

#[cfg(test)]
mod tests;
