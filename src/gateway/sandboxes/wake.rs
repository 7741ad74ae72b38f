//! Wakes suspended Sandboxes: one write for each, however many requests wait for it.
//!
//! The write is a compare-and-swap. If somebody changed the Sandbox meanwhile, the directory says whether it still has to
//! be woken.

use std::collections::HashMap;
use std::sync::Arc;

use kube::Client;
use paddock_api::activity;
use paddock_api::names::annotation;
use paddock_kube::clock::Clock;
use paddock_kube::fair_queue::FairQueue;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::directory::{Directory, Version};
use super::limits;
use super::metrics::{Metrics, WakeResult};
use super::observed::Name;
use super::patch::{NotPatched, patch_sandbox};

/// The field manager of the writes that wake Sandboxes.
const FIELD_MANAGER: &str = "paddock-gateway";

/// The end of a wake, for the requests that wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The Sandbox is to run.
    Written,
    /// The Sandbox has changed, and need not be woken. The directory knows more.
    NotNeeded,
    /// The API server refused the write, with its text.
    Refused(Arc<str>),
    /// The API server could not be asked, or too many wakes wait.
    Failed,
}

/// Wakes Sandboxes. Clones are handles on the same wakes.
#[derive(Clone)]
pub(crate) struct Wake {
    client: Client,
    directory: Directory,
    metrics: Metrics,
    clock: Clock,
    queue: FairQueue<Job>,
    running: Arc<Mutex<HashMap<Name, watch::Receiver<Option<Woken>>>>>,
    refused: Arc<Mutex<HashMap<Name, Refused>>>,
}

/// A wake that the API server refused.
struct Refused {
    at: Instant,
    why: Arc<str>,
}

/// One wake. It has failed if it is dropped before its writes ended.
struct Job {
    name: Name,
    uid: Arc<str>,
    woken: Woken,
    done: watch::Sender<Option<Woken>>,
    of: Wake,
}

impl Woken {
    fn result(&self) -> WakeResult {
        match self {
            Woken::Written => WakeResult::Woken,
            Woken::NotNeeded => WakeResult::NotNeeded,
            Woken::Refused(_) => WakeResult::Refused,
            Woken::Failed => WakeResult::Failed,
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.of.metrics.wake(self.woken.result());
        if let Woken::Refused(why) = &self.woken {
            let refused = Refused { at: Instant::now(), why: why.clone() };
            self.of.refused.lock().insert(self.name.clone(), refused);
        }
        // A request that looks again after the end may begin another wake.
        self.of.running.lock().remove(&self.name);
        self.done.send_replace(Some(self.woken.clone()));
    }
}

impl Wake {
    pub(crate) fn new(client: Client, directory: Directory, metrics: Metrics, clock: Clock) -> Self {
        let queue = FairQueue::new(limits::WAKE_QUEUE);
        Self { client, directory, metrics, clock, queue, running: Arc::default(), refused: Arc::default() }
    }

    /// Wakes the Sandbox with this UID, or waits for the wake that another request began. A later Sandbox of the name is not
    /// woken. The wake goes on if the future is dropped.
    pub(crate) async fn wake(&self, name: &Name, uid: &Arc<str>) -> Woken {
        let mut wake = match self.join(name, uid) {
            Ok(wake) => wake,
            Err(refused) => return Woken::Refused(refused),
        };
        match wake.wait_for(Option::is_some).await {
            Ok(done) => done.clone().unwrap_or(Woken::Failed),
            Err(_) => Woken::Failed,
        }
    }

    fn join(&self, name: &Name, uid: &Arc<str>) -> Result<watch::Receiver<Option<Woken>>, Arc<str>> {
        let mut running = self.running.lock();
        if let Some(wake) = running.get(name) {
            return Ok(wake.clone());
        }
        let mut refused = self.refused.lock();
        refused.retain(|_, refused| refused.at.elapsed() < limits::REFUSED_TIME);
        if let Some(refused) = refused.get(name) {
            return Err(refused.why.clone());
        }
        drop(refused);
        let (done, wake) = watch::channel(None);
        running.insert(name.clone(), wake.clone());
        drop(running);
        let woken = Woken::Failed;
        let job = Job { name: name.clone(), uid: uid.clone(), woken, done, of: self.clone() };
        // A full queue drops a wake, which tells its requests.
        self.queue.push(&name.namespace, &name.name, job, |_| false);
        Ok(wake)
    }

    /// Makes the writes, until the future is dropped.
    pub(crate) async fn run(self) {
        let queue = self.queue.clone();
        queue
            .run(async |mut job: Job| {
                job.woken = self.write(&job.name, &job.uid).await;
            })
            .await;
    }

    async fn write(&self, name: &Name, uid: &Arc<str>) -> Woken {
        let mut pauses = limits::WAKE_BACKOFF.delays();
        for _ in 0..limits::WAKE_ATTEMPTS {
            let Some(version) = self.directory.wakeable(name).filter(|version| version.uid == *uid) else {
                return Woken::NotNeeded;
            };
            match self.patch(name, &version).await {
                Ok(()) => {
                    info!(sandbox = &*name.name, namespace = &*name.namespace, "woken by a request");
                    return Woken::Written;
                }
                Err(NotPatched::Changed) => self.directory.newer(name, version.number).await,
                Err(NotPatched::Refused(error)) => {
                    warn!(sandbox = &*name.name, namespace = &*name.namespace, error, "a wake was refused");
                    return Woken::Refused(error.into());
                }
                Err(NotPatched::Failed(error)) => {
                    warn!(sandbox = &*name.name, namespace = &*name.namespace, error, "a wake failed and is repeated");
                    sleep(pauses.next().unwrap_or_default()).await;
                }
            }
        }
        Woken::Failed
    }

    /// Sets both mode fields, and removes the record of who suspended the Sandbox. The wake is a sign of activity, which
    /// needs no write of its own.
    async fn patch(&self, name: &Name, version: &Version) -> Result<(), NotPatched> {
        let patch = json!({
            "metadata": {
                "uid": version.uid,
                "resourceVersion": version.resource_version,
                "annotations": {
                    annotation::SUSPENDED_BY: null,
                    annotation::LAST_ACTIVITY: activity::text(self.clock.now()),
                },
            },
            "spec": { "operatingMode": "Running", "replicas": 1 },
        });
        patch_sandbox((&self.client, &self.directory), name, FIELD_MANAGER, &patch).await
    }
}
