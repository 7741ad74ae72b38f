//! A simulated operator process: the real core with a shell of the same shape as the real one around it.
//!
//! Watches, reconciles and writes are cut into the smallest pieces, and somebody else says which piece comes next.
//! Nothing survives [`Operator::crash`] but what is stored in the API server and the requests on their way to it.

mod flight;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use paddock_core::admission::{self, Context, Review, ReviewVerdict};
use paddock_core::decide::{decide, questions};
use paddock_core::kind::{Key, Kind};
use paddock_core::plan::{Action, Op, Outcome, Plan, Reason};
use paddock_core::question::PluginReply;
use paddock_core::settings::Settings;
use paddock_core::snapshot::Snapshot;
use paddock_core::world::World;

pub(crate) use flight::{Fate, Flight, View, carry_out};
use watch::Watch;

use super::answers::PluginClient;
use super::api::{Api, Resource};

/// How often a reconcile looks again when its plan was stale.
const STALE_PLANS: u32 = 8;
/// First wait after a failure, doubled with each that follows, and the longest.
const BACKOFF: (SignedDuration, SignedDuration) = (SignedDuration::from_millis(50), SignedDuration::from_secs(60));
/// Every object is looked at again after so long, whatever happened.
pub(crate) const RESYNC: SignedDuration = SignedDuration::from_mins(10);

/// One operator process.
pub(crate) struct Operator {
    /// What it knows.
    pub(crate) world: World,
    /// Who answers its questions.
    plugins: PluginClient,
    watches: BTreeMap<Kind, Watch>,
    /// Whether it acts; another one may stand by.
    pub(crate) leading: bool,
    ready: BTreeSet<Key>,
    timers: BTreeMap<Key, Timestamp>,
    running: BTreeMap<Key, Task>,
    failures: BTreeMap<Key, u32>,
    /// Requests that were sent and whose replies were not taken in.
    pub(crate) flights: Vec<Flight>,
    next_resync: Timestamp,
    /// Reconciles begun, for tests that count.
    pub(crate) reconciles: u64,
}

/// A reconcile under way.
struct Task {
    plan: Plan,
    /// Positions of the watches when it looked.
    view: Rc<View>,
    /// Versions of the objects that the plan writes, as they were seen.
    versions: BTreeMap<Key, u64>,
    step: usize,
    outstanding: usize,
    end: End,
    stale: u32,
}

/// How a reconcile ended, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Converged,
    Again,
    Failed,
}

impl Operator {
    /// A process that has just begun: it has yet to list everything.
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
            reconciles: 0,
        }
    }

    /// Whether everything was listed once.
    pub(crate) fn synced(&self) -> bool {
        self.watches.values().all(Watch::listed_once)
    }

    /// Kinds whose watch has something to deliver or to do.
    pub(crate) fn watchable(&self, api: &Api) -> Vec<Kind> {
        let pending = |kind: Kind, watch: &Watch| watch.pending(api, resource(kind), self.world.has_unverified(kind));
        self.watches.iter().filter(|(kind, watch)| pending(**kind, watch)).map(|(kind, _)| *kind).collect()
    }

    /// One thing that a watch does: begin a list, take its snapshot, deliver it, or deliver one event.
    pub(crate) fn watch_step(&mut self, kind: Kind, api: &Api) {
        let Some(watch) = self.watches.get_mut(&kind) else { return };
        let Some(observed) = watch.step(api, kind, resource(kind)) else { return };
        let keys = self.world.observe(observed, api.now);
        self.ready.extend(keys);
    }

    /// The watch is cut: the kind will be listed again.
    pub(crate) fn cut(&mut self, kind: Kind) {
        if let Some(watch) = self.watches.get_mut(&kind) {
            watch.cut();
        }
    }

    /// Keys that a reconcile could begin for now.
    pub(crate) fn startable(&self) -> Vec<Key> {
        if !self.leading || !self.synced() {
            return vec![];
        }
        self.ready.iter().filter(|k| !self.running.contains_key(*k)).cloned().collect()
    }

    /// Makes every object ready to be looked at: taking the lead, and the periodic pass.
    pub(crate) fn resync(&mut self) {
        self.ready.extend(self.world.everything());
    }

    /// Puts one key in the queue.
    pub(crate) fn push(&mut self, key: Key) {
        self.ready.insert(key);
    }

    /// What is due by now becomes ready.
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

    /// Its timers run on, as those of a process do that counts the time since its start.
    pub(crate) fn clock_jumped(&mut self, by: SignedDuration) {
        for at in self.timers.values_mut() {
            *at += by;
        }
        self.next_resync += by;
        if self.leading {
            self.resync();
        }
    }

    /// From now on nothing is found by the periodic pass until then.
    pub(crate) fn without_resync_until(&mut self, until: Timestamp) {
        self.next_resync = self.next_resync.max(until + SignedDuration::from_secs(1));
    }

    /// When something becomes due next.
    pub(crate) fn next_due(&self) -> Timestamp {
        self.timers.values().copied().chain([self.next_resync]).min().unwrap_or(self.next_resync)
    }

    /// Looks at a key, asks, decides. Nothing is sent yet.
    pub(crate) fn start(&mut self, key: &Key, now: Timestamp) {
        self.ready.remove(key);
        self.reconciles += 1;
        let task = self.planned(key, now, 0);
        self.running.insert(key.clone(), task);
    }

    /// What a reconcile of this key would plan now.
    pub(crate) fn plan(&mut self, key: &Key, now: Timestamp) -> (Snapshot, Vec<PluginReply>, Plan) {
        let seen = self.world.snapshot(key, now);
        let answers = self.plugins.ask(&seen, now, questions);
        let plan = decide(&seen, &answers);
        (seen, answers, plan)
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

    /// Whether the reconcile of a claim would make a Sandbox for it.
    pub(crate) fn plans_cold_start(&self, key: &Key) -> bool {
        let creates = |op: &Op| op.reason == Reason::ColdStart && matches!(op.action, Action::Create { .. });
        self.running.get(key).is_some_and(|task| task.plan.ops().any(creates))
    }

    /// What its webhook answers, as `src/operator/webhook/app.rs` does; nothing before it knows the cluster.
    pub(crate) fn admit(&mut self, review: &Review) -> Option<ReviewVerdict> {
        if !self.synced() {
            return None;
        }
        let mut context = Context::of(&self.world, review, None);
        // The others promise nothing.
        context.reserved_sandbox = if self.leading { admission::reserve(&mut self.world, review) } else { None };
        let answers =
            self.plugins.ask(review, review.now, |review, answers| admission::questions(review, &context, answers));
        let verdict = admission::verdict(review, &context, &answers);
        if let Some(sandbox) = context.reserved_sandbox.filter(|_| !verdict.reservation_kept) {
            self.world.release(&review.namespace, &sandbox);
        }
        Some(verdict)
    }

    /// Reconciles whose next step can begin.
    pub(crate) fn advanceable(&self) -> Vec<Key> {
        self.running.iter().filter(|(_, t)| t.outstanding == 0).map(|(k, _)| k.clone()).collect()
    }

    /// Begins the next step of a reconcile, or ends it.
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

    /// Takes in the reply to a request.
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
        if let Some(wake) = &task.plan.requeue {
            self.wake(key, wake.at.max(now));
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
                self.wake(key, if at_once { now } else { now + wait });
            }
        }
    }

    fn wake(&mut self, key: &Key, at: Timestamp) {
        let timer = self.timers.entry(key.clone()).or_insert(at);
        *timer = (*timer).min(at);
    }

    /// Its plugins answer again.
    pub(crate) fn heal(&mut self) {
        self.plugins.heal();
    }

    /// Every n-th answer of its plugins is a trap.
    pub(crate) fn fail_every(&mut self, n: u64) {
        self.plugins.fail_every(n);
    }

    /// Its plugins remember something new with every question.
    pub(crate) fn let_plugins_count(&mut self) {
        self.plugins.count();
    }

    /// The process ends; its requests may still arrive.
    pub(crate) fn crash(self) -> Vec<Flight> {
        self.flights.into_iter().filter(|f| f.reply.is_none()).collect()
    }

    /// Whether nothing is under way and nothing waits but for timers.
    pub(crate) fn idle(&self, api: &Api) -> bool {
        self.flights.is_empty()
            && self.running.is_empty()
            && (self.ready.is_empty() || !self.leading)
            && self.watchable(api).is_empty()
    }
}

/// Whether the purpose of a write is reached, as the real shell sees it.
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
