//! The NetworkPolicies of templates: which Sandbox was made from which template, and whether the template's policy is
//! in place.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use paddock_api::kind::{Class, Key, Kind, OwnKind};
use paddock_api::names::{annotation, condition, object as names, reason};
use paddock_api::{NetworkPolicyManagement, TemplateOrigin};
use serde_json::Value;

use super::policies::{Made, Selected, Wanted};
use super::policy_users::{labels_of, lacks_digest, recorded_management, same_name};
use super::relations::references;
use super::state::World;
use crate::conditions::find_condition;
use crate::manifest;
use crate::model::NetworkPolicy;
use crate::network_policy::{
    self as policy, NetworkPolicyState, Ownership, PolicySpec, Selector, SpecDigests, policy_key,
};
use crate::object::{JsonText, Object};

impl World {
    /// The template that a Sandbox was made from. Users may write labels, annotations and owner references, but neither
    /// the status nor what the World has seen before, so these two come first. `before` is the template of the version
    /// that the World has.
    pub(super) fn origin(&self, sandbox: &Object, before: Option<&Arc<Key>>) -> Option<Arc<Key>> {
        let recorded = sandbox.sandbox().and_then(|s| s.status.template.as_ref()).and_then(|origin| {
            let kind = Kind::of_resource(&origin.group, Kind::Template.plural())?;
            Some(sandbox.key.sibling(kind, origin.name.as_str()))
        });
        recorded.map(Arc::new).or_else(|| before.cloned()).or_else(|| self.origin_by_owner(sandbox).map(Arc::new))
    }

    /// The template of a Sandbox that a pool or a claim controls.
    fn origin_by_owner(&self, sandbox: &Object) -> Option<Key> {
        let owner = sandbox.owner_key()?;
        let shape = match owner.kind.own()? {
            OwnKind::Pool(shape) | OwnKind::Claim(shape) => shape,
            OwnKind::Sandbox | OwnKind::Template(_) => return None,
        };
        if let Some(name) = sandbox.meta.annotations.get(annotation::TEMPLATE_REF) {
            return Some(sandbox.key.sibling(Kind::template(shape), name));
        }
        let owner = self.objects.get(&owner)?;
        match owner.pool() {
            Some(_) => references(owner).into_iter().next(),
            None => self.pool_and_template(owner).1,
        }
    }

    pub(super) fn index_policies(&mut self, object: &Object) {
        if let Some(template) = &object.template {
            self.policies.made_from.entry(Key::clone(template)).or_default().insert(object.key.clone());
        }
        if let Some(labels) = labels_of(object) {
            if lacks_digest(object) {
                self.policies.without_digest.entry(labels.0.clone()).or_default().insert(object.key.clone());
            }
            *self.policies.pods.entry(labels).or_default() += 1;
        }
        if let Some(wanted) = self.wanted(object) {
            self.policies.wanted.insert(object.key.clone(), wanted);
        }
    }

    pub(super) fn unindex_policies(&mut self, object: &Object) {
        if let Some(template) = &object.template
            && let Some(sandboxes) = self.policies.made_from.get_mut(&**template)
        {
            sandboxes.remove(&object.key);
            if sandboxes.is_empty() {
                self.policies.made_from.remove(&**template);
            }
        }
        self.policies.wanted.remove(&object.key);
        let Some(labels) = labels_of(object) else { return };
        if let Some(pods) = self.policies.without_digest.get_mut(&labels.0) {
            pods.remove(&object.key);
            if pods.is_empty() {
                self.policies.without_digest.remove(&labels.0);
            }
        }
        if let Some(count) = self.policies.pods.get_mut(&labels) {
            *count -= 1;
            if *count == 0 {
                self.policies.pods.remove(&labels);
            }
        }
    }

    /// Updates what depends on the policies after a change of an object, and adds the keys of the objects that wait for
    /// a policy. `removed` says that the object does not exist any more.
    pub(super) fn policies_changed(&mut self, object: &Object, removed: bool, to_reconcile: &mut BTreeSet<Key>) {
        match object.key.kind.class() {
            Class::Own(OwnKind::Template(_)) => {
                for template in same_name(&object.key) {
                    self.forget_unneeded(&template);
                    self.refresh_policy(&template, to_reconcile);
                    to_reconcile.extend(self.with_other_management(&template).cloned());
                    // The policy may pass to the template of the same name in the other API group.
                    if self.objects.contains_key(&template) {
                        to_reconcile.insert(template);
                    }
                }
            }
            Class::Own(OwnKind::Sandbox) => {
                if let Some(template) = object.template.as_deref()
                    && !self.has_sandboxes_of(template)
                {
                    self.forget_unneeded(template);
                    self.last_user_left(template, to_reconcile);
                }
            }
            Class::Child(paddock_api::kind::ChildKind::Pod) => {
                let Some(labels) = labels_of(object) else { return };
                let selected = &labels.0;
                if !self.policies.pods.contains_key(&labels) {
                    for template in self.templates_with(selected) {
                        self.last_user_left(&template, to_reconcile);
                    }
                }
                self.pod_left(object, selected, to_reconcile);
                let lacks = self.policies.without_digest.get(selected);
                if lacks_digest(object) && lacks.is_none_or(|pods| !pods.contains(&object.key)) {
                    self.digest_added(selected, to_reconcile);
                }
            }
            Class::Child(paddock_api::kind::ChildKind::NetworkPolicy) => {
                if removed
                    && let Some(template) = policy::template_of(object)
                    && self.needs_policy(&template)
                    && !self.policies.made.contains_key(&template)
                    && let Some(spec) =
                        policy::last_spec(object).or_else(|| policy::spec_of(object).filter(Value::is_object))
                {
                    let digests = SpecDigests::of(&template.name, &spec);
                    self.policies.made.insert(template, Made { spec: JsonText::of(&spec), digests });
                }
                for template in templates_of_policy(&object.key) {
                    let known = self.objects.contains_key(&template)
                        || self.policies.made_from.contains_key(&template)
                        || policy::template_of(object).as_ref() == Some(&template);
                    if known {
                        to_reconcile.insert(template.clone());
                    }
                    self.refresh_policy(&template, to_reconcile);
                }
            }
            Class::Own(OwnKind::Pool(_) | OwnKind::Claim(_))
            | Class::Child(
                paddock_api::kind::ChildKind::Service
                | paddock_api::kind::ChildKind::VolumeClaim
                | paddock_api::kind::ChildKind::EndpointSlice,
            )
            | Class::Cluster(_) => {}
        }
    }

    /// Adds the templates whose policies still select by the hash alone, if each pod has the digest now.
    fn digest_added(&self, selected: &Selected, to_reconcile: &mut BTreeSet<Key>) {
        let due = |template: &Key| self.selects_by_hash_alone(template) && self.selector(template) == Selector::Digest;
        to_reconcile.extend(self.templates_with(selected).into_iter().filter(due));
    }

    /// The Sandboxes of a template whose status records another management of the NetworkPolicy than the template has.
    fn with_other_management(&self, template: &Key) -> impl Iterator<Item = &Key> {
        let sandboxes = self.policies.made_from.get(template).into_iter().flatten();
        sandboxes.filter(|key| {
            let recorded = self.objects.get(*key).and_then(|sandbox| recorded_management(sandbox));
            recorded.is_some_and(|recorded| self.management(template, Some(recorded)) != recorded)
        })
    }

    /// Computes whether the policy of a template is in place. If that changed, adds the objects that depend on it.
    fn refresh_policy(&mut self, template: &Key, to_reconcile: &mut BTreeSet<Key>) {
        self.note_heir(template);
        let in_place = self.policy_fits(template);
        let before = self.policies.in_place.contains(template);
        if in_place {
            self.policies.in_place.insert(template.clone());
            self.remember(template);
        } else {
            self.policies.in_place.remove(template);
        }
        let changed = before != in_place;
        let blocked = matches!(self.policy_of(template, None, self.last_now), NetworkPolicyState::Blocked(_));
        if changed || blocked {
            self.wake_users(template, blocked, to_reconcile);
        }
    }

    /// Adds the objects that wait for the policy of a template: pools, claims, and Sandboxes. If the policy cannot be
    /// written, all Sandboxes of the template report that.
    pub(super) fn wake_users(&self, template: &Key, blocked: bool, to_reconcile: &mut BTreeSet<Key>) {
        let waits = |key: &&Key| {
            self.without_pod.contains(*key)
                || self.objects.get(*key).and_then(|s| s.sandbox()).is_some_and(|s| {
                    find_condition(&s.status.conditions, condition::READY)
                        .is_some_and(|c| c.reason == reason::NETWORK_POLICY_NOT_READY)
                })
        };
        let sandboxes = self.policies.made_from.get(template).into_iter().flatten();
        to_reconcile.extend(sandboxes.filter(|key| blocked || waits(key)).cloned());
        for referrer in self.referrers.get(template).into_iter().flatten() {
            to_reconcile.insert(referrer.clone());
            // Claims that name a pool wait for the policy of the pool's template.
            to_reconcile.extend(self.referrers.get(referrer).into_iter().flatten().cloned());
        }
    }

    /// The templates of a policy whose write was refused, with their users.
    pub(super) fn policy_refused(&self, policy: &Key, to_reconcile: &mut BTreeSet<Key>) {
        for template in templates_of_policy(policy) {
            self.wake_users(&template, true, to_reconcile);
        }
    }

    /// Whether the policy of a template exists, belongs to the operator, and has the wanted spec.
    fn policy_fits(&self, template: &Key) -> bool {
        let Some(object) = self.objects.get(&policy_key(template)) else { return false };
        let ours = match policy::ownership(object, template) {
            // The policy of the other template of this name selects the same pods.
            Ownership::Ours | Ownership::OfTemplate(_) => true,
            Ownership::Foreign => false,
        };
        let Some(spec) = policy::spec(object) else { return false };
        let wanted = self.wanted_digests(template, spec);
        ours && object.meta.deletion_timestamp.is_none() && wanted.is_some_and(|wanted| spec.is(wanted))
    }

    /// Keeps the spec of a policy that is in place.
    fn remember(&mut self, template: &Key) {
        let Some(object) = self.objects.get(&policy_key(template)) else { return };
        let has_users = || match policy::ownership(object, template) {
            Ownership::Ours => self.needs_policy(template),
            Ownership::OfTemplate(_) | Ownership::Foreign => false,
        };
        let known = self.objects.contains_key(template) || self.has_sandboxes_of(template);
        if (known || has_users())
            && let Some(spec) = policy::spec(object)
            && let Some(digests) = self.wanted_digests(template, spec)
        {
            self.policies.made.insert(template.clone(), Made { spec: spec.text.clone(), digests });
        }
    }

    /// The digests of the spec that the policy of a template should have, if that is known. Users may write the annotation
    /// of the policy, so it counts only if no replica has seen the policy in place.
    fn wanted_digests(&self, template: &Key, policy: &PolicySpec) -> Option<SpecDigests> {
        match self.policies.wanted.get(template) {
            Some(Wanted::Rules(digests)) => Some(*digests),
            Some(Wanted::TooLarge(_)) => None,
            None => self.policies.made.get(template).map(|made| made.digests).or_else(|| policy.kept()),
        }
    }

    /// The policy that an object asks for, if it is a valid template whose policy the operator manages.
    fn wanted(&self, object: &Object) -> Option<Wanted> {
        let model = object.template()?.spec.as_ref().ok()?;
        let name = &object.key.name;
        let spec = manifest::network_policy_spec(name, &model.network, &self.settings.network)?;
        Some(match policy::too_large(&spec) {
            Some(error) => Wanted::TooLarge(error.to_string()),
            None => Wanted::Rules(SpecDigests::of(name, &spec)),
        })
    }

    /// Whether the policy of a template is in place. `recorded` is the last known management of a template that does
    /// not exist any more.
    pub(super) fn policy_of(
        &self,
        template: &Key,
        recorded: Option<NetworkPolicyManagement>,
        now: Timestamp,
    ) -> NetworkPolicyState {
        if self.management(template, recorded) == NetworkPolicyManagement::Unmanaged {
            return NetworkPolicyState::NotNeeded;
        }
        let key = policy_key(template);
        let name = &key.name;
        if self.policies.in_place.contains(template) {
            // A deletion that is under way may already have been stored.
            return if self.pending_writes.leaving(&key, now, self.settings.unknown_timeout) {
                NetworkPolicyState::Pending(format!("NetworkPolicy {name} is being deleted"))
            } else {
                NetworkPolicyState::InPlace
            };
        }
        if let Some(refusal) = self.pending_writes.refusal(&key) {
            return NetworkPolicyState::Blocked(format!(
                "the API server refused NetworkPolicy {name}: {}",
                refusal.message
            ));
        }
        if let Some(Wanted::TooLarge(problem)) = self.policies.wanted.get(template) {
            return NetworkPolicyState::Blocked(format!("SandboxTemplate {}: {problem}", template.name));
        }
        let there = self.objects.get(&key);
        match there.map(|object| policy::ownership(object, template)) {
            Some(Ownership::Foreign) => NetworkPolicyState::Blocked(format!(
                "NetworkPolicy {name} exists and belongs to another owner, who keeps it"
            )),
            Some(Ownership::OfTemplate(other)) if self.keeps_policy(&other, template) => {
                let why = if self.objects.contains_key(&other) {
                    "which has other rules"
                } else {
                    "which was deleted and whose Sandboxes or Pods still exist"
                };
                NetworkPolicyState::Blocked(format!(
                    "NetworkPolicy {name} belongs to the template of the same name in {}, {why}",
                    other.kind.group()
                ))
            }
            Some(Ownership::Ours | Ownership::OfTemplate(_)) => NetworkPolicyState::Pending(format!(
                "NetworkPolicy {name} is being changed to the rules of its template"
            )),
            None => match self.objects.get(template).and_then(|t| t.template()).map(|t| &t.spec) {
                Some(Err(_)) => NetworkPolicyState::Blocked(format!(
                    "SandboxTemplate {} is not valid, so there is no NetworkPolicy {name}",
                    template.name
                )),
                Some(Ok(_)) | None => NetworkPolicyState::Pending(format!("NetworkPolicy {name} is being made")),
            },
        }
    }

    /// Whether the operator manages the NetworkPolicy of a template. A template that does not exist counts as it was
    /// recorded, or else as managed.
    fn management(&self, template: &Key, recorded: Option<NetworkPolicyManagement>) -> NetworkPolicyManagement {
        match self.objects.get(template).and_then(|t| t.template()).map(|t| &t.spec) {
            Some(Ok(model)) => match model.network {
                NetworkPolicy::Unmanaged => NetworkPolicyManagement::Unmanaged,
                NetworkPolicy::SecureDefault | NetworkPolicy::Rules(_) => NetworkPolicyManagement::Managed,
            },
            Some(Err(_)) | None => recorded.unwrap_or(NetworkPolicyManagement::Managed),
        }
    }

    /// The template of a Sandbox, as its status records it, and the state of the template's policy.
    pub(super) fn policy_of_sandbox(
        &self,
        sandbox: &Object,
        now: Timestamp,
    ) -> (Option<TemplateOrigin>, NetworkPolicyState) {
        let Some(template) = sandbox.template.as_deref() else {
            let unknown = "the template that the Sandbox was made from is not known";
            let state = if sandbox.of_pool_or_claim() {
                NetworkPolicyState::Pending(unknown.to_owned())
            } else {
                NetworkPolicyState::NotNeeded
            };
            return (None, state);
        };
        let recorded = recorded_management(sandbox);
        let origin = TemplateOrigin {
            group: template.kind.group().to_owned(),
            name: template.name.to_string(),
            network_policy_management: self.management(template, recorded),
        };
        (Some(origin), self.policy_of(template, recorded, now))
    }
}

/// The keys of the templates, in both API groups, whose policy has this key.
fn templates_of_policy(policy: &Key) -> impl Iterator<Item = Key> {
    let name = policy.name.strip_suffix(names::NETWORK_POLICY_SUFFIX);
    let kinds = [Kind::Template, Kind::SeedTemplate].into_iter();
    kinds.filter_map(move |kind| Some(policy.sibling(kind, name?)))
}

#[cfg(test)]
mod tests;
