//! The only reader: one watch for each kind, feeding the World and the queue.
//!
//! A kind whose CRD is not installed is waited for. Lists are consistent reads: a list from the API
//! server's cache at an arbitrary version (as kube's streaming lists ask for) could show a new leader
//! a pool as it was before the old leader filled it.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use kube::{Api, Client};
use paddock_core::kind::{Key, Kind};
use paddock_core::object::Object;
use paddock_core::world::Observed;
use tokio::sync::watch::Sender;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::limits;
use crate::metrics::Metrics;
use crate::queue::{Queue, Trigger};
use crate::sync::{UnsyncedKinds, WatchError};
use crate::world::SharedWorld;

/// Feeds one kind.
pub struct Watch {
    /// What is watched.
    pub kind: Kind,
    /// Only in this namespace, if given.
    pub namespace: Option<String>,
    /// For reading: it may share connections, and has no time-out of its own.
    pub client: Client,
    /// Takes in what is read.
    pub world: SharedWorld,
    /// Takes the keys to reconcile.
    pub queue: Queue,
    /// Counts events and restarts.
    pub metrics: Metrics,
    /// Loses this kind when it has been listed.
    pub unsynced: Sender<UnsyncedKinds>,
}

impl Watch {
    /// Watches for as long as it is polled.
    pub async fn run(self) {
        let kind = self.kind;
        let resource = ApiResource {
            group: kind.group().to_owned(),
            version: kind.version().to_owned(),
            api_version: kind.api_version(),
            kind: kind.name().to_owned(),
            plural: kind.plural().to_owned(),
        };
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) if kind.namespaced() => Api::namespaced_with(self.client.clone(), namespace, &resource),
            Some(_) | None => Api::all_with(self.client.clone(), &resource),
        };
        let seconds = u32::try_from(limits::WATCH_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
        let config = watcher::Config::default().timeout(seconds).page_size(limits::LIST_PAGE_SIZE);
        loop {
            self.feed(watcher(api.clone(), config.clone())).await;
        }
    }

    /// Until another list is needed.
    async fn feed(&self, events: impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>>) {
        let mut events = pin!(events);
        let mut listing: Vec<Object> = Vec::new();
        let mut failures = 0_u32;
        let mut doubted = pin!(sleep(Duration::MAX));
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = doubted.as_mut() => {
                    if self.world.read(|world| world.has_unverified(self.kind)) {
                        info!(kind = ?self.kind, "the watch does not show what was written; listing again");
                        return;
                    }
                    doubted.set(sleep(Duration::MAX));
                    continue;
                }
            };
            let Some(event) = event else { return };
            if matches!(event, Ok(watcher::Event::InitDone)) {
                doubted.set(sleep(limits::UNVERIFIED_TIMEOUT));
            }
            match event {
                Ok(event) => {
                    // That a list begins says nothing yet.
                    if !matches!(event, watcher::Event::Init) {
                        failures = 0;
                    }
                    self.take_in(event, &mut listing);
                }
                Err(error) => {
                    let cause = WatchError::of(&error);
                    self.metrics.watch_error(self.kind, cause.as_str());
                    self.report(cause, &error, failures);
                    sleep(pause(cause, failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    fn take_in(&self, event: watcher::Event<DynamicObject>, listing: &mut Vec<Object>) {
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

    fn read(&self, object: DynamicObject) -> Object {
        Object::new(self.kind, object.metadata, object.data)
    }

    fn observe(&self, about: Option<Key>, observed: Observed) {
        // While a write of ours is on its way to it, that is most likely what is seen: no news, whatever becomes of the rest of its plan.
        let about = about.filter(|key| !self.world.read(|world| world.awaits_reply(key)));
        let keys = self.world.observe(observed, Timestamp::now());
        let (changed, related): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| Some(key) == about.as_ref());
        self.queue.push(changed, Trigger::Changed);
        self.queue.push(related, Trigger::Related);
    }

    fn listed(&self) {
        self.unsynced.send_if_modified(|unsynced| unsynced.remove(&self.kind));
    }

    /// Says what is wrong, once; and lets the rest begin without a kind that is not installed, since nothing
    /// of that kind can exist. Without the Sandbox's CRD there is nothing to do, so that one is waited for.
    fn report(&self, cause: WatchError, error: &watcher::Error, failures: u32) {
        let kind = self.kind;
        match cause {
            WatchError::Absent => {
                if failures == 0 {
                    info!(?kind, group = kind.group(), "CRD not installed; waiting for it");
                }
                if failures > 0 && kind != Kind::Sandbox {
                    self.listed();
                }
            }
            // Confined to a namespace, it may have no rights outside of one; decisions then know no such object. Its own
            // Namespace it must see: there it says whether pods have to be isolated.
            WatchError::Forbidden if self.namespace.is_some() && !kind.namespaced() && kind != Kind::Namespace => {
                if failures == 0 {
                    info!(?kind, "may not be watched from within one namespace; going on without");
                }
                self.listed();
            }
            WatchError::Forbidden => warn!(?kind, %error, "may not be watched: check the operator's RBAC"),
            WatchError::Expired => debug!(?kind, "version expired; listing again"),
            WatchError::Failed => {
                if failures < 2 {
                    debug!(?kind, %error, "watch interrupted")
                } else {
                    warn!(?kind, %error, failures, "watch keeps failing")
                }
            }
        }
    }
}

/// How long to wait after the n-th break in a row.
fn pause(cause: WatchError, failures: u32) -> Duration {
    let (first, longest) = limits::WATCH_BACKOFF;
    match cause {
        // The second look comes soon: an API server that has just started does not serve all CRDs at once.
        WatchError::Absent if failures == 0 => first,
        WatchError::Absent => limits::ABSENT_KIND_POLL_INTERVAL,
        WatchError::Expired if failures == 0 => Duration::ZERO,
        WatchError::Expired | WatchError::Forbidden | WatchError::Failed => {
            first.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(longest)
        }
    }
}

#[cfg(test)]
mod tests;
