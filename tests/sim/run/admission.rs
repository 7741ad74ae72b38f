//! Claims that come by the operator's webhook: what it answers is what is stored, later, or never.
//!
//! A Service stands before the replicas, so any of them may be asked, and after another webhook another one again; where
//! none answers, the claim is stored as it came. Between the answer and the store lie a quota, an object of the same name
//! and time, so that promises lapse. Beside the oracle's rules, which know nothing of promises, these hold:
//!
//! - a dry run changes nothing in what the operator knows;
//! - no Sandbox is promised to two claims at once, and no claim takes what was promised to another;
//! - what a user writes into the hint does not stay;
//! - a claim does not start cold for its promise, where without that it would get a warm Sandbox;
//! - at rest, what can be promised is what a process can promise that has just begun.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use paddock_core::admission::{Entry, Phase, Review, Verb, reserve};
use paddock_core::kind::{Key, Kind};
use paddock_core::plan::Reason;
use serde_json::{Value, json};

use super::Simulation;
use crate::sim::api::{Api, Id, Resource};
use crate::sim::operator::{Operator, resource};
use crate::sim::oracle::uid;
use crate::sim::users;

const HINT: &str = "agents.x-k8s.io/sandbox-name";
const STAMP: &str = "agents.x-k8s.io/controller-first-observed-at";
/// How long a promise holds.
const KEPT: SignedDuration = SignedDuration::from_secs(2);
/// How long other webhooks may take, in milliseconds: half of the slow ones take longer than a promise holds.
const SLOW: i64 = 4000;
/// More than there is in any pool here: who promises so many goes on for ever.
const MANY: usize = 100;

/// What was admitted and promised.
#[derive(Default)]
pub(crate) struct Admission {
    /// Claims that were admitted, and when they are stored.
    under_way: Vec<(Value, Timestamp)>,
    /// What the one that leads has promised.
    promises: BTreeMap<Key, Promise>,
    /// Claims that were to start cold before, by their UIDs: one that may be under way is made to the end.
    cold: BTreeSet<String>,
    /// How many promises were made: runs without any prove nothing of them.
    pub(crate) made: u64,
    /// How many Sandboxes were taken while they were promised.
    pub(crate) kept: u64,
}

struct Promise {
    stamp: String,
    until: Timestamp,
}

impl Admission {
    /// Another process leads, or the clock was set: nothing is known of promises any more.
    pub(super) fn forget(&mut self) {
        self.promises.clear();
    }

    /// The clock jumps: who is slow takes no longer for it.
    pub(super) fn clock_jumped(&mut self, by: SignedDuration) {
        self.forget();
        for (_, at) in &mut self.under_way {
            *at += by;
        }
    }

    fn holding(&self, sandbox: &Key, now: Timestamp) -> Option<&Promise> {
        self.promises.get(sandbox).filter(|promise| promise.until > now)
    }
}

impl Simulation {
    /// A user creates a claim, or several at once.
    pub(super) fn claim(&mut self, claim: Value) -> Result<(), String> {
        if self.rng.u8(..4) == 0 {
            // The webhook is away, and fails open.
            let _ = self.api.create(claim);
            return Ok(());
        }
        let of_warm = if self.rng.u8(..3) > 0 { users::claim_of_warm(&self.api, &mut self.rng) } else { None };
        let claim = of_warm.unwrap_or(claim);
        let others = if self.rng.bool() { self.rng.usize(..4) } else { 0 };
        for _ in 0..others {
            let another = users::another(&mut self.rng, &claim);
            self.admit(another)?;
        }
        self.admit(claim)
    }

    /// Stores what was admitted and is due, or all of it.
    pub(super) fn store_admitted(&mut self, all: bool) {
        if self.admission.under_way.is_empty() || !all && self.rng.u8(..6) > 0 {
            return;
        }
        let now = self.api.now;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.admission.under_way).into_iter().partition(|(_, at)| all || *at <= now);
        self.admission.under_way = later;
        for (claim, _) in due {
            let refused = self.api.create(claim.clone()).err();
            self.note(|| format!("{} is stored: {refused:?}", claim["metadata"]));
        }
    }

    /// As the API server does: it asks, perhaps once more after another webhook, and goes on to the store, or not.
    fn admit(&mut self, mut claim: Value) -> Result<(), String> {
        if self.rng.u8(..6) == 0 {
            // A user's own word, and a good guess.
            let sandboxes: Vec<&Id> = self.api.list(Resource::SANDBOX).map(|(id, _)| id).collect();
            if let Some(id) = super::pick(&mut self.rng, &sandboxes) {
                claim["metadata"]["annotations"] = json!({ HINT: &*id.name });
            }
        }
        let dry_run = self.rng.u8(..6) == 0;
        let calls = if self.rng.u8(..6) == 0 { 2 } else { 1 };
        for _ in 0..calls {
            let at = self.operator();
            match self.ask(at, claim, dry_run)? {
                Some(admitted) => claim = admitted,
                None => return Ok(()),
            }
        }
        // By a quota, which has its say after the webhooks.
        let refused = self.rng.u8(..6) == 0;
        if !dry_run && !refused {
            let slow = if self.rng.u8(..3) == 0 { self.rng.i64(0..SLOW) } else { 0 };
            self.admission.under_way.push((claim, self.api.now + SignedDuration::from_millis(slow)));
        }
        Ok(())
    }

    /// One call of one replica's webhook; the claim as it comes back, if it is admitted.
    fn ask(&mut self, at: usize, claim: Value, dry_run: bool) -> Result<Option<Value>, String> {
        let now = self.api.now;
        let review = review(&claim, dry_run, now)?;
        let operator = &mut self.operators[at];
        let before = dry_run.then(|| format!("{:?}", operator.world));
        let Some(verdict) = operator.admit(&review) else { return Ok(Some(claim)) };
        if before.is_some_and(|before| before != format!("{:?}", operator.world)) {
            return Err(format!("a dry run changed what the operator knows: {claim}"));
        }
        let leading = operator.leading;
        let mut admitted = claim;
        json_patch::patch(&mut admitted, &verdict.patch).map_err(|e| format!("{}: {e}", verdict.patch))?;
        let metadata = &admitted["metadata"];
        self.note(|| format!("admitted, dry run {dry_run}, by the leader {leading}: {metadata}; {:?}", verdict.denial));
        let stamp = metadata["annotations"][STAMP].as_str().unwrap_or_default().to_owned();
        if !verdict.reservation_kept {
            if leading && !dry_run {
                // What it had at an earlier call is taken back with it.
                self.admission.promises.retain(|_, promise| promise.stamp != stamp);
            }
            if verdict.allowed() && metadata["annotations"].get(HINT).is_some() {
                return Err(format!("a hint stays that the operator did not give: {metadata}"));
            }
            return Ok(verdict.allowed().then_some(admitted));
        }
        let name = metadata["annotations"][HINT].as_str().unwrap_or_default();
        let sandbox = Key::new(Kind::Sandbox, review.namespace.as_str(), name);
        if !leading || dry_run {
            return Err(format!("{sandbox} was promised by who does not act, or in a dry run: {metadata}"));
        }
        match self.admission.holding(&sandbox, now) {
            // The second call for the same write.
            Some(promise) if promise.stamp == stamp => {}
            Some(promise) => {
                return Err(format!("{sandbox} was promised twice, to {} until {}", promise.stamp, promise.until));
            }
            None => {
                self.admission.made += 1;
                self.admission.promises.insert(sandbox, Promise { stamp, until: now + KEPT });
            }
        }
        Ok(Some(admitted))
    }

    /// Looks at what a reconcile of the leader has just planned, before anything of it is sent.
    pub(super) fn promises_are_kept(&mut self, key: &Key) -> Result<(), String> {
        if !matches!(key.kind, Kind::Claim | Kind::SeedClaim) {
            return Ok(());
        }
        let (now, operator) = (self.api.now, &mut self.operators[0]);
        let Some(claim) = operator.world.get(key).cloned() else { return Ok(()) };
        let annotation = |name| claim.meta.annotations.get(name).map(String::as_str);
        let hinted = annotation(HINT).map(|name| Key::new(Kind::Sandbox, key.namespace.clone(), name));
        let own = |promise: &&Promise| annotation(STAMP) == Some(promise.stamp.as_str());
        if let Some(sandbox) = operator.planned_take(key)
            && let Some(promise) = self.admission.holding(&sandbox, now)
        {
            // One that names it was promised it before, and is let try: it may be its own already.
            if hinted.as_ref() != Some(&sandbox) {
                return Err(format!("{key} would take {sandbox}, which is kept until {} for another", promise.until));
            }
        }
        let first = operator.plans_cold_start(key) && self.admission.cold.insert(claim.meta.uid.to_string());
        let Some(sandbox) = hinted.filter(|_| first) else { return Ok(()) };
        let stored = self.api.get(&Id::new(resource(key.kind), &key.namespace, &key.name));
        let same = stored.filter(|stored| uid(stored) == &*claim.meta.uid);
        let (Some(_), Some(stored)) = (self.admission.holding(&sandbox, now).filter(own), same) else { return Ok(()) };
        // What a claim like it would be promised if it came now, with nothing kept for this one.
        operator.world.release(&key.namespace, &sandbox.name);
        self.admission.promises.remove(&sandbox);
        let Some(other) = reserve(&mut operator.world, &review(stored, false, now)?) else { return Ok(()) };
        Err(format!("{key} was promised {sandbox} and would start cold, though {other} is there"))
    }

    /// A promise ends when its Sandbox is taken or deleted.
    pub(super) fn promises_end(&mut self) {
        for flight in self.operators[0].flights.iter().filter(|flight| flight.ends_promise()) {
            if let Some(promise) = self.admission.promises.remove(&flight.op.key) {
                let taken = flight.op.reason == Reason::Claimed && promise.until > self.api.now;
                self.admission.kept += u64::from(taken);
            }
        }
    }

    /// At rest: nothing is kept for anybody, and nothing is forgotten.
    pub(super) fn everything_is_free(&mut self) -> Result<(), String> {
        let mut begun = self.process();
        while let Some(kind) = begun.watchable(&self.api).first().copied() {
            begun.watch_step(kind, &self.api);
        }
        let can = promisable(&mut self.operators[0], &self.api)?;
        let could = promisable(&mut begun, &self.api)?;
        if can == could {
            return Ok(());
        }
        Err(format!("at rest it can promise {can:?}, and one that has just begun {could:?}"))
    }
}

/// Everything that an operator can promise now, in the order in which it does so; all of it is given back.
fn promisable(operator: &mut Operator, api: &Api) -> Result<Vec<(String, String)>, String> {
    let mut promised = Vec::new();
    for (pools, kind) in [(Resource::POOL, Kind::Claim), (Resource::SEED_POOL, Kind::SeedClaim)] {
        for (id, _) in api.list(pools) {
            let claim = json!({
                "apiVersion": kind.api_version(), "kind": kind.name(),
                "metadata": { "name": "any", "namespace": &*id.namespace },
                "spec": { "warmPoolRef": { "name": &*id.name } },
            });
            let review = review(&claim, false, api.now)?;
            while let Some(sandbox) = reserve(&mut operator.world, &review) {
                promised.push((id.namespace.to_string(), sandbox.to_string()));
                if promised.len() > MANY {
                    return Err(format!("one Sandbox is promised again and again: {sandbox}"));
                }
            }
        }
    }
    for (namespace, sandbox) in &promised {
        operator.world.release(namespace, sandbox);
    }
    Ok(promised)
}

/// The API server's question about the creation of a claim.
fn review(claim: &Value, dry_run: bool, now: Timestamp) -> Result<Review, String> {
    let kind = match Resource::of(claim) {
        Some(Resource::SEED_CLAIM) => Kind::SeedClaim,
        Some(Resource::CLAIM) => Kind::Claim,
        other => return Err(format!("{other:?} is no claim")),
    };
    let text = |field: &str| claim["metadata"][field].as_str().unwrap_or_default().to_owned();
    Ok(Review {
        phase: Phase::Mutate,
        entry: Entry::OwnKinds,
        operation: Verb::Create,
        group: kind.group().to_owned(),
        version: kind.version().to_owned(),
        kind: kind.name().to_owned(),
        resource: kind.plural().to_owned(),
        subresource: None,
        namespace: text("namespace"),
        name: text("name"),
        object: claim.clone(),
        old_object: Value::Null,
        dry_run,
        username: "somebody".to_owned(),
        groups: vec![],
        now,
    })
}
