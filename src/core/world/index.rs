//! The indexes of the [`World`], which every change updates, and the keys to reconcile after a change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::DrainPolicy;
use paddock_api::kind::{ChildKind, Class, ClusterKind, Key, Kind, OwnKind};
use paddock_api::names::{annotation, condition};

use super::pending_writes::remove_entry;
use super::policy_users::loses_digest;
use super::relations::{origin_pool, pool_of, references, sandbox_of};
use super::state::{NodeTrouble, World};
use crate::as_made::{DETACHED, UNFENCED, same_pod, same_sandbox};
use crate::binding::Bindings;
use crate::conditions::is_true;
use crate::isolation::IsolationRule;
use crate::marker::{marker_of_all, namespace_isolates};
use crate::object::{Body, Object, Pod};
use crate::question::RuntimeClassFact;

impl World {
    /// Replaces the bindings. Returns the keys to reconcile: all pools and Sandboxes, and the claims that have none yet.
    pub fn set_bindings(&mut self, bindings: Bindings) -> Vec<Key> {
        self.bindings = Arc::new(bindings);
        let members: Vec<Key> = self.members.values().flat_map(|members| members.keys().cloned()).collect();
        for member in members {
            // What counts as a touch depends on the bindings.
            self.compare_again(&member);
        }
        // The other claims have their Sandbox, and no plugin decides about them any more.
        let waits = |claim: &&Object| claim.claim().is_some_and(|claim| claim.status.sandbox.is_none());
        let claims = [Kind::Claim, Kind::SeedClaim].into_iter().flat_map(|kind| self.of_kind(kind));
        let claims: Vec<Key> = claims.map(|claim| &**claim).filter(waits).map(|claim| claim.key.clone()).collect();
        let mut keys = self.reconciled_kinds([Kind::Pool, Kind::SeedPool, Kind::Sandbox]);
        keys.extend(claims);
        keys
    }

    /// Puts a newer version of an object into the World, and adds the keys of its dependents to `to_reconcile`.
    pub(super) fn put(&mut self, mut object: Object, now: Timestamp, to_reconcile: &mut BTreeSet<Key>) {
        self.keep_gateways(&mut object);
        if self.settings.throttle_cpu.is_none() {
            object.forget_cpu_of_an_unchanged_pod();
        }
        self.shared.share(&mut object, &self.objects);
        let key = object.key.clone();
        self.pending_writes.observed(&key);
        let before = self.objects.get(&key).cloned();
        if let Some(old) = &before {
            self.unindex(old);
            if pool_of(old) != pool_of(&object) {
                self.forget_member(old);
            }
            self.add_dependents(old, to_reconcile);
        }
        if before.as_ref().is_some_and(|old| old.meta.uid != object.meta.uid) {
            self.touched.remove(&key);
            self.cpu.forget(&key);
        }
        if key.kind == Kind::Sandbox {
            let known = before.as_ref().filter(|old| old.meta.uid == object.meta.uid);
            object.template = self.origin(&object, known.and_then(|old| old.template.as_ref()));
        }
        let object = Arc::new(object);
        self.objects.insert(key, object.clone());
        self.index(&object);
        if let Some(old) = before.as_ref().filter(|old| old.key.kind == Kind::Pod)
            && let Some(sandbox) = sandbox_of(old).filter(|old| sandbox_of(&object).as_ref() != Some(old))
        {
            // The pod had another Sandbox, which is indexed again without it.
            self.index_sandbox(&sandbox);
            if old.meta.uid == object.meta.uid && self.objects.get(&sandbox).is_some_and(|s| s.meta.in_pool()) {
                // Nobody would see what happens to the pod in the meantime.
                self.touch(&sandbox, DETACHED);
            }
        }
        if let Some(sandbox) = before.as_ref().and_then(|old| loses_digest(old, &object))
            && self.objects.get(&sandbox).is_some_and(|s| s.meta.in_pool())
        {
            // The operator restores the label, so nothing else would show it.
            self.touch(&sandbox, UNFENCED);
        }
        let new_version = |old: &Arc<Object>| old.meta.resource_version != object.meta.resource_version;
        if object.key.kind == Kind::RuntimeClass && before.as_ref().is_none_or(new_version) {
            self.compare_members_of(&object.key);
        }
        self.note_demand(before.as_deref(), &object, now);
        self.add_dependents(&object, to_reconcile);
        self.marker_changed(before.as_deref(), &object, to_reconcile);
        if let Some(old) = &before {
            self.policies_changed(old, false, to_reconcile);
        }
        self.policies_changed(&object, false, to_reconcile);
        if object.key.kind == Kind::Pod {
            to_reconcile.extend(self.pool_that_sees(before.as_deref(), &object));
        }
        self.environment_changed(object.key.kind, before.as_deref(), Some(&object), to_reconcile);
        self.tcp_changed(before.as_deref(), Some(&object), now, to_reconcile);
    }

    /// The pool that a change of a pod concerns, before the Sandbox of the pod reports it. A pool adds Sandboxes when its
    /// Sandboxes get pods. It counts the Sandboxes whose status says Ready and whose pods are Ready, and the status may
    /// say so all the time while the pod is not Ready for a moment.
    fn pool_that_sees(&self, before: Option<&Object>, pod: &Object) -> Option<Key> {
        let sandbox = self.objects.get(&sandbox_of(pod)?)?;
        let (key, uid) = pool_of(sandbox)?;
        let is_ready = |pod: &Object| pod.pod().is_some_and(Pod::ready);
        if before.is_some_and(is_ready) != is_ready(pod)
            && sandbox.sandbox().is_some_and(|s| is_true(&s.status.conditions, condition::READY))
        {
            return Some(key);
        }
        let maximum =
            self.objects.get(&key)?.pool()?.spec.as_ref().ok()?.size.at_most(self.settings.max_pool_size).max();
        let members = self.members.get(&(key.clone(), uid))?.len();
        (before.is_none() && members < usize::try_from(maximum).unwrap_or(usize::MAX)).then_some(key)
    }

    /// Removes a deleted object from the World, and adds the keys of its dependents to `to_reconcile`.
    pub(super) fn remove(&mut self, key: &Key, to_reconcile: &mut BTreeSet<Key>) {
        let Some(object) = self.objects.remove(key) else { return };
        self.reservations.remove(key);
        self.touched.remove(key);
        self.cpu.forget(key);
        self.unindex(&object);
        self.forget_member(&object);
        if let Some(sandbox) = sandbox_of(&object).filter(|_| key.kind == Kind::Pod) {
            // The Sandbox is indexed again without this pod.
            self.index_sandbox(&sandbox);
        }
        self.add_dependents(&object, to_reconcile);
        self.policies_changed(&object, true, to_reconcile);
        self.environment_changed(key.kind, Some(&object), None, to_reconcile);
        self.tcp_changed(Some(&object), None, self.last_now, to_reconcile);
        self.demand.remove(key);
    }

    fn index(&mut self, object: &Arc<Object>) {
        let key = &object.key;
        self.reconciled += usize::from(key.kind.own().is_some());
        self.children.extend(child_of(object));
        for target in references(object) {
            self.referrers.entry(target).or_default().insert(key.clone());
        }
        if let Some(pool) = origin_pool(object) {
            self.taken.entry(pool).or_default().insert(key.clone());
        }
        self.index_policies(object);
        self.claim_seen(object);
        if let Some(sandbox) = sandbox_of(object) {
            self.index_sandbox(&sandbox);
            self.add_warm(&sandbox);
        }
    }

    /// Notes that a claim is stored, so its reservation is not wasted.
    fn claim_seen(&mut self, claim: &Object) {
        if claim.claim().is_some()
            && let Some(sandbox) = claim.meta.annotations.get(annotation::SANDBOX_NAME)
            && let Some(stamp) = claim.meta.annotations.get(annotation::FIRST_OBSERVED_AT)
        {
            self.reservations.claim_stored(&Key::new(Kind::Sandbox, &*claim.key.namespace, sandbox), stamp);
        }
    }

    fn unindex(&mut self, object: &Arc<Object>) {
        let key = &object.key;
        self.reconciled -= usize::from(key.kind.own().is_some());
        if let Some(child) = child_of(object) {
            self.children.remove(&child);
        }
        for target in references(object) {
            drop_from(&mut self.referrers, &target, key);
        }
        if let Some(pool) = origin_pool(object) {
            drop_from(&mut self.taken, &pool, key);
        }
        self.unindex_policies(object);
        self.remove_warm_object(object);
        if key.kind == Kind::Sandbox {
            self.without_pod.remove(key);
        }
    }

    /// Removes a Sandbox from the members of its pool. A newer version of a member replaces it, so that
    /// [`World::index_sandbox`] can compare them.
    fn forget_member(&mut self, object: &Object) {
        if let Some(pool) = pool_of(object) {
            remove_entry(&mut self.members, &pool, &object.key);
        }
    }

    /// Updates the indexes that depend on a Sandbox and its pod.
    fn index_sandbox(&mut self, key: &Key) {
        let Some(sandbox) = self.objects.get(key).cloned() else { return };
        let without_pod =
            sandbox.runs() && sandbox.meta.deletion_timestamp.is_none() && self.pods_of(&sandbox).next().is_none();
        if without_pod {
            self.without_pod.insert(key.clone());
        } else {
            self.without_pod.remove(key);
        }
        if let Some(pool) = pool_of(&sandbox) {
            let pod = self.pod_of(&sandbox);
            let member = (sandbox.clone(), pod.clone());
            let before = self.members.entry(pool).or_default().insert(key.clone(), member);
            // Most events of a Sandbox or a pod change its status alone, and the comparison with what was made parses and
            // hashes the spec of the pod.
            let same = before.is_some_and(|(old, old_pod)| {
                (Arc::ptr_eq(&old, &sandbox) || same_sandbox(&old, &sandbox))
                    && same_pod(old_pod.as_deref(), pod.as_deref())
            });
            if !same {
                self.note_touched(key);
            }
        } else {
            self.touched.remove(key);
        }
    }

    /// Adds the keys of the objects that depend on this one. The dependents of cluster-wide objects are added in
    /// [`World::environment_changed`].
    fn add_dependents(&self, object: &Arc<Object>, to_reconcile: &mut BTreeSet<Key>) {
        let key = &object.key;
        match key.kind.class() {
            Class::Own(OwnKind::Sandbox) => {
                to_reconcile.insert(key.clone());
                to_reconcile.extend(object.owner_key());
                // The Sandbox may block the Sandbox that a claim of the same name would create.
                to_reconcile
                    .extend(self.there([Kind::Claim, Kind::SeedClaim].map(|kind| key.sibling(kind, key.name.clone()))));
            }
            Class::Child(ChildKind::Pod | ChildKind::Service | ChildKind::EndpointSlice) => {
                to_reconcile.extend(object.owner_key());
                to_reconcile.extend(self.claim_that_waits_for(object));
                to_reconcile.extend(self.there([key.sibling(Kind::Sandbox, key.name.clone())]));
            }
            Class::Child(ChildKind::VolumeClaim) => {
                to_reconcile.extend(object.owner_key());
                // The name is `<volume>-<sandbox>`, and both parts may contain hyphens.
                let sandboxes = key.name.match_indices('-').map(|(at, _)| &key.name[at + 1..]);
                to_reconcile.extend(self.there(sandboxes.map(|name| key.sibling(Kind::Sandbox, name))));
            }
            // The dependents of a policy are added in [`World::policies_changed`].
            Class::Child(ChildKind::NetworkPolicy) => {}
            Class::Own(OwnKind::Template(_) | OwnKind::Pool(_)) => {
                to_reconcile.insert(key.clone());
                to_reconcile.extend(self.referrers.get(key).into_iter().flatten().cloned());
            }
            Class::Own(OwnKind::Claim(_)) => {
                to_reconcile.insert(key.clone());
                to_reconcile.extend(references(object).into_iter().flat_map(|target| self.pools_using(&target)));
            }
            Class::Cluster(_) => {}
        }
    }

    /// Adds the Sandboxes of a claim, a pool or a template that has got or lost the marker. A running pod that is isolated
    /// gets the marker, and the status reports every other one.
    fn marker_changed(&mut self, before: Option<&Object>, object: &Object, to_reconcile: &mut BTreeSet<Key>) {
        if marker_of_all([before]) == marker_of_all([Some(object)]) {
            return;
        }
        let sandboxes: Vec<Key> = match object.key.kind.class() {
            Class::Own(OwnKind::Template(_)) => {
                self.policies.made_from.get(&object.key).into_iter().flatten().cloned().collect()
            }
            Class::Own(OwnKind::Pool(_) | OwnKind::Claim(_)) => {
                self.children_of(object, Kind::Sandbox).map(|sandbox| sandbox.key.clone()).collect()
            }
            Class::Own(OwnKind::Sandbox) | Class::Child(_) | Class::Cluster(_) => return,
        };
        self.compare_touched(&sandboxes);
        to_reconcile.extend(sandboxes);
    }

    /// The claim of a pod that gets the data of its claim. The claim is Ready only when the pod has the data.
    fn claim_that_waits_for(&self, pod: &Object) -> Option<Key> {
        pod.pod().filter(|pod| pod.claim_secret().is_some())?;
        pod.meta.annotations.get(annotation::CLAIM_DATA)?;
        let owner = self.objects.get(&pod.owner_key()?)?.owner_key()?;
        matches!(owner.kind.own(), Some(OwnKind::Claim(_))).then_some(owner)
    }

    /// Those of the keys whose objects exist.
    fn there(&self, keys: impl IntoIterator<Item = Key>) -> impl Iterator<Item = Key> {
        keys.into_iter().filter(|key| self.objects.contains_key(key))
    }

    /// Adds the keys of the objects that depend on a cluster-wide object: a RuntimeClass, a Node, a Namespace or a
    /// StorageClass.
    fn environment_changed(
        &mut self,
        kind: Kind,
        before: Option<&Object>,
        after: Option<&Object>,
        to_reconcile: &mut BTreeSet<Key>,
    ) {
        let changed = match kind.class() {
            Class::Cluster(ClusterKind::Node | ClusterKind::RuntimeClass) => {
                if let Some(object) = after.or(before) {
                    self.note_node(object, after.is_some(), to_reconcile);
                }
                let classes = self.class_facts();
                let changed = classes != *self.classes;
                self.classes = Arc::new(classes);
                changed
            }
            Class::Cluster(ClusterKind::Namespace) => {
                // No decision was made for objects in the terminating namespace. Objects that were created again in its
                // successor get no other event, so they are reconciled now.
                let left = |o: &&Object| after.is_none_or(|after| after.meta.uid != o.meta.uid);
                if let Some(deleted) = before.filter(|o| o.meta.deletion_timestamp.is_some()).filter(left) {
                    to_reconcile.extend(self.reconciled_in(&deleted.key.name));
                }
                let labels_changed = before.map(|o| &o.meta.labels) != after.map(|o| &o.meta.labels);
                if let Some(namespace) = before.or(after).filter(|_| labels_changed) {
                    let name = &namespace.key.name;
                    let requires = |o: Option<&Object>| {
                        o.is_some_and(|o| namespace_isolates(&self.settings, name, &o.meta.labels))
                    };
                    let begins_or_ends = |rule: &IsolationRule| {
                        let applies = |o: Option<&Object>| o.is_some_and(|o| rule.namespaces.matches(&o.meta.labels));
                        applies(before) != applies(after)
                    };
                    let demand_changed = requires(before) != requires(after);
                    if demand_changed || self.bindings.isolation().iter().any(begins_or_ends) {
                        // Pools replace members that are not isolated, and Sandboxes report such a pod.
                        to_reconcile.extend(self.reconciled_in(name));
                    }
                    let there = self.without_pod.range(Key::new(Kind::Sandbox, name.clone(), "")..);
                    to_reconcile.extend(there.take_while(|key| key.namespace == *name).cloned());
                    if demand_changed {
                        self.compare_touched(&self.touched_in(name));
                    }
                }
                false
            }
            Class::Cluster(ClusterKind::StorageClass) => true,
            Class::Own(_) | Class::Child(_) => false,
        };
        if changed {
            to_reconcile.extend(self.without_pod.iter().cloned());
        }
    }

    /// Records whether the Sandboxes on a node can be handed out. If that changed, the pools that have a Sandbox on the
    /// node are reconciled.
    fn note_node(&mut self, object: &Object, there: bool, to_reconcile: &mut BTreeSet<Key>) {
        let Body::Node(node) = &object.body else { return };
        let name = &object.key.name;
        let before = self.unusable_nodes.get(name).copied();
        let now = match before {
            _ if !there || node.schedulable => None,
            Some(NodeTrouble::CordonedAt(_)) if node.cordoned => before,
            Some(_) | None if node.cordoned => Some(NodeTrouble::CordonedAt(self.last_now)),
            Some(_) | None => Some(NodeTrouble::NotReady),
        };
        match now {
            Some(now) => self.unusable_nodes.insert(name.clone(), now),
            None => self.unusable_nodes.remove(name),
        };
        if before != now {
            to_reconcile.extend(self.pools_on(name).cloned());
        }
        let cordoned = |trouble| matches!(trouble, Some(NodeTrouble::CordonedAt(_)));
        if cordoned(before) != cordoned(now) {
            to_reconcile.extend(self.suspended_by_drain(name));
        }
    }

    /// The Sandboxes on a node that a drain suspends.
    fn suspended_by_drain(&self, node: &str) -> impl Iterator<Item = Key> {
        let there = move |pod: &&Arc<Object>| pod.pod().is_some_and(|pod| pod.node.as_deref() == Some(node));
        let sandboxes = self.of_kind(Kind::Pod).filter(there).filter_map(|pod| sandbox_of(pod));
        sandboxes.filter(|key| {
            let sandbox = self.objects.get(key).and_then(|sandbox| sandbox.sandbox()?.spec.as_ref().ok());
            sandbox.is_some_and(|model| model.drain == DrainPolicy::Suspend)
        })
    }

    /// The pools that have a Sandbox on a node.
    fn pools_on(&self, node: &str) -> impl Iterator<Item = &Key> {
        let there = move |pod: &Object| pod.pod().is_some_and(|pod| pod.node.as_deref() == Some(node));
        let pools = self
            .members
            .iter()
            .filter(move |(_, members)| members.values().any(|(_, pod)| pod.as_ref().is_some_and(|pod| there(pod))));
        pools.map(|((pool, _), _)| pool)
    }

    fn class_facts(&self) -> Vec<RuntimeClassFact> {
        self.of_kind(Kind::RuntimeClass)
            .filter_map(|object| {
                let Body::RuntimeClass(class) = &object.body else { return None };
                let nodes = self
                    .of_kind(Kind::Node)
                    .filter(|n| {
                        let Body::Node(node) = &n.body else { return false };
                        node.schedulable
                            && class.node_selector.iter().all(|(k, v)| n.meta.labels.get(k) == Some(v.as_str()))
                            && node.handlers.as_ref().is_none_or(|h| h.contains(&class.handler))
                    })
                    .count();
                Some(RuntimeClassFact {
                    name: object.key.name.to_string(),
                    handler: class.handler.clone(),
                    isolated: self.settings.isolates(&class.handler),
                    nodes: u32::try_from(nodes).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }
}

/// The entry of an object in the index of children. The operator reads the children of its own kinds only.
fn child_of(object: &Object) -> Option<(Arc<str>, Key)> {
    let uid = &object.meta.controller.as_ref()?.uid;
    object.owner_key().map(|_| (uid.clone(), object.key.clone()))
}

fn drop_from<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = index.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
