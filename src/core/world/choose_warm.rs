//! The choice of a warm Sandbox for a claim.

use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::kind::{Key, Kind};
use paddock_api::names::{annotation, label};
use serde_json::Value;

use super::relations::{claimable, pool_kind, references, template_kind, template_revision};
use super::state::World;
use crate::manifest::recorded_marker;
use crate::marker::marker_of_all;
use crate::model::{
    ClaimSource, FieldError, FieldErrors, PoolChoice, check_claim_data, check_env, merged_volume_claims,
};
use crate::object::{Body, Object};

/// A warm Sandbox that a claim can take, and its pod.
type Candidate = (Arc<Object>, Arc<Object>);

impl World {
    /// The pool that a claim names, if it exists, and the key of the claim's template, if it is known.
    pub(super) fn pool_and_template(&self, claim: &Object) -> (Option<Arc<Object>>, Option<Key>) {
        let key = &claim.key;
        match claim.claim().and_then(|c| c.spec.as_ref().ok()).map(|c| &c.source) {
            None => (None, None),
            Some(ClaimSource::Pool(name)) => {
                let pool = self.objects.get(&key.sibling(pool_kind(key.kind), name.as_str())).cloned();
                let template = pool.as_ref().and_then(|p| references(p).first().cloned());
                (pool, template)
            }
            Some(ClaimSource::Template { name, pools }) => {
                let pool = match pools {
                    PoolChoice::Any | PoolChoice::NoPool => None,
                    PoolChoice::Named(pool) => self.objects.get(&key.sibling(pool_kind(key.kind), pool.as_str())),
                };
                (pool.cloned(), Some(key.sibling(template_kind(key.kind), name.as_str())))
            }
        }
    }

    /// The pools in which a claim looks for a warm Sandbox. A pool that the claim names may not exist.
    pub(super) fn pools_for(&self, claim: &Object, source: &ClaimSource) -> Vec<Key> {
        let key = &claim.key;
        match source {
            ClaimSource::Pool(name) | ClaimSource::Template { pools: PoolChoice::Named(name), .. } => {
                vec![key.sibling(pool_kind(key.kind), name.as_str())]
            }
            ClaimSource::Template { pools: PoolChoice::NoPool, .. } => vec![],
            ClaimSource::Template { name, pools: PoolChoice::Any } => {
                self.pools_using(&key.sibling(template_kind(key.kind), name.as_str()))
            }
        }
    }

    /// The problems of what a claim brings with the template of the claim, if the template is known.
    #[must_use]
    pub fn problems_of_claim(&self, group: &str, resource: &str, namespace: &str, claim: &Value) -> Vec<FieldError> {
        let has = |field: &str| claim["spec"][field].as_array().is_some_and(|entries| !entries.is_empty());
        let brings = ["files", "env", "volumeClaimTemplates"].into_iter().any(has);
        let kind =
            Kind::of_resource(group, resource).filter(|kind| brings && matches!(kind, Kind::Claim | Kind::SeedClaim));
        let problems = || {
            let claim = requested(kind?, namespace, claim)?;
            let template = self.objects.get(&self.pool_and_template(&claim).1?)?;
            let of_template = template.template()?.spec.as_ref().ok()?;
            let model = claim.claim()?.spec.as_ref().ok()?;
            let checked = check_claim_data(model, of_template, &template.key.name);
            let mut errors = checked.err().map(FieldErrors::into_vec).unwrap_or_default();
            // The review reports the errors of the claim itself.
            let env = check_env(model, of_template).err().filter(|_| model.env_errors.is_none());
            errors.extend(env.map(|problem| FieldError::new("spec.env", problem)));
            let volumes = merged_volume_claims(model, of_template, &self.settings).err();
            let volumes = volumes.filter(|_| model.volume_errors.is_none());
            errors.extend(volumes.map(|problem| FieldError::new("spec.volumeClaimTemplates", problem)));
            Some(errors)
        };
        problems().unwrap_or_default()
    }

    /// Returns the Sandbox that a claim would take, with its pod. The second value is a Sandbox that the claim could
    /// take if its template had not changed.
    pub(super) fn choose_warm(
        &self,
        claim: &Object,
        source: &ClaimSource,
        template: &Object,
        now: Timestamp,
    ) -> (Option<Candidate>, Option<Arc<Object>>) {
        let pools = self.pools_for(claim, source);
        let pools: Vec<&Arc<Object>> = pools.iter().filter_map(|p| self.objects.get(p)).collect();
        // A pod that was made before the namespace, the pool, the template or the claim demanded isolation is not handed
        // out any more.
        let isolate = |pool: &Object| {
            self.requires_isolation(&claim.key.namespace)
                || marker_of_all([Some(claim), Some(template), Some(pool)]).is_generated_code()
        };
        let isolation = self.isolation(&claim.key.namespace);
        let fit = |pool: &Object, sandbox: &Object, pod: &Object| {
            // The pool or the template may have had the marker for a while.
            let isolate = isolate(pool) || recorded_marker(sandbox).is_generated_code();
            !isolate || pod.pod().is_some_and(|pod| isolation.broken_by(pod).is_none())
        };
        let fresh = |sandbox: &Object| {
            sandbox.meta.labels.get(label::TEMPLATE_HASH) == Some(template.template_hash())
                && sandbox.template.as_deref() == Some(&template.key)
        };
        let free = |sandbox: &Object| {
            !self.pending_writes.leaving(&sandbox.key, now, self.settings.unknown_timeout)
                && !self.pending_writes.is_outdated(&sandbox.key, sandbox.meta.version)
        };
        // The reservation, or the choice of an earlier attempt, comes first: the claim may already own that Sandbox in
        // the API server.
        let reserved_name = claim.meta.annotations.get(annotation::SANDBOX_NAME);
        let reserved = reserved_name.and_then(|name| self.objects.get(&claim.key.sibling(Kind::Sandbox, name)));
        let reserved = reserved.filter(|s| free(s) && fresh(s) && !self.touched.contains_key(&s.key)).and_then(|s| {
            claimable(s)?;
            let pool = pools.iter().find(|pool| s.is_child_of(pool))?;
            Some((s.clone(), self.usable_pod(s).filter(|pod| fit(pool, s, pod))?))
        });
        if reserved.is_some() {
            return (reserved, None);
        }
        let mut stale = None;
        for pool in pools {
            let revision = (pool.meta.uid.clone(), template_revision(template.template_hash(), &template.key.name));
            let ours = |key| self.objects.get(key).filter(|s| s.is_child_of(pool) && free(s));
            stale = stale.or_else(|| self.warm.stale(&revision).find_map(ours).cloned());
            let mut warm = self.warm.of(&revision, |node| self.is_usable(node)).filter_map(ours);
            let usable = |s: &Arc<Object>| Some((s.clone(), self.usable_pod(s).filter(|pod| fit(pool, s, pod))?));
            if let Some(found) = warm.find_map(usable) {
                return (Some(found), stale);
            }
        }
        (None, stale)
    }

    /// Whether Sandboxes on a node may be handed out: the node is Ready and not cordoned.
    fn is_usable(&self, node: &str) -> bool {
        match self.objects.get(&Key::new(Kind::Node, "", node)).map(|node| &node.body) {
            Some(Body::Node(node)) => node.schedulable,
            // Either the node was deleted, and its pods will be deleted too, or the operator has no permission to watch
            // nodes. In the second case, and if the pod has no node, the Sandbox is usable.
            Some(_) | None => node.is_empty() || self.of_kind(Kind::Node).next().is_none(),
        }
    }

    /// The pod of a Sandbox, if the Sandbox may be handed out: the pod is Ready, it is not terminating, and its node is
    /// Ready and not cordoned.
    fn usable_pod(&self, sandbox: &Object) -> Option<Arc<Object>> {
        let object = self.pod_of(sandbox)?;
        let pod = object.pod()?;
        let node_ok = pod.node.as_deref().is_none_or(|node| self.is_usable(node));
        (pod.ready() && object.meta.deletion_timestamp.is_none() && node_ok).then_some(object)
    }
}

/// Reads a claim as a user sent it, in the namespace of the request.
pub(super) fn requested(kind: Kind, namespace: &str, document: &Value) -> Option<Object> {
    let mut document = document.clone();
    let metadata = document.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("namespace".to_owned(), namespace.into());
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        // Only the operator writes reservations, so a value from the user is ignored.
        annotations.remove(annotation::SANDBOX_NAME);
    }
    Object::from_json(kind, document)
}
