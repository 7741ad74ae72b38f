//! The World behind one lock. Watches and the writer change it, and reconciles and the webhook read it.

use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use paddock_api::kind::Key;
use paddock_core::admission::{self, Review};
use paddock_core::binding::Bindings;
use paddock_core::plan::{Op, Outcome};
use paddock_core::snapshot::Snapshot;
use paddock_core::world::{Observed, Stale, World};
use paddock_kube::clock::Clock;
use tokio_util::sync::CancellationToken;

/// The World that all parts of the operator share. Clones are handles on the same World.
#[derive(Clone)]
pub struct SharedWorld {
    world: Arc<RwLock<World>>,
    broken: CancellationToken,
    clock: Clock,
}

impl SharedWorld {
    /// Puts a World behind the lock.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world: Arc::new(RwLock::new(world)), broken: CancellationToken::new(), clock: Clock::default() }
    }

    /// The same World, whose decisions use this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The time for decisions and for times in objects.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Cancelled when a panic interrupted a change of the World. The process has to end, and a new one starts from a
    /// list.
    #[must_use]
    pub fn broken(&self) -> &CancellationToken {
        &self.broken
    }

    /// Reads the World under the lock.
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

    /// The snapshot for a decision about one key. Nothing ends before both the local clock and the API server's say so.
    #[must_use]
    pub fn snapshot(&self, key: &Key, now: Timestamp) -> Snapshot {
        let passed = self.clock.passed();
        self.read(|world| world.snapshot(key, now)).with_passed(passed)
    }

    /// Gives ports of the gateway to a Sandbox that should have some. Only a replica that may write calls this.
    pub fn take_ports(&self, key: &Key, now: Timestamp) {
        // Most Sandboxes need none, and a change keeps all readers out.
        if self.read(|world| world.lacks_ports(key)) {
            self.write(|world| world.take_ports(key, now));
        }
    }

    /// Applies an event of a watch. Returns the keys to reconcile.
    #[must_use]
    pub fn observe(&self, observed: Observed, now: Timestamp) -> Vec<Key> {
        self.write(|world| world.observe(observed, now))
    }

    /// Reserves a warm Sandbox for the claim of a review. Returns the name of the Sandbox.
    #[must_use]
    pub fn reserve(&self, review: &Review) -> Option<Arc<str>> {
        self.write(|world| admission::reserve(world, review))
    }

    /// Ends a reservation before it expires.
    pub fn release(&self, namespace: &str, sandbox: &str) {
        self.write(|world| world.release(namespace, sandbox));
    }

    /// Drops old entries that no event will remove.
    pub fn forget_old(&self, now: Timestamp) {
        self.write(|world| world.forget_old(now));
    }

    /// Replaces the plugin bindings. Returns the keys to reconcile.
    #[must_use]
    pub fn set_bindings(&self, bindings: Bindings) -> Vec<Key> {
        self.write(|world| world.set_bindings(bindings))
    }

    /// Adds a pending write for each operation of a step. Returns the operations in the form in which they are sent.
    ///
    /// # Errors
    /// [`Stale`] if the state that the step was planned for has changed, or if the World cannot be trusted any more.
    pub fn begin(&self, step: &[Op]) -> Result<Vec<Op>, Stale> {
        if self.broken.is_cancelled() {
            return Err(Stale);
        }
        self.write(|world| world.begin(step))
    }

    /// Resolves the pending write of one operation. Returns the keys to reconcile.
    #[must_use]
    pub fn finish(&self, op: &Op, outcome: &Outcome, now: Timestamp) -> Vec<Key> {
        self.write(|world| world.finish(op, outcome, now))
    }
}
