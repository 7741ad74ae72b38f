//! One run of the simulation: a seed decides the next event, which can be as small as one request or one watch event.

mod admission;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use paddock_core::plan::{Action, Op, Outcome, Reason};
use paddock_core::settings::Settings;

use admission::Admission;

use super::answers::PluginClient;
use super::api::{Api, Id, Resource};
use super::nodes::{self, NodeFaults, pick};
use super::operator::{Fate, Flight, Operator, RESYNC, carry_out, resource};
use super::oracle::{Actor, Oracle, at_rest};
use super::users;

/// A request that its operator no longer waits for is carried out within this time or not at all. It is the API
/// server's own limit, and it is shorter than the time for which the core keeps the pending write.
const LATE: SignedDuration = SignedDuration::from_secs(34);

/// The faults that may happen in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Requests and replies are lost, late or refused, in thousandths of the requests.
    pub(crate) requests: u32,
    /// Watches are cut, in thousandths of steps.
    pub(crate) cuts: u32,
    /// The operator crashes, in ten thousandths of steps.
    pub(crate) crashes: u32,
    /// Another operator becomes the leader, in ten thousandths of steps.
    pub(crate) handovers: u32,
    /// The clock is moved forward or back by hours, in ten thousandths of steps.
    pub(crate) clock: u32,
    /// Every n-th answer of a plugin is a trap.
    pub(crate) plugins: Option<u64>,
    /// The faults of nodes.
    pub(crate) nodes: NodeFaults,
}

impl Faults {
    pub(crate) const NONE: Faults = Faults {
        requests: 0,
        cuts: 0,
        crashes: 0,
        handovers: 0,
        clock: 0,
        plugins: None,
        nodes: NodeFaults { evict: 0, end: 0, unready: 0 },
    };
}

/// A simulated cluster.
pub(crate) struct Simulation {
    rng: Rng,
    pub(crate) api: Api,
    /// The operators. The leader is the first.
    operators: Vec<Operator>,
    /// Requests that their operator no longer waits for, with the time until which each may still arrive.
    adrift: Vec<(Flight, Timestamp)>,
    /// Claims in admission, and the reservations that were made for them.
    pub(crate) admission: Admission,
    pub(crate) oracle: Oracle,
    faults: Faults,
    /// A counter that gives each operator process other names.
    processes: u64,
    /// The number of steps so far.
    pub(crate) steps: u64,
    /// The recorded events, if the run is traced.
    trace: Option<Vec<String>>,
}

impl Simulation {
    pub(crate) fn new(seed: u64, faults: Faults, traced: bool) -> Self {
        let mut api = Api::new("2030-01-01T00:00:00Z".parse().expect("a time"));
        users::create_fixtures(&mut api);
        let _ = api.take_fresh();
        let mut simulation = Self {
            rng: Rng::with_seed(seed),
            api,
            operators: vec![],
            adrift: vec![],
            admission: Admission::default(),
            oracle: Oracle::new(faults.requests + faults.crashes + faults.handovers == 0),
            faults,
            processes: seed,
            steps: 0,
            trace: traced.then(Vec::new),
        };
        let count = if faults.handovers > 0 { 2 } else { 1 };
        for i in 0..count {
            let mut operator = simulation.process();
            operator.leading = i == 0;
            simulation.operators.push(operator);
        }
        simulation
    }

    fn process(&mut self) -> Operator {
        self.processes += 1_000_003;
        let mut plugins = PluginClient::default();
        if let Some(n) = self.faults.plugins {
            plugins.fail_every(n);
        }
        let settings = Settings { seed: self.processes, ..Settings::default() };
        Operator::new(settings, plugins, self.api.now)
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.api.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now} {}", what()));
        }
    }

    /// The last recorded events, if the run is traced.
    pub(crate) fn history(&self, lines: usize) -> String {
        let Some(trace) = &self.trace else { return String::new() };
        trace[trace.len().saturating_sub(lines)..].join("\n")
    }

    /// Runs this number of steps. The cluster comes to rest three times on the way.
    pub(crate) fn run(&mut self, steps: u64) -> Result<(), String> {
        const RESTS: u64 = 3;
        for _ in 0..RESTS {
            for _ in 0..steps / RESTS {
                self.step()?;
            }
            self.rest()?;
        }
        Ok(())
    }

    fn check(&mut self, actor: &Actor) -> Result<(), String> {
        for change in self.api.take_fresh() {
            if self.trace.is_some() {
                let verb = match (&change.before, &change.after) {
                    (None, _) => "created",
                    (_, Some(_)) => "changed",
                    (_, None) => "removed",
                };
                let who = match actor {
                    Actor::Operator { reason, .. } => format!("operator ({reason})"),
                    Actor::Other => "others".to_owned(),
                };
                let id = change.id.clone();
                let version =
                    change.after.as_ref().map(|a| a["metadata"]["resourceVersion"].clone()).unwrap_or_default();
                self.note(|| format!("  {id:?} {verb} by {who}, version {version}"));
            }
            self.oracle.check(&change, actor, &self.api)?;
        }
        Ok(())
    }

    /// Lets one event happen.
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.rng.u32(..1000) < self.faults.cuts {
            self.cut();
        }
        let dice = self.rng.u32(..10_000);
        if dice < self.faults.crashes {
            return self.crash();
        }
        if dice < self.faults.crashes + self.faults.handovers {
            return self.hand_over();
        }
        if dice < self.faults.crashes + self.faults.handovers + self.faults.clock {
            self.set_clock();
            return Ok(());
        }
        match self.rng.u32(..100) {
            0..34 => self.watch(),
            34..48 => self.start()?,
            48..62 => self.advance(),
            62..80 => self.serve()?,
            80..90 => self.deliver(),
            90..95 => {
                nodes::step(&mut self.api, &mut self.rng, self.faults.nodes);
                self.check(&Actor::Other)?;
            }
            95..96 => {
                if let Some(claim) = users::act(&mut self.api, &mut self.rng) {
                    self.claim(claim)?;
                }
                self.check(&Actor::Other)?;
            }
            96..98 => self.collect()?,
            _ => self.pass_time(),
        }
        self.store_admitted(false);
        self.check(&Actor::Other)
    }

    fn operator(&mut self) -> usize {
        self.rng.usize(..self.operators.len())
    }

    fn watch(&mut self) {
        let at = self.operator();
        let kinds = self.operators[at].watchable(&self.api);
        if let Some(kind) = pick(&mut self.rng, &kinds).copied() {
            self.operators[at].watch_step(kind, &self.api);
        }
    }

    fn cut(&mut self) {
        let at = self.operator();
        let kinds = paddock_api::kind::Kind::ALL;
        if let Some(kind) = pick(&mut self.rng, &kinds).copied()
            && self.operators[at].synced()
        {
            self.note(|| format!("the watch of {kind:?} is cut"));
            self.operators[at].cut(kind);
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let keys = self.operators[0].startable();
        let Some(key) = pick(&mut self.rng, &keys) else { return Ok(()) };
        self.operators[0].start(key, self.api.now);
        self.reservations_are_kept(key)
    }

    fn advance(&mut self) {
        let keys = self.operators[0].advanceable();
        if let Some(key) = pick(&mut self.rng, &keys) {
            self.operators[0].advance(key, self.api.now);
            self.reservations_end();
        }
    }

    /// The API server handles one of the requests that were sent to it.
    fn serve(&mut self) -> Result<(), String> {
        self.drift()?;
        let sent: Vec<usize> =
            self.operators[0].flights.iter().enumerate().filter(|(_, f)| f.reply.is_none()).map(|(i, _)| i).collect();
        let Some(at) = pick(&mut self.rng, &sent).copied() else { return Ok(()) };
        self.api.now += SignedDuration::from_micros(self.rng.i64(0..4000));
        let fate = self.fate();
        let op = self.operators[0].flights[at].op.clone();
        self.note(|| format!("{op} ({fate:?})"));
        if let (Fate::RequestLost | Fate::Late, Reason::Claimed, Action::Patch { body, .. }) =
            (fate, op.reason, &op.action)
        {
            let sandbox = Id::new(Resource::SANDBOX, &op.key.namespace, &op.key.name);
            self.oracle.take_is_lost(sandbox, body, &self.operators[0].flights[at].view);
        }
        let reply = match fate {
            Fate::Busy => Outcome::Busy,
            Fate::Forbidden => Outcome::Rejected { status: 403, message: "quota".to_owned(), by_policy: false },
            Fate::RequestLost => Outcome::Unknown,
            Fate::Served => self.carry_out(at)?,
            Fate::ReplyLost => {
                self.carry_out(at)?;
                Outcome::Unknown
            }
            Fate::Late => {
                let flight = self.operators[0].flights[at].adrift();
                self.adrift.push((flight, self.api.now + LATE));
                Outcome::Unknown
            }
        };
        self.operators[0].flights[at].reply = Some(reply);
        Ok(())
    }

    fn fate(&mut self) -> Fate {
        if self.rng.u32(..1000) >= self.faults.requests {
            return Fate::Served;
        }
        [Fate::ReplyLost, Fate::RequestLost, Fate::Late, Fate::Busy, Fate::Forbidden][self.rng.usize(..5)]
    }

    fn carry_out(&mut self, at: usize) -> Result<Outcome, String> {
        let flight = &self.operators[0].flights[at];
        let (op, view, planned) = (flight.op.clone(), flight.view.clone(), flight.version);
        let before = self.version(&op);
        let outcome = carry_out(&mut self.api, &op);
        // The plan was made for the stored version and the patch changed nothing, so the patch should not have been
        // planned.
        if matches!((&op.action, &outcome), (Action::Patch { .. }, Outcome::Stored(_)))
            && planned.is_some()
            && planned == before
            && self.version(&op) == before
        {
            return Err(format!("nothing differs, and it was written: {op}"));
        }
        self.check(&Actor::Operator { reason: op.reason.as_str(), view })?;
        Ok(outcome)
    }

    fn version(&self, op: &Op) -> Option<u64> {
        let id = super::api::Id::new(resource(op.key.kind), &op.key.namespace, &op.key.name);
        self.api.get(&id)?["metadata"]["resourceVersion"].as_str()?.parse().ok()
    }

    /// Carries out a late request, or drops it.
    fn drift(&mut self) -> Result<(), String> {
        let now = self.api.now;
        self.adrift.retain(|(_, until)| *until > now);
        if self.adrift.is_empty() || self.rng.u8(..4) > 0 {
            return Ok(());
        }
        let at = self.rng.usize(..self.adrift.len());
        let (flight, _) = self.adrift.swap_remove(at);
        self.note(|| format!("{} (arrives late)", flight.op));
        let _ = carry_out(&mut self.api, &flight.op);
        self.check(&Actor::Operator { reason: flight.op.reason.as_str(), view: flight.view })
    }

    fn deliver(&mut self) {
        let replied: Vec<usize> =
            self.operators[0].flights.iter().enumerate().filter(|(_, f)| f.reply.is_some()).map(|(i, _)| i).collect();
        if let Some(at) = pick(&mut self.rng, &replied) {
            self.operators[0].deliver(*at, self.api.now);
        }
    }

    fn collect(&mut self) -> Result<(), String> {
        let choice = self.rng.usize(..1 << 20);
        self.api.gc_step(|n| choice % n);
        self.check(&Actor::Other)
    }

    fn pass_time(&mut self) {
        let far = self.rng.u8(..20) == 0;
        let milliseconds = if far { self.rng.i64(0..60_000) } else { self.rng.i64(0..800) };
        self.api.now += SignedDuration::from_millis(milliseconds);
        for operator in &mut self.operators {
            operator.tick(self.api.now);
        }
    }

    /// The clock of every process jumps by up to a day. Durations do not change: requests in flight are no older than
    /// before, and timers, such as those of the operators, run for as long as before.
    fn set_clock(&mut self) {
        let by = SignedDuration::from_secs(self.rng.i64(-86_400..=86_400));
        self.note(|| format!("the clock jumps by {by}"));
        self.api.now += by;
        for (_, until) in &mut self.adrift {
            *until += by;
        }
        self.admission.clock_jumped(by);
        for operator in &mut self.operators {
            operator.clock_jumped(by);
        }
    }

    /// The operator process dies and a new one starts. The requests of the old process arrive before the new process
    /// lists, or never.
    fn crash(&mut self) -> Result<(), String> {
        self.note(|| "the operator crashes".to_owned());
        let new = self.process();
        let old = std::mem::replace(&mut self.operators[0], new);
        self.admission.forget();
        self.settle(old.crash())?;
        let drifting = std::mem::take(&mut self.adrift);
        self.settle(drifting.into_iter().map(|(f, _)| f).collect())
    }

    /// The standby becomes the leader. It knows only the events that its watches have delivered so far.
    fn hand_over(&mut self) -> Result<(), String> {
        if self.operators.len() < 2 || !self.operators[1].synced() {
            return Ok(());
        }
        self.note(|| "another operator takes over".to_owned());
        // The lease of the old leader expired earlier, so none of its writes is in flight any more.
        let mut standby = self.process();
        standby.leading = false;
        let old = std::mem::replace(&mut self.operators[0], standby);
        self.admission.forget();
        self.settle(old.crash())?;
        self.operators.swap(0, 1);
        self.operators[0].leading = true;
        self.operators[0].resync();
        self.oracle.handed_over = true;
        Ok(())
    }

    fn settle(&mut self, flights: Vec<Flight>) -> Result<(), String> {
        for flight in flights {
            if self.rng.bool() {
                self.note(|| format!("{} (arrives, unheard)", flight.op));
                let _ = carry_out(&mut self.api, &flight.op);
                self.check(&Actor::Operator { reason: flight.op.reason.as_str(), view: flight.view })?;
            }
        }
        Ok(())
    }

    /// Stops all faults and all users, lets the cluster come to rest, and checks its state.
    pub(crate) fn rest(&mut self) -> Result<(), String> {
        self.note(|| "the cluster comes to rest".to_owned());
        let faults = std::mem::replace(&mut self.faults, Faults::NONE);
        for node in users::NODES {
            nodes::put_node(&mut self.api, node);
        }
        self.store_admitted(true);
        self.check(&Actor::Other)?;
        for operator in &mut self.operators {
            operator.heal();
        }
        let drifting = std::mem::take(&mut self.adrift);
        self.settle(drifting.into_iter().map(|(f, _)| f).collect())?;
        // The periodic resync is switched off, so that this phase shows whether an event was missed.
        let until = self.api.now + RESYNC + SignedDuration::from_mins(7);
        for operator in &mut self.operators {
            operator.without_resync_until(until);
        }
        loop {
            self.work_off()?;
            let due = self.operators[0].next_due();
            if due > until {
                break;
            }
            self.api.now = self.api.now.max(due);
            for operator in &mut self.operators {
                operator.tick(self.api.now);
            }
        }
        at_rest(&self.api)?;
        self.nothing_is_planned()?;
        self.everything_is_free()?;
        self.oracle.rested();
        self.faults = faults;
        for operator in &mut self.operators {
            if let Some(n) = faults.plugins {
                operator.fail_every(n);
            }
        }
        Ok(())
    }

    /// Runs until every remaining event needs time to pass.
    fn work_off(&mut self) -> Result<(), String> {
        // More rounds than any cluster of this size needs. Beyond this number, the operator is in an endless loop.
        const MOST: u32 = 40_000;
        for _ in 0..MOST {
            let operator = &self.operators[0];
            let idle = self.operators.iter().all(|o| o.idle(&self.api));
            if idle && !self.api.gc_pending() && !nodes::pending(&self.api) {
                return Ok(());
            }
            if !operator.synced() || self.rng.bool() {
                self.watch();
            }
            self.start()?;
            self.advance();
            self.serve()?;
            self.deliver();
            self.collect()?;
            if nodes::pending(&self.api) {
                nodes::step(&mut self.api, &mut self.rng, NodeFaults::default());
                self.check(&Actor::Other)?;
            }
        }
        Err(format!("it never comes to rest; the last writes:\n{}", self.history(40)))
    }

    fn nothing_is_planned(&mut self) -> Result<(), String> {
        let now = self.api.now;
        for key in self.operators[0].world.everything() {
            let (_, _, plan) = self.operators[0].plan(&key, now);
            if let Some(op) = plan.ops().next() {
                return Err(format!("at rest, and yet it plans: {op}"));
            }
        }
        Ok(())
    }
}
