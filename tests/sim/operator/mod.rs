//! A simulated operator process: the real core inside a simple copy of the real reconcile loop.
//!
//! Watches, reconciles and writes are split into the smallest steps, and the caller decides which step comes next. Only
//! the objects in the API server and the requests in flight survive [`Operator::crash`].

mod flight;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use paddock_api::kind::{Key, Kind};
use paddock_core::admission::{self, Context, Review, ReviewVerdict};
use paddock_core::decide::{decide, questions};
use paddock_core::plan::{Action, Op, Outcome, Plan, Reason};
use paddock_core::question::{PluginReply, PoolSizeQuestion};
use paddock_core::settings::Settings;
use paddock_core::snapshot::Snapshot;
use paddock_core::world::World;

pub(crate) use flight::{Fate, Flight, View, carry_out};
use watch::Watch;

use super::answers::PluginClient;
use super::api::{Api, Resource};

/// The number of times a reconcile makes a new plan because its plan was stale.
const STALE_PLANS: u32 = 8;
/// The backoff after failures: the first wait, which doubles with each further failure, and the longest wait.
const BACKOFF: (SignedDuration, SignedDuration) = (SignedDuration::from_millis(50), SignedDuration::from_secs(60));
/// The interval at which every object is reconciled, even if nothing about it changed.
pub(crate) const RESYNC: SignedDuration = SignedDuration::from_mins(10);

/// One operator process.
pub(crate) struct Operator {
    /// The operator's picture of the cluster.
    pub(crate) world: World,
    /// The plugins that answer its questions.
    plugins: PluginClient,
    watches: BTreeMap<Kind, Watch>,
    /// Whether it leads. Another process may be the standby.
    pub(crate) leading: bool,
    ready: BTreeSet<Key>,
    timers: BTreeMap<Key, Timestamp>,
    running: BTreeMap<Key, Task>,
    failures: BTreeMap<Key, u32>,
    /// Requests that were sent and whose replies have not been processed.
    pub(crate) flights: Vec<Flight>,
    next_resync: Timestamp,
    /// Whether a reconcile replaces the timer of its key, as in the operator's queue. Otherwise an older timer stays,
    /// which lets more orders of events happen.
    one_timer: bool,
    /// The number of reconciles, for tests that count them.
    pub(crate) reconciles: u64,
}

/// A running reconcile.
struct Task {
    plan: Plan,
    /// The positions of the watches when the plan was made.
    view: Rc<View>,
    /// The versions in the snapshot of the objects that the plan writes.
    versions: BTreeMap<Key, u64>,
    step: usize,
    outstanding: usize,
    end: End,
    stale: u32,
}

/// The results of a reconcile, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Converged,
    Again,
    Failed,
}

impl Operator {
    /// A new process, which still has to list every kind.
    pub(crate) fn new(settings: Settings, plugins: PluginClient, now: Timestamp) -> Self {
        let mut world = World::new(settings);
        let _ = world.set_bindings(plugins.bindings());
        Self {
            world,
            plugins,
            watches: Kind::ALL.into_iter().map(|k| (k, Watch::default())).collect(),
            leading: true,
            ready: BTreeSet::new(),
            timers: BTreeMap::new(),
            running: BTreeMap::new(),
            failures: BTreeMap::new(),
            flights: Vec::new(),
            next_resync: now + RESYNC,
            one_timer: false,
            reconciles: 0,
        }
    }

    /// Whether every kind was listed once.
    pub(crate) fn synced(&self) -> bool {
        self.watches.values().all(Watch::listed_once)
    }

    /// The kinds whose watch has a next step.
    pub(crate) fn watchable(&self, api: &Api) -> Vec<Kind> {
        let pending = |kind: Kind, watch: &Watch| watch.pending(api, resource(kind), self.world.has_unverified(kind));
        self.watches.iter().filter(|(kind, watch)| pending(**kind, watch)).map(|(kind, _)| *kind).collect()
    }

    /// Performs one step of a watch: it starts a list, takes the list's snapshot, delivers the list, or delivers one
    /// event.
    pub(crate) fn watch_step(&mut self, kind: Kind, api: &Api) {
        let Some(watch) = self.watches.get_mut(&kind) else { return };
        let Some(observed) = watch.step(api, kind, resource(kind)) else { return };
        let keys = self.world.observe(observed, api.now);
        self.ready.extend(keys);
    }

    /// Cuts the watch, so that the kind is listed again.
    pub(crate) fn cut(&mut self, kind: Kind) {
        if let Some(watch) = self.watches.get_mut(&kind) {
            watch.cut();
        }
    }

    /// The keys for which a reconcile can start now.
    pub(crate) fn startable(&self) -> Vec<Key> {
        if !self.leading || !self.synced() {
            return vec![];
        }
        self.ready.iter().filter(|k| !self.running.contains_key(*k)).cloned().collect()
    }

    /// Adds every object to the queue, as at the start of a leadership and at the periodic resync.
    pub(crate) fn resync(&mut self) {
        self.ready.extend(self.world.everything());
    }

    /// Adds one key to the queue.
    pub(crate) fn push(&mut self, key: Key) {
        self.ready.insert(key);
    }

    /// Adds the keys whose timers are due to the queue.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        let due: Vec<Key> = self.timers.iter().filter(|(_, at)| **at <= now).map(|(k, _)| k.clone()).collect();
        for key in due {
            self.timers.remove(&key);
            self.ready.insert(key);
        }
        if now >= self.next_resync {
            self.next_resync = now + RESYNC;
            if self.leading {
                self.resync();
            }
        }
    }

    /// Timers run for as long as before, because a process measures them with a monotonic clock.
    pub(crate) fn clock_jumped(&mut self, by: SignedDuration) {
        for at in self.timers.values_mut() {
            *at += by;
        }
        self.next_resync += by;
        if self.leading {
            self.resync();
        }
    }

    /// Delays the periodic resync until after this time.
    pub(crate) fn without_resync_until(&mut self, until: Timestamp) {
        self.next_resync = self.next_resync.max(until + SignedDuration::from_secs(1));
    }

    /// The time at which the next timer is due.
    pub(crate) fn next_due(&self) -> Timestamp {
        self.timers.values().copied().chain([self.next_resync]).min().unwrap_or(self.next_resync)
    }

    /// Makes a snapshot, asks the plugins, and makes a plan. Nothing is sent yet.
    pub(crate) fn start(&mut self, key: &Key, now: Timestamp) {
        self.ready.remove(key);
        if self.one_timer {
            self.timers.remove(key);
        }
        self.reconciles += 1;
        let task = self.planned(key, now, 0);
        self.running.insert(key.clone(), task);
    }

    /// The snapshot, the plugin replies and the plan that a reconcile of this key would make now.
    pub(crate) fn plan(&mut self, key: &Key, now: Timestamp) -> (Snapshot, Vec<PluginReply>, Plan) {
        self.world.take_ports(key, now);
        let snapshot = self.world.snapshot(key, now);
        let answers = self.plugins.ask(&snapshot, now, questions);
        let plan = decide(&snapshot, &answers);
        (snapshot, answers, plan)
    }

    fn planned(&mut self, key: &Key, now: Timestamp, stale: u32) -> Task {
        let (_, _, plan) = self.plan(key, now);
        let versions =
            plan.ops().filter_map(|op| Some((op.key.clone(), self.world.get(&op.key)?.meta.version))).collect();
        let view = self.watches.iter().map(|(kind, w)| (resource(*kind), w.position())).collect();
        let view = Rc::new(View(view));
        Task { plan, view, versions, step: 0, outstanding: 0, end: End::Converged, stale }
    }

    /// The Sandbox that the reconcile of a claim would take.
    pub(crate) fn planned_take(&self, key: &Key) -> Option<Key> {
        self.running.get(key)?.plan.ops().find(|op| op.reason == Reason::Claimed).map(|op| op.key.clone())
    }

    /// Whether the reconcile of a claim would create a Sandbox for it.
    pub(crate) fn plans_cold_start(&self, key: &Key) -> bool {
        let creates = |op: &Op| op.reason == Reason::ColdStart && matches!(op.action, Action::Create { .. });
        self.running.get(key).is_some_and(|task| task.plan.ops().any(creates))
    }

    /// The answer of its webhook, made as in `src/operator/webhook/app.rs`. Returns `None` before all kinds are listed.
    pub(crate) fn admit(&mut self, review: &Review) -> Option<ReviewVerdict> {
        if !self.synced() {
            return None;
        }
        let mut context = Context::of(&self.world, review, None, None);
        // Only the leader reserves Sandboxes.
        context.reserved_sandbox = if self.leading { admission::reserve(&mut self.world, review) } else { None };
        let answers =
            self.plugins.ask(review, review.now, |review, answers| admission::questions(review, &context, answers));
        let verdict = admission::verdict(review, &context, &answers);
        if let Some(sandbox) = context.reserved_sandbox.filter(|_| !verdict.reservation_kept) {
            self.world.release(&review.namespace, &sandbox);
        }
        Some(verdict)
    }

    /// Lets each reconcile replace the timer of its key.
    pub(crate) fn keep_one_timer(&mut self) {
        self.one_timer = true;
    }

    /// Makes its plugins store the time of their answers.
    pub(crate) fn let_plugins_stamp(&mut self) {
        self.plugins.stamp();
    }

    /// Returns the questions about pools since the last call.
    pub(crate) fn take_pool_questions(&mut self) -> Vec<PoolSizeQuestion> {
        self.plugins.take_pool_questions()
    }

    /// The reconciles whose next step can start.
    pub(crate) fn advanceable(&self) -> Vec<Key> {
        self.running.iter().filter(|(_, t)| t.outstanding == 0).map(|(k, _)| k.clone()).collect()
    }

    /// Starts the next step of a reconcile, or ends the reconcile.
    pub(crate) fn advance(&mut self, key: &Key, now: Timestamp) {
        let Some(mut task) = self.running.remove(key) else { return };
        if task.end != End::Converged || task.step >= task.plan.steps.len() {
            self.ended(key, &task, now);
            return;
        }
        let step = task.plan.steps[task.step].clone();
        let Ok(step) = self.world.begin(&step) else {
            if task.stale < STALE_PLANS {
                let again = self.planned(key, now, task.stale + 1);
                self.running.insert(key.clone(), again);
            } else {
                task.end = End::Again;
                self.ended(key, &task, now);
            }
            return;
        };
        task.step += 1;
        task.outstanding = step.len();
        for op in step {
            let version = task.versions.get(&op.key).copied();
            self.flights.push(Flight::sent(op, key.clone(), task.view.clone(), version));
        }
        self.running.insert(key.clone(), task);
    }

    /// Processes the reply to a request.
    pub(crate) fn deliver(&mut self, at: usize, now: Timestamp) {
        let Flight { op, task: key, reply, .. } = self.flights.swap_remove(at);
        let Some(outcome) = reply else { return };
        let keys = self.world.finish(&op, &outcome, now);
        self.ready.extend(keys);
        let Some(task) = self.running.get_mut(&key) else { return };
        task.outstanding -= 1;
        task.end = task.end.max(verdict(&op, &outcome));
    }

    fn ended(&mut self, key: &Key, task: &Task, now: Timestamp) {
        if let Some(requeue) = &task.plan.requeue {
            self.requeue(key, requeue.at.max(now));
        }
        match task.end {
            End::Converged => {
                self.failures.remove(key);
            }
            End::Again | End::Failed => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures += 1;
                let (first, longest) = BACKOFF;
                let wait = first.checked_mul(1 << (*failures - 1).min(12)).map_or(longest, |w| w.min(longest));
                let at_once = task.end == End::Again && *failures <= 3;
                self.requeue(key, if at_once { now } else { now + wait });
            }
        }
    }

    fn requeue(&mut self, key: &Key, at: Timestamp) {
        let timer = self.timers.entry(key.clone()).or_insert(at);
        *timer = (*timer).min(at);
    }

    /// Stops the failures of its plugins.
    pub(crate) fn heal(&mut self) {
        self.plugins.heal();
    }

    /// Makes every n-th answer of its plugins a trap.
    pub(crate) fn fail_every(&mut self, n: u64) {
        self.plugins.fail_every(n);
    }

    /// Makes its plugins return a new state with every answer.
    pub(crate) fn let_plugins_count(&mut self) {
        self.plugins.count();
    }

    /// Ends the process. Returns its requests, which may still arrive.
    pub(crate) fn crash(self) -> Vec<Flight> {
        self.flights.into_iter().filter(|f| f.reply.is_none()).collect()
    }

    /// Whether nothing is running and only timers remain.
    pub(crate) fn idle(&self, api: &Api) -> bool {
        self.flights.is_empty()
            && self.running.is_empty()
            && (self.ready.is_empty() || !self.leading)
            && self.watchable(api).is_empty()
    }
}

/// The result of a write for its reconcile, as in the real operator.
fn verdict(op: &Op, outcome: &Outcome) -> End {
    match (outcome, &op.action) {
        (Outcome::Stored(_), _) | (Outcome::Gone, Action::Delete { .. }) => End::Converged,
        (Outcome::Gone | Outcome::Conflict | Outcome::Exists, _) => End::Again,
        (Outcome::Rejected { .. } | Outcome::Busy | Outcome::Unknown, _) => End::Failed,
    }
}

/// The model's resource of a kind.
pub(crate) fn resource(kind: Kind) -> Resource {
    Resource::named(&kind.api_version(), kind.name()).expect("every kind of the core is a resource of the model")
}
