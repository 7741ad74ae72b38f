//! One watch for each kind, which fills the World and queues the keys that an event concerns.
//!
//! If the CRD of a kind is not installed, the watch waits for it.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::Client;
use kube::runtime::watcher;
use paddock_api::document::Document;
use paddock_api::kind::{Key, Kind};
use paddock_core::object::Object;
use paddock_core::world::Observed;
use paddock_kube::watch::{self, WatchError};
use tokio::sync::watch::Sender;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::limits;
use crate::metrics::Metrics;
use crate::queue::{Queue, Trigger};
use crate::sync::UnsyncedKinds;
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
}

impl Watch {
    /// Watches until the future is dropped.
    pub async fn run(self) {
        loop {
            self.feed(watch::events(&self.client, self.kind, self.namespace.as_deref())).await;
        }
    }

    /// Processes events until the kind has to be listed again.
    async fn feed(&self, events: impl Stream<Item = watcher::Result<watcher::Event<Document>>>) {
        let mut events = pin!(events);
        let mut listing: Vec<Object> = Vec::new();
        let mut failures = 0_u32;
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
                    // The beginning of a list does not show yet that the API server answers.
                    if !matches!(event, watcher::Event::Init) {
                        failures = 0;
                    }
                    self.take_in(event, &mut listing);
                }
                Err(error) => {
                    let cause = WatchError::of(&error);
                    self.metrics.watch_error(self.kind, cause.as_str());
                    self.report(cause, &error, failures);
                    sleep(cause.pause(failures)).await;
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
                let object = self.read(object);
                self.metrics.applied(&object);
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
        let keys = self.world.observe(observed, Timestamp::now());
        let (changed, related): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| Some(key) == about.as_ref());
        self.queue.push(changed, Trigger::Changed);
        self.queue.push(related, Trigger::Related);
    }

    fn listed(&self) {
        self.unsynced.send_if_modified(|unsynced| unsynced.remove(&self.kind));
    }

    /// Logs the reason of an interruption. If the CRD of a kind is not installed, the other kinds may start without it,
    /// because no object of the kind can exist. The CRD of Sandbox is the exception: without it the operator has
    /// nothing to do, so the operator waits for it.
    fn report(&self, cause: WatchError, error: &watcher::Error, failures: u32) {
        let kind = self.kind;
        match cause {
            WatchError::Absent => {
                if failures == 0 {
                    info!(?kind, group = kind.group(), "the CRD is not installed; waiting for it");
                }
                if failures > 0 && kind != Kind::Sandbox {
                    self.listed();
                }
            }
            // An operator that is limited to one namespace may lack rights on cluster-scoped kinds. Decisions are then
            // made without such objects. The Namespace itself is required, because its labels may demand isolation for
            // pods.
            WatchError::Forbidden if self.namespace.is_some() && !kind.namespaced() && kind != Kind::Namespace => {
                if failures == 0 {
                    info!(?kind, "the kind cannot be watched with the rights of one namespace; continuing without it");
                }
                self.listed();
            }
            WatchError::Forbidden => {
                warn!(?kind, %error, "the kind cannot be watched; check the RBAC rules of the operator")
            }
            WatchError::Expired => debug!(?kind, "the resource version expired; listing again"),
            WatchError::Failed => {
                if failures < 2 {
                    debug!(?kind, %error, "the watch was interrupted")
                } else {
                    warn!(?kind, %error, failures, "the watch keeps failing")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
