//! Records that Sandboxes are in use, as rarely as the rules in `paddock_api::activity` allow.
//!
//! A Sandbox is busy for as long as a request or connection to its pod is open. Twice a second, the busy ones whose records have
//! to move are queued, and the queue writes them at a rate that the namespaces share.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use paddock_api::activity::{self, FIELD_MANAGER};
use paddock_api::names::annotation;
use paddock_api::open_connections::SandboxConnections;
use paddock_kube::clock::Clock;
use paddock_kube::fair_queue::{FairQueue, Queued};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::directory::{Directory, Version};
use super::limits;
use super::metrics::{Metrics, RecordResult};
use super::observed::Name;
use super::patch::{NotPatched, patch_sandbox};

/// The Sandboxes in use. Clones are handles on the same Sandboxes.
#[derive(Clone)]
pub(crate) struct InUse {
    client: Client,
    directory: Directory,
    metrics: Metrics,
    clock: Clock,
    queue: FairQueue<(Used, Timestamp)>,
    uses: Arc<Mutex<HashMap<Used, Use>>>,
    /// The UIDs of the Sandboxes whose records are being written.
    writing: Arc<Mutex<HashSet<Arc<str>>>>,
}

/// What is used: one pod of one Sandbox. A stream to a pod that is gone is no use of the next pod, or of another Sandbox
/// of the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Used {
    pub(crate) name: Name,
    pub(crate) uid: Arc<str>,
    pub(crate) pod_uid: Arc<str>,
}

/// The use of one pod.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// The number of open requests and connections.
    open: usize,
    /// The last time at which one was open to a pod that answered for its Sandbox.
    last: Timestamp,
}

/// An open request or connection, until it is dropped.
pub(crate) struct Busy {
    of: InUse,
    used: Used,
}

impl InUse {
    pub(crate) fn new(client: Client, directory: Directory, metrics: Metrics, clock: Clock) -> Self {
        let queue = FairQueue::new(limits::ACTIVITY_QUEUE);
        Self { client, directory, metrics, clock, queue, uses: Arc::default(), writing: Arc::default() }
    }

    /// Marks a Sandbox as busy.
    pub(crate) fn begin(&self, used: &Used) -> Busy {
        let now = self.clock.now();
        self.uses.lock().entry(used.clone()).or_insert(Use { open: 0, last: now }).open += 1;
        // The Sandbox may be about to be idle.
        if self.directory.to_record(&used.name, &used.uid, now, now).is_some() {
            self.push(used.clone(), now);
        }
        Busy { of: self.clone(), used: used.clone() }
    }

    /// Writes the records, until the future is dropped.
    pub(crate) async fn run(self) {
        let queue = self.queue.clone();
        let writes = queue.run(async |(used, at): (Used, Timestamp)| {
            // The Directory has a record when its write is answered. What is due after that is found by the next look.
            let Some(_writing) = Writing::begin(&self.writing, &used.uid) else { return };
            // The record may have moved while this one waited.
            let result = match self.directory.to_record(&used.name, &used.uid, at, self.clock.now()) {
                Some(version) => self.record(&used.name, &version, at).await,
                None => RecordResult::NotNeeded,
            };
            self.metrics.record(result);
        });
        tokio::join!(self.look(), writes);
    }

    /// Whether a request or connection to this pod is open.
    pub(crate) fn is_open(&self, used: &Used) -> bool {
        self.uses.lock().get(used).is_some_and(|of| of.open > 0)
    }

    /// The number of open requests and connections to each pod, in the order of the names.
    pub(crate) fn open(&self) -> Vec<SandboxConnections> {
        // Every request waits for the lock, so the texts are made later.
        let mut open: Vec<(Used, usize)> = {
            let uses = self.uses.lock();
            uses.iter().filter(|(_, of)| of.open > 0).map(|(used, of)| (used.clone(), of.open)).collect()
        };
        open.sort_by(|(one, _), (other, _)| (&one.name, &one.pod_uid).cmp(&(&other.name, &other.pod_uid)));
        let entry = |(used, open): (Used, usize)| SandboxConnections {
            namespace: used.name.namespace.to_string(),
            name: used.name.name.to_string(),
            pod_uid: used.pod_uid.to_string(),
            open: u32::try_from(open).unwrap_or(u32::MAX),
        };
        open.into_iter().map(entry).collect()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.uses.lock().is_empty()
    }

    async fn look(&self) {
        let mut ticks = interval(limits::ACTIVITY_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (used, at) in self.due(self.clock.now()) {
                self.push(used, at);
            }
        }
    }

    fn push(&self, used: Used, at: Timestamp) {
        let Name { namespace, name: object } = used.name.clone();
        let same = |(waiting, _): &(Used, Timestamp)| waiting.uid == used.uid;
        if self.queue.push(&namespace, &object, (used.clone(), at), same) == Queued::Dropped {
            self.metrics.record(RecordResult::Dropped);
        }
    }

    /// The Sandboxes whose records have to move, and the times of their last use. A Sandbox that is not in use any more
    /// and needs no record is forgotten.
    fn due(&self, now: Timestamp) -> Vec<(Used, Timestamp)> {
        let mut due = Vec::new();
        self.uses.lock().retain(|used, of| {
            if of.open > 0 && self.directory.answers(&used.name, &used.uid, &used.pod_uid) {
                of.last = of.last.max(now);
            }
            let moves = self.directory.to_record(&used.name, &used.uid, of.last, now).is_some();
            if moves {
                due.push((used.clone(), of.last));
            }
            of.open > 0 || moves
        });
        due
    }

    async fn record(&self, name: &Name, version: &Version, at: Timestamp) -> RecordResult {
        // The UID is a precondition, because another Sandbox with this name was not used.
        let patch = json!({
            "metadata": { "uid": version.uid, "annotations": { annotation::LAST_ACTIVITY: activity::text(at) } },
        });
        match patch_sandbox((&self.client, &self.directory), name, FIELD_MANAGER, &patch).await {
            Ok(()) => RecordResult::Written,
            Err(NotPatched::Changed) => RecordResult::NotNeeded,
            Err(NotPatched::Refused(error) | NotPatched::Failed(error)) => {
                let (sandbox, namespace) = (&*name.name, &*name.namespace);
                warn!(sandbox, namespace, error, "a record of activity was not written, and is tried again");
                RecordResult::Failed
            }
        }
    }
}

/// The write of a record, until it is dropped. There is one at a time for each Sandbox.
struct Writing {
    all: Arc<Mutex<HashSet<Arc<str>>>>,
    uid: Arc<str>,
}

impl Writing {
    fn begin(all: &Arc<Mutex<HashSet<Arc<str>>>>, uid: &Arc<str>) -> Option<Self> {
        let first = all.lock().insert(uid.clone());
        first.then(|| Self { all: all.clone(), uid: uid.clone() })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.all.lock().remove(&self.uid);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self { of, used } = self;
        let answers = of.directory.answers(&used.name, &used.uid, &used.pod_uid);
        if let Some(of_pod) = of.uses.lock().get_mut(used) {
            of_pod.open = of_pod.open.saturating_sub(1);
            if answers {
                of_pod.last = of_pod.last.max(of.clock.now());
            }
        }
    }
}
