//! Reserves warm Sandboxes for claims under review, on the replica that leads. Other replicas reserve nothing.

use std::sync::Arc;

use paddock_core::admission::{Review, WarmReservations};

use crate::world::SharedWorld;
use paddock_kube::leader::Fence;

/// Reserves Sandboxes in this replica's World while the fence allows writes.
pub(super) struct LeaderReservations {
    world: SharedWorld,
    fence: Fence,
}

impl LeaderReservations {
    /// Reserves in this World. The fence decides whether this replica may.
    #[must_use]
    pub(super) fn new(world: SharedWorld, fence: Fence) -> Self {
        Self { world, fence }
    }
}

impl WarmReservations for LeaderReservations {
    fn reserve(&self, review: &Review) -> Option<Arc<str>> {
        self.fence.remaining()?;
        // Most reviews are about other kinds and do not need the lock.
        review.resource.ends_with("claims").then(|| self.world.reserve(review)).flatten()
    }

    fn release(&self, review: &Review, sandbox: &str) {
        self.world.release(&review.namespace, sandbox);
    }
}

#[cfg(test)]
mod tests;
