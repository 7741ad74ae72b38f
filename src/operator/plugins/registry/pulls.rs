//! The images of all SandboxPlugins, each with a task that follows it.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::{FutureExt as _, Stream, stream};
use kube::ResourceExt as _;
use paddock_api::{OciImage, SandboxPlugin};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::progress::{Found, Progress};
use super::puller::{PullCount, Puller, reference};
use super::verification::Demands;
use crate::limits;
use crate::plugins::objects::{Component, Fault, FaultReason};

/// The image that a SandboxPlugin names, and the conditions for its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plugins) struct Wanted {
    uid: String,
    image: OciImage,
    /// The digest that the component has to have. The answers of the registry from before this wish say nothing about it.
    digest: Option<String>,
}

impl Wanted {
    /// The image of a SandboxPlugin. `None` if it has another source.
    pub(in crate::plugins) fn of(plugin: &SandboxPlugin) -> Option<Self> {
        let image = plugin.spec.source.oci.clone()?;
        Some(Self { uid: plugin.uid().unwrap_or_default(), image, digest: plugin.spec.digest.clone() })
    }
}

/// What is known of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::plugins) struct Pulled {
    /// The component that was pulled last.
    pub(in crate::plugins) component: Option<Component>,
    /// The fault of the last attempt.
    pub(in crate::plugins) fault: Option<Fault>,
    /// The keys that must have signed the image, as a digest. `None` if none must.
    pub(in crate::plugins) trust: Option<String>,
}

/// The end of an attempt.
pub(in crate::plugins) struct PullUpdate {
    plugin: String,
    wanted: Wanted,
    component: Option<Component>,
    fault: Option<Fault>,
    outcome: &'static str,
}

/// The images of all SandboxPlugins.
pub(in crate::plugins) struct Pulls {
    puller: Arc<Puller>,
    updates: mpsc::Sender<PullUpdate>,
    tasks: BTreeMap<String, Task>,
}

/// The task of an image, which ends when this is dropped.
struct Task {
    wanted: Wanted,
    pulled: Pulled,
    _stop: DropGuard,
}

impl Pulls {
    /// No images, and the updates about those that follow.
    pub(in crate::plugins) fn new(puller: Arc<Puller>) -> (Self, impl Stream<Item = PullUpdate> + Send + use<>) {
        let (updates, receiver) = mpsc::channel(limits::PLUGIN_PULL_UPDATES);
        let received = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        (Self { puller, updates, tasks: BTreeMap::new() }, received)
    }

    /// Follows these images and no other ones. An image whose conditions have changed is pulled anew, because it may be used
    /// only under them.
    pub(in crate::plugins) fn want(&mut self, wanted: BTreeMap<String, Wanted>) {
        let mut former = std::mem::take(&mut self.tasks);
        for plugin in former.keys().filter(|plugin| !wanted.contains_key(*plugin)) {
            self.puller.count(PullCount::Ended { plugin });
        }
        for (plugin, wanted) in wanted {
            let unchanged = former.remove(&plugin).filter(|task| task.wanted == wanted);
            let task = unchanged.unwrap_or_else(|| self.start(&plugin, wanted));
            self.tasks.insert(plugin, task);
        }
    }

    /// What is known of the image of a SandboxPlugin. `None` if it has none.
    pub(in crate::plugins) fn pulled(&self, plugin: &str) -> Option<&Pulled> {
        self.tasks.get(plugin).map(|task| &task.pulled)
    }

    /// Takes in the end of an attempt, unless the SandboxPlugin names another image by now.
    pub(in crate::plugins) fn take_in(&mut self, update: PullUpdate) {
        let PullUpdate { plugin, wanted, component, fault, outcome } = update;
        let Some(task) = self.tasks.get_mut(&plugin).filter(|task| task.wanted == wanted) else { return };
        let is_good = fault.is_none();
        (task.pulled.component, task.pulled.fault) = (component, fault);
        self.puller.count(PullCount::Tried { plugin: &plugin, outcome, is_good });
    }

    fn start(&self, plugin: &str, wanted: Wanted) -> Task {
        let demands = self.puller.demands(&wanted.image);
        let pulled = Pulled { trust: demands.trust(), ..Pulled::default() };
        let stop = CancellationToken::new();
        let following = Following {
            puller: Arc::clone(&self.puller),
            updates: self.updates.clone(),
            plugin: plugin.to_owned(),
            wanted: wanted.clone(),
            demands,
        };
        let until = stop.clone();
        tokio::spawn(async move { until.run_until_cancelled(following.run()).await });
        Task { wanted, pulled, _stop: stop.drop_guard() }
    }
}

/// Follows one image.
struct Following {
    puller: Arc<Puller>,
    updates: mpsc::Sender<PullUpdate>,
    plugin: String,
    wanted: Wanted,
    demands: Demands,
}

impl Following {
    async fn run(self) {
        let Self { puller, updates, plugin, wanted, demands } = self;
        let is_pinned = reference(&wanted.image).is_ok_and(|reference| reference.digest().is_some());
        let mut progress = Progress::new(puller.poll(), is_pinned);
        let mut random = fastrand::Rng::new();
        loop {
            let attempt = puller.attempt(&wanted.image, &demands, progress.component());
            // A panic about the answers of one registry would end the updates of the image unseen.
            let result = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| {
                Err(Fault::new(FaultReason::Unreachable, "the attempt to pull the image panicked; the log says why"))
            });
            let outcome = match &result {
                Ok(Found::New(_)) => "Pulled",
                Ok(Found::Same) => "Unchanged",
                Err(fault) => fault.reason.as_str(),
            };
            progress.take_in(result);
            let update = PullUpdate {
                plugin: plugin.clone(),
                wanted: wanted.clone(),
                component: progress.component().cloned(),
                fault: progress.fault().cloned(),
                outcome,
            };
            if updates.send(update).await.is_err() {
                return;
            }
            match progress.wait(random.f64()) {
                Some(wait) => sleep(wait).await,
                None => return,
            }
        }
    }
}
