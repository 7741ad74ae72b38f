//! What is on its way to an object, was lost on its way, or was refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::kind::{Key, Kind};
use crate::plan::{Action, Op, Reason};
use crate::snapshot::Refusal;
use crate::time::{saturating_add, time_left};

/// How long a refusal is remembered that nothing repeats or takes back. What is still refused is tried, and refused
/// again, much more often than that.
const REFUSAL_KEPT: Duration = Duration::from_secs(3600);

/// How long a claim is refused a Sandbox before that is not taken for passing: an API server that has just started knows
/// no roles and no policies for a moment.
const REFUSED_FOR_GOOD: Duration = Duration::from_secs(1);
/// How long that counts.
const REFUSED_COUNTS: Duration = Duration::from_secs(60);

/// The effect of an operation, as far as other decisions have to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PendingWrite {
    /// The object is being made, for this controller.
    Create { controller: Option<Arc<str>> },
    /// The Sandbox goes to this claim.
    Take { claim: Option<Arc<str>> },
    /// The object is being deleted.
    Delete,
    /// Anything else.
    Patch { status: bool },
}

impl PendingWrite {
    pub(super) fn of(op: &Op) -> Self {
        let controller = |body: &serde_json::Value| {
            body.pointer("/metadata/ownerReferences/0/uid").and_then(|u| u.as_str()).map(Arc::from)
        };
        match &op.action {
            Action::Create { body } => PendingWrite::Create { controller: controller(body) },
            Action::Delete { .. } => PendingWrite::Delete,
            Action::Patch { body, .. } if op.reason == Reason::Claimed => {
                PendingWrite::Take { claim: controller(body) }
            }
            Action::Patch { status, .. } => PendingWrite::Patch { status: *status },
        }
    }
}

/// All marks, by object. An operation is on its way until it is cleared, and lost from the time it carries.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    /// Creations of which another try is under way, and since when an earlier one is without a reply.
    tried: BTreeMap<(Key, PendingWrite), Timestamp>,
    pending: BTreeMap<Key, BTreeMap<PendingWrite, Option<Timestamp>>>,
    /// Objects being made, by their controller.
    creating: BTreeMap<Arc<str>, BTreeMap<Key, Option<Timestamp>>>,
    /// Sandboxes that a claim took without a reply, by the claim's UID, and since when.
    taking: BTreeMap<Arc<str>, (Key, Timestamp)>,
    outdated: BTreeMap<Key, u64>,
    refused: BTreeMap<Key, Refusal>,
    /// The last refusal of a Sandbox for this controller: its next try may have another name.
    refused_for: BTreeMap<Arc<str>, (Key, Refusal)>,
    /// The last refusal of a take, by the claim's UID, and when they began.
    refused_takes: BTreeMap<Arc<str>, (Timestamp, Key, Refusal)>,
}

impl PendingWrites {
    pub(super) fn set(&mut self, key: Key, mark: PendingWrite) {
        if let PendingWrite::Create { controller: Some(uid) } = &mark {
            self.creating.entry(uid.clone()).or_default().insert(key.clone(), None);
        }
        let before = self.pending.entry(key.clone()).or_default().insert(mark.clone(), None);
        if let (Some(Some(since)), PendingWrite::Create { .. }) = (before, &mark) {
            self.tried.insert((key, mark), since);
        }
    }

    /// The API server refused a try. That says nothing of an earlier one whose reply was lost: it may have been stored.
    pub(super) fn not_done(&mut self, key: &Key, mark: &PendingWrite) {
        match self.tried.remove(&(key.clone(), mark.clone())) {
            Some(since) => self.lost(key, mark, since),
            None => self.clear(key, mark),
        }
    }

    /// What is on its way to an object, or was lost on it since when: for people.
    pub(super) fn describe(&self, key: &Key) -> Vec<String> {
        let marks = self.pending.get(key).into_iter().flatten();
        marks
            .map(|(mark, lost)| match lost {
                None => format!("{mark:?} under way"),
                Some(since) => format!("{mark:?} without a reply since {since}"),
            })
            .collect()
    }

    pub(super) fn clear(&mut self, key: &Key, mark: &PendingWrite) {
        self.refused.remove(key);
        self.tried.remove(&(key.clone(), mark.clone()));
        if let PendingWrite::Create { controller: Some(uid) } = mark
            && let Some(keys) = self.creating.get_mut(uid)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.creating.remove(uid);
            }
        }
        if let Some(marks) = self.pending.get_mut(key) {
            marks.remove(mark);
            if marks.is_empty() {
                self.pending.remove(key);
            }
        }
    }

    /// No reply came: from now on the operation counts for a while.
    pub(super) fn lost(&mut self, key: &Key, mark: &PendingWrite, now: Timestamp) {
        self.tried.remove(&(key.clone(), mark.clone()));
        if let PendingWrite::Create { controller: Some(uid) } = mark
            && let Some(since) = self.creating.get_mut(uid).and_then(|keys| keys.get_mut(key))
        {
            *since = Some(now);
        }
        if let PendingWrite::Take { claim: Some(uid) } = mark {
            self.taking.insert(uid.clone(), (key.clone(), now));
        }
        if let Some(since) = self.pending.get_mut(key).and_then(|marks| marks.get_mut(mark)) {
            *since = Some(now);
        }
    }

    /// The object was seen: what was lost is known now. What is on its way stays.
    pub(super) fn observed(&mut self, key: &Key) {
        self.outdated.remove(key);
        // A take is of one version of the Sandbox, so another version says what became of it.
        self.taking.retain(|_, (taken, _)| taken != key);
        let Some(marks) = self.pending.get(key) else { return };
        let known: Vec<PendingWrite> =
            marks.iter().filter(|(_, lost)| lost.is_some()).map(|(m, _)| m.clone()).collect();
        for mark in known {
            self.clear(key, &mark);
        }
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        self.outdated.remove(key);
        self.refused.remove(key);
        self.observed(key);
    }

    /// Forgets what was lost so long ago that it does not count, and refusals that nothing repeats.
    pub(super) fn forget_old(&mut self, now: Timestamp, unknown_for: Duration) {
        let counts = |since: Timestamp, most: Duration| time_left(since, most, now).is_some();
        for marks in self.pending.values_mut() {
            marks.retain(|_, lost| lost.is_none_or(|since| counts(since, unknown_for)));
        }
        self.pending.retain(|_, marks| !marks.is_empty());
        for keys in self.creating.values_mut() {
            keys.retain(|_, lost| lost.is_none_or(|since| counts(since, unknown_for)));
        }
        self.creating.retain(|_, keys| !keys.is_empty());
        self.taking.retain(|_, (_, since)| counts(*since, unknown_for));
        self.refused.retain(|_, refusal| counts(refusal.at, REFUSAL_KEPT));
        self.refused_for.retain(|_, (_, refusal)| counts(refusal.at, REFUSAL_KEPT));
        self.refused_takes.retain(|_, (_, _, refusal)| counts(refusal.at, REFUSED_COUNTS));
    }

    /// An operation on its way (not lost) that another one must not overtake.
    pub(super) fn in_flight(&self, key: &Key) -> bool {
        self.pending.get(key).is_some_and(|marks| {
            marks.iter().any(|(mark, lost)| {
                lost.is_none()
                    && match mark {
                        PendingWrite::Create { .. } | PendingWrite::Take { .. } | PendingWrite::Delete => true,
                        PendingWrite::Patch { .. } => false,
                    }
            })
        })
    }

    /// Whether a take of the Sandbox is on its way.
    pub(super) fn is_being_taken(&self, key: &Key) -> bool {
        let marks = self.pending.get(key).into_iter().flatten();
        marks.filter(|(_, lost)| lost.is_none()).any(|(mark, _)| matches!(mark, PendingWrite::Take { .. }))
    }

    /// Whether a take or delete of the object is on its way or perhaps done.
    pub(super) fn leaving(&self, key: &Key, now: Timestamp, unknown_for: Duration) -> bool {
        self.pending.get(key).is_some_and(|marks| {
            marks.iter().any(|(mark, lost)| {
                let counts = lost.is_none_or(|since| time_left(since, unknown_for, now).is_some());
                counts
                    && match mark {
                        PendingWrite::Take { .. } | PendingWrite::Delete => true,
                        PendingWrite::Create { .. } | PendingWrite::Patch { .. } => false,
                    }
            })
        })
    }

    /// Those Sandboxes of a namespace; and until when that counts, of what got no reply.
    pub(super) fn all_leaving(
        &self,
        namespace: &str,
        now: Timestamp,
        unknown_for: Duration,
    ) -> BTreeMap<&Key, Option<Timestamp>> {
        let there = self.pending.range(Key::new(Kind::Sandbox, namespace, "")..);
        there
            .take_while(|(key, _)| key.kind == Kind::Sandbox && *key.namespace == *namespace)
            .filter(|(key, _)| self.leaving(key, now, unknown_for))
            .map(|(key, marks)| {
                (key, marks.values().flatten().filter_map(|since| time_left(*since, unknown_for, now)).max())
            })
            .collect()
    }

    /// The Sandbox that is perhaps a claim's already, and until when that counts.
    pub(super) fn taking(&self, claim: &str, now: Timestamp, unknown_for: Duration) -> Option<(&Key, Timestamp)> {
        let (key, since) = self.taking.get(claim)?;
        time_left(*since, unknown_for, now).map(|until| (key, until))
    }

    /// Objects being made for a controller, and since when without a reply.
    pub(super) fn creating(
        &self,
        controller: &str,
        now: Timestamp,
        unknown_for: Duration,
    ) -> impl Iterator<Item = (&Key, Option<Timestamp>)> {
        self.creating
            .get(controller)
            .into_iter()
            .flatten()
            .filter(move |(_, lost)| lost.is_none_or(|since| time_left(since, unknown_for, now).is_some()))
            .map(|(key, lost)| (key, *lost))
    }

    pub(super) fn outdated(&mut self, key: Key, version: u64) {
        self.outdated.insert(key, version);
    }

    /// Whether the API server said that there is a newer version than the one held.
    pub(super) fn is_outdated(&self, key: &Key, version: u64) -> bool {
        self.outdated.get(key).is_some_and(|v| *v >= version)
    }

    pub(super) fn refuse(&mut self, key: Key, mark: PendingWrite, refusal: Refusal) {
        match mark {
            PendingWrite::Create { controller: Some(uid) } if key.kind == Kind::Sandbox => {
                self.refused_for.insert(uid, (key, refusal));
            }
            PendingWrite::Take { claim: Some(uid) } => {
                let first = self.refused_takes.get(&uid).map_or(refusal.at, |(first, ..)| *first);
                self.refused_takes.insert(uid, (first, key, refusal));
            }
            PendingWrite::Create { .. }
            | PendingWrite::Take { claim: None }
            | PendingWrite::Delete
            | PendingWrite::Patch { .. } => {
                self.refused.insert(key, refusal);
            }
        }
    }

    /// The Sandbox that the API server does not let this claim take, and what it says.
    pub(super) fn refused_take(&self, claim: &str, now: Timestamp) -> Option<(&Key, &Refusal)> {
        let (first, key, refusal) = self.refused_takes.get(claim)?;
        let for_good = saturating_add(*first, REFUSED_FOR_GOOD) <= refusal.at;
        (for_good && time_left(refusal.at, REFUSED_COUNTS, now).is_some()).then_some((key, refusal))
    }

    /// A Sandbox was stored for this controller, or the controller is gone.
    pub(super) fn not_refused(&mut self, controller: &str) {
        self.refused_for.remove(controller);
        self.refused_takes.remove(controller);
    }

    pub(super) fn refused_for(&self, controller: &str) -> Option<&(Key, Refusal)> {
        self.refused_for.get(controller)
    }

    /// Whether a reply about the object is still to come.
    pub(super) fn awaits_reply(&self, key: &Key) -> bool {
        self.pending.get(key).is_some_and(|marks| marks.values().any(Option::is_none))
    }

    /// Objects of a kind in a namespace to which a write was refused.
    pub(super) fn refused_in(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &Key> {
        let there = self.refused.range(Key::new(kind, namespace, "")..).map(|(key, _)| key);
        there.take_while(move |key| key.kind == kind && *key.namespace == *namespace)
    }

    pub(super) fn refusal(&self, key: &Key) -> Option<&Refusal> {
        self.refused.get(key)
    }
}
