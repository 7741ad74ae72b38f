//! What a review sees of the World.

use std::sync::Arc;

use tokio::sync::watch;

use super::app::Look;
use crate::watch::Missing;
use crate::world::SharedWorld;

/// Looks at the World, once everything in it is listed.
#[must_use]
pub fn look(world: SharedWorld, missing: watch::Receiver<Missing>, operator_user: Option<Arc<str>>) -> Look {
    Arc::new(move |review| {
        let complete = missing.borrow().is_empty();
        complete.then(|| world.read(|world| world.review_context(review, operator_user.clone())))
    })
}
