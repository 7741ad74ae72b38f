//! Makes the snapshot of an object from the [`World`].

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::kind::{Class, Key, Kind, OwnKind};

use super::relations::references;
use super::state::{NodeTrouble, World};
use crate::manifest;
use crate::marker::marker_of_all;
use crate::network_policy::{self, NetworkPolicyState, Ownership, is_template};
use crate::object::Object;
use crate::snapshot::{
    ClaimSnapshot, Common, Member, NodeState, PendingTake, PoolSnapshot, SandboxSnapshot, Snapshot, TemplateSnapshot,
};

impl World {
    /// Makes the snapshot of one object. The snapshot is `Absent` only if the World does not have the object.
    #[must_use]
    pub fn snapshot(&self, key: &Key, now: Timestamp) -> Snapshot {
        if self.namespace(&key.namespace).is_some_and(|n| n.meta.deletion_timestamp.is_some()) {
            return Snapshot::Terminating(key.clone());
        }
        if is_template(key.kind) {
            // A template that was deleted may have left a NetworkPolicy and Sandboxes behind.
            let snapshot = self.snapshot_template(key, now);
            return snapshot.map_or_else(|| Snapshot::Absent(key.clone()), |s| Snapshot::Template(Box::new(s)));
        }
        let Some(object) = self.objects.get(key).cloned() else { return Snapshot::Absent(key.clone()) };
        match key.kind.class() {
            Class::Own(OwnKind::Sandbox) => Snapshot::Sandbox(Box::new(self.snapshot_sandbox(object, now))),
            Class::Own(OwnKind::Pool(_)) => Snapshot::Pool(Box::new(self.snapshot_pool(object, now))),
            Class::Own(OwnKind::Claim(_)) => Snapshot::Claim(Box::new(self.snapshot_claim(object, now))),
            Class::Own(OwnKind::Template(_)) | Class::Child(_) | Class::Cluster(_) => Snapshot::Observed(object),
        }
    }

    fn snapshot_sandbox(&self, sandbox: Arc<Object>, now: Timestamp) -> SandboxSnapshot {
        let key = &sandbox.key;
        let pods: Vec<_> = self.pods_of(&sandbox).collect();
        let pod_key = key.sibling(Kind::Pod, manifest::pod_name(&sandbox));
        // A pod of that name that the Sandbox does not control blocks it, even if an owner reference has the Sandbox's
        // UID.
        let other_pod = self.objects.get(&pod_key).filter(|p| !pods.iter().any(|own| own.key == p.key)).cloned();
        let names = manifest::volume_claim_names(&sandbox).into_iter();
        let volume_claim_keys: Vec<Key> = names.map(|name| key.sibling(Kind::VolumeClaim, name)).collect();
        let found = volume_claim_keys.iter().filter_map(|key| self.objects.get(key));
        let volume_claims = found.map(|claim| (claim.key.name.to_string(), claim.clone())).collect();
        let refused_resize = self.pending_writes.refused_resize(&pod_key).cloned();
        let service_key = key.sibling(Kind::Service, key.name.clone());
        let slice_key = key.sibling(Kind::EndpointSlice, key.name.clone());
        let involved = [pod_key, service_key.clone(), slice_key.clone(), key.clone()];
        let involved = involved.into_iter().chain(volume_claim_keys);
        let pod_unanswered = self
            .pending_writes
            .creating(&sandbox.meta.uid, now, self.settings.unknown_timeout)
            .any(|(key, lost)| key.kind == Kind::Pod && lost.is_some());
        let (template, network_policy) = self.policy_of_sandbox(&sandbox, now);
        SandboxSnapshot {
            cordoned: pods.first().and_then(|pod| self.cordoned_after(pod)),
            claim: self.claim_of(&sandbox),
            template,
            network_policy,
            pods,
            other_pod,
            service: self.objects.get(&service_key).cloned(),
            endpoints: self.objects.get(&slice_key).cloned(),
            volume_claims,
            storage_classes: self.storage_classes(),
            pod_unanswered,
            replaced_from_age: self.replaced_from_age(key, now),
            inherited_marker: self.inherited_marker(&sandbox),
            touched: self.touched.get(key).map(|touch| touch.what.clone()),
            tcp_wake: self.tcp_wake(&sandbox, now),
            refused_resize,
            cpu: self.cpu_facts(&sandbox),
            connections: self.connection_facts(&sandbox),
            common: self.common(key, involved, now),
            sandbox,
        }
    }

    /// The snapshot of a template, which may not exist any more. `None` if there is nothing to decide about it.
    fn snapshot_template(&self, key: &Key, now: Timestamp) -> Option<TemplateSnapshot> {
        let template = self.objects.get(key).cloned();
        let policy = network_policy::policy_key(key);
        let network_policy = self.objects.get(&policy).cloned();
        let ownership = network_policy.as_deref().map(|policy| network_policy::ownership(policy, key));
        let own_policy = ownership == Some(Ownership::Ours);
        if template.is_none() && !own_policy && !self.has_sandboxes_of(key) {
            return None;
        }
        let other = match ownership {
            Some(Ownership::OfTemplate(other)) => Some(other),
            Some(Ownership::Ours | Ownership::Foreign) | None => None,
        };
        Some(TemplateSnapshot {
            key: key.clone(),
            template,
            network_policy,
            last_spec: self.last_made(key),
            users: self.users_of_policy(key),
            selector: self.selector(key),
            other_keeps_policy: other.is_some_and(|other| self.keeps_policy(&other, key)),
            common: self.common(key, [policy, key.clone()], now),
        })
    }

    fn snapshot_pool(&self, pool: Arc<Object>, now: Timestamp) -> PoolSnapshot {
        let key = &pool.key;
        let template = references(&pool).first().and_then(|t| self.objects.get(t)).cloned();
        let leaving = self.pending_writes.all_leaving(&key.namespace, now, self.settings.unknown_timeout);
        let members: Vec<Member> = self
            .members
            .get(&(key.clone(), pool.meta.uid.clone()))
            // A terminating pool makes no decisions, even when claims take its Sandboxes.
            .filter(|_| pool.meta.deletion_timestamp.is_none())
            .into_iter()
            .flatten()
            .map(|(key, (sandbox, pod))| Member {
                sandbox: sandbox.clone(),
                pod: pod.clone(),
                leaving: leaving.contains_key(key),
                node: self.node_of(sandbox, pod.as_deref()),
                touched: self.touched.get(key).map(|touch| touch.what.clone()),
            })
            .collect();
        let pending_take = members.iter().filter_map(|m| *leaving.get(&m.sandbox.key)?).min();
        let (mut creating, mut lost) = (vec![], vec![]);
        for (creation, since) in self.pending_writes.creating(&pool.meta.uid, now, self.settings.unknown_timeout) {
            if self.objects.contains_key(creation) {
                continue;
            }
            creating.push(creation.name.clone());
            if since.is_some() {
                lost.push(creation.name.clone());
            }
        }
        let alive = members.iter().filter(|member| member.sandbox.meta.deletion_timestamp.is_none()).count();
        let names = self.new_names(&pool, alive, &creating);
        let involved =
            self.pending_writes.creating(&pool.meta.uid, now, self.settings.unknown_timeout).map(|(k, _)| k.clone());
        let is_member = |key: &&Key| members.iter().any(|member| member.sandbox.key == **key);
        let refused = self.pending_writes.refused_in(Kind::Sandbox, &key.namespace).filter(is_member).cloned();
        // A quota refuses the pods of the members, and not the members.
        let pods = members.iter().filter(|member| member.pod.is_none());
        let pods = pods.map(|m| key.sibling(Kind::Pod, manifest::pod_name(&m.sandbox)));
        let involved: Vec<Key> = involved.chain(refused).chain(pods).chain([key.clone()]).collect();
        let mut common = self.common(key, involved, now);
        common.refusals.extend(self.pending_writes.refused_creation(&pool.meta.uid).cloned());
        let network_policy = references(&pool)
            .first()
            .map_or(NetworkPolicyState::NotNeeded, |template| self.policy_of(template, None, now));
        PoolSnapshot {
            template,
            network_policy,
            members,
            creating,
            lost,
            claimed: self.taken.get(key).map_or(0, |t| u32::try_from(t.len()).unwrap_or(u32::MAX)),
            demand: self.demand.get(key).cloned().unwrap_or_default(),
            pending_take,
            names,
            replaced_from_age: self.replaced_from_age(key, now),
            common,
            pool,
        }
    }

    /// The time at which the node of a pod was cordoned, if that was after the pod was created. The next pod could get a
    /// node that was cordoned before.
    fn cordoned_after(&self, pod: &Object) -> Option<Timestamp> {
        match self.unusable_nodes.get(pod.pod()?.node.as_deref()?)? {
            NodeTrouble::CordonedAt(at) => Some(*at).filter(|at| pod.meta.created < *at),
            NodeTrouble::NotReady => None,
        }
    }

    /// The state of the node that the pod of a pool's Sandbox runs on.
    fn node_of(&self, sandbox: &Object, pod: Option<&Object>) -> NodeState {
        let Some(name) = pod.and_then(|pod| pod.pod()?.node.as_deref()) else { return NodeState::None };
        match self.unusable_nodes.get(name) {
            // If the Sandbox was created after the cordon, its replacement could get the same node.
            Some(NodeTrouble::CordonedAt(at)) if sandbox.meta.created < *at => NodeState::Cordoned,
            Some(NodeTrouble::NotReady) => NodeState::NotReady,
            Some(NodeTrouble::CordonedAt(_)) | None => NodeState::Fit,
        }
    }

    /// Free names for as many Sandboxes as the pool may create at once.
    fn new_names(&self, pool: &Object, alive: usize, creating: &[Arc<str>]) -> Vec<String> {
        let maximum = pool
            .pool()
            .and_then(|p| p.spec.as_ref().ok())
            .map_or(0, |model| model.size.at_most(self.settings.max_pool_size).max());
        let maximum = usize::try_from(maximum).unwrap_or(usize::MAX);
        let most = maximum.saturating_sub(alive + creating.len()).min(self.settings.pool_batch);
        let mut used: BTreeSet<String> = creating.iter().map(ToString::to_string).collect();
        (0_u64..)
            .map(|n| manifest::member_name(pool, self.settings.seed.wrapping_add(self.created).wrapping_add(n)))
            .filter(|name| !self.objects.contains_key(&pool.key.sibling(Kind::Sandbox, name.as_str())))
            .filter(|name| used.insert(name.clone()))
            .take(most)
            .collect()
    }

    fn snapshot_claim(&self, claim: Arc<Object>, now: Timestamp) -> ClaimSnapshot {
        let key = &claim.key;
        let owned: Vec<_> = self.children_of(&claim, Kind::Sandbox).collect();
        let source = claim.claim().and_then(|c| c.spec.as_ref().ok()).map(|c| c.source.clone());
        let (named_pool, template_key) = self.pool_and_template(&claim);
        let template = template_key.as_ref().and_then(|t| self.objects.get(t)).cloned();
        // If a creation for the claim is pending, the claim waits for that Sandbox and takes no warm one.
        let creating =
            self.pending_writes.creating(&claim.meta.uid, now, self.settings.unknown_timeout).next().is_some();
        let (candidate, stale) = match (&source, &template) {
            (Some(source), Some(template)) if owned.is_empty() && !creating => {
                self.choose_warm(&claim, source, template, now)
            }
            (Some(_) | None, Some(_) | None) => (None, None),
        };
        let pools = source.as_ref().filter(|_| owned.is_empty()).map(|source| self.pools_for(&claim, source));
        let taking = self.pending_writes.taking(&claim.meta.uid, now, self.settings.unknown_timeout);
        let pending_take = taking.and_then(|(key, until)| {
            let sandbox = self.objects.get(key)?.clone();
            Some(PendingTake { outdated: self.pending_writes.is_outdated(key, sandbox.meta.version), sandbox, until })
        });
        let taken = candidate.as_ref().map(|(sandbox, _)| sandbox);
        let taken = taken.or(pending_take.as_ref().map(|pending| &pending.sandbox));
        let pool = taken.and_then(|sandbox| self.pool_object_of(sandbox)).or(named_pool.as_ref());
        let marker = marker_of_all([Some(&*claim), template.as_deref(), pool.map(|pool| &**pool)]);
        let same_name = key.sibling(Kind::Sandbox, key.name.clone());
        let named = claim.claim().and_then(|c| c.status.sandbox.as_ref()?.name.as_deref());
        let committed = named.and_then(|name| self.objects.get(&key.sibling(Kind::Sandbox, name))).cloned();
        let mut common = self.common(key, [same_name.clone(), key.clone()], now);
        common.refusals.extend(self.pending_writes.refused_creation(&claim.meta.uid).cloned());
        let network_policy =
            template_key.as_ref().map_or(NetworkPolicyState::NotNeeded, |t| self.policy_of(t, None, now));
        ClaimSnapshot {
            network_policy,
            pod: owned.first().and_then(|s| self.pod_of(s)),
            owned,
            named_pool,
            pools: pools.unwrap_or_default(),
            template_key,
            template,
            candidate,
            stale,
            pending_take,
            committed,
            marker,
            refused_take: self
                .pending_writes
                .refused_take(&claim.meta.uid, now)
                .map(|(key, r)| (key.clone(), r.clone())),
            common,
            same_name: self.objects.get(&same_name).cloned(),
            claim,
        }
    }

    pub(super) fn common(&self, key: &Key, involved: impl IntoIterator<Item = Key>, now: Timestamp) -> Common {
        Common {
            settings: self.settings.clone(),
            bindings: self.bindings.clone(),
            namespace_labels: self.namespace_labels(&key.namespace),
            namespace_known: self.namespace_known(&key.namespace),
            namespace_isolates: self.requires_isolation(&key.namespace),
            classes: self.classes.clone(),
            status_written: self.status_written.get(key).copied(),
            refusals: involved
                .into_iter()
                .filter_map(|k| self.pending_writes.refusal(&k).cloned().map(|refusal| (k, refusal)))
                .collect(),
            now,
            passed: now,
        }
    }
}
