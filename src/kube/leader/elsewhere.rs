//! The Leases of our names in other namespaces, or in all namespaces for a process without an election. While somebody holds one of them, this process does not act.
//!
//! Leases exclude each other only if all candidates use the same namespace. An operator in another namespace would
//! become a second leader. Watches of the whole cluster therefore show who else holds a Lease of one of our names. A
//! Lease has expired by the same rule as in our own namespace: it has not changed for its duration, by our monotonic
//! clock. A deletion does not end this time, because the holder may not have noticed it. A new leader also lists these
//! Leases before and after it takes its own. The lists are consistent, so of two processes that take their Leases at the
//! same time, at least one sees the other.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::lease::stated_duration;
use crate::limits;
use crate::watch::{WatchError, watcher_config};

/// The reason why a replica does not act, although no other replica of its namespace leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody holds a Lease of one of our names in another namespace.
    HeldElsewhere {
        /// The namespace of the Lease.
        namespace: String,
        /// The name of the Lease.
        lease: String,
        /// The holder, as the Lease names it.
        holder: String,
    },
    /// The Leases of the other namespaces are not known, with the reason.
    Unknown(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Strangers write the holder, so it is quoted.
            Obstacle::HeldElsewhere { namespace, lease, holder } => write!(
                f,
                "{holder:?} holds Lease {lease} in namespace {namespace}; end that operator, or wait for the expiry of \
                 the Lease if it belongs to none"
            ),
            Obstacle::Unknown(error) => write!(f, "the Leases of the other namespaces are not known: {error}"),
        }
    }
}

/// The Leases of some names in all namespaces, except our own. Clones are handles on the same table.
#[derive(Clone)]
pub(super) struct Elsewhere {
    client: Client,
    names: Vec<String>,
    own_namespace: Option<String>,
    table: Arc<Mutex<Table>>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Table {
    held: HashMap<Place, Held>,
    /// For each name, why its Leases are not known. Absent if they are.
    unknown: HashMap<String, String>,
    /// The names whose watch failed after their last list.
    doubtful: HashSet<String>,
}

/// The namespace and the name of a Lease.
type Place = (String, String);

struct Held {
    holder: String,
    version: Option<String>,
    duration: Duration,
    expires: Instant,
    /// Whether the Lease was deleted. Its holder may still write until the Lease expires.
    is_deleted: bool,
}

impl Elsewhere {
    /// The Leases with these names outside `own_namespace`, or everywhere without one. Nothing is known about them yet.
    pub(super) fn new(client: &Client, own_namespace: Option<&str>, names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let unknown = names.iter().map(|name| (name.clone(), "they are not listed yet".to_owned())).collect();
        let table = Table { unknown, ..Table::default() };
        Self {
            client: client.clone(),
            names,
            own_namespace: own_namespace.map(str::to_owned),
            table: Arc::new(Mutex::new(table)),
            changed: watch::Sender::new(()),
        }
    }

    /// The reason why this process must not act now. `None` if nobody holds one of the Leases.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        let table = self.table.lock();
        let now = Instant::now();
        let held = table.held.iter().filter(|(_, held)| held.expires > now).min_by_key(|(place, _)| *place);
        if let Some(((namespace, lease), Held { holder, .. })) = held {
            let (namespace, lease, holder) = (namespace.clone(), lease.clone(), holder.clone());
            return Some(Obstacle::HeldElsewhere { namespace, lease, holder });
        }
        let unknown = self.names.iter().find_map(|name| table.unknown.get(name));
        unknown.map(|error| Obstacle::Unknown(error.clone()))
    }

    /// Whether a watch failed after the last list, so that it may have missed a change.
    pub(super) fn is_doubtful(&self) -> bool {
        !self.table.lock().doubtful.is_empty()
    }

    /// Becomes ready with every change of a Lease, and of what is known.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Watches the Leases until the future is dropped.
    pub(super) async fn follow(&self) {
        futures::future::join_all(self.names.iter().map(|name| self.follow_name(name))).await;
    }

    async fn follow_name(&self, name: &str) {
        let config = watcher_config().fields(&format!("metadata.name={name}")).page_size(limits::LIST_PAGE_SIZE_MIN);
        let mut events = pin!(watcher(Api::<LeaseObject>::all(self.client.clone()), config));
        let (mut listing, mut failures) = (Vec::new(), 0_u32);
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listing.clear(),
                Ok(watcher::Event::InitApply(lease)) => listing.push(lease),
                Ok(watcher::Event::InitDone) => {
                    failures = 0;
                    self.listed(name, std::mem::take(&mut listing));
                }
                Ok(watcher::Event::Apply(lease)) => {
                    failures = 0;
                    self.change(|table| self.note(table, lease));
                }
                Ok(watcher::Event::Delete(lease)) => {
                    // The watch delivered every renewal before the deletion, so the time of the last one counts.
                    self.change(|table| {
                        if let Some(held) = table.held.get_mut(&place(&lease)) {
                            held.is_deleted = true;
                        }
                    });
                }
                Err(error) => {
                    debug!(lease = name, %error, "the watch of the Leases of all namespaces was interrupted");
                    self.failed(name, &error);
                    sleep(WatchError::of(&error).pause(failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Lists the Leases, and returns the obstacle afterwards. After an error, they are not known.
    pub(super) async fn list(&self) -> Option<Obstacle> {
        for name in &self.names {
            let api: Api<LeaseObject> = Api::all(self.client.clone());
            let params = ListParams::default().fields(&format!("metadata.name={name}"));
            let error = match timeout(limits::LEASE_REQUEST_TIMEOUT, api.list(&params)).await {
                Ok(Ok(leases)) => {
                    self.listed(name, leases.items);
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "the API server did not reply in time".to_owned(),
            };
            self.change(|table| {
                table.unknown.insert(name.clone(), error);
            });
        }
        self.obstacle()
    }

    fn listed(&self, name: &str, leases: Vec<LeaseObject>) {
        self.change(|table| {
            let places: Vec<Place> = leases.iter().map(place).collect();
            let now = Instant::now();
            for (_, held) in table.held.iter_mut().filter(|(place, _)| place.1 == name && !places.contains(place)) {
                // Nobody saw the deletion, so the holder may have renewed the Lease just before.
                if !held.is_deleted {
                    (held.is_deleted, held.expires) = (true, now + held.duration);
                }
            }
            table.held.retain(|_, held| !held.is_deleted || held.expires > now);
            leases.into_iter().for_each(|lease| self.note(table, lease));
            table.unknown.remove(name);
            table.doubtful.remove(name);
        });
    }

    /// What was known stays known until a list fails. The lists around a change of the leader show what the watch missed.
    fn failed(&self, name: &str, error: &watcher::Error) {
        self.change(|table| {
            table.doubtful.insert(name.to_owned());
            if let Some(why) = table.unknown.get_mut(name) {
                *why = error.to_string();
            }
        });
    }

    /// Stores a Lease. Its time starts again only if it changed.
    fn note(&self, table: &mut Table, lease: LeaseObject) {
        let place = place(&lease);
        let spec = lease.spec.unwrap_or_default();
        let stated = stated_duration(&spec);
        let holder = spec.holder_identity.unwrap_or_default();
        if Some(&place.0) == self.own_namespace.as_ref() || holder.is_empty() {
            table.held.remove(&place);
            return;
        }
        let version = lease.metadata.resource_version;
        if table.held.get(&place).is_some_and(|held| held.version == version) {
            return;
        }
        let duration = stated.unwrap_or(limits::OTHER_LEASE_DURATION).min(limits::OTHER_LEASE_DURATION_MAX);
        let expires = Instant::now() + duration;
        let holder = holder.chars().take(limits::OTHER_LEASE_HOLDER_CHARS).collect();
        table.held.insert(place, Held { holder, version, duration, expires, is_deleted: false });
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.table.lock());
        self.changed.send_replace(());
    }
}

fn place(lease: &LeaseObject) -> Place {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&lease.metadata.namespace), text(&lease.metadata.name))
}
