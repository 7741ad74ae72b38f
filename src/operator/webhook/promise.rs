//! Promises of warm Sandboxes to claims at their admission, by the replica that acts. The others promise nothing.

use std::sync::Arc;

use paddock_core::admission::Review;

use crate::leader::Fence;
use crate::world::SharedWorld;

/// Makes promises and takes them back.
#[derive(Clone)]
pub struct Promises {
    world: SharedWorld,
    fence: Fence,
}

impl Promises {
    /// Promises out of this World, while the fence allows writes.
    #[must_use]
    pub fn new(world: SharedWorld, fence: Fence) -> Self {
        Self { world, fence }
    }

    /// The Sandbox that a claim under review is to have, if it is one and there is one.
    pub(super) fn promise(&self, review: &Review) -> Option<Arc<str>> {
        self.fence.remaining()?;
        // Most reviews are of something else, and need no lock.
        review.resource.ends_with("claims").then(|| self.world.reserve(review)).flatten()
    }

    /// It is not admitted after all.
    pub(super) fn release(&self, review: &Review, sandbox: &str) {
        self.world.release(&review.namespace, sandbox);
    }
}

#[cfg(test)]
mod tests;
