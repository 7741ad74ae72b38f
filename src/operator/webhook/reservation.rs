//! Reservations of warm Sandboxes by the replica that leads. The other replicas reserve nothing.

use std::sync::Arc;

use paddock_core::admission::{Review, WarmReservations};

use crate::leader::Fence;
use crate::world::SharedWorld;

/// Reserves Sandboxes of this replica's World while the fence allows writes.
pub(super) struct LeaderReservations {
    world: SharedWorld,
    fence: Fence,
}

impl LeaderReservations {
    /// Reserves out of this World, behind this fence.
    #[must_use]
    pub(super) fn new(world: SharedWorld, fence: Fence) -> Self {
        Self { world, fence }
    }
}

impl WarmReservations for LeaderReservations {
    fn reserve(&self, review: &Review) -> Option<Arc<str>> {
        self.fence.remaining()?;
        // Most reviews are of something else, and need no lock.
        review.resource.ends_with("claims").then(|| self.world.reserve(review)).flatten()
    }

    fn release(&self, review: &Review, sandbox: &str) {
        self.world.release(&review.namespace, sandbox);
    }
}

#[cfg(test)]
mod tests;
