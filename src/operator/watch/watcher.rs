//! One watch for each kind, which fills the World and queues the keys that an event concerns.
//!
//! If the CRD of a kind is not installed, the kind has no objects, and the watch waits for the CRD.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::Client;
use kube::runtime::watcher;
use paddock_api::document::Document;
use paddock_api::kind::{Key, Kind, OwnKind};
use paddock_core::object::Object;
use paddock_core::world::Observed;
use paddock_kube::watch::{self, Attempt, WatchError};
use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::outage::{Consequence, Outage};
use crate::limits;
use crate::metrics::Metrics;
use crate::queue::{Queue, Trigger};
use crate::sync::{UnknownKinds, UnsyncedKinds};
use crate::world::SharedWorld;

/// The watch of one kind.
pub struct Watch {
    /// The kind to watch.
    pub kind: Kind,
    /// The only namespace to watch. If absent, all namespaces.
    pub namespace: Option<String>,
    /// The client for lists and watches. Watches may share its connections. Its read timeout has to be longer than a
    /// watch.
    pub client: Client,
    /// The World that receives every observed object.
    pub world: SharedWorld,
    /// The queue that receives the keys to reconcile.
    pub queue: Queue,
    /// The counters of events, lists and interruptions.
    pub metrics: Metrics,
    /// The kinds that are not listed yet. The watch removes its kind after the first list.
    pub unsynced: Sender<UnsyncedKinds>,
    /// The kinds whose watch has failed for a while. The watch adds and removes its kind.
    pub unknown: Sender<UnknownKinds>,
}

impl Watch {
    /// Watches until the future is dropped.
    pub async fn run(self) {
        self.metrics.watch_failing(self.kind.name(), false);
        let mut outage = Outage::default();
        loop {
            self.feed(watch::events(&self.client, self.kind, self.namespace.as_deref()), &mut outage).await;
        }
    }

    /// Processes events until the kind has to be listed again.
    async fn feed(&self, events: impl Stream<Item = watcher::Result<watcher::Event<Document>>>, outage: &mut Outage) {
        let mut events = pin!(events);
        let mut listing: Vec<Object> = Vec::new();
        let mut failures = 0_u32;
        // The reason of the last failure, how often it was repeated, and the time of its first occurrence.
        let mut former: Option<((WatchError, Attempt), u32, Instant)> = None;
        let mut unverified = pin!(sleep(Duration::MAX));
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = unverified.as_mut() => {
                    if self.world.read(|world| world.has_unverified(self.kind)) {
                        info!(kind = ?self.kind, "the watch does not show a recent write; listing again");
                        return;
                    }
                    unverified.set(sleep(Duration::MAX));
                    continue;
                }
            };
            let Some(event) = event else { return };
            if matches!(event, Ok(watcher::Event::InitDone)) {
                unverified.set(sleep(limits::UNVERIFIED_TIMEOUT));
            }
            match event {
                Ok(event) => {
                    // The beginning of a list shows nothing, because the list may expire again and again.
                    if !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_)) {
                        (failures, former) = (0, None);
                        outage.event();
                    }
                    let is_listed = matches!(event, watcher::Event::InitDone);
                    self.take_in(event, &mut listing);
                    if is_listed && outage.listed() {
                        self.known_again();
                    }
                }
                Err(error) => {
                    let (cause, attempt) = (WatchError::of(&error), Attempt::of(&error));
                    self.metrics.watch_error(self.kind, cause.as_str());
                    let (repeats, since) = match former {
                        Some((reason, repeats, since)) if reason == (cause, attempt) => {
                            (repeats.saturating_add(1), since)
                        }
                        Some(_) | None => (0, Instant::now()),
                    };
                    former = Some(((cause, attempt), repeats, since));
                    self.report(cause, &error, failures, repeats);
                    let consequence = match (self.meaning(cause, attempt, watch::status_code(&error)), attempt) {
                        (Meaning::Nothing, _) => Consequence::Retry,
                        // Only a list shows that nothing is left of the kind, and begins a watch when the kind is back.
                        (Meaning::NoObjects, Attempt::Start | Attempt::Watch) => Consequence::List,
                        (Meaning::NoObjects, Attempt::List) => {
                            if repeats > 0 && (!self.has_objects() || since.elapsed() >= limits::WATCH_OUTAGE) {
                                self.has_no_objects(outage);
                            }
                            Consequence::Retry
                        }
                        (Meaning::Failure, _) => outage.failed(attempt, Instant::now()),
                    };
                    if consequence == Consequence::Unknown {
                        self.is_unknown();
                    }
                    sleep(cause.pause(failures)).await;
                    if consequence == Consequence::List {
                        return;
                    }
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    fn take_in(&self, event: watcher::Event<Document>, listing: &mut Vec<Object>) {
        match event {
            watcher::Event::Init => {
                listing.clear();
                self.observe(None, Observed::Listing(self.kind));
            }
            watcher::Event::InitApply(object) => listing.push(self.read(object)),
            watcher::Event::InitDone => {
                let objects = std::mem::take(listing);
                debug!(kind = ?self.kind, objects = objects.len(), "listed");
                self.metrics.listed(self.kind, &objects);
                self.observe(None, Observed::Listed(self.kind, objects));
                self.listed();
            }
            watcher::Event::Apply(object) => {
                let known = |key: &Key| self.world.read(|world| world.get(key).cloned());
                let object = Object::read_unless_known(self.kind, object, known);
                if object.claim().is_some() {
                    self.metrics.claim_arrived(&self.world.read(|world| world.arrives_at(&object)));
                }
                self.metrics.applied(&object, self.world.now());
                self.observe(Some(object.key.clone()), Observed::Applied(object));
            }
            watcher::Event::Delete(object) => {
                let object = self.read(object);
                self.metrics.deleted(&object);
                self.observe(Some(object.key.clone()), Observed::Deleted(object));
            }
        }
    }

    fn read(&self, document: Document) -> Object {
        Object::read(self.kind, document)
    }

    fn observe(&self, about: Option<Key>, observed: Observed) {
        // While one of our writes to the object is in flight, the event most likely shows that write. It must not
        // trigger a reconcile, even if the rest of the plan fails.
        let about = about.filter(|key| !self.world.read(|world| world.awaits_reply(key)));
        let keys = self.world.observe(observed, self.world.now());
        let (changed, related): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| Some(key) == about.as_ref());
        self.queue.push(changed, Trigger::Changed);
        self.queue.push(related, Trigger::Related);
    }

    fn listed(&self) {
        self.unsynced.send_if_modified(|unsynced| unsynced.remove(&self.kind));
    }

    fn meaning(&self, cause: WatchError, attempt: Attempt, status: u16) -> Meaning {
        match cause {
            WatchError::Absent => match self.kind.own() {
                // Without Sandboxes the operator has nothing to do, so it waits for their CRD.
                Some(OwnKind::Sandbox) => Meaning::Nothing,
                Some(OwnKind::Template(_) | OwnKind::Pool(_) | OwnKind::Claim(_)) => Meaning::NoObjects,
                // Every API server serves these kinds.
                None => Meaning::Failure,
            },
            // A credential that is not valid says nothing about the right.
            WatchError::Forbidden if self.does_without() && status == 403 => Meaning::NoObjects,
            // A new list begins at once.
            WatchError::Expired if attempt != Attempt::List => Meaning::Nothing,
            WatchError::Expired | WatchError::Forbidden | WatchError::Failed => Meaning::Failure,
        }
    }

    fn has_objects(&self) -> bool {
        self.world.read(|world| world.of_kind(self.kind).next().is_some())
    }

    /// Takes the kind for empty, as after a start without it. Otherwise, decisions would go on with objects of any age,
    /// or the kind would stay unknown. The request was repeated, because an API server that just started does not serve
    /// all CRDs at once, and for a minute if there were objects, because a proxy may answer for the API server.
    fn has_no_objects(&self, outage: &mut Outage) {
        if self.has_objects() {
            warn!(kind = ?self.kind, "the kind is not served any more; the operator continues without its objects");
        }
        self.metrics.no_objects(self.kind);
        self.observe(None, Observed::Listing(self.kind));
        self.observe(None, Observed::Listed(self.kind, Vec::new()));
        self.listed();
        if outage.listed() {
            self.known_again();
        }
    }

    /// An operator that is limited to one namespace may lack rights on cluster-scoped kinds. Decisions are then made
    /// without such objects. The Namespace itself is required, because its labels may demand isolation for pods.
    fn does_without(&self) -> bool {
        self.namespace.is_some() && !self.kind.namespaced() && self.kind != Kind::Namespace
    }

    fn is_unknown(&self) {
        if self.unknown.send_if_modified(|unknown| unknown.insert(self.kind)) {
            error!(kind = ?self.kind, "the kind has not been watched for a minute; this replica makes no decisions");
            self.metrics.watch_failing(self.kind.name(), true);
        }
    }

    fn known_again(&self) {
        info!(kind = ?self.kind, "the kind is known again");
        self.metrics.watch_failing(self.kind.name(), false);
        self.unknown.send_if_modified(|unknown| unknown.remove(&self.kind));
    }

    /// Logs the reason of an interruption. The last `failures` attempts failed, and `repeats` of them for this reason.
    fn report(&self, cause: WatchError, error: &watcher::Error, failures: u32, repeats: u32) {
        let kind = self.kind;
        match cause {
            WatchError::Absent if kind.own().is_some() => {
                if repeats == 0 {
                    info!(?kind, group = kind.group(), "the CRD is not installed; waiting for it");
                }
            }
            WatchError::Forbidden if self.does_without() => {
                if repeats == 0 {
                    info!(?kind, "the kind cannot be watched with the rights of one namespace; continuing without it");
                }
            }
            WatchError::Forbidden => {
                warn!(?kind, %error, "the kind cannot be watched; check the RBAC rules of the operator")
            }
            WatchError::Expired => debug!(?kind, "the resource version expired; listing again"),
            WatchError::Absent | WatchError::Failed => {
                if failures < 2 {
                    debug!(?kind, %error, "the watch was interrupted")
                } else {
                    warn!(?kind, %error, failures, "the watch keeps failing")
                }
            }
        }
    }
}

/// What the failure of an attempt says about a kind.
enum Meaning {
    /// The state of the kind cannot be watched.
    Failure,
    /// The operator has to continue without objects of the kind. Other kinds start without it.
    NoObjects,
    /// Nothing. The next attempt shows the state.
    Nothing,
}

#[cfg(test)]
mod tests;
