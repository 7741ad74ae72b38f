//! The wishes of sandboxes about their idle policy, which they send from inside: to be kept running, or to be suspended.
//!
//! A sandbox is known by the address from which it connects, and by nothing that it says. Its Sandbox gets an annotation,
//! by a compare-and-swap: if another pod had got the address meanwhile, the Sandbox would have changed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use lru::LruCache;
use paddock_api::activity;
use paddock_api::names::annotation;
use paddock_kube::clock::Clock;
use paddock_kube::fair_queue::FairQueue;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::activity::{InUse, Used};
use super::directory::{Caller, Directory};
use super::feed::Outages;
use super::limits;
use super::patch::{NotPatched, patch_sandbox};

/// The field manager of these writes.
const FIELD_MANAGER: &str = "paddock-sandbox";

/// What a sandbox wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To be kept running for so long.
    Awake(Duration),
    /// To be suspended.
    Idle,
}

/// The reason why a wish was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// The address is not that of a sandbox that clients use.
    #[error(
        "the address {0} is not that of the pod of a running Sandbox; a warm Sandbox, and a pod with hostNetwork or behind \
         address translation, cannot send this request"
    )]
    Stranger(IpAddr),
    /// The Sandbox is never idle.
    #[error("the Sandbox has no spec.idleTimeout, so it is never suspended when idle, and the request has no effect")]
    NeverIdle,
    /// The Sandbox is in use.
    #[error("a request through the gateway is open, so the Sandbox is not idle; send this request when it has ended")]
    InUse,
    /// The last wish of the Sandbox was just written.
    #[error("a Sandbox may send one such request in a second; try again")]
    TooOften,
    /// The API server refused the write.
    #[error("the API server refused it: {0}")]
    Refused(String),
    /// The gateway does not know the Sandboxes, or the API server does not answer.
    #[error("the API server does not answer, or too many of these requests wait; try again")]
    Failed,
}

/// One wish that waits for its write.
struct Job {
    source: IpAddr,
    wish: Wish,
    reply: oneshot::Sender<Result<Timestamp, NotTaken>>,
}

/// Takes wishes. Clones are handles on the same queue.
#[derive(Clone)]
pub(crate) struct Wishes {
    client: Client,
    directory: Directory,
    outages: Outages,
    in_use: InUse,
    clock: Clock,
    queue: FairQueue<Job>,
    /// The times of the last wishes, by the UID of the Sandbox.
    last: Arc<Mutex<LruCache<Arc<str>, Instant>>>,
}

impl Wish {
    /// The time that the wish is about, and the annotations that express it.
    fn annotations(self, now: Timestamp) -> (Timestamp, Value) {
        let (until, since) = (annotation::KEEP_AWAKE_UNTIL, annotation::IDLE_SINCE);
        match self {
            Wish::Awake(time) => {
                let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
                let at = now.checked_add(time).unwrap_or(Timestamp::MAX);
                (at, json!({ until: activity::text(at), since: null }))
            }
            Wish::Idle => (now, json!({ until: null, since: activity::text(now) })),
        }
    }
}

impl Wishes {
    pub(crate) fn new(client: Client, directory: Directory, outages: Outages, in_use: InUse, clock: Clock) -> Self {
        let queue = FairQueue::new(limits::WISH_QUEUE);
        let last = Arc::new(Mutex::new(LruCache::new(limits::WISH_MEMORY)));
        Self { client, directory, outages, in_use, clock, queue, last }
    }

    /// Writes the wish of the sandbox with this address, and returns the time that it is about.
    ///
    /// # Errors
    /// If there is no such sandbox, or its wish has no effect or is not allowed.
    pub(crate) async fn take(&self, source: IpAddr, wish: Wish) -> Result<Timestamp, NotTaken> {
        let caller = self.caller(source)?;
        self.check(&caller, wish)?;
        let now = Instant::now();
        let recent = |at: &Instant| now.duration_since(*at) < limits::WISH_INTERVAL;
        {
            let mut last = self.last.lock();
            if last.peek(&caller.version.uid).is_some_and(recent) {
                return Err(NotTaken::TooOften);
            }
            last.put(caller.version.uid.clone(), now);
        }
        let (reply, answer) = oneshot::channel();
        let job = Job { source, wish, reply };
        // A full queue drops a job, which tells its request.
        self.queue.push(&caller.name.namespace, &caller.name.name, job, |_| false);
        match timeout(limits::WISH_TIMEOUT, answer).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(_)) | Err(_) => Err(NotTaken::Failed),
        }
    }

    /// Makes the writes, until the future is dropped.
    pub(crate) async fn run(self) {
        let queue = self.queue.clone();
        queue
            .run(async |job: Job| {
                // Nobody waits for the answer any more.
                if job.reply.is_closed() {
                    return;
                }
                let taken = self.write(job.source, job.wish).await;
                let _ = job.reply.send(taken);
            })
            .await;
    }

    fn caller(&self, source: IpAddr) -> Result<Caller, NotTaken> {
        if self.outages.is_stale() || !self.directory.is_complete() {
            return Err(NotTaken::Failed);
        }
        self.directory.caller(source).ok_or(NotTaken::Stranger(source))
    }

    fn check(&self, caller: &Caller, wish: Wish) -> Result<(), NotTaken> {
        if !caller.can_be_idle {
            return Err(NotTaken::NeverIdle);
        }
        let (uid, pod_uid) = (caller.version.uid.clone(), caller.pod_uid.clone());
        let used = Used { name: caller.name.clone(), uid, pod_uid };
        match wish {
            Wish::Idle if self.in_use.is_open(&used) => Err(NotTaken::InUse),
            Wish::Idle | Wish::Awake(_) => Ok(()),
        }
    }

    async fn write(&self, source: IpAddr, wish: Wish) -> Result<Timestamp, NotTaken> {
        for _ in 0..limits::WISH_ATTEMPTS {
            let caller = self.caller(source)?;
            self.check(&caller, wish)?;
            let (at, annotations) = wish.annotations(self.clock.now());
            let (sandbox, namespace) = (&*caller.name.name, &*caller.name.namespace);
            match self.patch(&caller, &annotations).await {
                Ok(()) => {
                    info!(sandbox, namespace, ?wish, "a sandbox sent a wish");
                    return Ok(at);
                }
                Err(NotPatched::Changed) => self.directory.newer(&caller.name, caller.version.number).await,
                Err(NotPatched::Refused(error)) => {
                    warn!(sandbox, namespace, error, "the wish of a sandbox was refused");
                    return Err(NotTaken::Refused(error));
                }
                Err(NotPatched::Failed(error)) => {
                    warn!(sandbox, namespace, error, "the wish of a sandbox was not written");
                    return Err(NotTaken::Failed);
                }
            }
        }
        Err(NotTaken::Failed)
    }

    async fn patch(&self, caller: &Caller, annotations: &Value) -> Result<(), NotPatched> {
        let version = &caller.version;
        let patch = json!({ "metadata": {
            "uid": version.uid, "resourceVersion": version.resource_version, "annotations": annotations,
        } });
        patch_sandbox((&self.client, &self.directory), &caller.name, FIELD_MANAGER, &patch).await
    }
}
