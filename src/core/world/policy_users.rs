//! Who uses the NetworkPolicy of a template, and by which labels the policy selects pods.

use std::collections::BTreeSet;
use std::sync::Arc;

use paddock_api::NetworkPolicyManagement;
use paddock_api::kind::{Key, Kind};
use paddock_api::names::{label, name_hash};

use super::pending_writes::remove_entry;
use super::policies::Selected;
use super::relations::sandbox_of;
use super::state::World;
use crate::network_policy::{self as policy, Ownership, PolicySpec, Selector, policy_key, selection_labels};
use crate::object::{JsonText, Object};
use crate::snapshot::PolicyUsers;

impl World {
    /// Whether a Sandbox exists that was made from this template.
    pub(super) fn has_sandboxes_of(&self, template: &Key) -> bool {
        self.policies.made_from.contains_key(template)
    }

    /// The Sandboxes whose pods the policy of a template selects: those of the template, and those of the template of
    /// the same name in the other API group.
    pub(super) fn selected_sandboxes(&self, template: &Key) -> impl Iterator<Item = &Arc<Object>> {
        let keys =
            same_name(template).into_iter().filter_map(|template| self.policies.made_from.get(&template)).flatten();
        keys.filter_map(|key| self.objects.get(key))
    }

    /// The users of the policy of a template, beside the template itself.
    pub(super) fn users_of_policy(&self, template: &Key) -> PolicyUsers {
        let unmanaged = |s: &Arc<Object>| recorded_management(s) == Some(NetworkPolicyManagement::Unmanaged);
        if self.selected_sandboxes(template).any(|s| !unmanaged(s)) {
            return PolicyUsers::Managed;
        }
        let pods = || self.pods_with(&self.selected_labels(template));
        if self.selected_sandboxes(template).next().is_none() && pods() == 0 {
            return PolicyUsers::None;
        }
        PolicyUsers::Others
    }

    /// Whether a template, a Sandbox of it, or a pod that its policy selects exists.
    pub(super) fn needs_policy(&self, template: &Key) -> bool {
        self.objects.contains_key(template) || self.users_of_policy(template) != PolicyUsers::None
    }

    /// Whether a policy that was made for `owner` still belongs to it and does not pass to `template`, which has the same
    /// name in the other API group. The rules of `template` would replace those of the running Sandboxes of `owner`.
    pub(super) fn keeps_policy(&self, owner: &Key, template: &Key) -> bool {
        self.objects.contains_key(owner) || self.has_sandboxes_of(owner) || self.has_other_pods(template)
    }

    /// Whether the policy of a template selects a pod that belongs to no Sandbox of the template.
    fn has_other_pods(&self, template: &Key) -> bool {
        let selected = self.selected_labels(template);
        let sandboxes = self.policies.made_from.get(template).into_iter().flatten();
        let pods = sandboxes.filter_map(|key| self.objects.get(key)).flat_map(|sandbox| self.pods_of(sandbox));
        let own = pods.filter(|pod| labels_of(pod).is_some_and(|labels| selected.contains(&labels))).count();
        own < self.pods_with(&selected)
    }

    /// Whether this is one of the pods of [`World::has_other_pods`].
    fn is_other_pod(&self, template: &Key, pod: &Object) -> bool {
        let sandbox = sandbox_of(pod).and_then(|sandbox| self.objects.get(&sandbox));
        let own =
            sandbox.is_some_and(|sandbox| pod.is_child_of(sandbox) && sandbox.template.as_deref() == Some(template));
        !own && labels_of(pod).is_some_and(|labels| self.selected_labels(template).contains(&labels))
    }

    /// The labels of the pods that the policy of a template selects. A policy of an earlier version selects each pod with
    /// the hash. The pods with another digest are not of this template, and have a policy of their own.
    fn selected_labels(&self, template: &Key) -> Vec<(Selected, Option<Arc<str>>)> {
        let [_, (_, digest)] = selection_labels(&template.name);
        let mut labels = vec![(selection(template), Some(digest.into()))];
        if self.selects_by_hash_alone(template) {
            labels.push((selection(template), None));
        }
        labels
    }

    /// The number of pods with one of these labels.
    fn pods_with(&self, labels: &[(Selected, Option<Arc<str>>)]) -> usize {
        labels.iter().filter_map(|labels| self.policies.pods.get(labels)).sum()
    }

    /// Notes whether the policy of a template was made for the template of the same name in the other API group.
    pub(super) fn note_heir(&mut self, template: &Key) {
        let there = self.objects.get(&policy_key(template)).filter(|_| self.objects.contains_key(template));
        match there.map(|there| policy::ownership(there, template)) {
            Some(Ownership::OfTemplate(owner)) => {
                self.policies.heirs.entry(selection(template)).or_default().insert(template.clone(), owner);
            }
            Some(Ownership::Ours | Ownership::Foreign) | None => {
                remove_entry(&mut self.policies.heirs, &selection(template), template);
            }
        }
    }

    /// Adds the templates to which a policy passes because this pod ended or changed its labels. The pods of these templates
    /// come and go all the time, and only the last other pod matters.
    pub(super) fn pod_left(&self, pod: &Object, selected: &Selected, to_reconcile: &mut BTreeSet<Key>) {
        for (template, owner) in self.policies.heirs.get(selected).into_iter().flatten() {
            let stays = self.objects.get(&pod.key).is_some_and(|pod| self.is_other_pod(template, pod));
            if !stays && self.is_other_pod(template, pod) && !self.keeps_policy(owner, template) {
                to_reconcile.insert(template.clone());
            }
        }
    }

    /// Adds the keys that depend on the last Sandbox or pod of a template. If the template does not exist, nobody needs its
    /// policy any more, or the policy passes to the template of the same name in the other API group.
    pub(super) fn last_user_left(&self, template: &Key, to_reconcile: &mut BTreeSet<Key>) {
        if !self.objects.contains_key(template) {
            let left_over = self.selected_sandboxes(template).next().is_none();
            let concerned = |key: &Key| left_over || self.objects.contains_key(key);
            to_reconcile.extend(same_name(template).into_iter().filter(concerned));
        }
    }

    /// The templates whose policies select the pods with this hash in this namespace.
    pub(super) fn templates_with(&self, (namespace, hash): &Selected) -> Vec<Key> {
        let policies = self.of_namespace(Kind::NetworkPolicy, namespace);
        let templates = policies.filter_map(|policy| policy::template_of(policy));
        templates.filter(|template| name_hash(&template.name).as_str() == &**hash).collect()
    }

    /// The labels by which the policy of a template should select pods. A policy of an earlier version selects by the hash
    /// alone until each of its pods has the digest, because it would leave the others open.
    pub(super) fn selector(&self, template: &Key) -> Selector {
        if self.selects_by_hash_alone(template) && self.has_pod_without_digest(template) {
            Selector::HashAlone
        } else {
            Selector::Digest
        }
    }

    /// Whether the policy of a template selects by the hash alone, as those of earlier versions do.
    pub(super) fn selects_by_hash_alone(&self, template: &Key) -> bool {
        let policy = self.objects.get(&policy_key(template));
        policy.and_then(|policy| policy::spec(policy)).is_some_and(PolicySpec::by_hash_alone)
    }

    /// Whether a pod of a template has no digest. The pod of a deleted Sandbox counts, because it may still run. The pod of
    /// a Sandbox that was not made from the template does not count, because it never gets the digest.
    fn has_pod_without_digest(&self, template: &Key) -> bool {
        let of_template = |pod: &Arc<Object>| {
            let sandbox = sandbox_of(pod).and_then(|sandbox| self.objects.get(&sandbox));
            let sandbox = sandbox.filter(|sandbox| pod.is_child_of(sandbox));
            sandbox.is_none_or(|sandbox| sandbox.template.as_ref().is_some_and(|of| of.name == template.name))
        };
        let pods = self.policies.without_digest.get(&selection(template)).into_iter().flatten();
        pods.filter_map(|pod| self.objects.get(pod)).any(of_template)
    }

    /// The spec that the policy of a template had when it was last in place.
    pub(super) fn last_made(&self, template: &Key) -> Option<JsonText> {
        self.policies.made.get(template).map(|made| made.spec.clone())
    }

    /// Removes the spec of a policy that nobody needs.
    pub(super) fn forget_unneeded(&mut self, template: &Key) {
        if !self.needs_policy(template) {
            self.policies.made.remove(template);
        }
    }

    /// Removes the specs of all policies that nobody needs.
    pub(super) fn forget_unneeded_policies(&mut self) {
        let mut made = std::mem::take(&mut self.policies.made);
        made.retain(|template, _| self.needs_policy(template));
        self.policies.made = made;
    }
}

/// The management that the status of a Sandbox records.
pub(super) fn recorded_management(sandbox: &Object) -> Option<NetworkPolicyManagement> {
    sandbox.sandbox()?.status.template.as_ref().map(|origin| origin.network_policy_management)
}

/// The namespace of a pod, and the hash and the digest of the name of its template. `None` if the pod has no hash.
pub(super) fn labels_of(object: &Object) -> Option<(Selected, Option<Arc<str>>)> {
    let labels = &object.meta.labels;
    let hash = labels.get(label::TEMPLATE_REF_HASH).filter(|_| object.key.kind == Kind::Pod)?;
    Some(((object.key.namespace.clone(), hash.into()), labels.get(label::TEMPLATE_DIGEST).map(Into::into)))
}

/// The namespace and the hash by which the policy of a template selects pods.
fn selection(template: &Key) -> Selected {
    (template.namespace.clone(), name_hash(&template.name).into())
}

/// Whether an object is a pod of a Sandbox and has no digest of its template's name.
pub(super) fn lacks_digest(object: &Object) -> bool {
    object.key.kind == Kind::Pod
        && !object.meta.labels.contains_key(label::TEMPLATE_DIGEST)
        && sandbox_of(object).is_some()
}

/// The Sandbox of a pod that has lost the digest of its template's name.
pub(super) fn loses_digest(before: &Object, after: &Object) -> Option<Key> {
    let had = before.meta.uid == after.meta.uid && before.meta.labels.contains_key(label::TEMPLATE_DIGEST);
    sandbox_of(after).filter(|_| had && lacks_digest(after))
}

/// The keys of the templates of this name in both API groups.
pub(super) fn same_name(template: &Key) -> [Key; 2] {
    [Kind::Template, Kind::SeedTemplate].map(|kind| template.sibling(kind, template.name.clone()))
}
