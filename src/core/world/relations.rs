//! Relations between objects, read from the objects alone: owners, references, pools.

use std::sync::Arc;

use paddock_api::kind::{Key, Kind};
use paddock_api::names::{annotation, condition, group, label};

use super::warm::PoolRevision;
use crate::conditions::is_true;
use crate::model::{ClaimSource, PoolChoice};
use crate::object::Object;

/// The kind of pools in the API shape of `kind`.
pub(super) fn pool_kind(kind: Kind) -> Kind {
    Kind::pool(kind.shape().unwrap_or_default())
}

/// The kind of templates in the API shape of `kind`.
pub(super) fn template_kind(kind: Kind) -> Kind {
    Kind::template(kind.shape().unwrap_or_default())
}

/// The templates and pools that a pool or a claim depends on by name. A claim whose status names a Sandbox depends on
/// none.
pub(super) fn references(object: &Object) -> Vec<Key> {
    let key = &object.key;
    if let Some(Ok(pool)) = object.pool().map(|p| &p.spec) {
        return vec![key.sibling(template_kind(key.kind), pool.template.as_str())];
    }
    let Some(claim) = object.claim() else { return vec![] };
    if claim.status.sandbox.as_ref().is_some_and(|s| s.name.is_some()) {
        return vec![];
    }
    match claim.spec.as_ref().map(|c| &c.source) {
        Err(_) => vec![],
        Ok(ClaimSource::Pool(pool)) => vec![key.sibling(pool_kind(key.kind), pool.as_str())],
        Ok(ClaimSource::Template { name, pools }) => {
            let template = key.sibling(template_kind(key.kind), name.as_str());
            match pools {
                PoolChoice::Any | PoolChoice::NoPool => vec![template],
                PoolChoice::Named(pool) => vec![template, key.sibling(pool_kind(key.kind), pool.as_str())],
            }
        }
    }
}

/// The pool that a Sandbox of a claim came from.
pub(super) fn origin_pool(object: &Object) -> Option<Key> {
    let owner = object.meta.controller.as_ref()?;
    if object.key.kind != Kind::Sandbox || &*owner.kind != "SandboxClaim" {
        return None;
    }
    let pool = object.meta.annotations.get(annotation::WARM_POOL)?;
    let kind = if owner.api_version.starts_with(group::EXTENSIONS) { Kind::Pool } else { Kind::SeedPool };
    Some(object.key.sibling(kind, pool))
}

/// The key of the object if it is a Sandbox, or of its Sandbox if it is a pod.
pub(super) fn sandbox_of(object: &Object) -> Option<Key> {
    let key = &object.key;
    if key.kind == Kind::Pod {
        return object.owner_key().filter(|owner| owner.kind == Kind::Sandbox);
    }
    (key.kind == Kind::Sandbox).then(|| key.clone())
}

/// The pool that controls a Sandbox: its key and its UID, because the UID alone is public.
pub(super) fn pool_of(sandbox: &Object) -> Option<(Key, Arc<str>)> {
    let owner = sandbox.meta.controller.as_ref().filter(|_| sandbox.meta.in_pool())?;
    Some((owner.key(&sandbox.key)?, owner.uid.clone()))
}

/// The UID of the pool that controls a Sandbox, if the Sandbox is Ready and not terminating. A claim can take it if nobody
/// touched it.
pub(super) fn claimable(object: &Object) -> Option<Arc<str>> {
    let owner = object.meta.controller.as_ref()?;
    let ready = is_true(&object.sandbox()?.status.conditions, condition::READY);
    let stays = object.meta.deletion_timestamp.is_none();
    (object.meta.in_pool() && ready && stays).then(|| owner.uid.clone())
}

/// The pool and the template revision of a Sandbox, if a claim can take the Sandbox.
pub(super) fn pool_revision(object: &Object) -> Option<PoolRevision> {
    let hash = object.meta.labels.get(label::TEMPLATE_HASH).unwrap_or_default();
    let template = object.template.as_ref().map_or("", |template| &*template.name);
    Some((claimable(object)?, template_revision(hash, template)))
}

/// The revision of a template: its hash and its name. The Sandboxes of two equal templates differ, because each
/// template has a NetworkPolicy of its own.
pub(super) fn template_revision(hash: &str, name: &str) -> Arc<str> {
    format!("{hash}/{name}").into()
}
