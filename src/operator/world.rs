//! The World behind one lock: watches and the writer change it, reconciles and the webhook look at it.

use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use paddock_core::admission::{self, Review};
use paddock_core::binding::Bindings;
use paddock_core::kind::Key;
use paddock_core::plan::{Op, Outcome};
use paddock_core::snapshot::Snapshot;
use paddock_core::world::{Observed, Stale, World};
use tokio_util::sync::CancellationToken;

/// Clones are handles on the same World.
#[derive(Clone)]
pub struct SharedWorld {
    world: Arc<RwLock<World>>,
    broken: CancellationToken,
}

impl SharedWorld {
    /// Shares a World.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world: Arc::new(RwLock::new(world)), broken: CancellationToken::new() }
    }

    /// Cancelled when a panic left the World half changed: the process must end and begin anew.
    #[must_use]
    pub fn broken(&self) -> &CancellationToken {
        &self.broken
    }

    /// Looks at the World.
    pub fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        match self.world.read() {
            Ok(world) => look(&world),
            Err(poisoned) => {
                self.broken.cancel();
                look(&poisoned.into_inner())
            }
        }
    }

    fn write<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        match self.world.write() {
            Ok(mut world) => change(&mut world),
            Err(poisoned) => {
                self.broken.cancel();
                change(&mut poisoned.into_inner())
            }
        }
    }

    /// Everything about one key, for a decision.
    #[must_use]
    pub fn snapshot(&self, key: &Key, now: Timestamp) -> Snapshot {
        self.read(|world| world.snapshot(key, now))
    }

    /// Takes in what a watch delivered; the keys to reconcile.
    #[must_use]
    pub fn observe(&self, observed: Observed, now: Timestamp) -> Vec<Key> {
        self.write(|world| world.observe(observed, now))
    }

    /// Reserves a warm Sandbox for the claim of a review. Returns its name.
    #[must_use]
    pub fn reserve(&self, review: &Review) -> Option<Arc<str>> {
        self.write(|world| admission::reserve(world, review))
    }

    /// Ends a reservation.
    pub fn release(&self, namespace: &str, sandbox: &str) {
        self.write(|world| world.release(namespace, sandbox));
    }

    /// Forgets what no event will clear.
    pub fn forget_old(&self, now: Timestamp) {
        self.write(|world| world.forget_old(now));
    }

    /// Replaces the plugin bindings; the keys to reconcile.
    #[must_use]
    pub fn set_bindings(&self, bindings: Bindings) -> Vec<Key> {
        self.write(|world| world.set_bindings(bindings))
    }

    /// Marks the operations of a step as pending; how they are to be sent.
    ///
    /// # Errors
    /// [`Stale`] when what they were planned on has changed, or the World cannot be trusted any more.
    pub fn begin(&self, step: &[Op]) -> Result<Vec<Op>, Stale> {
        if self.broken.is_cancelled() {
            return Err(Stale);
        }
        self.write(|world| world.begin(step))
    }

    /// Resolves one pending operation; the keys to reconcile.
    #[must_use]
    pub fn finish(&self, op: &Op, outcome: &Outcome, now: Timestamp) -> Vec<Key> {
        self.write(|world| world.finish(op, outcome, now))
    }
}
