//! What a review sees of the World.

use std::sync::Arc;

use paddock_core::kind::{Key, Kind};
use paddock_core::names::group;
use paddock_core::review::{ConnectedSandbox, Context, Review, Verb};
use paddock_core::world::World;
use tokio::sync::watch;

use super::app::Look;
use crate::watch::Missing;
use crate::world::SharedWorld;

/// Looks at the World, once everything in it is listed.
#[must_use]
pub fn look(world: SharedWorld, missing: watch::Receiver<Missing>, operator_user: Option<Arc<str>>) -> Look {
    Arc::new(move |review| {
        let complete = missing.borrow().is_empty();
        complete.then(|| world.read(|world| context(world, review, operator_user.clone())))
    })
}

fn context(world: &World, review: &Review, operator_user: Option<Arc<str>>) -> Context {
    let namespace = world.get(&Key::new(Kind::Namespace, "", review.namespace.as_str()));
    Context {
        namespace_labels: namespace.map(|n| n.meta.labels.clone()).unwrap_or_default(),
        classes: world.classes().clone(),
        bindings: world.bindings().clone(),
        settings: world.settings().clone(),
        operator_user,
        sandbox: (review.operation == Verb::Connect).then(|| connected(world, review)).flatten(),
    }
}

/// The Sandbox that controls the Pod that is connected to.
fn connected(world: &World, review: &Review) -> Option<ConnectedSandbox> {
    let pod = world.get(&Key::new(Kind::Pod, review.namespace.as_str(), review.name.as_str()))?;
    let owner = pod.meta.controller.as_ref()?;
    if owner.kind != Kind::Sandbox.name() || owner.api_version.split('/').next() != Some(group::AGENTS) {
        return None;
    }
    let sandbox = world.get(&pod.key.sibling(Kind::Sandbox, owner.name.clone()))?;
    if sandbox.meta.uid != owner.uid {
        return None;
    }
    let idle_timeout = sandbox.sandbox().and_then(|s| s.spec.as_ref().ok()).and_then(|model| model.idle_timeout);
    Some(ConnectedSandbox {
        key: sandbox.key.clone(),
        uid: sandbox.meta.uid.clone(),
        idle_timeout,
        annotations: sandbox.meta.annotations.clone(),
    })
}
