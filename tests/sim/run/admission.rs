//! Claims that pass the operator's webhook: the object in the webhook's answer is stored at once, later, or never.
//!
//! A Service is in front of the replicas, so any replica may be asked. Another replica may be asked again after another
//! webhook changed the claim. If no replica answers, the claim is stored unchanged. Between the answer and the write,
//! the claim can be delayed, fail a quota, or meet an object of the same name, so reservations expire. The oracle's
//! rules know nothing about reservations. Beside them, these rules hold:
//!
//! - A dry run does not change the operator's state.
//! - No Sandbox is reserved for two claims at once, and no claim takes a Sandbox that is reserved for another claim.
//! - The hint annotation that a user wrote is removed.
//! - A reservation never causes a cold start: the claim starts cold only if it would get no warm Sandbox without its
//!   reservation.
//! - At rest, the Sandboxes that can be reserved are the same as in a process that has just started.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use paddock_api::kind::{Key, Kind};
use paddock_core::admission::{Entry, Phase, Review, Verb, Write, reserve};
use paddock_core::plan::Reason;
use serde_json::{Value, json};

use super::Simulation;
use crate::sim::api::{Api, Id, Resource};
use crate::sim::operator::{Operator, resource};
use crate::sim::oracle::uid;
use crate::sim::users;

const HINT: &str = "agents.x-k8s.io/sandbox-name";
const STAMP: &str = "agents.x-k8s.io/controller-first-observed-at";
/// The lifetime of a reservation.
const KEPT: SignedDuration = SignedDuration::from_secs(2);
/// The longest delay by other webhooks, in milliseconds. Half of the slow claims take longer than a reservation lives.
const SLOW: i64 = 4000;
/// More Sandboxes than any pool has here. An operator that reserves this many is in an endless loop.
const MANY: usize = 100;

/// The admitted claims and the reservations.
#[derive(Default)]
pub(crate) struct Admission {
    /// Admitted claims, and the time at which each is stored.
    under_way: Vec<(Value, Timestamp)>,
    /// The reservations of the leader.
    reservations: BTreeMap<Key, Reservation>,
    /// The UIDs of claims whose plan was a cold start before. A cold start in progress is completed.
    cold: BTreeSet<String>,
    /// The number of reservations. A run without any proves nothing about them.
    pub(crate) made: u64,
    /// The number of Sandboxes that were taken during their reservation.
    pub(crate) kept: u64,
}

struct Reservation {
    stamp: String,
    until: Timestamp,
}

impl Admission {
    /// Another process became the leader, or the clock changed, so the operator has no reservations any more.
    pub(super) fn forget(&mut self) {
        self.reservations.clear();
    }

    /// The clock jumps. The delays of the admitted claims do not change.
    pub(super) fn clock_jumped(&mut self, by: SignedDuration) {
        self.forget();
        for (_, at) in &mut self.under_way {
            *at += by;
        }
    }

    fn holding(&self, sandbox: &Key, now: Timestamp) -> Option<&Reservation> {
        self.reservations.get(sandbox).filter(|reservation| reservation.until > now)
    }
}

impl Simulation {
    /// A user creates one claim, or several at once.
    pub(super) fn claim(&mut self, claim: Value) -> Result<(), String> {
        if self.rng.u8(..4) == 0 {
            // The webhook is unavailable, and its failure policy is `Ignore`.
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

    /// Stores the admitted claims that are due, or all of them.
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

    /// Acts like the API server: it calls the webhook, perhaps a second time after another webhook, and then stores the
    /// claim or refuses it.
    fn admit(&mut self, mut claim: Value) -> Result<(), String> {
        if self.rng.u8(..6) == 0 {
            // The user writes the hint annotation, with the name of an existing Sandbox.
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
        // Refused by a quota, which the API server checks after the webhooks.
        let refused = self.rng.u8(..6) == 0;
        if !dry_run && !refused {
            let slow = if self.rng.u8(..3) == 0 { self.rng.i64(0..SLOW) } else { 0 };
            self.admission.under_way.push((claim, self.api.now + SignedDuration::from_millis(slow)));
        }
        Ok(())
    }

    /// Calls the webhook of one replica. Returns the claim with the webhook's patch if it is admitted.
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
                // A reservation from an earlier call for this claim is released too.
                self.admission.reservations.retain(|_, reservation| reservation.stamp != stamp);
            }
            if verdict.allowed() && metadata["annotations"].get(HINT).is_some() {
                return Err(format!("a hint remains that the operator did not write: {metadata}"));
            }
            return Ok(verdict.allowed().then_some(admitted));
        }
        let name = metadata["annotations"][HINT].as_str().unwrap_or_default();
        let sandbox = Key::new(Kind::Sandbox, review.namespace.as_str(), name);
        if !leading || dry_run {
            return Err(format!("{sandbox} was reserved by a replica that does not lead, or in a dry run: {metadata}"));
        }
        match self.admission.holding(&sandbox, now) {
            // The second call for the same write.
            Some(reservation) if reservation.stamp == stamp => {}
            Some(reservation) => {
                return Err(format!(
                    "{sandbox} is reserved twice, for {} until {}",
                    reservation.stamp, reservation.until
                ));
            }
            None => {
                self.admission.made += 1;
                self.admission.reservations.insert(sandbox, Reservation { stamp, until: now + KEPT });
            }
        }
        Ok(Some(admitted))
    }

    /// Checks the plan that a reconcile of the leader has just made, before any of its requests is sent.
    pub(super) fn reservations_are_kept(&mut self, key: &Key) -> Result<(), String> {
        if !matches!(key.kind, Kind::Claim | Kind::SeedClaim) {
            return Ok(());
        }
        let (now, operator) = (self.api.now, &mut self.operators[0]);
        let Some(claim) = operator.world.get(key).cloned() else { return Ok(()) };
        let annotation = |name| claim.meta.annotations.get(name);
        let hinted = annotation(HINT).map(|name| Key::new(Kind::Sandbox, key.namespace.clone(), name));
        let own = |reservation: &&Reservation| annotation(STAMP) == Some(reservation.stamp.as_str());
        if let Some(sandbox) = operator.planned_take(key)
            && let Some(reservation) = self.admission.holding(&sandbox, now)
        {
            // A claim whose hint names the Sandbox had it reserved before. It may try, because the Sandbox may already
            // belong to it.
            if hinted.as_ref() != Some(&sandbox) {
                return Err(format!(
                    "{key} would take {sandbox}, which is reserved until {} for another claim",
                    reservation.until
                ));
            }
        }
        let first = operator.plans_cold_start(key) && self.admission.cold.insert(claim.meta.uid.to_string());
        let Some(sandbox) = hinted.filter(|_| first) else { return Ok(()) };
        let stored = self.api.get(&Id::new(resource(key.kind), &key.namespace, &key.name));
        let same = stored.filter(|stored| uid(stored) == &*claim.meta.uid);
        let (Some(_), Some(stored)) = (self.admission.holding(&sandbox, now).filter(own), same) else { return Ok(()) };
        // Finds the Sandbox that the same claim would get now if this reservation did not exist.
        operator.world.release(&key.namespace, &sandbox.name);
        self.admission.reservations.remove(&sandbox);
        let Some(other) = reserve(&mut operator.world, &review(stored, false, now)?) else { return Ok(()) };
        Err(format!("{sandbox} is reserved for {key}, which would start cold although {other} is available"))
    }

    /// Ends a reservation when its Sandbox is taken or deleted.
    pub(super) fn reservations_end(&mut self) {
        for flight in self.operators[0].flights.iter().filter(|flight| flight.ends_reservation()) {
            if let Some(reservation) = self.admission.reservations.remove(&flight.op.key) {
                let taken = flight.op.reason == Reason::Claimed && reservation.until > self.api.now;
                self.admission.kept += u64::from(taken);
            }
        }
    }

    /// At rest, no reservation is left, and no Sandbox is missing from those that can be reserved.
    pub(super) fn everything_is_free(&mut self) -> Result<(), String> {
        let mut restarted = self.process();
        while let Some(kind) = restarted.watchable(&self.api).first().copied() {
            restarted.watch_step(kind, &self.api);
        }
        let possible = reservable(&mut self.operators[0], &self.api)?;
        let expected = reservable(&mut restarted, &self.api)?;
        if possible == expected {
            return Ok(());
        }
        Err(format!("at rest, it can reserve {possible:?}, and a process that has just started {expected:?}"))
    }
}

/// All Sandboxes that an operator can reserve now, in its order of preference. They are all released again.
fn reservable(operator: &mut Operator, api: &Api) -> Result<Vec<(String, String)>, String> {
    let mut reserved = Vec::new();
    for (pools, kind) in [(Resource::POOL, Kind::Claim), (Resource::SEED_POOL, Kind::SeedClaim)] {
        for (id, _) in api.list(pools) {
            let claim = json!({
                "apiVersion": kind.api_version(), "kind": kind.name(),
                "metadata": { "name": "any", "namespace": &*id.namespace },
                "spec": { "warmPoolRef": { "name": &*id.name } },
            });
            let review = review(&claim, false, api.now)?;
            while let Some(sandbox) = reserve(&mut operator.world, &review) {
                reserved.push((id.namespace.to_string(), sandbox.to_string()));
                if reserved.len() > MANY {
                    return Err(format!("one Sandbox is reserved repeatedly: {sandbox}"));
                }
            }
        }
    }
    for (namespace, sandbox) in &reserved {
        operator.world.release(namespace, sandbox);
    }
    Ok(reserved)
}

/// The API server's admission review for the creation of a claim.
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
        write: Write::default(),
        dry_run,
        username: "somebody".to_owned(),
        groups: vec![],
        now,
    })
}
