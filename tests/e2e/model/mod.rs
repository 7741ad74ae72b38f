//! A comparison of the simulation's model API server with a real one. The same random operations on both have to give
//! the same answers, the same objects and the same watch events in the same order.
//!
//! The control plane is used by this test only, and it runs only the controllers that the model replaces. They are
//! paused while operations are carried out, and do their work in between. `PADDOCK_MODEL_SEED=N` runs one seed.
//! `PADDOCK_MODEL_OPERATIONS=N` changes the number of operations.

mod backends;
mod normalize;
mod operation;
mod placeholders;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use paddock_cluster::{Cluster, Options, PATIENCE, Process};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use self::backends::{Reply, id, on_model, on_real, resource};
use self::normalize::{custom, differ, normalize};
use self::operation::{Chooser, KINDS, Operation, Target};
use self::placeholders::{Placeholders, learn};
use super::json::{name, text};
use super::kinds::{Kind, SANDBOX};
use super::manifests::sandbox;
use super::namespace::TestNamespace;
use super::oracle::{WatchEvent, follow};
use super::setup;
use crate::framework::Test;
use crate::sim::api::{Api, Part};

pub(super) fn tests() -> Vec<Test> {
    named![model_answers_as_the_real_api_server]
}

const SEEDS: u64 = 5;
const OPERATIONS: u32 = 160;
/// The number of operations between two turns of the controllers.
const TURN: u32 = 40;
/// The number of orders in which the model's controllers work. The real controllers read their watches and process
/// their queue in parallel. In a cycle of owners, for example, the order decides which objects are deleted. The real
/// result has to match the model's result in one of these orders.
const ORDERS: usize = 48;
/// The result of the real controllers counts if it stays the same for this long. Half a second was too short for a garbage
/// collector on a machine with a load of 25.
const STILL: Duration = Duration::from_secs(3);
/// The time in which a request of a paused process is carried out.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// These controllers collect garbage, protect volume claims, and create the ServiceAccount that pods need.
const CONTROLLERS: &str =
    "garbage-collector-controller,persistentvolumeclaim-protection-controller,serviceaccount-controller";

async fn model_answers_as_the_real_api_server() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let operations = number("PADDOCK_MODEL_OPERATIONS").map_or(OPERATIONS, |n| u32::try_from(n).expect("a number"));
    let seeds = number("PADDOCK_MODEL_SEED").map_or(0..SEEDS, |seed| seed..seed + 1);
    let flags = vec![format!("--controllers={CONTROLLERS}")];
    let options = Options { nodes: 0, controller_manager_args: flags, ..Options::default() };
    let cluster = Cluster::start(options).await.expect("a control plane");
    setup::install(&cluster).await;
    let controllers = cluster.process("kube-controller-manager").expect("it runs");
    // After a restart, the controllers know the CRDs. Otherwise they would discover them only after half a minute.
    controllers.restart().await.expect("it starts again");
    collects(&TestNamespace::new(&cluster, "collects").await).await;
    let (began, mut played, mut events) = (Instant::now(), 0, 0);
    for seed in seeds {
        let ns = TestNamespace::new(&cluster, "model").await;
        controllers.pause().await.expect("it pauses");
        let mut play = Play::begin(ns, seed).await;
        for at in 0..operations {
            play.one().await;
            if at % TURN == TURN - 1 {
                play.turn(&controllers).await;
            }
        }
        (played, events) = (played + operations, events + play.events);
        controllers.resume().await.expect("it goes on");
    }
    println!("{played} operations and {events} watch events alike on both, {:?}", began.elapsed());
}

/// Waits until the garbage collector works.
async fn collects(ns: &TestNamespace) {
    let owner = ns.create(sandbox("owner", json!({}))).await;
    let mut owned = sandbox("owned", json!({}));
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": SANDBOX.0, "kind": SANDBOX.1, "name": "owner", "uid": owner["metadata"]["uid"],
    }]);
    ns.create(owned).await;
    ns.delete(SANDBOX, "owner").await;
    ns.until_gone(SANDBOX, "owned").await;
}

/// The stored objects of one side.
type Objects = BTreeMap<Target, Value>;

/// Whether owner references are compared. The references of a terminating object may depend on the order in which its
/// owners were removed, because no controller processes the object again. If no order of the model gives exactly the
/// real result, they are not compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owners {
    All,
    UnlessTerminating,
}

/// The run of one seed.
struct Play {
    seed: u64,
    rng: Rng,
    ns: TestNamespace,
    model: Api,
    ours: Placeholders,
    theirs: Placeholders,
    feeds: BTreeMap<Kind, Feed>,
    last: VecDeque<String>,
    /// The number of compared watch events.
    events: usize,
}

/// The events of one kind's watches, and the position up to which they were compared.
struct Feed {
    events: Arc<Mutex<Vec<WatchEvent>>>,
    task: JoinHandle<()>,
    /// The position in the real watch, as a version.
    since: u64,
    /// The position in the model's log.
    position: usize,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Play {
    async fn begin(ns: TestNamespace, seed: u64) -> Self {
        let mut feeds = BTreeMap::new();
        for kind in KINDS {
            let since = version(&ns, kind).await;
            let events = Arc::new(Mutex::new(Vec::new()));
            let task = tokio::spawn(follow(ns.clone(), kind, since.to_string(), events.clone()));
            feeds.insert(kind, Feed { events, task, since, position: 0 });
        }
        let model = Api::new(jiff::Timestamp::now());
        let (ours, theirs) = (Placeholders::default(), Placeholders::default());
        let rng = Rng::with_seed(seed);
        Self { seed, rng, ns, model, ours, theirs, feeds, last: VecDeque::new(), events: 0 }
    }

    /// Fails with all information that is needed to repeat the run.
    fn fail(&self, what: &str) -> ! {
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        panic!("{what}\nPADDOCK_MODEL_SEED={}, after, the last at the end:\n{}", self.seed, last.join("\n"));
    }

    /// Carries out one operation on both sides.
    async fn one(&mut self) {
        let there = there(&self.model);
        let operation = Chooser { rng: &mut self.rng, there: &there, placeholders: &self.ours }.operation();
        self.last.push_back(format!("{operation:?}"));
        if self.last.len() > 400 {
            self.last.pop_front();
        }
        let ours = on_model(&mut self.model, &self.ns.namespace, &self.ours, &operation);
        let theirs = on_real(&self.ns, &self.theirs, &operation).await;
        if let Err(what) = self.compare(&operation, &ours, &theirs) {
            self.fail(&what);
        }
    }

    fn compare(&mut self, operation: &Operation, ours: &Reply, theirs: &Reply) -> Result<(), String> {
        if (ours.code, &ours.reason) != (theirs.code, &theirs.reason) {
            let (a, b) = ((ours.code, &ours.reason), (theirs.code, &theirs.reason));
            let object = normalize(&theirs.stored, &self.theirs, operation.target().0);
            return Err(format!("the model answers {a:?}, the real one {b:?}: {}: {object}", theirs.message));
        }
        if !ours.stored.is_null() && !theirs.stored.is_null() {
            learn(operation.target().0, [&mut self.ours, &mut self.theirs], [&ours.stored, &theirs.stored])
                .map_err(|e| format!("{e}\nthe model's: {:#}\nthe real one's: {:#}", ours.stored, theirs.stored))?;
        }
        let kind = operation.target().0;
        for (what, ours, theirs) in
            [("is stored", &ours.stored, &theirs.stored), ("was answered", &ours.answered, &theirs.answered)]
        {
            self.same(kind, ours, theirs).map_err(|e| format!("what {what} differs: {e}"))?;
        }
        Ok(())
    }

    fn same(&self, kind: Kind, ours: &Value, theirs: &Value) -> Result<(), String> {
        let (ours, theirs) = (normalize(ours, &self.ours, kind), normalize(theirs, &self.theirs, kind));
        differ(&ours, &theirs, kind).map_or(Ok(()), Err)
    }

    /// Compares the events so far. Then the controllers of both sides do their work.
    async fn turn(&mut self, controllers: &Process) {
        for kind in KINDS {
            self.compare_events(kind).await;
        }
        self.last.push_back("the controllers work".to_owned());
        let ends: Vec<Api> = (0..ORDERS).map(|_| worked_off(self.model.clone(), self.rng.fork())).collect();
        controllers.resume().await.expect("it goes on");
        let began = Instant::now();
        let theirs = loop {
            if self.ended_alike(&ends, &self.theirs().await).is_ok() {
                tokio::time::sleep(STILL).await;
                controllers.pause().await.expect("it pauses");
                // A request that was sent before the pause may still be carried out.
                tokio::time::sleep(UNDER_WAY).await;
                let theirs = self.theirs().await;
                if let Ok(end) = self.ended_alike(&ends, &theirs) {
                    self.model = end.clone();
                    break theirs;
                }
                controllers.resume().await.expect("it goes on");
            } else if began.elapsed() > PATIENCE {
                let (theirs, ends_at) = (self.theirs().await, ends.len());
                let Err(difference) = self.ended_alike(&ends, &theirs) else { continue };
                self.fail(&format!("the controllers leave something else behind in {ends_at} orders: {difference}"));
            } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        // The events of the controllers have no fixed order, so they are skipped.
        for kind in KINDS {
            let since = version(&self.ns, kind).await;
            let position = self.model.changes(resource(kind)).len();
            let feed = self.feeds.get_mut(&kind).expect("of every kind");
            (feed.since, feed.position) = (since, position);
        }
        self.learn_all(&theirs);
    }

    async fn theirs(&self) -> Objects {
        let mut all = BTreeMap::new();
        for kind in KINDS {
            for (name, object) in self.ns.list(kind).await {
                all.insert((kind, name), object);
            }
        }
        all
    }

    /// The model's end that matches the result of the real controllers, or else the difference from the last end.
    fn ended_alike<'a>(&self, ends: &'a [Api], theirs: &Objects) -> Result<&'a Api, String> {
        let exact = ends.iter().find(|end| self.difference(end, theirs, Owners::All).is_none());
        if let Some(end) = exact {
            return Ok(end);
        }
        let mut last = String::new();
        for end in ends {
            match self.difference(end, theirs, Owners::UnlessTerminating) {
                None => return Ok(end),
                Some(difference) => last = difference,
            }
        }
        Err(last)
    }

    /// The difference between the stored objects of the two sides.
    fn difference(&self, model: &Api, theirs: &Objects, which: Owners) -> Option<String> {
        let ours: Objects = there(model).into_iter().collect();
        let targets: BTreeSet<&Target> = ours.keys().chain(theirs.keys()).collect();
        targets.into_iter().find_map(|target| {
            let null = Value::Null;
            let (a, b) = (ours.get(target).unwrap_or(&null), theirs.get(target).unwrap_or(&null));
            let (mut a, mut b) = (a.clone(), b.clone());
            if which == Owners::UnlessTerminating
                && is_terminating(&a)
                && is_terminating(&b)
                && owners(&a).count() >= owners(&b).count()
            {
                for side in [&mut a, &mut b] {
                    side["metadata"]["ownerReferences"] = json!([]);
                }
            }
            self.same(target.0, &a, &b).err().map(|e| format!("{target:?}: {e}"))
        })
    }

    fn learn_all(&mut self, theirs: &Objects) {
        for (target, mut ours) in there(&self.model) {
            let Some(theirs) = theirs.get(&target) else { self.fail(&format!("{target:?} is gone")) };
            if is_terminating(&ours) && owners(&ours).count() > owners(theirs).count() {
                let remains =
                    |owner: &&Value| owners(theirs).any(|t| t["name"] == owner["name"] && t["kind"] == owner["kind"]);
                let remaining: Vec<&Value> = owners(&ours).filter(remains).collect();
                let patch = json!({ "metadata": { "ownerReferences": remaining } });
                let id = id(&target, &self.ns.namespace);
                ours = Value::clone(&self.model.patch(&id, Part::Whole, &patch).expect("it is there"));
            }
            if let Err(what) = learn(target.0, [&mut self.ours, &mut self.theirs], [&ours, theirs]) {
                self.fail(&format!("{target:?}, after the controllers' turn: {what}"));
            }
        }
    }

    /// The real events that were not compared yet. A built-in kind may be written without any visible change, as a
    /// volume claim is by its first update. The model does not have to do that.
    fn new_events(&self, kind: Kind) -> Vec<WatchEvent> {
        let feed = &self.feeds[&kind];
        let all = feed.events.lock().expect("no panic");
        let mut before: BTreeMap<String, Value> = BTreeMap::new();
        let is_new = |event: &&WatchEvent| {
            let now = normalize(&event.object, &self.theirs, kind);
            let same = before.insert(name(&event.object).to_owned(), now.clone()).is_some_and(|before| before == now);
            custom(kind) || event.gone || !same
        };
        all.iter().filter(is_new).filter(|event| event.version > feed.since).cloned().collect()
    }

    async fn compare_events(&mut self, kind: Kind) {
        let feed = &self.feeds[&kind];
        let changes = &self.model.changes(resource(kind))[feed.position..];
        let wanted: Vec<(bool, &Value)> = changes
            .iter()
            .filter_map(|c| Some((c.after.is_none(), &**c.after.as_ref().or(c.before.as_ref())?)))
            .collect();
        let began = Instant::now();
        let events = loop {
            let events = self.new_events(kind);
            if events.len() >= wanted.len() || began.elapsed() > PATIENCE {
                break events;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let tell = |gone: bool, object: &Value| {
            let what = if gone { "deleted" } else { "there" };
            format!("{} {what} {}", name(object), text(object, "/metadata/deletionTimestamp"))
        };
        let list = || {
            let ours: Vec<String> = wanted.iter().map(|(gone, o)| tell(*gone, o)).collect();
            let theirs: Vec<String> = events.iter().map(|s| tell(s.gone, &s.object)).collect();
            format!("the model's: {ours:#?}\nthe real one's: {theirs:#?}")
        };
        if events.len() != wanted.len() {
            self.fail(&format!("{} have had {} events, not {}:\n{}", kind.2, events.len(), wanted.len(), list()));
        }
        for (at, ((gone, ours), theirs)) in wanted.iter().zip(&events).enumerate() {
            let same = self.same(kind, ours, &theirs.object);
            if *gone != theirs.gone || same.is_err() {
                self.fail(&format!("event {at} of {} differs: {same:?}\n{}", kind.2, list()));
            }
        }
        if !events.is_sorted_by_key(|s| s.version) {
            self.fail(&format!("the real events of {} are not in the order of their versions", kind.2));
        }
        self.events += wanted.len();
        let (since, position) = (events.last().map_or(feed.since, |s| s.version), feed.position + wanted.len());
        let feed = self.feeds.get_mut(&kind).expect("of every kind");
        (feed.since, feed.position) = (since, position);
    }
}

/// Lets the model's controllers work in a random order.
fn worked_off(mut model: Api, mut rng: Rng) -> Api {
    while model.gc_pending() {
        model.gc_step(|n| rng.usize(..n));
    }
    model
}

/// All objects in the model's store.
fn there(model: &Api) -> Vec<(Target, Value)> {
    let of_kind = |kind: Kind| {
        let objects = model.list(resource(kind));
        objects.map(move |(id, o)| ((kind, id.name.to_string()), Value::clone(o)))
    };
    KINDS.into_iter().flat_map(of_kind).collect()
}

fn is_terminating(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

/// The version of a kind's collection.
async fn version(ns: &TestNamespace, kind: Kind) -> u64 {
    let list = ns.read(&kind.path(&ns.namespace)).await.expect("a list");
    text(&list, "/metadata/resourceVersion").parse().expect("a version")
}
