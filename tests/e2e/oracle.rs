//! A witness that watches a namespace from before a test's faults, and checks every event.
//!
//! It does not know how the operator decides. It knows only the violations that must never be visible, not even for a
//! moment. The events of several kinds are ordered by their resource versions, which all come from one etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use kube::api::{DynamicObject, WatchEvent as ApiEvent, WatchParams};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::json::{controller, deleting, label, name, number, text, uid};
use super::kinds::{Kind, POD, SANDBOX};
use super::namespace::TestNamespace;

/// One event of a watch.
#[derive(Clone, Debug)]
pub(crate) struct WatchEvent {
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    pub(crate) gone: bool,
    pub(crate) object: Value,
}

/// Watches until its events are requested.
pub(crate) struct Witness {
    ns: TestNamespace,
    events: Arc<Mutex<Vec<WatchEvent>>>,
    watches: Vec<JoinHandle<()>>,
}

/// The kinds of pools and claims that a witness watches.
#[derive(Clone, Copy)]
pub(crate) struct ApiKinds {
    pub(crate) pool: Kind,
    pub(crate) claim: Kind,
}

impl Witness {
    /// Starts to watch the namespace. Existing objects count as events.
    pub(crate) async fn begin(ns: &TestNamespace, kinds: ApiKinds) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let mut watches = Vec::new();
        for kind in [SANDBOX, POD, kinds.pool, kinds.claim] {
            let list = ns.read(&kind.path(&ns.namespace)).await.expect("a list");
            let version = text(&list, "/metadata/resourceVersion").to_owned();
            for object in list["items"].as_array().into_iter().flatten() {
                let version = text(object, "/metadata/resourceVersion").parse().expect("a version");
                let at = WatchEvent { version, kind, gone: false, object: object.clone() };
                events.lock().expect("no panic").push(at);
            }
            watches.push(tokio::spawn(follow(ns.clone(), kind, version, events.clone())));
        }
        Self { ns: ns.clone(), events, watches }
    }

    /// All events up to now, in the order in which they happened.
    pub(crate) async fn end(self) -> Vec<WatchEvent> {
        // The object that is created here causes the last event. No event is missing when the watch of its kind has
        // delivered it and the watches of the other kinds have delivered their own last events.
        let mut last = BTreeMap::new();
        let kinds: BTreeSet<Kind> = self.events.lock().expect("no panic").iter().map(|s| s.kind).collect();
        for kind in kinds {
            let newest = self.ns.list(kind).await;
            let newest =
                newest.values().map(|o| text(o, "/metadata/resourceVersion").parse::<u64>().expect("a version"));
            last.insert(kind, newest.max().unwrap_or_default());
        }
        let began = Instant::now();
        while !self.caught_up(&last) {
            assert!(began.elapsed() < Duration::from_secs(60), "the witness does not catch up");
            assert!(self.watches.iter().all(|w| !w.is_finished()), "a watch of the witness has ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for watch in &self.watches {
            watch.abort();
        }
        let mut events = self.events.lock().expect("no panic").clone();
        events.sort_by_key(|s| s.version);
        events
    }

    fn caught_up(&self, last: &BTreeMap<Kind, u64>) -> bool {
        let events = self.events.lock().expect("no panic");
        last.iter().all(|(kind, version)| events.iter().any(|s| s.kind == *kind && s.version >= *version))
    }
}

/// Watches one kind from a version on, without a gap. A list in between would hide events.
pub(super) async fn follow(ns: TestNamespace, kind: Kind, mut version: String, events: Arc<Mutex<Vec<WatchEvent>>>) {
    let api = ns.api(kind);
    loop {
        let params = WatchParams::default().timeout(60);
        let Ok(stream) = api.watch(&params, &version).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut stream = pin!(stream);
        while let Ok(Some(event)) = stream.try_next().await {
            let (object, gone): (DynamicObject, bool) = match event {
                ApiEvent::Added(object) | ApiEvent::Modified(object) => (object, false),
                ApiEvent::Deleted(object) => (object, true),
                ApiEvent::Bookmark(mark) => {
                    version = mark.metadata.resource_version;
                    continue;
                }
                ApiEvent::Error(status) if status.code == 410 => {
                    let (now, missed) = look_back(&ns, kind, version.parse().expect("a version")).await;
                    events.lock().expect("no panic").extend(missed);
                    version = now.to_string();
                    break;
                }
                ApiEvent::Error(status) => panic!("the witness cannot continue: {status:?}"),
            };
            let object = serde_json::to_value(&object).expect("JSON");
            version = text(&object, "/metadata/resourceVersion").to_owned();
            let number = version.parse().expect("a version");
            events.lock().expect("no panic").push(WatchEvent { version: number, kind, gone, object });
        }
    }
}

/// The events after a version, when no watch can deliver them any more: the stored objects at each version since then.
async fn look_back(ns: &TestNamespace, kind: Kind, since: u64) -> (u64, Vec<WatchEvent>) {
    let path = kind.path(&ns.namespace);
    let read = async |path: String| loop {
        match ns.read(&path).await {
            Ok(list) => return list,
            // The API server is not ready yet.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let now = text(&read(path.clone()).await, "/metadata/resourceVersion").parse().expect("a version");
    let mut events = Vec::new();
    let mut before: Option<BTreeMap<String, Value>> = None;
    for version in since..=now {
        let list = read(format!("{path}?resourceVersion={version}&resourceVersionMatch=Exact")).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let there: BTreeMap<String, Value> = items.into_iter().map(|o| (uid(&o).to_owned(), o)).collect();
        if let Some(before) = before {
            let gone = before.iter().filter(|(uid, _)| !there.contains_key(*uid)).map(|(_, o)| (true, o));
            let changed = there.iter().filter(|(uid, o)| before.get(*uid) != Some(o)).map(|(_, o)| (false, o));
            events.extend(gone.chain(changed).map(|(gone, o)| WatchEvent { version, kind, gone, object: o.clone() }));
        }
        before = Some(there);
    }
    println!("{}: {} events in {} versions that no watch has delivered", kind.2, events.len(), now - since);
    (now, events)
}

/// The kinds of violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViolationKind {
    /// A Sandbox belonged to two claims.
    SecondClaim,
    /// A claim had two Sandboxes at once.
    SecondSandbox,
    /// A claim's status named one Sandbox and then another.
    ChangedSandbox,
    /// A claim was Ready with a Sandbox that it did not own.
    ForeignSandbox,
    /// The label of a Sandbox named another claim than its owner.
    WrongLabel,
    /// A Sandbox returned from a claim to its pool.
    ReturnedToPool,
    /// A pool had more Sandboxes than its maximum.
    OverMaximum,
    /// A Sandbox had two pods at once.
    SecondPod,
}

/// A violation, with the resource version of its event and the details.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "version and details are for people, who read them in Debug's form")]
pub(crate) struct Violation {
    pub(crate) kind: ViolationKind,
    version: u64,
    pub(crate) details: String,
}

/// The violations in these events.
pub(crate) fn violations(events: &[WatchEvent], kinds: ApiKinds) -> Vec<Violation> {
    let mut checker = Checker::new(kinds);
    for event in events {
        checker.check(event);
    }
    checker.violations
}

struct Checker {
    kinds: ApiKinds,
    /// Existing objects of every kind, by UID.
    there: BTreeMap<Kind, BTreeMap<String, Value>>,
    /// All claims that a Sandbox ever belonged to.
    owners: BTreeMap<String, BTreeSet<String>>,
    /// The first Sandbox in a claim's status.
    named: BTreeMap<String, String>,
    violations: Vec<Violation>,
}

impl Checker {
    fn new(kinds: ApiKinds) -> Self {
        let (there, owners, named) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { kinds, there, owners, named, violations: Vec::new() }
    }

    fn check(&mut self, event: &WatchEvent) {
        let of_kind = self.there.entry(event.kind).or_default();
        if event.gone {
            of_kind.remove(uid(&event.object));
            return;
        }
        of_kind.insert(uid(&event.object).to_owned(), event.object.clone());
        if event.kind == SANDBOX {
            self.sandbox(event);
        } else if event.kind == POD {
            self.pod(event);
        } else if event.kind == self.kinds.claim {
            self.claim(event);
        }
    }

    fn report(&mut self, event: &WatchEvent, kind: ViolationKind, details: String) {
        self.violations.push(Violation { kind, version: event.version, details });
    }

    /// The kind of the object's controller.
    fn owner_kind(object: &Value) -> &str {
        let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        owners.filter(|o| o["controller"] == true).map(|o| text(o, "/kind")).next().unwrap_or_default()
    }

    fn sandbox(&mut self, event: &WatchEvent) {
        let sandbox = &event.object;
        let owner = controller(sandbox).to_owned();
        match Self::owner_kind(sandbox) {
            "SandboxClaim" => {
                let owners = self.owners.entry(uid(sandbox).to_owned()).or_default();
                owners.insert(owner.clone());
                if owners.len() > 1 {
                    let what = format!("Sandbox {} belonged to several claims: {owners:?}", name(sandbox));
                    self.report(event, ViolationKind::SecondClaim, what);
                }
                let theirs = self.living(SANDBOX, |s| controller(s) == owner);
                if theirs.len() > 1 {
                    self.report(
                        event,
                        ViolationKind::SecondSandbox,
                        format!("claim {owner} has several Sandboxes: {theirs:?}"),
                    );
                }
                if label(sandbox, "agents.x-k8s.io/claim-uid") != owner {
                    self.report(
                        event,
                        ViolationKind::WrongLabel,
                        format!("Sandbox {} has the label of a claim that does not own it", name(sandbox)),
                    );
                }
            }
            "SandboxWarmPool" => {
                if self.owners.contains_key(uid(sandbox)) {
                    self.report(
                        event,
                        ViolationKind::ReturnedToPool,
                        format!("Sandbox {} returned from a claim to its pool", name(sandbox)),
                    );
                }
                let pool = self.there.get(&self.kinds.pool).and_then(|pools| pools.get(&owner));
                let maximum = pool.and_then(|p| number(p, "/spec/maxReady").or_else(|| number(p, "/spec/replicas")));
                let members = self.living(SANDBOX, |s| controller(s) == owner);
                if let Some(maximum) = maximum
                    && i64::try_from(members.len()).is_ok_and(|n| n > maximum)
                {
                    self.report(
                        event,
                        ViolationKind::OverMaximum,
                        format!("a pool has {} Sandboxes, its maximum is {maximum}", members.len()),
                    );
                }
            }
            _ => {}
        }
    }

    fn pod(&mut self, event: &WatchEvent) {
        let owner = controller(&event.object).to_owned();
        if !owner.is_empty() && !deleting(&event.object) {
            let pods = self.living(POD, |p| controller(p) == owner);
            if pods.len() > 1 {
                self.report(event, ViolationKind::SecondPod, format!("Sandbox {owner} has several pods: {pods:?}"));
            }
        }
    }

    fn claim(&mut self, event: &WatchEvent) {
        let claim = &event.object;
        let sandbox = text(claim, "/status/sandbox/name");
        if sandbox.is_empty() {
            return;
        }
        let first = self.named.entry(uid(claim).to_owned()).or_insert_with(|| sandbox.to_owned()).clone();
        if first != sandbox {
            self.report(
                event,
                ViolationKind::ChangedSandbox,
                format!("claim {} named Sandbox {first} and then {sandbox}", name(claim)),
            );
        }
        let owned = self.living(SANDBOX, |s| name(s) == sandbox && controller(s) == uid(claim));
        if super::json::ready(claim) && owned.is_empty() && !deleting(claim) {
            self.report(
                event,
                ViolationKind::ForeignSandbox,
                format!("claim {} is Ready with Sandbox {sandbox}, which it does not own", name(claim)),
            );
        }
    }

    /// The names of existing objects that are not terminating.
    fn living(&self, kind: Kind, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
        let of_kind = self.there.get(&kind).into_iter().flat_map(BTreeMap::values);
        of_kind.filter(|o| !deleting(o) && wanted(o)).map(|o| name(o).to_owned()).collect()
    }
}

/// Tests of the oracle itself: each violation is made up, and the oracle has to find it.
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::e2e::kinds::{CLAIM, POOL};
    use crate::framework::{Test, test};

    const KINDS: ApiKinds = ApiKinds { pool: POOL, claim: CLAIM };

    fn owned(kind: Kind, name: &str, owner: (&str, &str)) -> Value {
        json!({
            "kind": kind.1,
            "metadata": {
                "name": name, "uid": name,
                "labels": { "agents.x-k8s.io/claim-uid": if owner.0 == "SandboxClaim" { owner.1 } else { "" } },
                "ownerReferences": [{ "kind": owner.0, "uid": owner.1, "controller": true }],
            },
        })
    }

    fn history(events: Vec<(Kind, Value)>) -> Vec<Violation> {
        let numbered = events.into_iter().zip(1..);
        let events: Vec<WatchEvent> =
            numbered.map(|((kind, object), version)| WatchEvent { version, kind, gone: false, object }).collect();
        violations(&events, KINDS)
    }

    pub(in crate::e2e) fn tests() -> Vec<Test> {
        let claim = |sandbox: &str| {
            json!({
                "metadata": { "name": "c", "uid": "c" },
                "status": {
                    "sandbox": { "name": sandbox },
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            })
        };
        let pool = json!({ "metadata": { "name": "p", "uid": "p" }, "spec": { "maxReady": 1 } });
        let sandbox = |name: &str, owner| (SANDBOX, owned(SANDBOX, name, owner));
        let cases = [
            (
                "two_claims_of_one_sandbox",
                vec![sandbox("s", ("SandboxClaim", "c")), sandbox("s", ("SandboxClaim", "d"))],
                ViolationKind::SecondClaim,
            ),
            (
                "two_sandboxes_of_one_claim",
                vec![sandbox("s", ("SandboxClaim", "c")), sandbox("t", ("SandboxClaim", "c"))],
                ViolationKind::SecondSandbox,
            ),
            (
                "two_pods_of_one_sandbox",
                vec![(POD, owned(POD, "a", ("Sandbox", "s"))), (POD, owned(POD, "b", ("Sandbox", "s")))],
                ViolationKind::SecondPod,
            ),
            (
                "a_pool_over_its_maximum",
                vec![(POOL, pool), sandbox("s", ("SandboxWarmPool", "p")), sandbox("t", ("SandboxWarmPool", "p"))],
                ViolationKind::OverMaximum,
            ),
            (
                "a_sandbox_labelled_for_another_claim",
                vec![(SANDBOX, {
                    let mut sandbox = owned(SANDBOX, "s", ("SandboxClaim", "c"));
                    sandbox["metadata"]["labels"]["agents.x-k8s.io/claim-uid"] = json!("d");
                    sandbox
                })],
                ViolationKind::WrongLabel,
            ),
            (
                "a_sandbox_returned_to_its_pool",
                vec![sandbox("s", ("SandboxClaim", "c")), sandbox("s", ("SandboxWarmPool", "p"))],
                ViolationKind::ReturnedToPool,
            ),
            (
                "a_claim_ready_with_a_foreign_sandbox",
                vec![sandbox("s", ("SandboxClaim", "d")), (CLAIM, claim("s"))],
                ViolationKind::ForeignSandbox,
            ),
            (
                "a_claim_that_changes_its_sandbox",
                vec![
                    sandbox("s", ("SandboxClaim", "c")),
                    (CLAIM, claim("s")),
                    sandbox("t", ("SandboxClaim", "c")),
                    (CLAIM, claim("t")),
                ],
                ViolationKind::ChangedSandbox,
            ),
        ];
        let mut tests: Vec<Test> = cases
            .into_iter()
            .map(|(kind, events, wanted)| {
                test(format!("e2e::oracle::finds_{kind}"), move || {
                    let found = history(events);
                    if found.iter().any(|v| v.kind == wanted) { Ok(()) } else { Err(format!("{found:?}").into()) }
                })
            })
            .collect();
        let valid =
            vec![sandbox("s", ("SandboxWarmPool", "p")), sandbox("s", ("SandboxClaim", "c")), (CLAIM, claim("s"))];
        tests.push(test("e2e::oracle::finds_no_violation_in_a_valid_history", move || {
            let found = history(valid);
            if found.is_empty() { Ok(()) } else { Err(format!("{found:?}").into()) }
        }));
        tests
    }
}
